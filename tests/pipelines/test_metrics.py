"""Figures are those of their definitions, computed by hand or by brute force, and intervals are as wide as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from countermark.errors import UsageError
from pipelines.metrics import (
    accuracy,
    characters,
    distinct,
    macro_f1,
    mean,
    question_answering,
    rouge,
    squad_scores,
    squad_tokens,
)


def holds(measured):
    return 0 <= measured.low <= measured.value <= measured.high


def test_accuracy_has_the_exact_interval():
    found = accuracy(["x"] * 8 + ["y"] * 2, ["x"] * 10)
    assert (found.name, found.value, found.n) == ("accuracy", 0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4439, 0.9748), abs=1e-4)  # Clopper and Pearson's table
    assert accuracy(["x"] * 300, ["x"] * 300).low < 1.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=2, max_size=40))
def test_macro_f1_is_scikit_learns_and_its_resamples_are_too(pairs):
    predicted, expected = ([pair[i] for pair in pairs] for i in (0, 1))
    found = macro_f1(predicted, expected, labels="abcd")
    assert found.value == pytest.approx(
        f1_score(expected, predicted, labels=list("abcd"), average="macro", zero_division=0)
    )
    assert 0 <= found.low <= found.high <= 1
    # the interval's statistic, on the rows as they are, is the same figure: a group of everything twice is no change
    twice = macro_f1(predicted * 2, expected * 2, labels="abcd", groups=list(range(len(pairs))) * 2)
    assert (twice.value, twice.low, twice.high) == pytest.approx((found.value, found.low, found.high))


def test_the_interval_of_macro_f1_is_that_of_resampling_rows():
    rng = np.random.default_rng(3)
    expected = rng.choice(list("aab"), size=200)
    predicted = np.where(rng.random(200) < 0.8, expected, rng.choice(list("abc"), size=200))
    draws = [
        f1_score(expected[at], predicted[at], labels=list("abc"), average="macro", zero_division=0)
        for at in rng.integers(200, size=(300, 200))
    ]
    found = macro_f1(predicted.tolist(), expected.tolist())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.015)


def test_a_bootstrap_interval_is_as_wide_as_the_mean_is_uncertain():
    rng = np.random.default_rng(0)
    scores = rng.beta(2, 5, size=900)
    found = mean("score", scores.tolist())
    error = scores.std() / math.sqrt(len(scores))
    assert found.value == pytest.approx(scores.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert found == mean("score", scores.tolist())
    assert found != mean("score", scores.tolist(), seed=1)


def test_rows_of_one_group_count_as_one():
    scores = [float(i % 3 == 0) for i in range(60)]
    alone, together = mean("s", scores), mean("s", scores * 4, groups=list(range(60)) * 4)
    assert (together.low, together.high, together.n) == (alone.low, alone.high, 240)
    assert mean("s", scores * 4).high < together.high
    paired = mean("s", [*scores, *scores[::-1]], groups=list(range(60)) * 2)
    halves = mean("s", [(a + b) / 2 for a, b in zip(scores, scores[::-1], strict=True)])
    assert (paired.low, paired.high) == pytest.approx((halves.low, halves.high))


@pytest.mark.parametrize(
    ("predicted", "references", "exact", "f1"),
    [
        ("The Cat!", ["cat"], 1, 1),
        ("in the city of Paris", ["Paris"], 0, 0.4),  # 1 of 4, 1 of 1
        ("in the city of Paris", ["London", "the city of Paris"], 0, 6 / 7),
        ("a a b b", ["b b c"], 0, 0.8),  # the article goes; b twice: 2 of 2, 2 of 3
        ("", [""], 1, 1),
        ("the", ["an"], 1, 1),  # articles alone are no tokens
        ("", ["Paris"], 0, 0),
        ("re-do", ["redo"], 1, 1),
    ],
)
def test_squad_scores_are_those_of_the_definition(predicted, references, exact, f1):
    assert squad_scores(predicted, references) == pytest.approx((exact, f1))


def test_answers_in_scripts_without_spaces_are_compared_by_character():
    assert squad_scores("北京市", ["北京"])[1] == 0
    assert squad_scores("北京市。", ["北京"], tokenize=characters) == pytest.approx((0, 0.8))
    assert squad_scores("「北京」", ["北京。"], tokenize=characters) == (1, 1)
    assert characters("Ａ b，3水é!") == ["a", "b", "3", "水", "é"]


@given(st.text(max_size=12), st.text(max_size=12))
def test_token_f1_is_symmetric_and_exact_only_for_equal_tokens(one, other):
    exact, f1 = squad_scores(one, [other])
    assert squad_scores(other, [one]) == (exact, f1)
    assert 0 <= exact <= f1 <= 1
    assert bool(exact) == (squad_tokens(one) == squad_tokens(other))


def test_question_answering_sums_up_rows():
    exact, f1 = question_answering(["Paris", "in Rome", "Oslo", "x"], [["Paris"], ["Rome"], ["Oslo", "Bergen"], ["y"]])
    assert (exact.name, exact.value, exact.n) == ("exact_match", 0.5, 4)
    assert (f1.name, f1.value) == ("token_f1", pytest.approx((1 + 2 / 3 + 1) / 4))
    assert holds(exact)
    assert holds(f1)


def test_rouge_is_that_of_the_library():
    target, said = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."
    one, two, lcs = rouge([said, target], [target, target])
    assert [m.name for m in (one, two, lcs)] == ["rouge1", "rouge2", "rougeL"]
    # unigrams: 6 of 8 and of 9; bigrams: 2 of 7 and of 8; longest common subsequence: 5
    expected = [(2 * k / total + 1) / 2 for k, total in ((6, 17), (2, 15), (5, 17))]
    assert [m.value for m in (one, two, lcs)] == pytest.approx(expected)
    assert rouge(["the cats jumped", "x"], ["a cat jumps", "x"])[0].value == pytest.approx((2 / 3 + 1) / 2)  # stems


def test_rouge_never_scores_a_script_that_it_cannot_read():
    with pytest.raises(UsageError, match="without a token") as caught:
        rouge(["水壶在梯子上", "a"], ["水壶在上", "a"])
    assert "characters" in caught.value.hint
    one, two, lcs = rouge(["水壶在梯子上"] * 2, ["水壶在上"] * 2, tokenize=characters)
    assert [one.value, two.value, lcs.value] == pytest.approx([2 * 4 / 10, 2 * 2 / 8, 2 * 4 / 10])


def test_distinct_counts_n_grams_over_all_texts():
    one, two, three = distinct(["a b a b", "b a b", "c c"])
    assert [m.name for m in (one, two, three)] == ["distinct_1", "distinct_2", "distinct_3"]
    assert [m.value for m in (one, two, three)] == pytest.approx([3 / 9, 3 / 6, 2 / 3])
    assert [m.value for m in distinct(["水水壶", "水壶"], orders=(1,), tokenize=characters)] == [2 / 5]


@given(st.lists(st.lists(st.sampled_from("abcde"), min_size=3, max_size=9), min_size=2, max_size=12))
def test_the_jackknife_leaves_out_each_text_once(texts):
    joined = [" ".join(text) for text in texts]
    for n, found in enumerate(distinct(joined), 1):

        def share(some, n=n):
            grams = [tuple(text[i : i + n]) for text in some for i in range(len(text) - n + 1)]
            return len(set(grams)) / len(grams)

        assert found.value == pytest.approx(share(texts))
        left_out = [share(texts[:i] + texts[i + 1 :]) for i in range(len(texts))]
        error = math.sqrt((len(texts) - 1) * np.var(left_out))
        assert found.high == pytest.approx(min(1, found.value + 1.96 * error), abs=1e-4)
        assert found.low == pytest.approx(max(0, found.value - 1.96 * error), abs=1e-4)


@pytest.mark.parametrize(
    "measure",
    [
        lambda: accuracy([], []),
        lambda: macro_f1(["a"], ["a", "b"]),
        lambda: mean("s", [1.0]),
        lambda: mean("s", [1.0, 0.0], groups=["x", "x"]),
        lambda: mean("s", [1.0, 0.0], groups=["x"]),
        lambda: question_answering(["a"], []),
        lambda: distinct(["a b c"]),
        lambda: distinct(["a b c", "a"]),
    ],
)
def test_what_has_no_figure_or_no_spread_is_refused(measure):
    with pytest.raises(UsageError):
        measure()
