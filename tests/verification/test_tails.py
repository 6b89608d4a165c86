"""Tails against exact arithmetic, at any depth: never below the truth, and above it by no more than a hair."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from countermark.errors import InconclusiveError
from tests.verification.exact import log10_binomial, log10_gamma, log10_repeated, log10_two_gammas, log10_weighted
from tests.verification.marked import SCHEMES
from verification import tails
from verification.statistics import log10_binomial_tail
from verification.tails import log10_floor, log10_tails
from watermarks.schemes import BinomialLaw, CountLaw, GammaLaw, Kgw, LatticeLaw, Tournament

UNIT = 2**-24
DUAL = GammaLaw(unit=UNIT, scales=(0.75, 0.25))
SMALLEST_DOUBLE = -308.0
LAWS = {
    "binomial": BinomialLaw(p=0.25),
    "thirty trials": BinomialLaw(p=0.5, trials=30),
    "gamma": GammaLaw(unit=UNIT),
    "dual": DUAL,
    "lattice": Tournament(layers=30).law("weighted"),
    "counts": CountLaw(p=0.5),
}
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)


def _assert_bounds(found, exact):
    """The house rule: 1e-9 below at most, and a hair above."""
    found, exact = np.asarray(found), np.asarray(exact)
    assert len(found) == len(exact) > 0
    below, above = exact - found, found - exact
    assert below.max() <= 1e-9, f"{below.max():.3g} below, where the exact tail is {exact[below.argmax()]:.3f}"
    assert (above - 1e-11 * np.abs(exact)).max() <= 2e-9, f"{above.max():.3g} above, at {exact[above.argmax()]:.3f}"


def _tails(law, totals, scored, counts=None):
    totals = np.asarray(totals, np.int64)
    each = [np.ones(scored, np.int64) if counts is None else counts] * len(totals)
    return log10_tails(law, totals, np.full(len(totals), scored), each)


def _fixed(sums):
    """Sums of credits in the law's integer units."""
    return [int(x / UNIT) for x in sums]


def _reaches(scored, share=22.18):
    """Sums from nothing to all that so many inputs can be worth, and far beyond."""
    return _fixed([*np.linspace(0, 3 * scored, 20), *np.linspace(3 * scored, share * scored, 12), 700.0, 9000.0])


@pytest.mark.parametrize(("scored", "trials"), [(1, 1), (7, 1), (300, 1), (2000, 1), (1, 30), (50, 30)])
@pytest.mark.parametrize("p", [0.25, 0.5, Kgw(gamma=0.1).law("green").p])
def test_a_binomial_tail_is_exact_at_every_depth(scored, trials, p):
    exact = log10_binomial(scored * trials, Fraction(p))
    totals = np.unique(np.linspace(0, scored * trials, 60).astype(int))
    _assert_bounds(_tails(BinomialLaw(p=p, trials=trials), totals, scored), exact[totals])
    assert scored < 2000 or exact[-1] < SMALLEST_DOUBLE


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 32), st.floats(1e-6, 1 - 1e-6), st.data())
def test_a_binomial_tail_is_scipys(scored, trials, p, data):
    total = data.draw(st.integers(0, scored * trials))
    (found,) = _tails(BinomialLaw(p=p, trials=trials), [total], scored)
    expected = stats.binom.logsf(total - 1, scored * trials, p) / math.log(10)
    if expected > -200:  # beyond, scipy loses digits
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("scored", [1, 2, 5, 30, 120, 400])
def test_a_gamma_tail_is_its_finite_sum(scored):
    totals = _reaches(scored)
    exact = [log10_gamma(total * Fraction(UNIT), scored) for total in totals]
    _assert_bounds(_tails(GammaLaw(unit=UNIT), totals, scored), exact)
    assert min(exact) < 10 * SMALLEST_DOUBLE


@settings(max_examples=60)
@given(st.integers(1, 100_000), st.floats(0.2, 6.0))
def test_a_gamma_tail_is_scipys(scored, share):
    (total,) = _fixed([share * scored])
    (found,) = _tails(GammaLaw(unit=UNIT), [total], scored)
    expected = stats.gamma.logsf(total * UNIT, scored) / math.log(10)
    if expected > -250:
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("scored", [2000, 50_000, 1_000_000])
def test_tails_of_a_whole_library_agree_with_sums_of_logarithms(scored):
    deviation, k = math.sqrt(scored), np.arange(scored)
    for far in (-2.0, 1.0, 8.0, 30.0):
        x = scored + far * deviation
        (found,) = _tails(GammaLaw(unit=UNIT), _fixed([x]), scored)
        exact = (special.logsumexp(k * math.log(x) - special.gammaln(k + 1)) - x) / math.log(10)
        assert found == pytest.approx(exact, rel=1e-7, abs=1e-7)
        hits = int(scored / 4 + far * deviation * math.sqrt(3) / 4)
        (found,) = _tails(BinomialLaw(p=0.25), [hits], scored)
        assert found == pytest.approx(log10_binomial_tail(hits, scored, 0.25), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.1, 0.3, 0.45])
