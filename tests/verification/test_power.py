"""How many triggers a plan needs: the saw-tooth is not fallen for, the laws are the ones that simulations show."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from countermark.manifest import canonical_json
from verification.power import (
    binomial_needed,
    fisher_critical,
    fisher_needed,
    fisher_power,
    pair_stopping_law,
    power_plot,
    power_table,
    quantile,
    stopping_law,
)
from verification.sequential import DEFAULT_PRIOR, pair_path
from verification.statistics import log10_binomial_tail, log10_fisher


def _power(n, strength, chance, alpha):
    start = int(n * chance)
    critical = next(k for k in range(start, n + 2) if k > n or log10_binomial_tail(k, n, chance) <= math.log10(alpha))
    return stats.binom.sf(critical - 1, n, strength)


@settings(max_examples=10, deadline=None)
@given(
    st.floats(0.6, 0.99), st.sampled_from([0.5, 0.25]), st.sampled_from([0.05, 1e-3, 1e-6]),
    st.sampled_from([0.5, 0.8, 0.95]),
)  # fmt: skip
def test_from_the_needed_n_on_every_n_has_the_power_and_the_one_before_has_not(strength, chance, alpha, power):
    needed = binomial_needed(strength, chance=chance, alpha=alpha, power=power)
    assert all(_power(n, strength, chance, alpha) >= power for n in range(needed, needed + 12))
    assert needed == 1 or _power(needed - 1, strength, chance, alpha) < power


def test_the_first_n_that_reaches_the_power_is_not_enough():
    strength, chance, alpha, power = 0.9, 0.5, 0.05, 0.95
    first = next(n for n in range(1, 200) if _power(n, strength, chance, alpha) >= power)
    needed = binomial_needed(strength, chance=chance, alpha=alpha, power=power)
    assert first < needed
    assert any(_power(n, strength, chance, alpha) < power for n in range(first, needed))


def test_what_no_plan_reaches_is_none():
    assert binomial_needed(0.5, chance=0.5, alpha=1e-3, power=0.9) is None
    assert binomial_needed(0.4, chance=0.5, alpha=1e-3, power=0.9) is None
    assert binomial_needed(0.51, chance=0.5, alpha=1e-6, power=0.95, most=500) is None
    assert quantile(stopping_law(0.5, DEFAULT_PRIOR, chance=0.5, log10_bar=6.0), 0.5) is None
    assert fisher_needed(0.5, 0.5, alpha=1e-3, power=0.9) is None
    assert fisher_needed(0.55, 0.5, alpha=1e-6, power=0.95, most=50) is None


@pytest.mark.parametrize(("n", "alpha"), [(6, 0.05), (17, 1e-3), (30, 1e-6)])
def test_fisher_rejects_where_its_p_says_so(n, alpha):
    least = fisher_critical(n, alpha=alpha)
    for a in range(n + 1):
        for c in range(n + 1):
            assert (a >= least[a + c]) == (log10_fisher([[a, n - a], [c, n - c]]) <= math.log10(alpha))


def test_fishers_needs_are_those_measured_elsewhere():
    assert fisher_needed(0.95, 0.5, alpha=1e-3, power=0.95) == 41
    assert fisher_needed(0.99, 0.5, alpha=1e-3, power=0.95) == 30  # 29 by simulation: its power is .9495
    assert fisher_power(72, 0.95, 0.5, alpha=1e-6) >= 0.95 > fisher_power(71, 0.95, 0.5, alpha=1e-6)


def test_the_law_of_pairs_is_what_simulated_pairs_do():
    rng, stops = np.random.default_rng(4), []
    for _ in range(300):
        pairs = zip((rng.random(200) < 0.9).tolist(), (rng.random(200) < 0.3).tolist(), strict=True)
        path = pair_path(pairs)
        stops.append(next((i for i, e in enumerate(path, start=1) if e >= 3.0), 999))
    law = pair_stopping_law(0.9, 0.3, DEFAULT_PRIOR, log10_bar=3.0)
    for at in (15, 22, 30, 45):
        assert np.mean([stop <= at for stop in stops]) == pytest.approx(law[at - 1], abs=0.09)


@pytest.fixture(scope="module")
def table():
    return power_table(alpha=0.01, classes=2, strengths=(0.5, 0.8, 0.95), family=2, carriers=3, power=0.9)


def test_the_table_pays_for_the_family_and_counts_queries(table):
    binomial, process, fisher = table.methods
    assert binomial.needed == (None, *(binomial_needed(s, chance=0.5, alpha=0.005, power=0.9) for s in (0.8, 0.95)))
    assert binomial.queries[1:] == tuple(3 * n for n in binomial.needed[1:])
    assert binomial.median == binomial.needed
    assert fisher.queries[1:] == tuple(2 * n for n in fisher.needed[1:])
    for fixed, planned, median in zip(binomial.needed[1:], process.needed[1:], process.median[1:], strict=True):
        assert median < fixed < planned  # stops sooner as a rule, plans for more


def test_the_table_is_json_and_its_plot_the_same_bytes(table):
    body = json.loads(canonical_json(table.to_json()))
    assert body["methods"][0]["needed"][0] is None
    assert [len(m["needed"]) for m in body["methods"]] == [3, 3, 3]
    picture = power_plot(table)
    assert picture == power_plot(table)
    assert picture.startswith("<svg")
    assert "<script" not in picture
    for method in table.methods:
        assert method.name in picture


def test_a_table_of_nothing_but_hopeless_strengths_can_still_be_drawn():
    hopeless = power_table(alpha=0.01, strengths=(0.5,))
    assert [m.needed for m in hopeless.methods] == [(None,)] * 3
    assert "<svg" in power_plot(hopeless)


@pytest.mark.parametrize(
    "change",
    [{"alpha": 0.0}, {"alpha": 1.0}, {"power": 1.0}, {"strengths": ()}, {"strengths": (1.0,)}, {"classes": 1},
     {"family": 0}, {"carriers": 0}],
)  # fmt: skip
def test_tables_of_nonsense_are_refused(change):
    with pytest.raises(UsageError):
        power_table(**{"alpha": 0.01, "strengths": (0.9,), **change})
