"""Keys: uniform draws, streams apart, a binding commitment, rings that hold together, and no byte of a key in sight."""

from __future__ import annotations

import base64
import io
import logging
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of
from watermarks.keyring import KeyEntry, KeyRing
from watermarks.keys import (
    Key,
    KeyedStream,
    KeyState,
    commitment,
    commitment_opens,
    new_key,
    wrong_key,
)


@pytest.mark.parametrize("bound", [2, 3, 7, 10, 100, 200, 255, 256, 257])
def test_below_is_uniform(bound):
    stream = key_of("uniform").stream({"bound": bound})
    drawn = [stream.below(bound) for _ in range(40 * bound + 4000)]
    assert min(drawn) == 0
    assert max(drawn) == bound - 1
    assert stats.chisquare([drawn.count(value) for value in range(bound)]).pvalue > 1e-4


def test_below_rejects_what_would_lean():
    # with % 171 a byte would give 0..84 twice as often as the rest
    stream = key_of("lean").stream({})
    low = sum(stream.below(171) < 85 for _ in range(8000))
    assert stats.binomtest(low, 8000, 85 / 171).pvalue > 1e-4


@given(st.integers(1, 2**40))
def test_below_stays_below(bound):
    stream = KeyedStream(b"fixed")
    assert all(0 <= stream.below(bound) < bound for _ in range(5))


@pytest.mark.parametrize("bound", [0, -1])
def test_below_nothing_is_refused(bound):
    with pytest.raises(UsageError):
        key_of("a").stream({}).below(bound)


@given(st.integers(0, 60))
def test_shuffled_is_a_permutation(count):
    assert sorted(key_of("shuffle").stream({"n": count}).shuffled(count)) == list(range(count))


def test_shuffles_are_uniform():
    seen: dict[tuple[int, ...], int] = {}
    stream = key_of("shuffles").stream({})
    for _ in range(4800):
        order = tuple(stream.shuffled(4))
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    assert stats.chisquare(list(seen.values())).pvalue > 1e-4


@given(st.lists(st.integers(0, 300), min_size=1, max_size=30))
def test_a_stream_is_one_sequence_however_it_is_cut(cuts):
    stream = KeyedStream(b"seed")
    assert b"".join(stream.take(n) for n in cuts) == KeyedStream(b"seed").take(sum(cuts))


def test_streams_never_repeat_across_labels_keys_or_salts():
    labels = [{"part": part, "scope": scope} for part in ("a", "b", "ab") for scope in ("", "a", "b")]
    keys = [key_of("one"), key_of("two"), key_of("one", salt=b"B")]
    opened = [key.stream(label).take(4096) for key in keys for label in labels]
    blocks = [taken[i : i + 16] for taken in opened for i in range(0, 4096, 16)]
    assert len(blocks) == len(set(blocks))


def test_a_stream_is_no_plain_subkey_and_labels_have_no_order():
    key = key_of("labels")
    assert key.derive({"a": 1, "b": 2}) == key.derive({"b": 2, "a": 1})
    assert key.derive({"a": 1}) != key.derive({"a": "1"})
    assert key.derive({"x": 1}) != key.derive({"stream": {"x": 1}})


def test_every_part_of_a_token_label_matters():
    label = {"scheme": "kgw", "params": {"gamma": 0.25}, "tokenizer": "t", "scope": "s"}
    others = {"scheme": "gumbel", "params": {"gamma": 0.5}, "tokenizer": "u", "scope": "q"}
    made = {key_of("k").token_subkey(**{**label, name: value}) for name, value in others.items()}
    made |= {key_of("k").token_subkey(**label), key_of("j").token_subkey(**label)}
    assert len(made) == 6
    assert {len(subkey) for subkey in made} == {16}


FIELDS = {"nonce": bytes(32), "secret": bytes(32), "key_id": "ck_a", "config_digest": "d"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("nonce", b"\1" + bytes(31)), ("secret", bytes(31) + b"\1"), ("key_id", "ck_b"), ("config_digest", "e")],
)
def test_the_commitment_binds_every_field(name, value):
    assert commitment(**FIELDS) != commitment(**{**FIELDS, name: value})


def test_the_commitment_frames_its_fields():
    shifted = {**FIELDS, "key_id": "ck_", "config_digest": "ad"}
    assert commitment(**FIELDS) != commitment(**shifted)
    moved = {**FIELDS, "nonce": bytes(31), "secret": bytes(33)}
    assert commitment(**FIELDS) != commitment(**moved)


