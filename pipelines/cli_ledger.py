"""Commands ``ledger …``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_common import DryRunOption, JsonOption, finish

ledger_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The append-only log: events in, signed checkpoints and proofs out.",
)

LedgerArgument = Annotated[
    str, typer.Argument(metavar="LEDGER", help="SQLite file, or postgresql://user@host/database.")
]
KeyOption = Annotated[Path, typer.Option("--key", help="Signing key, a 0600 file; keep it where the ledger is not.")]


@ledger_app.command("init")
def ledger_init(
    ledger: LedgerArgument,
    key: KeyOption,
    name: Annotated[str, typer.Option("--name", help="The log's name, e.g. example.com/ledger: in every checkpoint.")],
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Makes a ledger and its signing key; an existing ledger is never touched."""
    from pipelines.ledger_commands import init

    lines, body = init(ledger, key, name, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@ledger_app.command("append")
def ledger_append(
    ledger: LedgerArgument,
    events: Annotated[str, typer.Argument(metavar="[FILE]", help="Events, a JSON object a line; - is stdin.")] = "-",
    run: Annotated[Path | None, typer.Option("--run", help="Takes the events of a run folder instead.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Signs a checkpoint after them.")] = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Appends events, all or none, durably; what is in the log already keeps its number."""
    from pipelines.ledger_commands import append

    if run or events == "-":
        place = str(run) if run else "stdin"
        lines, body = append(ledger, sys.stdin.buffer, place, run=run, key=key, dry_run=dry_run)
    else:
        with _opened(events) as stream:
            lines, body = append(ledger, stream, events, run=None, key=key, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@ledger_app.command("show")
def ledger_show(
    ledger: LedgerArgument,
    first: Annotated[
        int | None, typer.Option("--first", min=0, help="From this entry on (default: the newest).")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="At most so many.")] = 20,
    kind: Annotated[str | None, typer.Option("--event", help="Only events of this kind.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Prints entries as they are stored, unchecked."""
    from pipelines.ledger_commands import show

    lines, body = show(ledger, first=first, count=count, kind=kind)
    finish(lines, body, as_json=as_json)


@ledger_app.command("checkpoint")
def ledger_checkpoint(
    ledger: LedgerArgument,
    key: KeyOption,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also writes the checkpoint to a file, to be given away.")
    ] = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Signs the log as it is, if it continues all that this key signed before; prints checkpoint and public value."""
    from pipelines.ledger_commands import checkpoint

    lines, body = checkpoint(ledger, key, out, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


@ledger_app.command("prove")
def ledger_prove(
    ledger: LedgerArgument,
    index: Annotated[
        int | None, typer.Argument(metavar="[ENTRY]", min=0, help="Proves that this entry is in the log.")
    ] = None,
    old: Annotated[
        int | None, typer.Option("--from", min=1, help="Proves that the first N entries are still the same.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Under this size (default: the newest checkpoint).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prints a proof as JSON, for `countermark ledger verify` on any machine."""
    from pipelines.ledger_commands import prove

    lines, body = prove(ledger, index, old, size)
    finish(lines, body, as_json=as_json)


@ledger_app.command("verify")
def ledger_verify(
    target: Annotated[str, typer.Argument(metavar="LEDGER|FILE", help="A ledger, an export, or a proof.")],
    verifier: Annotated[
        list[str], typer.Option("--verifier", help="The log's verifier key, or the .pub file with it. Repeatable.")
    ],
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", help="A checkpoint that you have kept. Repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hashes every entry again and says what is wrong, and where. 0 sound, 3 not, 5 nothing is signed."""
    from pipelines.ledger_commands import verify

    (lines, body), error = verify(target, verifier, checkpoint or [])
    finish(lines, body, as_json=as_json)
    if error is not None:
        raise error


@ledger_app.command("export")
def ledger_export(
    ledger: LedgerArgument,
    out: Annotated[
        Path, typer.Option("--out", help="File to write: a line with the checkpoints, then a line an entry.")
    ],
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Writes the whole log as JSON lines that `countermark ledger verify` checks without the database."""
    from pipelines.ledger_commands import write_export

    lines, body = write_export(ledger, out, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


def _opened(name: str) -> typer.FileBinaryRead:
    from countermark.errors import UsageError

    try:
        return Path(name).open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise UsageError(f"got {name}, which cannot be read ({error.strerror}), expected a file of events") from None
