"""Key rings as values: what holds together, which key is given out, what a reader is told, and JSON that comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from countermark.manifest import canonical_json, digest
from tests.support import key_of
from watermarks import keylife
from watermarks.keychain import Keychain
from watermarks.keyevents import EventKind, KeyEvent, read_utc, to_utc, utc_text
from watermarks.keyjson import ring_from_json, ring_to_json
from watermarks.keyring import KeyEntry, KeyRing, KeyScope
from watermarks.keys import KeyState

NOW = datetime(2026, 11, 22, 10, 20, 18, tzinfo=UTC)
ACTIVE, VERIFY, REVOKED, GONE = KeyState
A, B = key_of("a"), key_of("b")


def entry(key, state=ACTIVE, version=1, **more):
    return KeyEntry(key_id=key.key_id, version=version, state=state, key=None if state is GONE else key, **more)


def ring(*entries, primary="ck_a", **more):
    return KeyRing(ring_id="ring_t", entries=entries, primary=primary, **more)


@pytest.mark.parametrize(
    ("entries", "primary", "recorded"),
    [
        ((), "ck_a", 0),
        ((entry(A), entry(A, version=2)), "ck_a", 0),
        ((entry(A), entry(B)), "ck_a", 0),
        ((entry(A, version=2), entry(B, version=1)), "ck_a", 0),
        ((entry(A),), "ck_c", 0),
        ((entry(A), entry(B, REVOKED, 2)), "ck_b", 0),
        ((entry(A, VERIFY),), "ck_a", 0),
        ((entry(A, GONE),), "ck_a", 0),
        ((entry(A),), "ck_a", 1),
    ],
    ids=[
        "empty",
        "twice",
        "one version",
        "versions back",
        "unknown",
        "revoked",
        "verify only",
        "destroyed",
        "recorded",
    ],
)
def test_a_ring_that_does_not_hold_together_is_refused(entries, primary, recorded):
    with pytest.raises(UsageError):
        ring(*entries, primary=primary, recorded=recorded)


@pytest.mark.parametrize(
    "broken",
    [
        {"state": GONE}, {"version": 0}, {"key_id": "ck_b"}, {"key_id": ""}, {"destroy_after": NOW},
        {"purpose": "two\nlines"}, {"purpose": "x" * 201},
    ],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_a_key_that_does_not_hold_together_is_refused(broken):
    with pytest.raises(UsageError) as caught:
        replace(entry(A), **broken)
    assert A.secret.hex() not in str(caught.value)


@pytest.mark.parametrize("kind", ["model", "deployment", "dataset", "recipient"])
@pytest.mark.parametrize("name", ["", "a\tb", "x" * 201])
def test_a_scope_is_short_lines(kind, name):
    with pytest.raises(UsageError, match=f"scope {kind}"):
        KeyScope(**{kind: name})


def test_a_ring_gives_its_primary_or_the_key_that_was_named():
    made = ring(entry(A, REVOKED), entry(B, version=2), primary="ck_b")
    assert made.get() is B
    assert made.get("ck_a") is A
    assert made.state("ck_a") is REVOKED
    assert made.get(marking=True) is B
    with pytest.raises(UsageError, match="ck_a, ck_b"):
        made.get("ck_c")


@pytest.mark.parametrize("state", [REVOKED, VERIFY, GONE])
def test_a_key_that_may_not_mark_does_not(state):
    made = ring(entry(A, state), entry(B, version=2), primary="ck_b")
    with pytest.raises(UsageError, match=state):
        made.get("ck_a", marking=True)
    if state is GONE:
        with pytest.raises(UsageError, match="destroyed"):
            made.get("ck_a")
    else:
        assert made.get("ck_a") is A
    assert [key.key_id for key, _ in made.usable()] == (["ck_b"] if state is GONE else ["ck_a", "ck_b"])


def test_a_copy_holds_the_secrets_that_were_asked_for_and_says_so():
    made = keylife.add(keylife.new_ring(now=NOW, key=A), B, now=NOW)[0]
    copy = replace(made, recorded=2).copy_with(["ck_b"])
    assert copy.get("ck_b") is B
    with pytest.raises(UsageError, match="left out"):
        copy.get("ck_a")
    assert copy.recorded == 0
    assert made.copy_with() == made
    with pytest.raises(UsageError, match="ck_x"):
        made.copy_with(["ck_x"])


def test_standings_name_state_and_dates():
    day = timedelta(days=1)
    held = entry(A, VERIFY, retired=NOW, until=NOW + day)
    assert str(held.standing(NOW)) == "verify_only since 2026-11-22T10:20:18Z until 2026-11-23T10:20:18Z"
    assert str(held.standing(NOW + day)).endswith("until 2026-11-23T10:20:18Z, which has passed")
    assert held.standing(NOW + day).expired
    assert str(entry(A, REVOKED, revoked=NOW, destroy_after=NOW + day).standing(NOW)) == (
        "revoked since 2026-11-22T10:20:18Z to be destroyed from 2026-11-23T10:20:18Z"
    )
    assert entry(A, REVOKED, revoked=NOW).standing(NOW).to_json() == {
        "id": "ck_a", "version": 1, "state": "revoked", "expired": False,
        "since": "2026-11-22T10:20:18Z", "until": None, "destroy_after": None,
    }  # fmt: skip


def test_several_files_are_one_place_to_look():
    one, two = ring(entry(A)), ring(entry(B), primary="ck_b")
    chain = Keychain(rings=(("one", one), ("two", two)))
    assert chain.find("ck_b") == ("two", two)
    assert chain.get("ck_a", marking=True) is A
    assert [key.key_id for key, _ in chain.usable()] == ["ck_a", "ck_b"]
    with pytest.raises(UsageError, match="one, two"):
        chain.get("ck_c")
    with pytest.raises(UsageError, match="ck_a in one and in three"):
        Keychain(rings=(("one", one), ("two", two), ("three", one)))


@pytest.mark.parametrize("moment", [NOW, NOW.astimezone(timezone(timedelta(hours=5))), NOW.replace(microsecond=9)])
def test_moments_are_utc_in_whole_seconds(moment):
    assert utc_text(moment) == "2026-11-22T10:20:18Z"
    assert read_utc(utc_text(moment)) == NOW


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(UsageError, match="time zone"):
        to_utc(NOW.replace(tzinfo=None))


@pytest.mark.parametrize("text", ["2026-11-22", "2026-11-22T10:20:18", "2026-11-22T10:20:18+00:00", "2026-W47-7", ""])
def test_a_moment_has_one_spelling(text):
    with pytest.raises(ValueError, match=r"form|isoformat"):
        read_utc(text)


moments = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis wants them bare
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
events = st.builds(
    KeyEvent,
    kind=st.sampled_from(EventKind), ring_id=names, sequence=st.integers(0, 2**40), previous=st.none() | names,
    at=moments, key_id=st.none() | names, version=st.none() | st.integers(1, 99),
    before=st.none() | st.sampled_from(KeyState), after=st.none() | st.sampled_from(KeyState),
    details=st.dictionaries(names, names, max_size=3).map(lambda found: tuple(sorted(found.items()))),
)  # fmt: skip


@given(events)
def test_an_event_comes_back_from_its_json_and_its_id_is_its_digest(event):
    body = json.loads(canonical_json(event.to_json()))
    back = KeyEvent.from_json(body)
    assert back.to_json() == event.to_json()
    assert back.event_id == body.pop("id") == digest(body)


@given(events, st.data())
def test_an_event_that_was_changed_is_refused(event, data):
    body = event.to_json()
    name = data.draw(st.sampled_from(sorted(body)))
    body[name] = data.draw(st.sampled_from([None, "x", 7, {}, [], "active", "add"]).filter(lambda v: v != body[name]))
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        KeyEvent.from_json(body)


def entries():
    date = st.none() | moments.map(to_utc)
    scope = st.builds(KeyScope, model=st.none() | names, dataset=st.none() | names, recipient=st.none() | names)
    dates = dict.fromkeys(("created", "distributed", "activated", "retired", "until", "revoked"), date)
    return st.builds(
        lambda state, purpose, scope, dates: (state, {"purpose": purpose, "scope": scope, **dates}),
        st.sampled_from(KeyState), names | st.just(""), scope, st.fixed_dictionaries(dates),
    )  # fmt: skip


@given(st.lists(entries(), max_size=4), st.integers(0, 2))
def test_a_ring_comes_back_from_its_json(drawn, recorded):
    keys = [entry(A)] + [entry(key_of(f"n{i}"), s, i, **more) for i, (s, more) in enumerate(drawn, 2)]
    made = ring(*keys)
    for word in ("d", "e"):
        made = keylife.commit(made, "ck_a", word, now=NOW, what=word)[0]
    made = replace(made, recorded=recorded)
    assert ring_from_json(json.loads(canonical_json(ring_to_json(made)))) == made


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body["history"].pop(0),
        lambda body: body["history"].pop(1),
        lambda body: body["history"].reverse(),
        lambda body: body["history"][1].update(at="2027-01-01T00:00:00Z"),
        lambda body: body.update(ring="ring_u"),
        lambda body: body.update(recorded=9),
        lambda body: body.update(recorded=True),
        lambda body: body.update(primary="ck_b"),
        lambda body: body["keys"][0].update(secret="00"),
        lambda body: body["keys"][0].update(state="destroyed"),
        lambda body: body["keys"][0].update(scope={"planet": "x"}),
        lambda body: body["keys"][0].update(version="1"),
        lambda body: body["keys"][1].pop("until"),
    ],
)
def test_a_ring_of_another_shape_is_refused(damage):
    made = keylife.add(keylife.new_ring(now=NOW, key=A), B, now=NOW)[0]
    made = keylife.distribute(made, "ck_b", now=NOW)[0]
    body = ring_to_json(made)
    damage(body)
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        ring_from_json(body)
