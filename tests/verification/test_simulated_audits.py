"""Audits that benchmarks simulate by the thousand follow the code that decides one, and their bars can be missed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.audit import economy, validity
from benchmarks.audit.simulate import HABITS, keyed_paths, null_matches, pair_paths, reached, worth_table
from verification.sequential import DEFAULT_PRIOR, default_prior, keyed_path, pair_path


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("habit", HABITS)
def test_paths_from_the_table_are_those_of_the_audit(habit, classes):
    prior = default_prior(classes)
    matches = null_matches(habit, 6, 80, classes=classes, draw=np.random.default_rng(1))
    paths = keyed_paths(matches, worth_table(prior, 1 / classes, 80))
    for row, path in zip(matches.tolist(), paths.tolist(), strict=True):
        assert path == list(keyed_path(row, prior, classes=classes))


def test_pair_paths_from_the_table_are_those_of_the_audit():
    rng = np.random.default_rng(2)
    trigger, reference = rng.random((5, 60)) < 0.7, rng.random((5, 60)) < 0.4
    paths = pair_paths(trigger, reference, worth_table(DEFAULT_PRIOR, 0.5, 60))
    for a, b, path in zip(trigger.tolist(), reference.tolist(), paths.tolist(), strict=True):
        assert path == list(pair_path(zip(a, b, strict=True)))


@pytest.mark.parametrize("habit", HABITS)
def test_innocent_habits_match_by_chance_alone(habit):
    matches = null_matches(habit, 400, 100, classes=4, draw=np.random.default_rng(3))
    assert matches.mean() == pytest.approx(0.25, abs=0.01)


def test_the_first_passage_is_the_first():
    paths = np.array([[0.0, 2.0, 1.0, 3.0], [0.0, 0.0, 0.0, 1.0]])
    assert reached(paths, 2.0).tolist() == [2, 5]


@pytest.mark.long
def test_a_peeked_fixed_n_test_would_miss_its_level():
    rows = {row["name"]: row for row in validity._peeking(2000)}
    assert all(row["bar"] is None for row in rows.values())
    assert all(row["low"] > 0.03 for row in rows.values())  # nominal .01


def test_a_test_that_is_not_valid_misses_its_bars():
    def cheating(audits, draw):
        return np.log10(draw.random((audits, 2)).min(axis=1))  # the better of two tests

    assert not any(row["ok"] for row in validity._rates("cheating", cheating, 20_000))


def test_valid_tests_reach_their_bars_at_small_size():
    kept = [*validity._rates("binomial", validity._binomial, 2000), *validity._rates("pairs", validity._pairs, 500)]
    assert all(row["ok"] and row["low"] is not None for row in kept)
    assert {row["bar"]["value"] for row in kept} == set(validity.LEVELS)


def test_economy_reaches_its_bars_at_small_size():
    rows = [row for row in economy.simulated(2000) if row["bar"]]
    assert [row["bar"]["value"] for row in rows] == [30, 60, 95]
    assert all(row["ok"] for row in rows)
