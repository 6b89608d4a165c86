"""What the commands ``keys …`` do, as functions that return lines for people and JSON for programs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.files import atomic_write, make_dir
from countermark.manifest import canonical_json
from watermarks.keychain import Keychain
from watermarks.keycopy import merge
from watermarks.keyfile import KeyFile
from watermarks.keyjson import entry_dates
from watermarks.keylife import add, new_ring
from watermarks.keys import new_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pipelines.config import RunConfig
    from pipelines.passphrase import PassphraseSource
    from watermarks.keyevents import KeyEvent
    from watermarks.keyfile import Record, Transition
    from watermarks.keyring import KeyEntry, KeyRing, KeyScope

Result = tuple[list[str], Any]


def utc_now() -> datetime:
    """The machine's clock: the only place where the commands read it."""
    return datetime.now(UTC)


@contextmanager
def recording(ledger: str | None) -> Iterator[Record | None]:
    """What takes key events besides the key file; None without a ledger: events then stay pending in the file."""
    if ledger is None:
        yield None
        return
    from pipelines.ledgering import key_recorder, open_ledger

    with open_ledger(ledger) as opened:
        yield key_recorder(opened)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A key file, the passphrase that opens it, and the ledger that takes its events."""

    path: Path
    passphrase: bytes = field(repr=False)
    ledger: str | None = None

    @property
    def file(self) -> KeyFile:
        """The key file, to be read and changed."""
        return KeyFile(self.path)

    def ring(self) -> KeyRing:
        """The ring as it is now."""
        return self.file.read(self.passphrase)


def make(
    path: Path, source: PassphraseSource, *, purpose: str, scope: KeyScope, ledger: str | None, dry_run: bool
) -> Result:
    """A new ring with one key. A passphrase *file* is made with a random passphrase where there is none.

    Raises:
        UsageError: the file exists.
    """
    from pipelines.passphrase import make_passphrase_file

    if path.exists():
        raise UsageError(
            f"got {path}, which exists, expected a new file", hint="choose another name; a ring is never overwritten"
        )
    ring = new_ring(now=utc_now(), purpose=purpose, scope=scope)
    if dry_run:
        return [f"would make {path}"], {"ring": str(path), "dry_run": True}
    if source.file is not None:
        make_passphrase_file(source.file)
    passphrase = source.read(new=True)
    with recording(ledger) as record:
        KeyFile(path).create(ring, passphrase, record=record)
    return show([Place(path=path, passphrase=passphrase)])


def show(places: Sequence[Place]) -> Result:
    """Ids, versions, states and dates of all keys of one or several files; never a byte of them."""
    rings = [(str(place.path), place.ring()) for place in places]
    Keychain(rings=tuple(rings))
    now, lines, bodies = utc_now(), [], []
    for name, ring in rings:
        entries = [_described(entry, now) for entry in ring.entries]
        pending = len(ring.pending())
        bodies.append(
            {"ring": name, "id": ring.ring_id, "primary": ring.primary, "keys": entries, "pending_events": pending}
        )
        lines += [name] if len(rings) > 1 else []
        lines += [_line(entry, now, primary=entry.key_id == ring.primary) for entry in ring.entries]
    return lines, bodies[0] if len(bodies) == 1 else {"rings": bodies}


def change(place: Place, transition: Transition, *, dry_run: bool) -> Result:
    """One transition of a ring; a dry run says what it would be, and writes nothing."""
    told: list[KeyEvent] = []

    def watched(ring: KeyRing) -> tuple[KeyRing, KeyEvent | None]:
        changed, event = transition(ring)
        told.extend([event] if event else [])
        return changed, event

    if dry_run:
        watched(place.ring())
    else:
        with recording(place.ledger) as record:
            place.file.change(place.passphrase, watched, record=record)
    return _told(place.path, told[0], dry_run=dry_run)


def add_key(place: Place, *, purpose: str, scope: KeyScope, dry_run: bool) -> Result:
    """Step one of a rotation: a fresh key that cannot mark yet."""
    key, now = new_key(), utc_now()
    lines, body = change(
        place, lambda ring: add(ring, key, now=now, purpose=purpose, scope=scope), dry_run=dry_run
    )  # a dry run's key is thrown away: its id is of no use to anyone
    if dry_run:
        return ["would add a key"], {**body, "event": {**body["event"], "key_id": None}}
    return lines, body


def reseal(place: Place, source: PassphraseSource | None, *, dry_run: bool) -> Result:
    """Another passphrase, or with no ``source`` the same, under a new salt and today's cost."""
    ring = place.ring()  # a wrong passphrase is said before a new one is asked for
    if dry_run:
        return [f"would seal {place.path} anew"], {"ring": str(place.path), "id": ring.ring_id, "dry_run": True}
    new = place.passphrase if source is None else source.read(new=True)
    with recording(place.ledger) as record:
        changed = place.file.reseal(place.passphrase, new, now=utc_now(), record=record)
    return _told(place.path, changed.history[-1], dry_run=False)


def export(place: Place, to: Path, source: PassphraseSource, key_ids: Sequence[str], *, dry_run: bool) -> Result:
    """A sealed copy of the ring for another machine, under a passphrase of its own; ``key_ids``: their secrets alone.

    Raises:
        UsageError: the copy's file exists, or an id is not in the ring.
    """
    copy = place.ring().copy_with(key_ids or None)
    held = [key.key_id for key, _ in copy.usable()]
    body = {"ring": str(place.path), "copy": str(to), "keys": held, "dry_run": dry_run}
    if dry_run:
        return [f"would export {', '.join(held) or 'no secrets'} to {to}"], body
    KeyFile(to).create(copy, source.read(new=True))
    return [f"exported {', '.join(held) or 'no secrets'} to {to}"], body


