"""The key ring: keys with versions, states, scopes and dates; one of them, the primary, marks what is new.

A ring is a value. What changes it are the functions of :mod:`watermarks.keylife`; what keeps it on a disk is
:mod:`watermarks.keyfile`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from watermarks.keyevents import EventKind, KeyEvent, utc_text
from watermarks.keys import KeyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from watermarks.keys import Key

MAX_LABEL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyScope:
    """What a key is meant for. It is a note to people, kept inside the seal: no derivation reads it."""

    model: str | None = None
    deployment: str | None = None
    dataset: str | None = None
    recipient: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.to_json().items():
            check_label(f"scope {name}", value, empty=False)

    def to_json(self) -> dict[str, str]:
        """The parts that are set."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in named if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCommitment:
    """A commitment made under a key: the public digest, what was committed to, when, and what for."""

    sha256: str
    config_digest: str
    at: datetime
    what: str = ""

    def to_json(self) -> dict[str, str]:
        """The commitment as a JSON object. Whoever can guess the whole config can confirm it by ``config_digest``."""
        at = utc_text(self.at)
        return {"sha256": self.sha256, "config_digest": self.config_digest, "at": at, "what": self.what}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """A key of a ring and its life so far. A date is None for what has not happened, or was not yet recorded then.

    Args:
        key_id: random and opaque.
        version: counts from 1 in the order of making; never given twice.
        state: where it stands.
        key: the secret part; None once destroyed, or where a copy of the ring was made without it.
        purpose: a word or two for people.
        scope: what it is meant for.
        created: made.
        distributed: last recorded as handed out to those who need it.
        activated: last became one that marks.
        retired: stopped marking; ``restore`` may undo that.
        until: a verify-only key's last day of service; evidence is still verified after it, and says so.
        revoked: declared not to be trusted.
        destroy_after: destruction was asked for and may be confirmed from then on.
        destroyed: the secret went.
        commitments: what was committed to under it, in order.
    """

    key_id: str
    version: int
    state: KeyState
    key: Key | None
    purpose: str = ""
    scope: KeyScope = KeyScope()
    created: datetime | None = None
    distributed: datetime | None = None
    activated: datetime | None = None
    retired: datetime | None = None
    until: datetime | None = None
    revoked: datetime | None = None
    destroy_after: datetime | None = None
    destroyed: datetime | None = None
    commitments: tuple[MadeCommitment, ...] = ()

    def __post_init__(self) -> None:
        check_label("purpose", self.purpose)
        if self.version < 1 or not self.key_id or (self.key is not None and self.key.key_id != self.key_id):
            raise UsageError(f"got key {self.key_id!r} as version {self.version}, expected one id and a version from 1")
        if self.state is KeyState.DESTROYED and self.key is not None:
            raise UsageError(f"got a destroyed key {self.key_id} with its secret, expected none")
        if self.state is KeyState.ACTIVE and self.destroy_after is not None:
            raise UsageError(f"got an active key {self.key_id} that is to be destroyed, expected no more marking")

    def standing(self, now: datetime) -> Standing:
        """Where the key stands at ``now``, for reports of evidence under it."""
        since = {
            KeyState.ACTIVE: self.activated,
            KeyState.VERIFY_ONLY: self.retired,
            KeyState.REVOKED: self.revoked,
            KeyState.DESTROYED: self.destroyed,
        }[self.state]
        return Standing(
            key_id=self.key_id,
            version=self.version,
            state=self.state,
            since=since,
            until=self.until,
            expired=self.until is not None and self.until <= now,
            destroy_after=self.destroy_after if self.state is not KeyState.DESTROYED else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is said of a key beside evidence under it: its state, since when, until when, whether that has passed."""

    key_id: str
    version: int
    state: KeyState
    since: datetime | None = None
    until: datetime | None = None
    expired: bool = False
    destroy_after: datetime | None = None

    def __str__(self) -> str:
        parts = [str(self.state)]
        parts += [f"since {utc_text(self.since)}"] if self.since else []
        parts += [f"until {utc_text(self.until)}{', which has passed' if self.expired else ''}"] if self.until else []
        parts += [f"to be destroyed from {utc_text(self.destroy_after)}"] if self.destroy_after else []
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The standing as a JSON object."""
        dates = {"since": self.since, "until": self.until, "destroy_after": self.destroy_after}
        return {
            "id": self.key_id,
            "version": self.version,
            "state": str(self.state),
            "expired": self.expired,
            **{name: moment and utc_text(moment) for name, moment in dates.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """Keys, exactly one of them the primary (active, marks what is new), and everything that ever happened to them.

    Args:
        ring_id: random and opaque; copies of one ring share it.
        entries: the keys, in the order of their versions. None ever leaves: of a destroyed one the secret goes.
        primary: id of the key that marks unless another is named.
        history: every event since the ring was made, in order.
        recorded: how many of them a ledger is known to hold.

    Raises:
        UsageError: the parts do not hold together.
    """

    ring_id: str
    entries: tuple[KeyEntry, ...]
    primary: str
    history: tuple[KeyEvent, ...] = ()
    recorded: int = 0

    def __post_init__(self) -> None:
        ids = [entry.key_id for entry in self.entries]
        versions = [entry.version for entry in self.entries]
        if not ids or len(ids) != len(set(ids)) or versions != sorted(set(versions)):
            raise UsageError(f"got a key ring with {len(ids)} keys, expected at least one, with ids and versions apart")
        if self.primary not in ids or self.entry(self.primary).state is not KeyState.ACTIVE:
            raise UsageError(f"got primary {self.primary!r}, expected the id of an active key of the ring")
        if not 0 <= self.recorded <= len(self.history):
            raise UsageError(f"got {self.recorded} recorded events of {len(self.history)}, expected no more than all")

    def entry(self, key_id: str) -> KeyEntry:
        """The key ``key_id`` with its life.

        Raises:
            UsageError: the ring has no such key.
        """
        for entry in self.entries:
            if entry.key_id == key_id:
                return entry
        known = ", ".join(entry.key_id for entry in self.entries)
        raise UsageError(f"got key id {key_id!r}, expected one of: {known}", hint="see `countermark keys show`")

    def state(self, key_id: str) -> KeyState:
        """The state of one key."""
        return self.entry(key_id).state

    def get(self, key_id: str | None = None, *, marking: bool = False) -> Key:
        """The key ``key_id``, or the primary; ``marking`` asks for one that may still mark.

        Raises:
            UsageError: no such key in the ring, destroyed, not in this copy, or not active where it has to be.
        """
        entry = self.entry(key_id or self.primary)
        if entry.state is KeyState.DESTROYED or (marking and entry.state is not KeyState.ACTIVE):
            raise UsageError(
                f"got key {entry.key_id} in state {entry.state}, expected an active one",
                hint="only the secret marks and verifies, and it is gone"
                if entry.state is KeyState.DESTROYED
                else "mark with the ring's primary, or see docs/keys.md for promote and restore",
            )
        if entry.key is None:
            raise UsageError(
                f"got key {entry.key_id}, whose secret was left out of this copy of the ring, expected another",
                hint="use the key file it was copied from, or export again with this --key-id",
            )
        return entry.key

    def usable(self) -> list[tuple[Key, KeyEntry]]:
        """Every key under which evidence can be verified here: not destroyed, and its secret in this copy."""
        return [(entry.key, entry) for entry in self.entries if entry.key is not None]

    def commitments(self) -> list[dict[str, Any]]:
        """Every commitment made under a key of the ring, destroyed ones too, as JSON objects by version."""
        return [
            {"key_id": entry.key_id, "version": entry.version, **made.to_json()}
            for entry in self.entries
            for made in entry.commitments
        ]

    def pending(self) -> tuple[KeyEvent, ...]:
        """The events that no ledger is known to hold."""
        return self.history[self.recorded :]

    def step(
        self,
        kind: EventKind,
        *entries: KeyEntry,
        at: datetime,
        primary: str | None = None,
        details: Mapping[str, str] | None = None,
    ) -> tuple[KeyRing, KeyEvent]:
        """The ring with ``entries`` in it (each in place of the one of its id), and the event, about the first."""
        new = {entry.key_id: entry for entry in entries}
        old = {entry.key_id: entry for entry in self.entries}
        subject = entries[0] if entries else None
        before = old.get(subject.key_id) if subject and kind is not EventKind.CREATE else None
        event = KeyEvent(
            kind=kind,
            ring_id=self.ring_id,
            sequence=len(self.history),
            previous=self.history[-1].event_id if self.history else None,
            at=at,
            key_id=subject.key_id if subject else None,
            version=subject.version if subject else None,
            before=before.state if before else None,
            after=subject.state if subject else None,
            details=tuple(sorted((details or {}).items())),
        )
        changed = replace(
            self,
            entries=tuple((old | new).values()),
            primary=primary or self.primary,
            history=(*self.history, event),
        )
        return changed, event

    def copy_with(self, key_ids: Iterable[str] | None = None) -> KeyRing:
        """A copy for another machine: everything, or the secrets of ``key_ids`` alone. Its ledger is another matter."""
        chosen = {entry.key_id for entry in self.entries} if key_ids is None else {*key_ids}
        for key_id in sorted(chosen):
            self.entry(key_id)
        kept = (entry if entry.key_id in chosen else replace(entry, key=None) for entry in self.entries)
        return replace(self, entries=tuple(kept), recorded=0)


def check_label(what: str, value: str, *, empty: bool = True) -> None:
    """A short, printable line, since it will stand in a table.

    Raises:
        UsageError: too long, empty where it may not be, or with control characters.
    """
    if len(value) > MAX_LABEL or not value.isprintable() or not (value or empty):
        raise UsageError(f"got {what} {value[:40]!r}, expected at most {MAX_LABEL} printable characters")


def legacy_ring_id(key_ids: Sequence[str]) -> str:
    """The id of a ring made before rings had one: a digest of its keys' ids, so that every reader finds the same."""
    return "ring_" + hashlib.sha256("\n".join(["countermark/ring/v1", *sorted(key_ids)]).encode()).hexdigest()[:16]
