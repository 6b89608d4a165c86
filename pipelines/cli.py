"""The ``countermark`` command: results on stdout, progress and errors on stderr, exit codes of ``countermark.errors``.

Only typer is imported here: every command imports what it needs when it runs, so that ``--help`` stays quick.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from countermark.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, CountermarkError
from countermark.version import __version__
from pipelines import cli_audit, cli_readers, cli_releases
from pipelines.cli_common import (
    ConfigArgument,
    DryRunOption,
    InputOption,
    JsonOption,
    KeyIdOption,
    KeysOption,
    OutOption,
    QuietOption,
    RunOption,
    SetOption,
    config_kind,
    finish,
    load_dataset,
    load_run_config,
    refuse_release,
    run_folder,
)
from pipelines.cli_keys import assets_app, keys_app
from pipelines.cli_ledger import ledger_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: half the start-up time
    pretty_exceptions_enable=False,  # its tracebacks print local variables, and locals may be keys
    help="Marks text, datasets and models, and proves the mark later with exact tests.",
)
_PLANS = "Plans, sealed before the first query; and what has to be fixed before any key draws."
plan_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_PLANS)
app.add_typer(keys_app, name="keys")
app.add_typer(plan_app, name="plan")
app.add_typer(assets_app, name="assets")
app.add_typer(ledger_app, name="ledger")


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

    if config_kind(config) == "dataset":
        from pipelines.dataset.commands import run_dataset

        dataset = load_dataset(config, set_, keys, key_id)
        lines, body, code = run_dataset(
            dataset, out or Path("runs") / dataset.name, fresh=fresh, dry_run=dry_run, quiet=quiet
        )
        finish(lines, body, as_json=as_json, code=code)
        return
    refuse_release("run", config)
    loaded = load_run_config(config, set_, keys, key_id)
    code, lines, body = run_all(loaded, run_folder(loaded, out), fresh=fresh, dry_run=dry_run, quiet=quiet)
    finish(lines, body, as_json=as_json, code=code)


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

        refuse_release(verb, config)
        loaded = load_run_config(config, set_, keys, key_id)
        lines, body, code = run_verb(verb, loaded, run_folder(loaded, run), inputs or [], dry_run=dry_run, quiet=quiet)
        finish(lines, body, as_json=as_json, code=code)

    command.__doc__ = help_text
    return command


for _verb, _help in {
    "generate": "Makes keys and commitment, then continues real texts under a token watermark.",
    "train": "Fine-tunes classifier and LoRA suspects, and their clean twins.",
    "probe": "Asks every suspect what the sealed plan lists.",
    "report": "Writes report.html and report.json.",
}.items():
    app.command(_verb)(_stage_command(_verb, _help))
cli_releases.register(app, plan_app, _stage_command)
cli_audit.register(app, plan_app, _stage_command)
cli_readers.register(app)


def main() -> None:
    """Entry point: every error as two lines, and the right exit code."""
    _no_core_dumps()
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


_MACHINE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE}
"""What a machine refuses, whatever the program asks."""


def _no_core_dumps() -> None:
    """A process that holds keys leaves no memory on a disk when it crashes."""
    try:
        import resource
    except ImportError:  # no POSIX system
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _foreign(error: Exception) -> tuple[str, int]:
    """Errors that are not ours: typer's own for bad usage, anything else is a bug."""
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        command = getattr(getattr(error, "ctx", None), "command_path", "countermark")
        return f"error: {error.format_message()}\nhint: see `{command} --help`", EXIT_USAGE
    if os.environ.get("COUNTERMARK_DEBUG"):
        raise error
    if isinstance(error, OSError) and error.errno in _MACHINE:
        got = f"got {os.strerror(error.errno)!r} for {error.filename or 'a file'}, expected none"
        return f"error: {got}\nhint: mend that, then run the same command again", EXIT_USAGE
    message = " ".join(str(error).split())[:300]
    hint = "this is a bug; run again with COUNTERMARK_DEBUG=1 for a traceback, and report it"
    return f"error: internal: got {type(error).__name__}: {message}\nhint: {hint}", EXIT_INTERNAL


def _stop(text: str, code: int) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - errors go to stderr as plain text
    sys.exit(code)


if __name__ == "__main__":
    main()
