"""The sign-flip test is exact: against every sign pattern, for every text, at every level; ties included."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import InconclusiveError, UsageError
from tests.support import key_of
from verification.signflip import (
    CLIP,
    HABIT,
    MOST_UNITS,
    PAIR_CLIP,
    SCALE,
    SHIFT,
    Excess,
    PairExcess,
    sign_flip,
    statistic_of,
)
from verification.statistics import log10_binomial_tail, log10_calibrated_e

KINDS = (Excess, PairExcess)


def _excess(kind, count, more, expected):
    return kind(count=count, of=count + more, expected=expected)


EXCESSES = st.builds(_excess, st.sampled_from(KINDS), st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 0.999))
EVEN = Excess(count=1, of=1, expected=0.5)  # all of one weight: ties everywhere
NONE = Excess(count=0, of=0, expected=0.5)


def _by_hand(excesses, coins):
    """P(sum of fair signs >= statistic) by counting, without the code under test but for the weights."""
    weights = [e.weight for e in excesses]
    own = sum(w if c else -w for w, c in zip(weights, coins, strict=True))
    signs = np.array(list(product((-1, 1), repeat=len(weights))))
    return own, float((signs @ np.array(weights) >= own).mean())


@given(st.lists(st.tuples(EXCESSES, st.integers(0, 1)), min_size=1, max_size=12))
@settings(max_examples=150)
def test_the_tail_is_that_of_all_sign_patterns(units):
    excesses, coins = [e for e, _ in units], [c for _, c in units]
    assume(any(e.weight for e in excesses))
    own, p = _by_hand(excesses, coins)
    found = sign_flip(excesses, coins)
    assert found.statistic == own == statistic_of(excesses, coins)
    assert 10**found.log10_p == pytest.approx(p, rel=1e-12)
    live = [(e, c) for e, c in units if e.weight]
    assert found.units == len(live)
    assert found.agree == sum((e.weight > 0) == bool(c) for e, c in live)
    assert found.log10_p >= found.log10_floor - 1e-12


@given(st.lists(EXCESSES, min_size=1, max_size=9))
@settings(max_examples=60)
def test_over_all_coins_of_one_text_p_is_super_uniform(excesses):
    assume(any(e.weight for e in excesses))
    every = [10 ** sign_flip(excesses, coins).log10_p for coins in product((0, 1), repeat=len(excesses))]
    for alpha in sorted(set(every)):
        # exact, not sampled: no level at which this text is accused by more than its share of keys
        assert sum(p <= alpha * (1 + 1e-9) for p in every) / len(every) <= alpha * (1 + 1e-9)
    assert max(every) == pytest.approx(1.0)


def test_a_test_that_leaned_would_be_caught_by_the_enumeration():
    # the check above can fail: a test that counts ">" in place of ">=" is not super-uniform
    signs = np.array(list(product((-1, 1), repeat=6)))
    sums = signs.sum(1)
    wrong = np.array([(sums > s).mean() for s in sums])
    assert any((wrong <= alpha).mean() > alpha for alpha in set(wrong))


@given(st.integers(1, 200), st.data())
def test_equal_weights_are_the_binomial(units, data):
    agree = data.draw(st.integers(0, units))
    found = sign_flip([EVEN] * units, [1] * agree + [0] * (units - agree))
    assert found.agree == agree
    assert found.log10_p == pytest.approx(log10_binomial_tail(agree, units, 0.5), abs=1e-9)
    assert found.log10_floor == pytest.approx(-units * math.log10(2))


@given(st.lists(EXCESSES, min_size=1, max_size=12), st.randoms())
def test_the_other_side_turned_round_is_the_same_evidence(excesses, random):
    assume(any(e.weight for e in excesses))
    coins = [random.randrange(2) for _ in excesses]
    turned = [type(e)(count=e.of - e.count, of=e.of, expected=1.0 - e.expected) for e in excesses]
    flipped = sign_flip(turned, [1 - c for c in coins])
    found = sign_flip(excesses, coins)
    assert flipped.statistic == pytest.approx(found.statistic, abs=len(excesses))  # 1 - p rounds once
    if flipped.statistic == found.statistic:
        assert (flipped.agree, flipped.units) == (found.agree, found.units)


@given(EXCESSES)
def test_a_weight_is_bounded_and_grows_with_the_count(excess):
    assert isinstance(excess.weight, int)
    assert abs(excess.weight) <= (PAIR_CLIP if isinstance(excess, PairExcess) else CLIP) * SCALE
    if excess.count < excess.of:
        assert type(excess)(count=excess.count + 1, of=excess.of, expected=excess.expected).weight >= excess.weight


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.01, 0.99))
def test_a_pair_weighs_half_the_log_likelihood_ratio_of_its_coins(count, more, expected):
    odds = expected / (1 - expected)
    up, down = (odds * math.exp(s) / (1 + odds * math.exp(s)) for s in (SHIFT, -SHIFT))
    laws = [stats.betabinom(count + more, HABIT * share, HABIT * (1 - share)) for share in (up, down)]
    ratio = (laws[0].logpmf(count) - laws[1].logpmf(count)) / 2
    weight = PairExcess(count=count, of=count + more, expected=expected).weight
    assert weight == pytest.approx(SCALE * max(-PAIR_CLIP, min(PAIR_CLIP, ratio)), abs=0.51)


@pytest.mark.parametrize(("kind", "clip"), [(Excess, CLIP), (PairExcess, PAIR_CLIP)])
def test_a_loud_unit_is_one_trial(kind, clip):
    loud = kind(count=10_000, of=10_000, expected=0.5)
    assert loud.weight == clip * SCALE
    assert sign_flip([loud], [1]).log10_p == pytest.approx(math.log10(0.5))
    assert sign_flip([loud], [0]).log10_p == 0.0


def test_units_that_do_not_occur_are_no_trials():
    with_none, without = sign_flip([EVEN, NONE, EVEN], [1, 1, 0]), sign_flip([EVEN, EVEN], [1, 0])
    assert with_none == without


@pytest.mark.parametrize("excesses", [[], [NONE], [NONE] * 7, [Excess(count=2, of=4, expected=0.5)] * 3])
def test_no_weight_at_all_decides_nothing(excesses):
    with pytest.raises(InconclusiveError, match="no keyed unit"):
        sign_flip(excesses, [1] * len(excesses))
    assert statistic_of(excesses, [1] * len(excesses)) == 0


def test_the_most_units_are_still_exact():
    found = sign_flip([EVEN] * MOST_UNITS, [1] * MOST_UNITS)
    assert found.log10_p == pytest.approx(found.log10_floor, rel=1e-12)
    mixed = [Excess(count=i % 9, of=9, expected=0.3) for i in range(MOST_UNITS)]
    best = [int(e.weight > 0) for e in mixed]
    assert sign_flip(mixed, best).log10_p == pytest.approx(-sum(e.weight != 0 for e in mixed) * math.log10(2), rel=1e-9)
    with pytest.raises(UsageError, match="513"):
        sign_flip([EVEN] * (MOST_UNITS + 1), [1] * (MOST_UNITS + 1))


def test_far_tails_agree_with_an_exact_count():
    weights = [Excess(count=c, of=10, expected=0.4) for c in (0, 1, 2, 6, 7, 8, 9, 10)] * 7
    coins = [int(e.weight > 0) for e in weights]
    coins[0] = coins[20] = 1 - coins[0]
    counts = {0: 1}  # whole numbers: nothing is rounded
    for e in weights:
        nxt: dict[int, int] = {}
        for total, ways in counts.items():
            for sign in (-1, 1):
                nxt[total + sign * e.weight] = nxt.get(total + sign * e.weight, 0) + ways
        counts = nxt
    found = sign_flip(weights, coins)
    exact = sum(ways for total, ways in counts.items() if total >= found.statistic)
    assert found.log10_p == pytest.approx(math.log10(exact) - len(weights) * math.log10(2), abs=1e-9)
    assert found.log10_p < -12


@pytest.mark.parametrize(
    ("count", "of", "expected"), [(3, 2, 0.5), (-1, 2, 0.5), (1, 2, 0.0), (1, 2, 1.0), (1, 2, math.nan)]
)
def test_counts_and_shares_out_of_range_are_refused(count, of, expected):
    with pytest.raises(UsageError, match="expected counts"):
        Excess(count=count, of=of, expected=expected)


def test_as_many_coins_as_units():
    with pytest.raises(ValueError, match="zip"):
        sign_flip([EVEN, EVEN], [1])


def test_keys_of_a_ring_give_super_uniform_p_values_for_one_text():
    # the same, through the coins that keys really draw
    from watermarks.carriers.lexical import derive_coins

    excesses = [Excess(count=i % 5, of=5, expected=0.35) for i in range(40)]
    p = [sign_flip(excesses, derive_coins(key_of(f"p{i}"), scope="s", pairs=40)).log10_p for i in range(1500)]
    for alpha in (0.5, 0.1, 0.01):
        hits = sum(x <= math.log10(alpha) for x in p)
        assert stats.binomtest(hits, 1500, alpha).pvalue > 1e-4  # 40 units: the law is nearly continuous
    assert np.mean([10 ** log10_calibrated_e(x) for x in p]) < 1.2
