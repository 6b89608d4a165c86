"""Key events: what was done to a key, and when, as values that a ledger can keep and anybody may read.

An event holds opaque ids, states and dates; never a byte of a key, a person, a purpose or a scope. Its id is the digest
of everything in it. The events of a ring are numbered from 0, and each names the id of the one before: an event that is
delivered twice is recognised by its id, one that is missing leaves a gap, and two that share a place in one ring show
that an old copy of the key file was changed behind the back of the new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.manifest import digest
from watermarks.keys import KeyState

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventKind(StrEnum):
    """What happened; the names are those of the functions of :mod:`watermarks.keylife` and of the commands."""

    CREATE = "create"
    ADD = "add"
    DISTRIBUTE = "distribute"
    PROMOTE = "promote"
    RETIRE = "retire"
    REVOKE = "revoke"
    RESTORE = "restore"
    REQUEST_DESTROY = "request_destroy"
    CANCEL_DESTROY = "cancel_destroy"
    DESTROY = "destroy"
    COMMIT = "commit"
    PASSPHRASE = "passphrase"  # noqa: S105 - the name of an event


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEvent:
    """One transition of a key ring.

    Args:
        kind: what was done.
        ring_id: the ring, random and opaque.
        sequence: its place among the events of the ring, from 0.
        previous: id of the event before it; None for the first.
        at: UTC, whole seconds, by the clock of the machine that did it. ``sequence`` is the order, not the clock.
        key_id: the key; None where the whole ring is concerned (its passphrase).
        version: the key's version in the ring.
        before: the key's state before; None for a new key.
        after: the key's state after.
        details: what else a reader needs: ``replaced`` (the primary before), ``until``, ``destroy_after``, ``sha256``
            (a commitment).
    """

    kind: EventKind
    ring_id: str
    sequence: int
    previous: str | None
    at: datetime
    key_id: str | None = None
    version: int | None = None
    before: KeyState | None = None
    after: KeyState | None = None
    details: tuple[tuple[str, str], ...] = ()

    @property
    def event_id(self) -> str:
        """SHA-256 of the canonical JSON of the event: the same transition has the same id, wherever it is retold."""
        return digest(self._body())

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object, ``id`` included."""
        return {"id": self.event_id, **self._body()}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> KeyEvent:
        """The event that :meth:`to_json` made.

        Raises:
            KeyError, TypeError, ValueError: another shape, or an id that is not that of the other fields.
        """
        event = cls(
            kind=EventKind(body["kind"]),
            ring_id=_text(body["ring"]),
            sequence=_count(body["sequence"]),
            previous=None if body["previous"] is None else _text(body["previous"]),
            at=read_utc(body["at"]),
            key_id=None if body["key_id"] is None else _text(body["key_id"]),
            version=None if body["version"] is None else _count(body["version"]),
            before=None if body["from"] is None else KeyState(body["from"]),
            after=None if body["to"] is None else KeyState(body["to"]),
            details=tuple(sorted((_text(k), _text(v)) for k, v in body["details"].items())),
        )
        if event.to_json() != dict(body):
            raise ValueError("an event whose id is not its own")
        return event

    def _body(self) -> dict[str, Any]:
        return {
            "kind": str(self.kind),
            "ring": self.ring_id,
            "sequence": self.sequence,
            "previous": self.previous,
            "at": utc_text(self.at),
            "key_id": self.key_id,
            "version": self.version,
            "from": None if self.before is None else str(self.before),
            "to": None if self.after is None else str(self.after),
            "details": dict(self.details),
        }


def to_utc(moment: datetime) -> datetime:
    """``moment`` in UTC and whole seconds, as everything here keeps it.

    Raises:
        UsageError: a time without a zone, which may mean anything.
    """
    if moment.tzinfo is None:
        raise UsageError(f"got {moment.isoformat()} without a time zone, expected one", hint="append Z for UTC")
    return moment.astimezone(UTC).replace(microsecond=0)


def utc_text(moment: datetime) -> str:
    """``2026-11-22T10:20:18Z``."""
    return to_utc(moment).isoformat().removesuffix("+00:00") + "Z"


def read_utc(text: str) -> datetime:
    """The moment that :func:`utc_text` wrote, and no other spelling of it.

    Raises:
        TypeError, ValueError: another form.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or utc_text(moment) != text:
        raise ValueError("a time in another form")
    return moment


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no string")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no count")
    return value
