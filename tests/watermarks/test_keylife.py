"""The life of a key, step by step; :mod:`tests.watermarks.test_keymachine` takes the steps in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import canonical_json
from tests.support import key_of
from watermarks import keylife
from watermarks.keycopy import merge
from watermarks.keylife import (
    add,
    cancel_destroy,
    commit,
    confirm_destroy,
    distribute,
    new_ring,
    passphrase_changed,
    promote,
    request_destroy,
    restore,
    retire,
    revoke,
)
from watermarks.keyring import KeyScope
from watermarks.keys import KeyState, commitment_opens

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ACTIVE, VERIFY, REVOKED, GONE = KeyState
A, B, C = key_of("a"), key_of("b"), key_of("c")


def born():
    return new_ring(now=NOW, key=A, ring_id="ring_t")


def rotated(**more):
    """A marked first, B marks now."""
    ring = distribute(add(born(), B, now=NOW)[0], "ck_b", now=NOW)[0]
    return promote(ring, "ck_b", now=NOW, **more)[0]


def test_a_new_ring_has_one_active_primary_and_a_birth():
    ring = new_ring(now=NOW, purpose="reviews", scope=KeyScope(dataset="films"))
    [entry] = ring.entries
    assert ring.get(marking=True).key_id == ring.primary == entry.key_id
    assert (entry.version, entry.state, entry.created, entry.purpose) == (1, ACTIVE, NOW, "reviews")
    [event] = ring.history
    assert (event.kind, event.before, event.after, event.previous) == ("create", None, ACTIVE, None)
    assert new_ring(now=NOW).ring_id != ring.ring_id


def test_rotation_takes_three_steps():
    ring, added = add(born(), B, now=NOW, purpose="next")
    assert ring.get("ck_b") is B
    with pytest.raises(UsageError, match="verify_only"):
        ring.get("ck_b", marking=True)
    with pytest.raises(UsageError, match="not handed out"):
        promote(ring, "ck_b", now=NOW)
    ring, handed = distribute(ring, "ck_b", now=NOW + DAY)
    ring, risen = promote(ring, "ck_b", now=NOW + 2 * DAY, until=NOW + 9 * DAY)
    assert ring.get(marking=True) is B
    assert ring.entry("ck_b").version == 2
    old = ring.entry("ck_a")
    assert (old.state, old.retired, old.until) == (VERIFY, NOW + 2 * DAY, NOW + 9 * DAY)
    assert [(e.kind, e.key_id, e.before, e.after) for e in (added, handed, risen)] == [
        ("add", "ck_b", None, VERIFY), ("distribute", "ck_b", VERIFY, VERIFY), ("promote", "ck_b", VERIFY, ACTIVE),
    ]  # fmt: skip
    assert dict(risen.details) == {"replaced": "ck_a", "until": "2026-01-10T00:00:00Z"}


def test_events_are_a_chain_without_secrets():
    ring = passphrase_changed(commit(rotated(), "ck_b", "d" * 64, now=NOW, what="release one")[0], now=NOW)[0]
    previous = None
    for place, event in enumerate(ring.history):
        assert (event.sequence, event.previous, event.ring_id) == (place, previous, "ring_t")
        previous = event.event_id
        text = canonical_json(event.to_json()).decode()
        for key in (A, B):
            assert key.secret.hex() not in text
            assert key.nonce.hex() not in text
        assert "release one" not in text
        assert "d" * 64 not in text
    assert len({event.event_id for event in ring.history}) == len(ring.history) == 6


def test_the_same_transition_has_the_same_id_and_another_moment_another():
    ring = born()
    assert add(ring, B, now=NOW)[1].event_id == add(ring, B, now=NOW)[1].event_id
    assert add(ring, B, now=NOW + DAY)[1].event_id != add(ring, B, now=NOW)[1].event_id


def test_a_rotation_that_went_wrong_is_rolled_back():
    ring = promote(rotated(), "ck_a", now=NOW)[0]  # it marked before: those who verify have it
    assert ring.get(marking=True) is A
    assert ring.state("ck_b") is VERIFY


def test_old_deployments_may_mark_on_while_the_new_key_is_taken_up():
    ring = restore(rotated(), "ck_a", now=NOW)[0]
    assert ring.get("ck_a", marking=True) is A
    assert ring.primary == "ck_b"
    ring = retire(ring, "ck_a", now=NOW, until=NOW + DAY)[0]
    assert ring.state("ck_a") is VERIFY


def test_a_key_whose_service_has_ended_is_promoted_only_after_restore():
    ring = rotated(until=NOW + DAY)
    with pytest.raises(UsageError, match="service ended on 2026-01-02"):
        promote(ring, "ck_a", now=NOW + DAY)
    assert ring.get("ck_a") is A  # evidence is verified still
    assert promote(restore(ring, "ck_a", now=NOW + DAY)[0], "ck_a", now=NOW + DAY)[0].primary == "ck_a"


def test_a_leaked_key_is_revoked_and_verifies_and_comes_back_in_two_steps():
    ring, event = revoke(rotated(), "ck_a", now=NOW)
    assert (event.before, event.after) == (VERIFY, REVOKED)
    assert ring.get("ck_a") is A
    assert ring.entry("ck_a").standing(NOW).state is REVOKED
    ring = restore(ring, "ck_a", now=NOW)[0]
    assert ring.state("ck_a") is VERIFY
    assert restore(ring, "ck_a", now=NOW)[0].state("ck_a") is ACTIVE


@pytest.mark.parametrize("verb", [retire, revoke, request_destroy, confirm_destroy, promote])
def test_the_primary_is_not_taken_away(verb):
    with pytest.raises(UsageError):
        verb(rotated(), "ck_b", now=NOW)


@pytest.mark.parametrize("verb", [distribute, promote, retire, restore, request_destroy])
def test_nothing_but_revoking_is_done_to_a_key_that_is_to_be_destroyed(verb):
    ring = request_destroy(rotated(), "ck_a", now=NOW)[0]
    with pytest.raises(UsageError, match="to be destroyed from 2026-01-08"):
        verb(ring, "ck_a", now=NOW)
    assert revoke(ring, "ck_a", now=NOW)[0].entry("ck_a").destroy_after == NOW + 7 * DAY


def test_destruction_takes_a_request_a_wait_and_a_confirmation():
    ring = commit(rotated(), "ck_a", "d", now=NOW, what="release one")[0]
    with pytest.raises(UsageError, match="nobody asked"):
        confirm_destroy(ring, "ck_a", now=NOW)
    ring, event = request_destroy(ring, "ck_a", now=NOW)
    assert dict(event.details) == {"destroy_after": "2026-01-08T00:00:00Z"}
    assert ring.get("ck_a") is A
    with pytest.raises(UsageError, match="not over"):
        confirm_destroy(ring, "ck_a", now=NOW + 7 * DAY - timedelta(seconds=1))
    ring, event = confirm_destroy(ring, "ck_a", now=NOW + 7 * DAY)
    entry = ring.entry("ck_a")
    assert (event.before, event.after, entry.state, entry.key) == (VERIFY, GONE, GONE, None)
    assert (entry.created, entry.destroyed) == (NOW, NOW + 7 * DAY)
    assert [made["what"] for made in ring.commitments()] == ["release one"]
    for verb in (distribute, promote, retire, revoke, restore, request_destroy, cancel_destroy, confirm_destroy):
        with pytest.raises(UsageError, match="destroyed"):
            verb(ring, "ck_a", now=NOW + 9 * DAY)
    with pytest.raises(UsageError, match="destroyed"):
        commit(ring, "ck_a", "e", now=NOW)


def test_a_request_is_taken_back():
    ring = cancel_destroy(request_destroy(rotated(), "ck_a", now=NOW)[0], "ck_a", now=NOW)[0]
    with pytest.raises(UsageError, match="nobody asked"):
        confirm_destroy(ring, "ck_a", now=NOW + 99 * DAY)
    with pytest.raises(UsageError, match="nobody asked"):
        cancel_destroy(ring, "ck_a", now=NOW)


@pytest.mark.parametrize("wait", [timedelta(0), timedelta(hours=23), timedelta(days=366), -DAY])
def test_the_wait_is_a_day_to_a_year(wait):
    with pytest.raises(UsageError, match="1 to 365 days"):
        request_destroy(rotated(), "ck_a", now=NOW, wait=wait)


@pytest.mark.parametrize("until", [NOW, NOW - DAY])
def test_an_end_of_service_lies_ahead(until):
    for work in (lambda: rotated(until=until), lambda: retire(rotated(), "ck_a", now=NOW, until=until)):
        with pytest.raises(UsageError, match="end of service"):
            work()


def test_there_has_to_be_something_to_restore():
    ring = add(rotated(), C, now=NOW)[0]
    for name in ("ck_b", "ck_c"):
        with pytest.raises(UsageError):
            restore(ring, name, now=NOW)
    ended = retire(ring, "ck_c", now=NOW, until=NOW + DAY)[0]
    assert restore(ended, "ck_c", now=NOW)[0].entry("ck_c").until is None
    assert restore(ended, "ck_c", now=NOW)[0].state("ck_c") is VERIFY  # it never marked, and does not begin here


def test_commitments_are_listed_once_and_open():
    ring, event = commit(rotated(), "ck_b", "digest", now=NOW, what="release one")
    assert commit(ring, "ck_b", "digest", now=NOW + DAY, what="again") == (ring, None)
    ring = commit(ring, "ck_a", "digest", now=NOW)[0]
    first, second = ring.commitments()
    assert [first["key_id"], second["key_id"]] == ["ck_a", "ck_b"]
    assert commitment_opens(second["sha256"], B, "digest")
    assert dict(event.details) == {"sha256": second["sha256"]}
    assert (second["what"], second["at"], second["config_digest"]) == ("release one", "2026-01-01T00:00:00Z", "digest")


def test_versions_go_on_and_ids_do_not_come_twice():
    ring = add(rotated(), C, now=NOW)[0]
    assert [entry.version for entry in ring.entries] == [1, 2, 3]
    with pytest.raises(UsageError, match="in the ring"):
        add(ring, B, now=NOW)


def test_every_transition_leaves_the_ring_it_was_given_alone():
    ring = rotated()
    before = repr(ring)
    for verb in (retire, revoke, restore, request_destroy):
        assert getattr(keylife, verb.__name__)(ring, "ck_a", now=NOW)[0] != ring
    assert repr(ring) == before


def test_copies_that_went_on_join_and_copies_that_parted_do_not():
    ring = rotated()
    later = revoke(ring, "ck_a", now=NOW)[0]
    assert merge(ring, later) == merge(later, ring) == later
    assert merge(ring.copy_with([]), later.copy_with(["ck_a"])).get("ck_a") is A
    assert merge(ring.copy_with(["ck_b"]), ring).get("ck_a") is A
    with pytest.raises(IntegrityError, match="parted"):
        merge(later, retire(ring, "ck_a", now=NOW)[0])
    with pytest.raises(UsageError, match="ring_t"):
        merge(ring, new_ring(now=NOW, key=C))


def test_a_destroyed_secret_does_not_come_back_with_an_old_copy():
    ring = request_destroy(rotated(), "ck_a", now=NOW)[0]
    gone = confirm_destroy(ring, "ck_a", now=NOW + 7 * DAY)[0]
    assert merge(gone, ring) == merge(ring, gone) == gone


def test_a_forged_secret_under_a_known_id_is_found():
    ring, event = add(born(), B, now=NOW)
    forged = type(B)(key_id="ck_b", secret=C.secret, nonce=B.nonce)
    other = add(born(), forged, now=NOW)
    assert other[1].event_id == event.event_id
    with pytest.raises(IntegrityError, match="two secrets"):
        merge(ring, other[0])
