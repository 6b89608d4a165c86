"""Test martingales: fair bets, Ville's bound, what they cost, and orders of asking whose prefixes can be scored."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import InconclusiveError, UsageError
from tests.support import key_of
from verification.bets import check_prior, default_prior, mixture
from verification.power import pair_stopping_law, quantile, stopping_law
from verification.sequential import (
    DEFAULT_PRIOR,
    KeyedProcess,
    PairProcess,
    anytime_interval,
    combine_dependent,
    combine_independent,
    e_holm,
    keyed_path,
    log10_anytime_p,
    looked_at,
    pair_path,
)
from verification.statistics import holm

KEY = key_of("orders")
CLASSES = st.integers(2, 5)


@st.composite
def priors(draw, classes):
    """Bets at or above chance, weights that sum to 1."""
    low = 1.0 / classes
    rates = draw(st.lists(st.floats(low, 0.999), min_size=1, max_size=4, unique=True))
    weights = draw(st.lists(st.integers(1, 9), min_size=len(rates), max_size=len(rates)))
    return tuple((rate, weight / sum(weights)) for rate, weight in zip(rates, weights, strict=True))


@given(st.data(), CLASSES, st.integers(0, 7))
def test_the_bets_are_fair_at_chance_and_lose_below(data, classes, trials):
    prior, chance = data.draw(priors(classes)), 1.0 / classes
    for p, fair in ((chance, True), (0.6 * chance, False)):
        mean = math.fsum(
            math.prod(p if hit else 1 - p for hit in hits) * 10 ** [0.0, *keyed_path(hits, prior, classes=classes)][-1]
            for hits in itertools.product((True, False), repeat=trials)
        )
        assert mean == pytest.approx(1.0) if fair else mean <= 1.0 + 1e-9


@given(st.data(), CLASSES, st.lists(st.booleans(), max_size=60))
def test_the_path_is_the_mixture_of_products_in_fractions(data, classes, hits):
    prior = data.draw(priors(classes))
    path = keyed_path(hits, prior, classes=classes)
    p = Fraction(1, classes)
    stakes = [Fraction(weight) for _, weight in prior]
    for i, hit in enumerate(hits):
        for j, (rate, _) in enumerate(prior):
            q = Fraction(rate)
            stakes[j] *= q / p if hit else (1 - q) / (1 - p)
        assert path[i] == pytest.approx(math.log10(sum(stakes)), abs=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 1e-3])
def test_chance_ever_reaches_the_bar_with_probability_at_most_alpha(classes, alpha):
    # the exact law of first passage over 600 looks; just below the bound, or the bets would be wasted
    bets, critical, state, reached = mixture(default_prior(classes), 1 / classes), 0, np.array([1.0]), 0.0
    for n in range(1, 601):
        state = np.append(state * (1 - 1 / classes), 0.0) + np.append(0.0, state / classes)
        while critical <= n and bets.log10_worth(critical, n - critical) < -math.log10(alpha):
            critical += 1
        reached += state[critical:].sum()
        state = state[:critical]
    assert 0.3 * alpha < reached <= alpha


def test_a_rate_below_chance_would_break_the_bound_and_is_refused():
    for make in (lambda: KeyedProcess(((0.4, 1.0),)), lambda: PairProcess(((0.3, 0.5), (0.9, 0.5)))):
        with pytest.raises(UsageError, match=r"expected different ones from 0\.5"):
            make()
    KeyedProcess(((0.3, 1.0),), classes=4)


@pytest.mark.parametrize(
    "prior",
    [
        (), ((0.9, 0.5),), ((0.9, 0.7), (0.8, 0.7)), ((1.0, 1.0),), ((0.9, 1.5), (0.8, -0.5)), ((0.9, 0.5), (0.9, 0.5)),
        ((float("nan"), 1.0),), ((0.9, float("nan")),), (("0.9", 1.0),), ((0.9, True),), ((0.9, 1.0, 1.0),),
        ((0.0, 1.0),), tuple((0.5 + i / 200, 0.01) for i in range(100)),
    ],
)  # fmt: skip
def test_bets_that_are_none_are_refused(prior):
    with pytest.raises(UsageError):
        check_prior(prior)


@pytest.mark.parametrize("classes", [1, 0, -2, True, 2.0, None])
def test_chance_comes_from_a_whole_number_of_answers(classes):
    with pytest.raises(UsageError):
        KeyedProcess(classes=classes)


@pytest.mark.parametrize("value", [1, 0, None, 0.5, "yes", np.True_])
def test_a_match_is_true_or_false(value):
    with pytest.raises(UsageError):
        KeyedProcess().see(value)
    with pytest.raises(UsageError):
        PairProcess().see(value, True)
    with pytest.raises(UsageError):
        PairProcess().see(True, value)


def test_weights_that_were_rounded_bet_no_more_than_there_is():
    rounded = ((0.6, 0.5 + 4e-10), (0.9, 0.5 + 4e-10))
    assert mixture(rounded, 0.5).log10_worth(0, 0) == 0.0
    assert keyed_path([True], rounded)[0] <= keyed_path([True], ((0.6, 0.5), (0.9, 0.5)))[0] + 1e-12


def test_the_state_grows_answer_by_answer():
    process = KeyedProcess(classes=4, prior=default_prior(4))
    assert (process.log10_e, process.log10_best) == (0.0, 0.0)
    hits = [True, True, False, True, False, False, False]
    for hit in hits:
        process.see(hit)
    assert tuple(process.path) == keyed_path(hits, default_prior(4), classes=4)
    assert process.log10_best == max(process.path) > process.log10_e
    assert process.at_best(5) == keyed_path([*hits, *[True] * 5], default_prior(4), classes=4)[-1]
    assert (process.hits, process.misses) == (3, 4)


def test_losing_bets_never_give_a_p_above_one():
    process = KeyedProcess()
    process.see(False)
    assert process.log10_e < 0 == process.log10_best


def test_pairs_that_agree_move_nothing_and_the_coin_is_even():
    path = pair_path([(True, True), (False, False), (True, False), (False, True)])
    assert path[:2] == (0.0, 0.0)
    assert path[2:] == keyed_path([True, False])


def test_what_the_bars_ask_of_the_default_bets():
    keyed = stopping_law(0.95, DEFAULT_PRIOR, chance=0.5, log10_bar=6.0)
    assert (quantile(keyed, 0.5), quantile(keyed, 0.95)) == (28, 41)  # at most 30
    pairs = pair_stopping_law(0.95, 0.5, DEFAULT_PRIOR, log10_bar=6.0)
    assert (quantile(pairs, 0.5), quantile(pairs, 0.95)) == (57, 89)  # at most 60 and 95


def test_simulated_stops_follow_the_exact_law():
    rng, stops = random.Random(5), []
    for _ in range(400):
        process = KeyedProcess()
        while process.log10_e < 6.0:
            process.see(rng.random() < 0.9)
        stops.append(len(process.path))
    law = stopping_law(0.9, DEFAULT_PRIOR, chance=0.5, log10_bar=6.0)
    for at in (30, 37, 45, 62):
        assert np.mean([stop <= at for stop in stops]) == pytest.approx(law[at - 1], abs=0.08)


@pytest.mark.parametrize(("length", "look", "seen"), [(7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 5, [2]), (0, 1, [])])
def test_looks_are_every_so_many_and_the_last(length, look, seen):
    assert looked_at([float(i) for i in range(1, length + 1)], look) == seen


@pytest.mark.parametrize("look", [0, -1, 1.0, True])
def test_a_look_is_a_whole_number(look):
    with pytest.raises(UsageError):
        looked_at([1.0], look)


def test_independent_e_values_multiply_and_dependent_ones_average():
    assert combine_independent([2.0, -1.0, 0.5]) == 1.5
    assert combine_dependent([2.0, 2.0, 2.0]) == pytest.approx(2.0)
    assert combine_dependent([3.0, 0.0]) == pytest.approx(math.log10((1000 + 1) / 2))
    assert combine_dependent([-math.inf, -math.inf]) == -math.inf
    assert combine_dependent([400.0, -400.0]) == pytest.approx(400 - math.log10(2))
    assert (log10_anytime_p(3.0), log10_anytime_p(-2.0)) == (-3.0, 0.0)
    assert e_holm([6.0, 3.0, -1.0]) == holm([-6.0, -3.0, 0.0])


@pytest.mark.parametrize("combine", [combine_independent, combine_dependent, e_holm])
def test_nothing_combines_to_nothing(combine):
    with pytest.raises(InconclusiveError):
        combine([])
    for bad in ([math.nan], ["1"], [None], [True], [math.inf]):
        with pytest.raises(UsageError):
            combine(bad)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9, 0.99])
def test_the_interval_holds_at_every_look(rate):
    # exact: P(the rate is left out at any of the first 150 looks)
    state, missed = {0: 1.0}, 0.0
    for n in range(1, 151):
        moved: dict[int, float] = {}
        for hits, mass in state.items():
            for more, p in ((1, rate), (0, 1 - rate)):
                moved[hits + more] = moved.get(hits + more, 0.0) + mass * p
        bounds = {hits: anytime_interval(hits, n) for hits in moved}
        out = [hits for hits, bound in bounds.items() if not bound.low <= rate <= bound.high]
        missed += sum(moved.pop(hits) for hits in out)
        state = moved
    assert missed <= 0.05


def test_the_interval_at_the_ends_and_without_trials():
    none, every = anytime_interval(0, 30), anytime_interval(30, 30)
    assert (none.value, none.low, every.high) == (0.0, 0.0, 1.0)
    assert none.high == pytest.approx(1 - every.low)
    assert 0.1 < none.high < 0.25
    with pytest.raises(InconclusiveError):
        anytime_interval(0, 0)
    for bad in ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)):
        with pytest.raises(UsageError):
            anytime_interval(bad[0], bad[1], level=bad[2])
