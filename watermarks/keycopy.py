"""Copies of one ring on several machines: joined where one goes on from the other, refused where they parted."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from countermark.errors import IntegrityError, UsageError
from watermarks.keys import KeyState

if TYPE_CHECKING:
    from watermarks.keyring import KeyRing
    from watermarks.keys import Key


def merge(ring: KeyRing, copy: KeyRing) -> KeyRing:
    """Two copies of one ring joined: the longer history wins; secrets that it lacks come from the other.

    Raises:
        UsageError: copies of two rings.
        IntegrityError: both went on by themselves after they were parted, or an id means two secrets.
    """
    if ring.ring_id != copy.ring_id:
        raise UsageError(
            f"got a copy of {copy.ring_id}, expected one of {ring.ring_id}",
            hint="two rings stay two files: name both where keys are looked up",
        )
    shorter, longer = sorted((ring, copy), key=lambda each: len(each.history))
    if longer.history[: len(shorter.history)] != shorter.history or (
        len(longer.history) == len(shorter.history) and _public(longer) != _public(shorter)
    ):
        raise IntegrityError(
            f"got a copy of {ring.ring_id} that parted from this one, expected one that goes on from the same events",
            hint="two machines changed copies of one ring; keep the one whose events the ledger holds",
        )
    others = {entry.key_id: entry.key for entry in shorter.entries}
    entries = []
    for entry in longer.entries:
        other = others.get(entry.key_id)
        if entry.key and other and not _same_secret(entry.key, other):
            raise IntegrityError(f"got two secrets for key {entry.key_id}, expected one", hint="one file was forged")
        entries.append(entry if entry.key or entry.state is KeyState.DESTROYED else replace(entry, key=other))
    return replace(longer, entries=tuple(entries), recorded=ring.recorded)


def _same_secret(one: Key, other: Key) -> bool:
    return hmac.compare_digest(one.secret + one.nonce, other.secret + other.nonce)


def _public(ring: KeyRing) -> KeyRing:
    return replace(ring, entries=tuple(replace(entry, key=None) for entry in ring.entries), recorded=0)