def test_one_dual_credit_has_the_closed_form(alpha):
    a, b = 1.0 - alpha, alpha
    totals = _reaches(1)
    x = np.array(totals) * UNIT
    exact = -x / a + np.log(a / (a - b)) + np.log1p(-b / a * np.exp(-x * (1 / b - 1 / a)))
    found = _tails(GammaLaw(unit=UNIT, scales=(a, b)), totals, 1)
    assert found == pytest.approx(exact / math.log(10), rel=1e-11, abs=2e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.25, 0.375])
@pytest.mark.parametrize("scored", [1, 2, 3, 8, 20])
def test_a_dual_tail_is_that_of_its_partial_fractions(alpha, scored):
    a, b = 1.0 - alpha, alpha
    totals = _reaches(scored)
    exact = [log10_two_gammas(total * Fraction(UNIT), scored, Fraction(a), Fraction(b)) for total in totals]
    _assert_bounds(_tails(GammaLaw(unit=UNIT, scales=(a, b)), totals, scored), exact)
    assert min(exact) < 10 * SMALLEST_DOUBLE


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("scored", [2, 7, 20])
def test_a_dual_tail_is_that_of_the_convolution(alpha, scored):
    a, b = 1.0 - alpha, alpha
    totals = _fixed(scored * np.array([0.5, 1.0, 1.5, 3.0, 5.0]))
    nodes, weights = np.polynomial.legendre.leggauss(400)
    y = np.array(totals)[:, None] * UNIT * (nodes + 1) / 2  # what the second credit may be, below the sum
    inside = stats.gamma.pdf(y / b, scored) / b * stats.gamma.sf((np.array(totals)[:, None] * UNIT - y) / a, scored)
    exact = (inside * weights).sum(-1) * np.array(totals) * UNIT / 2
    exact += stats.gamma.sf(np.array(totals) * UNIT / b, scored)
    found = _tails(GammaLaw(unit=UNIT, scales=(a, b)), totals, scored)
    assert found == pytest.approx(np.log10(exact), rel=1e-8, abs=1e-8)


def test_equal_scales_are_one_gamma_of_twice_the_shape():
    for scored in (1, 20, 3000):
        totals = _reaches(scored)
        halves = _tails(GammaLaw(unit=UNIT, scales=(0.5, 0.5)), totals, scored)
        assert halves == pytest.approx(_tails(GammaLaw(unit=2 * UNIT), totals, 2 * scored), rel=1e-11, abs=2e-9)


def test_a_dual_tail_is_what_is_drawn():
    rng = np.random.default_rng(5)
    for scored, alpha in ((1, 0.1), (12, 0.1), (300, 0.3)):
        drawn = (1 - alpha) * rng.gamma(scored, size=200_000) + alpha * rng.gamma(scored, size=200_000)
        totals = _fixed(np.quantile(drawn, [0.1, 0.5, 0.9, 0.99, 0.999]))
        p = 10 ** _tails(GammaLaw(unit=UNIT, scales=(1 - alpha, alpha)), totals, scored)
        for total, chance in zip(totals, p, strict=True):
            hits = int((drawn >= total * UNIT).sum())
            assert stats.binomtest(hits, len(drawn), chance).pvalue > 1e-4


@pytest.mark.long
@pytest.mark.parametrize("layers", [1, 2, 5, 8, 12, 30])
def test_a_lattice_tail_is_exact_for_every_sum(layers):
    scheme = Tournament(layers=layers)
    repeats = [1, 2, 7, 24, 25, 33, 60]  # both sides of where the direct convolution ends
    for scored, exact in zip(repeats, log10_repeated([*scheme.weights], Fraction(1, 2), repeats), strict=True):
        totals = (
            np.arange(len(exact)) if len(exact) < 3000 else np.r_[0 : len(exact) : 7, len(exact) - 200 : len(exact)]
        )
        _assert_bounds(_tails(scheme.law("weighted"), totals, scored), exact[totals])


def test_a_lattice_tail_of_a_long_text_is_exact():
    exact = log10_binomial(3000, Fraction(1, 2))  # one weight alone is a binomial, whose integers are cheap
    totals = np.r_[0:3000:50, 2940:3001]
    _assert_bounds(_tails(LatticeLaw(p=0.5, weights=(10,)), 10 * totals, 3000), exact[totals])


def test_a_sum_between_two_of_the_lattice_counts_as_the_next():
    law = LatticeLaw(p=0.5, weights=(10, 4))
    for scored in (3, 40):
        between, next_one = _tails(law, [10 * scored + 1, 10 * scored + 2], scored)
        assert between == next_one


def _zipf(scored, seed):
    return np.minimum(np.random.default_rng(seed).zipf(1.6, scored), 90)


