"""The life of a key, as pure functions ``ring -> (ring, event)``: no clock, no disk, and no dice but for a new ring.

::

            add                 promote                  retire, or another is promoted
    (none) -----> verify-only ----------> active (primary) ------------> verify-only (until a date)
                  | ^  distribute first        ^                            |  ^     |
                  | |                          +-------- restore -----------+  |     |
           revoke | | restore                                          restore |     | revoke
                  v |                                                          |     v
                 revoked -- destroy: request, wait, confirm --> destroyed      +-- revoked

There is almost never an atomic switch to the next key, so it takes three steps: ``add`` makes a key that can verify and
not mark, ``distribute`` records that everyone who verifies has it, ``promote`` lets it mark. The primary can be neither
retired nor revoked nor destroyed: promote another first, so that a ring always knows with what to mark. Destruction is
asked for, waits, and is confirmed; a key that marks cannot be asked for.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from watermarks.keyevents import EventKind, to_utc, utc_text
from watermarks.keyring import KeyEntry, KeyRing, KeyScope, MadeCommitment, check_label
from watermarks.keys import KeyState, new_key

if TYPE_CHECKING:
    from watermarks.keyevents import KeyEvent
    from watermarks.keys import Key

    Change = tuple[KeyRing, KeyEvent]

DESTROY_WAIT = timedelta(days=7)
SHORTEST_WAIT = timedelta(days=1)
LONGEST_WAIT = timedelta(days=365)


def new_ring(
    *,
    now: datetime,
    key: Key | None = None,
    ring_id: str | None = None,
    purpose: str = "",
    scope: KeyScope | None = None,
) -> KeyRing:
    """A ring with one active, primary key (a fresh one unless ``key`` is given); its history begins with ``create``."""
    made, at = key or new_key(), to_utc(now)
    entry = KeyEntry(
        key_id=made.key_id,
        version=1,
        state=KeyState.ACTIVE,
        key=made,
        purpose=purpose,
        scope=scope or KeyScope(),
        created=at,
        activated=at,
    )
    ring = KeyRing(ring_id=ring_id or "ring_" + secrets.token_hex(8), entries=(entry,), primary=entry.key_id)
    return ring.step(EventKind.CREATE, entry, at=at)[0]


def add(ring: KeyRing, key: Key, *, now: datetime, purpose: str = "", scope: KeyScope | None = None) -> Change:
    """Step one of a rotation: ``key`` (from :func:`watermarks.keys.new_key`) can verify, and not yet mark.

    Raises:
        UsageError: its id is in the ring already.
    """
    at = to_utc(now)
    entry = KeyEntry(
        key_id=key.key_id,
        version=ring.entries[-1].version + 1,
        state=KeyState.VERIFY_ONLY,
        key=key,
        purpose=purpose,
        scope=scope or KeyScope(),
        created=at,
    )
    if any(each.key_id == key.key_id for each in ring.entries):
        raise UsageError(f"got key {key.key_id}, which is in the ring, expected a new one")
    return ring.step(EventKind.ADD, entry, at=at)


def distribute(ring: KeyRing, key_id: str, *, now: datetime) -> Change:
    """Step two: records that those who verify hold the key. It may be handed out again; the last date is kept."""
    entry, at = _living(ring, key_id, EventKind.DISTRIBUTE, KeyState.ACTIVE, KeyState.VERIFY_ONLY), to_utc(now)
    return ring.step(EventKind.DISTRIBUTE, replace(entry, distributed=at), at=at)


def promote(ring: KeyRing, key_id: str, *, now: datetime, until: datetime | None = None) -> Change:
    """Step three: the key becomes the primary, and the old primary verify-only, ``until`` a date where one is given.

    Raises:
        UsageError: it is the primary, was not handed out, has run out, or is revoked, destroyed or about to be.
    """
    entry, at = _living(ring, key_id, EventKind.PROMOTE, KeyState.ACTIVE, KeyState.VERIFY_ONLY), to_utc(now)
    if key_id == ring.primary:
        raise UsageError(f"got {key_id}, which is the primary, expected another key", hint="there is nothing to do")
    if entry.distributed is None and entry.activated is None:
        raise UsageError(
            f"got key {key_id}, which was not handed out yet, expected one that those who verify have",
            hint="hand out copies (`countermark keys export`), then `countermark keys distribute`",
        )
    if entry.until is not None and entry.until <= at:
        raise UsageError(
            f"got key {key_id}, whose service ended on {utc_text(entry.until)}, expected one in service",
            hint="`countermark keys restore` takes the date away",
        )
    if entry.key is None:
        raise UsageError(f"got key {key_id}, whose secret is not in this copy, expected one that can mark here")
    old = ring.entry(ring.primary)
    demoted = replace(old, state=KeyState.VERIFY_ONLY, retired=at, until=_until(until, at))
    risen = replace(entry, state=KeyState.ACTIVE, activated=at, retired=None, until=None)
    details = {"replaced": old.key_id, **_dated("until", demoted.until)}
    return ring.step(EventKind.PROMOTE, risen, demoted, primary=key_id, at=at, details=details)


def retire(ring: KeyRing, key_id: str, *, now: datetime, until: datetime | None = None) -> Change:
    """The key marks no more. ``until`` sets the end of its service (None: no end); for a verify-only key, a new one.

    Raises:
        UsageError: it is the primary, or revoked, destroyed or about to be.
    """
    entry, at = _living(ring, key_id, EventKind.RETIRE, KeyState.ACTIVE, KeyState.VERIFY_ONLY), to_utc(now)
    _not_primary(ring, key_id)
    retired = at if entry.state is KeyState.ACTIVE else entry.retired
    changed = replace(entry, state=KeyState.VERIFY_ONLY, retired=retired, until=_until(until, at))
    return ring.step(EventKind.RETIRE, changed, at=at, details=_dated("until", changed.until))


def revoke(ring: KeyRing, key_id: str, *, now: datetime) -> Change:
    """The key is not to be trusted any more (it leaked): evidence under it is still verified, and reported as revoked.

    Raises:
        UsageError: it is the primary, or already revoked or destroyed.
    """
    entry, at = _living(ring, key_id, EventKind.REVOKE, KeyState.ACTIVE, KeyState.VERIFY_ONLY, doomed=True), to_utc(now)
    _not_primary(ring, key_id)
    return ring.step(EventKind.REVOKE, replace(entry, state=KeyState.REVOKED, revoked=at), at=at)


def restore(ring: KeyRing, key_id: str, *, now: datetime) -> Change:
    """One step back: revoked to verify-only; a retired key to active (not primary); an end of service taken away.

    Raises:
        UsageError: there is nothing to restore, the key is destroyed or about to be, or its secret is not in this copy.
    """
    entry = _living(ring, key_id, EventKind.RESTORE, KeyState.VERIFY_ONLY, KeyState.REVOKED)
    at = to_utc(now)
    if entry.state is KeyState.REVOKED:
        changed = replace(entry, state=KeyState.VERIFY_ONLY, revoked=None, until=None)
    elif entry.retired is not None:
        if entry.key is None:
            raise UsageError(f"got key {key_id}, whose secret is not in this copy, expected one that can mark here")
        changed = replace(entry, state=KeyState.ACTIVE, activated=at, retired=None, until=None)
    elif entry.until is not None:
        changed = replace(entry, until=None)
    else:
        raise UsageError(
            f"got key {key_id}, which was never retired or revoked, expected one to restore",
            hint="a new key becomes active by `countermark keys distribute` and `promote`",
        )
    return ring.step(EventKind.RESTORE, changed, at=at)


def request_destroy(ring: KeyRing, key_id: str, *, now: datetime, wait: timedelta = DESTROY_WAIT) -> Change:
    """Asks for the key's destruction, which may be confirmed after ``wait``. Until then it verifies, and cannot mark.

    Raises:
        UsageError: the key is active, or the wait shorter than a day or longer than a year.
    """
    entry = _living(ring, key_id, EventKind.REQUEST_DESTROY, KeyState.VERIFY_ONLY, KeyState.REVOKED)
    at = to_utc(now)
    if not SHORTEST_WAIT <= wait <= LONGEST_WAIT:
        raise UsageError(f"got a wait of {wait}, expected {SHORTEST_WAIT.days} to {LONGEST_WAIT.days} days")
    changed = replace(entry, destroy_after=to_utc(at + wait))
    details = _dated("destroy_after", changed.destroy_after)
    return ring.step(EventKind.REQUEST_DESTROY, changed, at=at, details=details)


def cancel_destroy(ring: KeyRing, key_id: str, *, now: datetime) -> Change:
    """Takes the request back.

    Raises:
        UsageError: there is none.
    """
    entry, _ = _doomed(ring, key_id, EventKind.CANCEL_DESTROY)
    return ring.step(EventKind.CANCEL_DESTROY, replace(entry, destroy_after=None), at=to_utc(now))


def confirm_destroy(ring: KeyRing, key_id: str, *, now: datetime) -> Change:
    """The secret and the nonce go; id, dates and commitments stay. Nothing under the key can be verified again.

    Raises:
        UsageError: destruction was not asked for, or the wait is not over.
    """
    entry, after = _doomed(ring, key_id, EventKind.DESTROY)
    at = to_utc(now)
    if at < after:
        raise UsageError(
            f"got a confirmation at {utc_text(at)}, expected one from {utc_text(after)}: the wait is not over",
            hint="`countermark keys destroy --cancel` takes the request back",
        )
    gone = replace(entry, state=KeyState.DESTROYED, key=None, destroyed=at)
    return ring.step(EventKind.DESTROY, gone, at=at)


def commit(
    ring: KeyRing, key_id: str, config_digest: str, *, now: datetime, what: str = ""
) -> tuple[KeyRing, KeyEvent | None]:
    """Lists the commitment to the key and a marking config; a commitment that is listed already changes nothing.

    Raises:
        UsageError: the key may not be used, or ``what`` is no short line.
    """
    check_label("what the commitment is for", what)
    sha256 = ring.get(key_id).commit(config_digest)
    entry, at = ring.entry(key_id), to_utc(now)
    if any(hmac.compare_digest(made.sha256, sha256) for made in entry.commitments):
        return ring, None
    made = MadeCommitment(sha256=sha256, config_digest=config_digest, at=at, what=what)
    changed = replace(entry, commitments=(*entry.commitments, made))
    return ring.step(EventKind.COMMIT, changed, at=at, details={"sha256": sha256})


def passphrase_changed(ring: KeyRing, *, now: datetime) -> Change:
    """Notes that the ring is sealed anew; the sealing itself is :meth:`watermarks.keyfile.KeyFile.reseal`."""
    return ring.step(EventKind.PASSPHRASE, at=to_utc(now))


def _living(ring: KeyRing, key_id: str, verb: EventKind, *states: KeyState, doomed: bool = False) -> KeyEntry:
    """The entry, if its state is one of ``states`` and, unless ``doomed``, nobody asked for its destruction."""
    entry = ring.entry(key_id)
    if entry.state not in states:
        expected = " or ".join(states)
        gone = "a destroyed key stays destroyed"
        raise UsageError(
            f"got key {key_id} in state {entry.state} to {verb.replace('_', ' ')}, expected it {expected}",
            hint=gone
            if entry.state is KeyState.DESTROYED
            else "see docs/keys.md for the way from one state to another",
        )
    if entry.destroy_after is not None and not doomed:
        raise UsageError(
            f"got key {key_id}, which is to be destroyed from {utc_text(entry.destroy_after)}, expected one that stays",
            hint="`countermark keys destroy --cancel` takes the request back",
        )
    return entry


def _doomed(ring: KeyRing, key_id: str, verb: EventKind) -> tuple[KeyEntry, datetime]:
    entry = _living(ring, key_id, verb, KeyState.VERIFY_ONLY, KeyState.REVOKED, doomed=True)
    if entry.destroy_after is None:
        raise UsageError(
            f"got key {key_id}, whose destruction nobody asked for, expected one with a request",
            hint="`countermark keys destroy --request` comes first",
        )
    return entry, entry.destroy_after


def _not_primary(ring: KeyRing, key_id: str) -> None:
    if key_id == ring.primary:
        raise UsageError(
            f"got {key_id}, which is the primary, expected another key",
            hint="promote another first: `countermark keys add`, `distribute`, `promote`",
        )


def _until(until: datetime | None, at: datetime) -> datetime | None:
    if until is not None and to_utc(until) <= at:
        raise UsageError(f"got an end of service {utc_text(until)}, expected one after {utc_text(at)}")
    return None if until is None else to_utc(until)


def _dated(name: str, moment: datetime | None) -> dict[str, str]:
    return {} if moment is None else {name: utc_text(moment)}
