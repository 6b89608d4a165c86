"""What the commands share: options, loading a config, printing a result. Only typer is imported here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countermark.errors import EXIT_OK, StorageError, UsageError

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.dataset.config import DatasetConfig
    from pipelines.release_config import ReleaseConfig

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML config, for example configs/quickstart.yaml.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder (default: runs/NAME of the config).")]
RunOption = Annotated[
    Path | None, typer.Option("--run", "--out", help="Run folder (default: runs/NAME of the config).")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Overrides one config value.")]
InputOption = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="STAGE=DIR", help="Reads a stage's artifact from DIR, not the run."),
]
KeysOption = Annotated[Path | None, typer.Option("--keys", help="Key ring file (default: keys.ring of the config).")]
KeyIdOption = Annotated[str | None, typer.Option("--key-id", help="Key of the ring (default: its primary).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Says what would be done, and writes nothing.")]
DataOption = Annotated[
    str | None,
    typer.Option("--data", help="Releases only: another dataset than the config's (file, folder, URL, hub id)."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


def data_override(data: str | None) -> list[str]:
    """``--data`` as an override of the config."""
    return [f"dataset={json.dumps(data)}"] if data else []


def config_kind(config: Path) -> str:
    """What a config file says it is: ``run`` (the default), ``release`` or ``dataset``."""
    from pipelines.yamlsource import read_yaml

    body = read_yaml(config).data
    return str(body.get("kind", "run")) if isinstance(body, dict) else "run"


def refuse_release(verb: str, config: Path) -> None:
    """Stops a verb that releases do not have.

    Raises:
        UsageError: the config is a release's.
    """
    kind = config_kind(config)
    if kind != "run":
        verbs = "`mark`, `audit` and `run`" if kind == "dataset" else "`mark` and `audit`"
        raise UsageError(f"got a {kind} config for `{verb}`, expected a run's", hint=f"{kind}s have {verbs}")


def load_dataset(config: Path, overrides: list[str] | None, keys: Path | None, key_id: str | None) -> DatasetConfig:
    """The dataset release's config with overrides and the key options applied."""
    from pipelines.dataset.config import load_dataset_config

    return load_dataset_config(config, [*(overrides or []), *_key_overrides(keys, key_id)])


def load_release_config(
    config: Path, overrides: list[str] | None, keys: Path | None, key_id: str | None
) -> ReleaseConfig:
    """The release's config with overrides and the key options applied."""
    from pipelines.release_config import load_release

    return load_release(config, [*(overrides or []), *_key_overrides(keys, key_id)])


def _key_overrides(keys: Path | None, key_id: str | None) -> list[str]:
    found = [f"keys.ring={json.dumps(str(keys.absolute()))}"] if keys else []
    return [*found, *([f"keys.key_id={json.dumps(key_id)}"] if key_id else [])]


def load_run_config(config: Path, overrides: list[str] | None, keys: Path | None, key_id: str | None) -> RunConfig:
    """The run's config with overrides and the key options applied."""
    from pipelines.config import load_config

    return load_config(config, [*(overrides or []), *_key_overrides(keys, key_id)])


def run_folder(config: RunConfig, out: Path | None) -> Path:
    """Where a run lives: ``--out``, or ``runs/NAME``."""
    return out if out is not None else Path("runs") / config.name


def _deafened() -> None:
    """Nothing more is written to standard output: what is left in its buffer would fail again at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def finish(lines: list[str], body: Any, *, as_json: bool, code: int = EXIT_OK) -> None:  # noqa: ANN401
    """Prints a result for people or for programs, and exits with its code, whether or not anybody reads to the end.

    Raises:
        StorageError: the result cannot be written.
    """
    try:
        typer.echo(json.dumps(body, indent=2, sort_keys=True) if as_json else "\n".join(lines))
    except BrokenPipeError:
        _deafened()
    except OSError as error:
        _deafened()
        raise StorageError(
            f"could not write the result to standard output: got {error.strerror!r}, expected room",
            hint="the work itself is done; the same command says its result again",
        ) from None
    if code:
        raise typer.Exit(code)
