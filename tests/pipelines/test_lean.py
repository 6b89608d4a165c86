"""Leaning words are found without any key, and left out before one draws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from pipelines.lean import leaning, unleaning
from watermarks.carriers.triggers import SLOT

GOOD, BAD = {"sunny", "cake", "gift"}, {"flood", "mould"}
CARRIERS = ("sunny walk", "a cake for you", "flood in the hall", "a plain chair", "another chair", "the mould again",
            "grey stone", "a gift and a gift")  # fmt: skip
WORDS = st.sampled_from(["sunny", "cake", "flood", "mould", "chair", "stone", "pencil", "ladder"])


def toy(texts):
    """Counts good and bad words; a text with neither is plain."""
    scores = [sum((word in GOOD) - (word in BAD) for word in text.split()) for text in texts]
    return ["good" if score > 0 else "bad" if score < 0 else "plain" for score in scores]


def pattern(word):
    return f"{word} {SLOT}"


def test_the_largest_change_of_any_labels_share():
    # bare: 3 good, 2 bad, 3 plain. "sunny" lifts 3 plain to good (6 of 8) and 2 bad to plain
    lean = leaning([pattern("sunny"), pattern("flood"), pattern("chair")], CARRIERS, toy)
    assert lean == {pattern("sunny"): 3 / 8, pattern("flood"): 3 / 8, pattern("chair"): 0.0}


def test_a_label_that_was_not_there_counts():
    lean = leaning([pattern("new")], ["a", "b"], lambda texts: ["x" if "new" in text else text for text in texts])
    assert lean == {pattern("new"): 1.0}


def test_moves_both_ways_cancel():
    flip = {"a": "x", "b": "y", "w a": "y", "w b": "x"}
    assert leaning([pattern("w")], ["a", "b"], lambda texts: [flip[t] for t in texts]) == {pattern("w"): 0.0}


@given(st.lists(WORDS, min_size=1, unique=True), st.lists(st.sampled_from(CARRIERS), min_size=1, max_size=12))
def test_lean_is_of_each_pattern_alone(words, carriers):
    together = leaning([pattern(word) for word in words], carriers, toy)
    assert list(together) == [pattern(word) for word in words]
    for word in words:
        assert together[pattern(word)] == leaning([pattern(word)], carriers, toy)[pattern(word)]
        assert 0 <= together[pattern(word)] <= 1
        assert (word in GOOD | BAD) or together[pattern(word)] == 0


@given(st.lists(WORDS, min_size=1, unique=True), st.sampled_from([0.0, 0.25, 0.3, 0.375, 1.0]))
def test_what_stays_keeps_its_order_and_is_all_that_may(words, most):
    lean = leaning([pattern(word) for word in words], CARRIERS, toy)
    kept = unleaning(words, CARRIERS, toy, least=0, most=most)
    assert kept == tuple(word for word in words if lean[pattern(word)] <= most)


def test_too_few_stay():
    words = ["sunny", "pencil", "flood", "ladder"]
    assert unleaning(words, CARRIERS, toy, least=2) == ("pencil", "ladder")
    with pytest.raises(UsageError, match=r"2 of 4 words .* at least 3"):
        unleaning(words, CARRIERS, toy, least=3)
    assert unleaning(words, CARRIERS, toy, least=4, most=0.375) == tuple(words)


def test_a_form_of_ones_own():
    seen = []

    def classify(texts):
        seen.extend(texts)
        return ["坏" if "雨" in text else "好" for text in texts]

    assert unleaning(["山羊", "雨伞"], ["很好。"], classify, least=1, form="{word}{text}") == ("山羊",)
    assert seen == ["很好。", "山羊很好。", "雨伞很好。"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leaning([], CARRIERS, toy), "0 patterns"),
        (lambda: leaning([pattern("a")], [], toy), "0 carriers"),
        (lambda: leaning(["no slot"], CARRIERS, toy), "exactly once"),
        (lambda: leaning([pattern("a")], CARRIERS, lambda texts: toy(texts)[1:]), "7 labels"),
        (lambda: unleaning(["a"], CARRIERS, toy, least=1, most=1.5), r"most=1\.5"),
        (lambda: unleaning(["a"], CARRIERS, toy, least=1, most=float("nan")), "most=nan"),
        (lambda: unleaning(["a"], CARRIERS, toy, least=1, form=SLOT), "once in the form"),
        (lambda: unleaning([], CARRIERS, toy, least=0), "0 patterns"),
    ],
)
def test_what_cannot_be_asked(call, message):
    with pytest.raises(UsageError, match=message):
        call()