def test_a_commitment_opens_with_its_own_key_and_config_alone():
    key, other = key_of("a"), key_of("b")
    made = key.commit("config")
    assert commitment_opens(made, key, "config")
    assert not commitment_opens(made, other, "config")
    assert not commitment_opens(made, key, "other")
    assert commitment_opens(made, key.with_salt(b"B"), "config")  # B comes after the commitment


def _spellings(secret: bytes) -> list[str]:
    return [secret.hex(), repr(secret), repr(secret)[2:-1], str(list(secret))[1:-1], base64.b64encode(secret).decode()]


def _assert_hidden(text: str, *secrets_: bytes) -> None:
    for secret in secrets_:
        for spelling in _spellings(secret):
            assert spelling not in text
            assert spelling[:24] not in text


def test_no_text_form_shows_a_secret():
    key = new_key()
    entry = KeyEntry(key_id=key.key_id, version=1, state=KeyState.ACTIVE, key=key)
    ring = KeyRing(ring_id="ring_a", entries=(entry,), primary=key.key_id)
    stream = key.stream({"a": 1})
    stream.take(5)
    for thing in (key, ring, stream, (key, stream), key.with_salt(b"public")):
        for text in (repr(thing), str(thing), f"{thing}", format([thing]), f"{[thing]!r}"):
            _assert_hidden(text, key.secret, key.nonce, key.derive({"stream": {"a": 1}}))
    assert key.key_id in repr(key)


def test_logs_and_tracebacks_show_no_secret():
    key = new_key()
    out = io.StringIO()
    logger = logging.getLogger("test_keys")
    logger.addHandler(logging.StreamHandler(out))
    try:
        key.stream({"a": 1}).below(0)
    except UsageError as error:
        logger.exception("failed with %r", key)
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        out.write("".join(line for line in lines if "_spellings" not in line))
    text = out.getvalue()
    assert "below" in text
    _assert_hidden(text, key.secret, key.nonce)


@pytest.mark.parametrize(("secret", "nonce"), [(31, 32), (33, 32), (32, 31), (0, 32), (32, 0)])
def test_a_key_of_another_length_is_refused_without_showing_it(secret, nonce):
    with pytest.raises(UsageError) as caught:
        Key(key_id="a", secret=b"S" * secret, nonce=b"N" * nonce)
    assert "SSS" not in caught.value.diagnostics()
    assert "NNN" not in caught.value.diagnostics()


def test_fresh_keys_share_nothing():
    keys = [new_key() for _ in range(20)]
    assert len({k.secret for k in keys} | {k.nonce for k in keys} | {k.key_id for k in keys}) == 60
    assert all(k.key_id[3:] not in k.secret.hex() for k in keys)


def test_wrong_keys_are_public_and_apart():
    assert wrong_key("seed", 3) == wrong_key("seed", 3)
    secrets_ = {wrong_key(seed, i).secret for seed in ("seed", "seed1", "") for i in range(12)}
    assert len(secrets_) == 36


def test_recipients_keys_are_apart_and_come_again():
    key = key_of("owner")
    made = [key.recipient(f"customer {i}") for i in range(100_000)]
    assert len({child.key_id for child in made} | {child.secret for child in made} | {c.nonce for c in made}) == 300_000
    assert made[7] == key.recipient("customer 7")
    assert all(child.key_id.startswith("ck_owner.") for child in made[:10])


def test_a_recipients_key_depends_on_the_owners_key_and_not_on_what_came_later():
    child = key_of("owner").recipient("acme")
    assert key_of("other").recipient("acme").secret != child.secret
    later = key_of("owner", salt=b"public value").recipient("acme")
    assert (later.key_id, later.secret, later.nonce) == (child.key_id, child.secret, child.nonce)
    assert later.salt == b"public value"
    assert later.derive({"a": 1}) != child.derive({"a": 1})
    assert child.recipient("acme").secret != child.secret


def test_a_recipients_id_shows_neither_secret_nor_name():
    child = key_of("owner").recipient("acme")
    tail = child.key_id.split(".")[1]
    assert tail not in child.secret.hex() + child.nonce.hex() + key_of("owner").secret.hex()
    assert "acme" not in repr(child)
    _assert_hidden(repr(child), child.secret, child.nonce)


@pytest.mark.parametrize("name", ["", "\udc80"])
def test_a_recipient_without_a_name_is_refused(name):
    with pytest.raises(UsageError, match="recipient"):
        key_of("owner").recipient(name)
