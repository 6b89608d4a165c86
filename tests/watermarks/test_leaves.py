"""Leaves: pure, domain separated, hiding, and bound to the mark's parameters."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from tests.support import key_of
from watermarks.leaves import (
    KEYED,
    PARAMETERS,
    Leaf,
    classes_of,
    commit,
    framed,
    leaf_nonce,
    mark_digest,
    parameters,
    recipients_of,
    units_of,
)

KEY = key_of("leaves")
MARK = {"scope": "s", "triggers": 4, "classes": 3, "words": 2, "first": 1, "count": 2, "rows_per_trigger": 5}
leaves = st.builds(
    Leaf, index=st.integers(0, 99), recipient=st.text(max_size=3), trigger=st.text(max_size=4),
    target=st.integers(0, 9), nonce=st.binary(min_size=32, max_size=32),
)  # fmt: skip


@given(leaves, leaves)
def test_two_leaves_never_share_their_bytes(one, other):
    assert (one.data() == other.data()) == (one == other)


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_framing_is_injective(one, other):
    assert (framed(*one) == framed(*other)) == (one == other)


def test_a_leaf_known_answer():
    data = Leaf(index=3, recipient="firm", trigger="lantern walrus", target=1, nonce=bytes(32)).data()
    assert hashlib.sha256(data).hexdigest() == "804fdd90fe4186696b16697b6796cec85b3ec3b4fbb115702fcbb4c021a60820"


def test_nonces_differ_by_everything_and_by_nothing_else():
    base = {"index": 0, "recipient": ""}
    nonce = leaf_nonce(KEY, "input_level", MARK, **base)
    others = [
        leaf_nonce(KEY, "input_level", MARK, index=1, recipient=""),
        leaf_nonce(KEY, "input_level", MARK, index=0, recipient="firm"),
        leaf_nonce(KEY, "double_i", MARK, **base),
        leaf_nonce(KEY, "input_level", {**MARK, "scope": "t"}, **base),
        leaf_nonce(key_of("another"), "input_level", MARK, **base),
        leaf_nonce(KEY.with_salt(b"B"), "input_level", MARK, **base),
    ]
    assert len({nonce, *others}) == 7
    assert leaf_nonce(KEY, "input_level", {**MARK, "first": 0, "count": 4}, **base) == nonce


def test_a_nonce_is_not_in_the_repr():
    assert "nonce" not in repr(Leaf(index=0, recipient="", trigger="", target=0, nonce=bytes(32)))


@pytest.mark.parametrize("name", PARAMETERS["input_level"])
def test_every_parameter_is_bound(name):
    root = commit("input_level", MARK, bytes(32))
    assert commit("input_level", {**MARK, name: "other"}, bytes(32)) != root
    assert mark_digest("input_level", {**MARK, name: "other"}, ("a",)) != mark_digest("input_level", MARK, ("a",))


def test_what_a_plan_may_choose_is_not_bound():
    root = commit("input_level", MARK, bytes(32))
    assert commit("input_level", {**MARK, "first": 0, "count": 1, "rows_per_trigger": 9}, bytes(32)) == root
    assert commit("input_level", {**MARK, "vocabulary": None}, bytes(32)) == root  # as absent
    assert commit("input_level", MARK, bytes([1]) * 32) != root
    assert commit("output_robust", MARK, bytes(32)) != root


def test_the_order_of_answers_is_bound():
    assert mark_digest("input_level", MARK, ("a", "b")) != mark_digest("input_level", MARK, ("b", "a"))


def test_a_claim_that_is_none():
    with pytest.raises(UsageError, match="'vibes'"):
        parameters("vibes", MARK)


def test_sizes_come_from_the_mark():
    double = {"codewords": 7, "form": {"answers": list("ABCD")}, "recipients": ["x", "y"]}
    assert (units_of("double_i", double), classes_of("double_i", double), recipients_of(double)) == (7, 4, ("x", "y"))
    assert (units_of("input_level", MARK), classes_of("input_level", MARK), recipients_of(MARK)) == (4, 3, ("",))
    assert classes_of("token", {}) is None
    assert all(name in PARAMETERS for name in KEYED)