def import_copy(place: Place, copy: Place, *, dry_run: bool) -> Result:
    """Brings a copy of the ring in, or makes the file from it."""
    taken = copy.ring()
    if dry_run:
        ring = merge(place.ring(), taken) if place.path.exists() else taken
    else:
        with recording(place.ledger) as record:
            ring = place.file.take(taken, place.passphrase, record=record)
    held = [key.key_id for key, _ in ring.usable()]
    word = "would bring in" if dry_run else "brought in"
    body = {"ring": str(place.path), "copy": str(copy.path), "keys": held, "dry_run": dry_run}
    return [f"{word} {ring.ring_id} with {len(ring.history)} events; keys that verify here: {', '.join(held)}"], body


def commitments(place: Place, out: Path | None, *, dry_run: bool) -> Result:
    """Every commitment made under a key of the ring, destroyed ones too; ``out`` gets them as canonical JSON."""
    ring = place.ring()
    made = ring.commitments()
    body = {"ring_id": ring.ring_id, "commitments": made}
    if out is not None and not dry_run:
        make_dir(out.parent)
        atomic_write(out, canonical_json(body) + b"\n")
    lines = [f"{each['sha256']}  {each['key_id']}  {each['at']}  {each['what']}".rstrip() for each in made]
    return lines or ["no commitments"], body


def recipients(place: Place, names: Sequence[str], key_id: str | None) -> Result:
    """The id of each recipient's key, derived and stored nowhere."""
    if not names:
        raise UsageError("got no recipient, expected at least one", hint="name them, or a file with --recipients")
    key = place.ring().get(key_id)
    found = [{"recipient": name, "id": key.recipient(name).key_id} for name in names]
    return [f"{each['id']}  {each['recipient']}" for each in found], {"key_id": key.key_id, "recipients": found}


def read_names(path: Path) -> list[str]:
    """Names, one a line; empty lines are none.

    Raises:
        UsageError: no such file, or not UTF-8.
    """
    try:
        return [line for line in path.read_text("utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"got {path}, which cannot be read, expected UTF-8 with one recipient a line") from None


def history(place: Place) -> Result:
    """Every event of the ring, in order."""
    ring = place.ring()
    bodies = [event.to_json() for event in ring.history]
    lines = [
        f"{b['sequence']:>4}  {b['at']}  {b['kind']:<15} {b['key_id'] or '-':<20} {_arrow(b)}".rstrip() for b in bodies
    ]
    lines.append(f"{len(ring.pending())} of {len(bodies)} are in no ledger that the key file knows of")
    return lines, {"ring_id": ring.ring_id, "recorded": ring.recorded, "events": bodies}


def sync(place: Place, *, dry_run: bool) -> Result:
    """Tells the ledger the events that it is not known to hold.

    Raises:
        UsageError: no ledger is named.
    """
    if dry_run:
        count = len(place.ring().pending())
    else:
        with recording(place.ledger) as record:
            if record is None:
                raise UsageError("got no --ledger, expected one", hint="`countermark keys events` prints the events")
            count = place.file.sync(place.passphrase, record)
    return [f"{'would tell' if dry_run else 'told'} {count} events"], {"events": count, "dry_run": dry_run}


def commit_key(config: RunConfig, folder: Path, *, ledger: str | None, dry_run: bool) -> Result:
    """The commitment that a run of this config in this folder will make; makes the ring where there is none."""
    from pipelines.keystage import ensure_ring, list_commitment, make_commitment
    from pipelines.progress import QuietProgress
    from pipelines.stage import Context

    context = Context(config=config, owner=folder / "owner", work=folder, progress=QuietProgress())
    if dry_run and not context.ring_path().exists():
        return [f"would make {context.ring_path()}"], {"ring": str(context.ring_path()), "dry_run": True}
    with recording(None if dry_run else ledger) as record:
        if not dry_run:
            ensure_ring(context.ring_path(), context.passphrase_path(), now=utc_now(), record=record)
        body = make_commitment(context.key().key_id, context, config)
        if not dry_run:
            list_commitment(body, context, now=utc_now(), record=record)
    return [f"{name}: {value}" for name, value in body.items()], body


def _described(entry: KeyEntry, now: datetime) -> dict[str, Any]:
    standing = entry.standing(now).to_json()
    return {
        "id": entry.key_id,
        "version": entry.version,
        "state": standing["state"],
        "expired": standing["expired"],
        "purpose": entry.purpose,
        "scope": entry.scope.to_json(),
        "secret_here": entry.key is not None,
        "commitments": len(entry.commitments),
        **entry_dates(entry),
    }


def _line(entry: KeyEntry, now: datetime, *, primary: bool) -> str:
    notes = ["primary"] if primary else []
    notes += [entry.purpose] if entry.purpose else []
    notes += [f"{name}={value}" for name, value in entry.scope.to_json().items()]
    notes += ["secret not in this copy"] if entry.key is None and entry.destroyed is None else []
    return "  ".join([f"{entry.key_id}  v{entry.version}  {entry.standing(now)}", *notes])


def _told(path: Path, event: KeyEvent, *, dry_run: bool) -> Result:
    body = event.to_json()
    details = ", ".join(f"{name} {value}" for name, value in event.details)
    said = f"{'would ' if dry_run else ''}{event.kind.replace('_', ' ')} {event.key_id or ''}".rstrip()
    line = f"{said}: {_arrow(body)}" if event.key_id else said
    return [f"{line} ({details})" if details else line], {"ring": str(path), "event": body, "dry_run": dry_run}


def _arrow(body: dict[str, Any]) -> str:
    if body["to"] is None:
        return ""
    return body["to"] if body["from"] in {None, body["to"]} else f"{body['from']} -> {body['to']}"
