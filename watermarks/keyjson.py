"""What is inside the seal, as JSON: a ring of format 2, and the reading of format 1."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from watermarks.keyevents import KeyEvent, read_utc, utc_text
from watermarks.keyring import KeyEntry, KeyRing, KeyScope, MadeCommitment, legacy_ring_id
from watermarks.keys import Key, KeyState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

DATES = ("created", "distributed", "activated", "retired", "until", "revoked", "destroy_after", "destroyed")
_SCOPES = {field.name for field in fields(KeyScope)}


def ring_to_json(ring: KeyRing) -> dict[str, Any]:
    """The whole ring, secrets included: for sealing, and for nothing else."""
    return {
        "ring": ring.ring_id,
        "primary": ring.primary,
        "recorded": ring.recorded,
        "keys": [_entry_to_json(entry) for entry in ring.entries],
        "history": [event.to_json() for event in ring.history],
    }


def ring_from_json(body: Mapping[str, Any]) -> KeyRing:
    """The ring that :func:`ring_to_json` wrote, its history checked link by link.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: another shape, or parts that do not hold together.
    """
    history = tuple(KeyEvent.from_json(each) for each in body["history"])
    previous = None
    for place, (event, each) in enumerate(zip(history, body["history"], strict=True)):
        if (event.ring_id, event.sequence, event.previous) != (body["ring"], place, previous):
            raise ValueError("a history with a link missing")
        previous = each["id"]  # checked by from_json
    return _ring(
        ring_id=_text(body["ring"]),
        entries=tuple(_entry_from_json(each) for each in body["keys"]),
        primary=_text(body["primary"]),
        history=history,
        recorded=_count(body["recorded"]),
    )


def ring_from_v1(body: Mapping[str, Any]) -> KeyRing:
    """The ring of a file of format 1: no dates, no history; versions are the places, the ring's id that of its keys.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: another shape.
    """
    entries = []
    for version, each in enumerate(body["keys"], 1):
        state = KeyState(each["state"])
        key = _key(each["id"], each["secret"], each["nonce"])
        kept = None if state is KeyState.DESTROYED else key
        entries.append(KeyEntry(key_id=key.key_id, version=version, state=state, key=kept))
    ids = [entry.key_id for entry in entries]
    return _ring(ring_id=legacy_ring_id(ids), entries=tuple(entries), primary=_text(body["primary"]))


def entry_dates(entry: KeyEntry) -> dict[str, str | None]:
    """The dates of a key's life by name, UTC."""
    return {name: _utc(getattr(entry, name)) for name in DATES}


def _ring(**parts: Any) -> KeyRing:  # noqa: ANN401
    try:
        return KeyRing(**parts)
    except UsageError:
        raise ValueError("a ring whose parts do not hold together") from None


def _entry_to_json(entry: KeyEntry) -> dict[str, Any]:
    return {
        "id": entry.key_id,
        "version": entry.version,
        "state": str(entry.state),
        "secret": entry.key and entry.key.secret.hex(),
        "nonce": entry.key and entry.key.nonce.hex(),
        "purpose": entry.purpose,
        "scope": entry.scope.to_json(),
        "commitments": [made.to_json() for made in entry.commitments],
        **entry_dates(entry),
    }


def _entry_from_json(body: Mapping[str, Any]) -> KeyEntry:
    if {*body["scope"]} - _SCOPES:
        raise ValueError("a scope of another kind")
    try:
        return KeyEntry(
            key_id=_text(body["id"]),
            version=_count(body["version"]),
            state=KeyState(body["state"]),
            key=None if body["secret"] is None else _key(body["id"], body["secret"], body["nonce"]),
            purpose=_text(body["purpose"]),
            scope=KeyScope(**{name: _text(value) for name, value in body["scope"].items()}),
            commitments=_commitments(body["commitments"]),
            **{name: None if body[name] is None else read_utc(body[name]) for name in DATES},
        )
    except UsageError:
        raise ValueError("a key whose parts do not hold together") from None


def _commitments(bodies: Sequence[Mapping[str, Any]]) -> tuple[MadeCommitment, ...]:
    return tuple(
        MadeCommitment(
            sha256=_text(each["sha256"]),
            config_digest=_text(each["config_digest"]),
            at=read_utc(each["at"]),
            what=_text(each["what"]),
        )
        for each in bodies
    )


def _key(key_id: str, secret: str, nonce: str) -> Key:
    try:
        return Key(key_id=_text(key_id), secret=bytes.fromhex(secret), nonce=bytes.fromhex(nonce))
    except UsageError:
        raise ValueError("a key of another length") from None


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no string")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no count")
    return value