@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(1, 4)])
@pytest.mark.parametrize("scored", [1, 2, 10, 40, 80])
def test_a_weighted_tail_is_exact_for_every_sum(p, scored):
    counts, law = _zipf(scored, scored), CountLaw(p=float(p))
    exact = log10_weighted(law.weight(counts).tolist(), p)
    _assert_bounds(_tails(law, np.arange(len(exact)), scored, counts), exact)


COUNTS = {
    "all alike": np.ones(1100, int),
    "one other": np.r_[np.ones(1099, int), 2],
    "two kinds": np.r_[np.full(550, 4), np.full(550, 9)],
    "zipf": _zipf(1100, 6),
}


@pytest.mark.long
@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(1, 4)])
@pytest.mark.parametrize("name", COUNTS)
def test_a_weighted_tail_of_many_inputs_is_the_convolutions(p, name):
    counts, law = COUNTS[name], CountLaw(p=float(p))
    assert len(counts) > tails._CONVOLVED
    pmf = np.ones(1)
    for weight in law.weight(counts).tolist():
        more = np.zeros(len(pmf) + weight)
        more[: len(pmf)] += (1 - law.p) * pmf
        more[weight:] += law.p * pmf
        pmf = more
    tail = np.cumsum(pmf[::-1])[::-1]
    deepest = int((tail > 1e-290).sum())
    totals = np.r_[0 : deepest : max(1, deepest // 80), deepest - 40 : deepest]
    _assert_bounds(_tails(law, totals, len(counts), counts), np.log10(tail[totals]))


@pytest.mark.parametrize("scored", [1000, 1100])
def test_a_weighted_tail_below_the_smallest_double_is_exact(scored):
    exact = log10_binomial(scored, Fraction(1, 2))
    totals = np.arange(scored - 80, scored + 1)
    assert exact[-1] < -300
    _assert_bounds(_tails(CountLaw(p=0.5), 4 * totals, scored, np.ones(scored, int)), exact[totals])


def test_the_weight_of_a_count_is_four_roots_rounded_down():
    counts = np.arange(1, 5000)
    assert CountLaw(p=0.5).weight(counts).tolist() == [math.isqrt(16 * c) for c in counts.tolist()]


@every_law
@pytest.mark.parametrize("scored", [1, 5, 40, 300])
def test_a_tail_falls_as_the_sum_grows_and_starts_at_one(law, scored):
    most = _most(law, scored)
    totals = np.unique(np.linspace(0, most, 60).astype(np.int64))
    found = _tails(law, totals, scored)
    assert found[0] == 0.0
    assert np.diff(found).max() <= 1e-9
    assert found[-1] < -0.29 * scored
    assert not np.isnan(found).any()


def _most(law, scored):
    """The largest sum that so many inputs can be worth."""
    match law:
        case BinomialLaw():
            return scored * law.trials
        case LatticeLaw():
            return scored * sum(law.weights)
        case CountLaw():
            return 4 * scored
        case GammaLaw():
            return int(scored * sum(law.scales) * 32 * math.log(2) / UNIT)


@every_law
@pytest.mark.parametrize("scored", [1, 7, 60, 2000])
def test_the_floor_is_the_tail_of_the_largest_sum(law, scored):
    (deepest,) = _tails(law, [_most(law, scored)], scored)
    assert log10_floor(law, scored) == pytest.approx(deepest, rel=1e-9, abs=1e-9)
    assert log10_floor(law, scored) < log10_floor(law, max(1, scored - 1)) or scored == 1


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_no_text_says_more_than_the_floor(scheme):
    draws = np.array([0, 2**32 - 1])  # the best ones: green and favoured, or all bits set
    for statistic in scheme.statistics:
        law = scheme.law(statistic)
        worth = int(scheme.worth(draws, statistic).max()) * (4 if isinstance(law, CountLaw) else 1)
        (found,) = _tails(law, [9 * worth], 9)
        assert log10_floor(law, 9) - 1e-9 <= found <= 0.99999 * log10_floor(law, 9)


@every_law
def test_no_input_is_no_evidence(law):
    with pytest.raises(InconclusiveError):
        _tails(law, [0], 0)
    with pytest.raises(InconclusiveError):
        log10_tails(law, np.array([1, 0]), np.array([1, 0]), [np.ones(1, int), np.ones(0, int)])
    assert log10_floor(law, 0) == 0.0


@every_law
def test_texts_are_judged_apart(law):
    rng = np.random.default_rng(2)
    scored = rng.integers(1, 90, 40)
    totals = np.array([int(rng.uniform(0.2, 1.0) * _most(law, int(n))) for n in scored])
    counts = [np.ones(n, np.int64) for n in scored.tolist()]
    together = log10_tails(law, totals, scored, counts)
    apart = [_tails(law, [t], n)[0] for t, n in zip(totals.tolist(), scored.tolist(), strict=True)]
    assert together == pytest.approx(apart, rel=1e-12, abs=1e-12)
    order = rng.permutation(40)
    again = log10_tails(law, totals[order], scored[order], [counts[i] for i in order])
    assert again == pytest.approx(together[order], rel=1e-12, abs=1e-12)
