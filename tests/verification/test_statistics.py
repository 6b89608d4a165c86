"""Exact tests against exact arithmetic: fractions where the code uses logarithms."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import InconclusiveError, UsageError
from verification.statistics import (
    clopper_pearson,
    grouped_share,
    holm,
    log10_binomial_tail,
    log10_e_value,
    log10_fisher,
    rank_p,
    zero_events_upper_bound,
)

CHANCES = st.one_of(st.sampled_from([0.5, 0.25, 1 / 3, 0.1, 1e-6, 1 - 1e-6]), st.floats(1e-9, 1 - 1e-9))
TRIALS = st.integers(1, 160)


def _log10(value: Fraction) -> float:
    """log10 of a fraction of any size."""
    shift = value.numerator.bit_length() - value.denominator.bit_length()
    return math.log10(float(value / Fraction(2) ** shift)) + shift * math.log10(2)


def _exact_tail(successes: int, trials: int, p: Fraction) -> Fraction:
    upper = successes > trials // 2
    ks = range(successes, trials + 1) if upper else range(successes)
    side = sum((math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in ks), Fraction(0))
    return side if upper else 1 - side


@settings(deadline=None)
@given(TRIALS, CHANCES, st.data())
def test_binomial_tail_is_exact(trials, p, data):
    successes = data.draw(st.integers(0, trials))
    expected = _log10(_exact_tail(successes, trials, Fraction(p)))
    assert log10_binomial_tail(successes, trials, p) == pytest.approx(expected, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize(
    ("successes", "trials", "p"),
    [(2000, 2000, 0.25), (1500, 2000, 0.25), (1990, 2000, 0.5), (900, 1000, 0.01), (501, 1000, 0.5), (600, 1000, 0.5)],
)
def test_deep_tails_are_exact_far_below_the_smallest_double(successes, trials, p):
    expected = _log10(_exact_tail(successes, trials, Fraction(p)))
    assert log10_binomial_tail(successes, trials, p) == pytest.approx(expected, rel=1e-10)


def test_a_tail_deeper_than_any_double():
    assert log10_binomial_tail(10_000, 10_000, 0.25) == pytest.approx(10_000 * math.log10(0.25), rel=1e-12)
    assert log10_binomial_tail(1_000_000, 1_000_000, 0.5) == pytest.approx(-301_029.9956639812, rel=1e-9)


@given(TRIALS, CHANCES)
def test_the_tail_falls_with_every_success(trials, p):
    tails = [log10_binomial_tail(k, trials, p) for k in range(trials + 1)]
    assert tails[0] == 0.0
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(tails))
    assert tails[-1] == pytest.approx(trials * math.log10(p), rel=1e-11, abs=1e-15)


def test_a_z_score_of_four_is_not_what_its_table_promises():
    # the docstring's example: n = 25, gamma = .25, z > 4
    assert 10 ** log10_binomial_tail(15, 25, 0.25) == pytest.approx(2.1e-4, rel=0.05)


@pytest.mark.parametrize(("successes", "trials", "p"), [(-1, 5, 0.5), (6, 5, 0.5), (1, 5, 0.0), (1, 5, 1.0)])
def test_impossible_counts_are_refused(successes, trials, p):
    with pytest.raises(UsageError):
        log10_binomial_tail(successes, trials, p)


def test_nothing_is_evidence_of_nothing():
    for call in (lambda: log10_binomial_tail(0, 0, 0.5), lambda: clopper_pearson(0, 0), lambda: rank_p(3, [])):
        with pytest.raises(InconclusiveError):
            call()
    for table in ([[0, 0], [1, 1]], [[1, 1], [0, 0]]):
        with pytest.raises(InconclusiveError):
            log10_fisher(table)
    assert log10_e_value(0, 0, 0.5) == 0.0


CELL = st.integers(0, 40)


@given(CELL, CELL, CELL, CELL)
def test_fisher_is_scipys(a, b, c, d):
    if a + b == 0 or c + d == 0:
        return
    expected = stats.fisher_exact([[a, b], [c, d]], alternative="greater").pvalue
    assert 10 ** log10_fisher([[a, b], [c, d]]) == pytest.approx(float(expected), rel=1e-8)


def test_fisher_by_hand_and_deep():
    assert log10_fisher([[3, 0], [0, 3]]) == pytest.approx(math.log10(1 / 20))
    exact = Fraction(1, math.comb(2000, 1000))
    assert log10_fisher([[1000, 0], [0, 1000]]) == pytest.approx(_log10(exact), rel=1e-9)


def test_holm_by_hand():
    assert holm([-2.0]) == [-2.0]
    p = [0.01, 0.04, 0.03, 0.005]
    adjusted = [10**x for x in holm([math.log10(x) for x in p])]
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([math.log10(0.6), math.log10(0.7)]) == [0.0, 0.0]


@given(st.lists(st.floats(-300, 0), min_size=1, max_size=12))
def test_holm_keeps_order_and_never_helps(log10_p):
    adjusted = holm(log10_p)
    assert all(
        raw <= new <= min(0.0, raw + math.log10(len(log10_p))) + 1e-12
        for raw, new in zip(log10_p, adjusted, strict=True)
    )
    order = sorted(range(len(log10_p)), key=lambda i: log10_p[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert adjusted[order[0]] == pytest.approx(min(0.0, log10_p[order[0]] + math.log10(len(log10_p))))


@settings(deadline=None)
@given(TRIALS, st.data())
def test_clopper_pearson_inverts_the_tails(trials, data):
    successes = data.draw(st.integers(0, trials))
    found = clopper_pearson(successes, trials)
    assert found.low <= found.value <= found.high
    assert found.value == successes / trials
    assert found.level == 0.95
    if successes:
        assert stats.binom.sf(successes - 1, trials, found.low) == pytest.approx(0.025, rel=1e-6)
    else:
        assert found.low == 0.0
    if successes < trials:
        assert stats.binom.cdf(successes, trials, found.high) == pytest.approx(0.025, rel=1e-6)
    else:
        assert found.high == 1.0


@pytest.mark.parametrize("trials", [1, 2, 7, 30, 48, 200])
@pytest.mark.parametrize("p", [0.5, 0.25, 1 / 3, 0.05])
def test_the_e_value_has_mean_at_most_one(trials, p):
    # summed over the whole law: at the null exactly one, below it at most
    for true in (p, 0.8 * p, 0.1 * p):
        mean = sum(
            float(stats.binom.pmf(k, trials, true)) * 10 ** log10_e_value(k, trials, p) for k in range(trials + 1)
        )
        assert mean <= 1.0 + 1e-9
        if true == p:
            assert mean == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (5, 7), (20, 24)])
def test_the_e_value_is_its_integral(successes, trials):
    p, steps = 0.25, 40_000
    width = (1 - p) / steps
    grid = (p + (i + 0.5) * width for i in range(steps))
    integral = sum((q / p) ** successes * ((1 - q) / (1 - p)) ** (trials - successes) for q in grid) * width / (1 - p)
    assert 10 ** log10_e_value(successes, trials, p) == pytest.approx(integral, rel=1e-5)


@pytest.mark.parametrize(
    ("successes", "trials", "p"), [(0, 4000, 0.5), (900, 20_000, 0.25), (5000, 20_000, 0.25), (48, 48, 0.5)]
)
def test_the_e_value_is_a_number_for_any_corpus(successes, trials, p):
    found = log10_e_value(successes, trials, p)
    assert not math.isnan(found)
    assert found < math.inf


@pytest.mark.parametrize("trials", [2000, 4000])
def test_the_e_value_of_no_success_at_all(trials):
    # the integral of (2(1-q))^n * 2 over q in (1/2, 1) is 1 / (n + 1)
    assert log10_e_value(0, trials, 0.5) == pytest.approx(-math.log10(trials + 1))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(0, 20))
def test_rank_p(others, claim):
    expected = (1 + len([o for o in others if o >= claim])) / (1 + len(others))
    assert rank_p(claim, others) == expected
    assert rank_p(21, others) == 1 / (len(others) + 1)
    assert rank_p(-1, others) == 1.0


def test_the_rank_is_super_uniform_among_exchangeable_keys():
    values = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    ranks = [rank_p(v, values[:i] + values[i + 1 :]) for i, v in enumerate(values)]
    for alpha in (0.1, 0.2, 0.5, 1.0):
        assert sum(r <= alpha + 1e-12 for r in ranks) <= alpha * len(values) + 1e-9


def test_none_in_n_is_printed_as_its_bound():
    for trials in (1, 10, 300, 3000):
        bound = zero_events_upper_bound(trials)
        assert (1 - bound) ** trials == pytest.approx(0.05)
    with pytest.raises(InconclusiveError):
        zero_events_upper_bound(0)


def test_answers_of_a_trigger_are_one_draw_and_those_of_a_single_trigger_one_each():
    found = grouped_share([[True] * 4, [True, True, False, False], [], [False] * 4])
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((stats.beta.ppf(0.025, 1.5, 2.5), stats.beta.ppf(0.975, 2.5, 1.5)))
    uneven = grouped_share([[True] * 3, [False]])  # worth 1.6 draws, not 2
    assert uneven.low == pytest.approx(stats.beta.ppf(0.025, 1.2, 1.4))
    alone, exact = grouped_share([[True, True, False]]), clopper_pearson(2, 3)
    assert (alone.low, alone.high) == pytest.approx((exact.low, exact.high))
    assert grouped_share([[True], [True]]).high == 1.0
    assert grouped_share([[False], [False]]).low == 0.0
    with pytest.raises(InconclusiveError):
        grouped_share([[]])
