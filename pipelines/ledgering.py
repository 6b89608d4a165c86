"""How this program's doings reach a ledger: key events, the event log of a run folder, and what callers record.

Everything recorded here carries an id made from what it is, so that telling it again changes nothing: after a crash,
tell everything again.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from countermark.files import PRIVATE_DIR_MODE, PRIVATE_FILE_MODE, atomic_write, make_dir
from countermark.manifest import digest
from pipelines.ledger_stages import stage_events
from verification.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from verification.ledger_store import Store

Event = dict[str, Any]

_URL = re.compile(r"postgres(?:ql)?(?:\+[a-z0-9]+)?://")
_KEY_FIELDS = ("previous", "key_id", "version", "from", "to")
_DETAILS = ("replaced", "until", "destroy_after", "sha256", "config_digest")
_RUN_ID, _BLIND = "owner/run_id", "owner/blind"


def open_ledger(where: str | Path, *, create: bool = False) -> Ledger:
    """The ledger at a SQLite file or a ``postgresql://`` URL.

    Raises:
        UsageError: there is none, or, with ``create``, there is one.
        LedgerError: what is there is damaged.
    """
    store: Store
    if _URL.match(str(where)):
        from verification.ledger_postgres import PostgresStore

        store = PostgresStore(str(where), create=create)
    else:
        from verification.ledger_sqlite import SqliteStore

        if "://" in str(where):
            raise UsageError(f"got a ledger at {str(where).split(':')[0]}://…, expected a file or postgresql://…")
        store = SqliteStore(Path(where), create=create)
    return Ledger(store)


def key_event(body: Mapping[str, Any]) -> Event:
    """A key ring's event (``watermarks.keyevents``) as a ledger's: flat, without empty fields, under its own id."""
    return {
        "event": "key",
        **{name: body[name] for name in ("at", "id", "kind", "ring", "sequence")},
        **{name: body[name] for name in _KEY_FIELDS if body.get(name) is not None},
        **body.get("details", {}),
    }


def key_body(entry: Mapping[str, Any]) -> Event:
    """The key ring's event that :func:`key_event` made an entry of; its id can be computed again from it."""
    return {
        **{name: entry[name] for name in ("at", "id", "kind", "ring", "sequence")},
        **{name: entry.get(name) for name in _KEY_FIELDS},
        "details": {name: entry[name] for name in _DETAILS if name in entry},
    }


def key_recorder(ledger: Ledger) -> Callable[[dict[str, Any]], None]:
    """What a key ring's owner calls with every event; durable when it returns."""

    def record(body: dict[str, Any]) -> None:
        ledger.append([key_event(body)])

    return record


def ledger_events(run_event: Mapping[str, Any], *, run: str, line: int) -> Event:
    """A line of a run folder's ``events.jsonl`` as an event.

    Args:
        run_event: ``{"time", "event", "stage", …}``; of the rest, ``digest`` and ``seconds`` are kept.
        run: :func:`run_id` of the folder.
        line: its number in the file, from 0: what makes two equal lines two events.
    """
    event: Event = {
        "event": "stage",
        "at": str(run_event["time"]).replace("+00:00", "Z"),
        "run": run,
        "line": line,
        "stage": run_event["stage"],
        "phase": run_event["event"],
    }
    if "digest" in run_event:
        event["digest"] = run_event["digest"]
    if "seconds" in run_event:
        event["milliseconds"] = round(1000 * run_event["seconds"])
    return event | {"id": digest({"countermark": "run-line", "run": run, "line": line})}


def run_id(root: Path) -> str:
    """A random name of a run folder, drawn once and kept with the owner's things, as ``events.jsonl`` is."""
    return f"run_{_drawn_once(root / _RUN_ID, 16)}"


def run_blind(root: Path) -> bytes:
    """What blinds the digests of a run folder's texts in a ledger: 32 random bytes, kept likewise."""
    return bytes.fromhex(_drawn_once(root / _BLIND, 32))


def _drawn_once(path: Path, size: int) -> str:
    if not path.exists():
        make_dir(path.parent, mode=PRIVATE_DIR_MODE)
        atomic_write(path, f"{secrets.token_hex(size)}\n".encode(), mode=PRIVATE_FILE_MODE)
    return path.read_text("utf-8").strip().removeprefix("run_")


def run_lines(root: Path, *, since: int = 0) -> list[Event]:
    """A run folder's events from line ``since`` on, and what its finished stages mean; a torn last line is none yet.

    Raises:
        UsageError: the folder has no event log. IntegrityError: a line that is none.
    """
    path = root / "events.jsonl"
    if not path.is_file():
        raise UsageError(f"got no event log {path}, expected a run folder's")
    name, blind = run_id(root), run_blind(root)
    *lines, _torn = path.read_bytes().split(b"\n")
    events = []
    for number, line in enumerate(lines[since:], since):
        try:
            said = json.loads(line)
            event = ledger_events(said, run=name, line=number)
            events += [event, *stage_events(root, said, at=event["at"], run=name, blind=blind)]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IntegrityError(
                f"got line {number + 1} of {path}, which is no event ({error}), expected one"
            ) from None
    return events


def append_run(ledger: Ledger, root: Path, *, since: int = 0) -> list[int]:
    """Brings the ledger up to a run folder's event log; what is there already is not told twice.

    ``since`` is how many lines this process has told before, for those who tell after every line.
    """
    return ledger.append(run_lines(root, since=since))


def find_event(ledger: Ledger, kind: str, **fields: str) -> tuple[int, Event] | None:
    """The first entry of a kind with these fields, and its number; None where there is none."""
    wanted = [f'"event":"{kind}"'.encode(), *(value.encode() for value in fields.values())]
    for entry in ledger.entries():
        if all(part in entry.data for part in wanted):
            event = json.loads(entry.data)
            if event["event"] == kind and all(event.get(name) == value for name, value in fields.items()):
                return entry.seq, event
    return None


def read_events(lines: Iterable[bytes], place: str) -> list[Event]:
    """Events from JSON lines.

    Raises:
        UsageError: a line that is no JSON object, or names a field twice; by its number.
    """
    events = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line, object_pairs_hook=_single)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"got line {number} of {place}, which is not JSON ({error}), expected an event") from None
        if not isinstance(event, dict):
            raise UsageError(f"got line {number} of {place}, which is no object, expected an event")
        events.append(event)
    return events


def _single(pairs: list[tuple[str, Any]]) -> Event:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a field named twice")
    return dict(pairs)
