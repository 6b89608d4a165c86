"""Bets of a test martingale: a mixture over rates, and what it is worth after so many hits and misses.

Each rate q of the mixture multiplies its stake by q/p at a hit and by (1-q)/(1-p) at a miss. If a hit has conditional
probability at most p given all that came before, and q >= p, no stake grows in expectation: the sum of all stakes is a
nonnegative supermartingale that starts at 1, and P(it ever reaches 1/alpha) <= alpha (Ville). The mixture is fixed
before the first trial, so that it is worth the same whatever the order of hits and misses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from countermark.errors import UsageError

Prior = Sequence[tuple[float, float]]
"""Pairs of a rate and its weight; the weights sum to 1."""

MOST_RATES = 64
_SUM = 1e-9
_LN10 = math.log(10.0)
_SHARES = ((0.1, 0.05), (0.2, 0.05), (0.3, 0.05), (0.5, 0.1), (0.7, 0.2), (0.9, 0.4), (0.98, 0.15))
"""How far above chance a model may lie, and how much is bet on it: most on a strong mark, a little on every weak one.
At C = 2 and alpha 1e-6 a model of rate .95 is found by the median after 28 answers, one of .65 after 347."""


def default_prior(classes: int) -> tuple[tuple[float, float], ...]:
    """The bets to plan where nothing is known of the suspect: rates spread between chance and certainty.

    Args:
        classes: the smallest number of answers that a claim of the plan draws from.

    Raises:
        UsageError: fewer than two answers.
    """
    chance = chance_of(classes)
    return tuple((round(chance + (1.0 - chance) * share, 12), weight) for share, weight in _SHARES)


def chance_of(classes: int) -> float:
    """1/C, the probability of a match with a target drawn uniformly from C answers.

    Raises:
        UsageError: no whole number of at least two answers.
    """
    if type(classes) is not int or classes < 2:  # noqa: PLR2004 - one answer is no choice
        raise UsageError(f"got {classes!r} answers, expected a whole number of at least 2")
    return 1.0 / classes


def check_prior(prior: Prior, *, chance: float = 0.0) -> None:
    """Refuses bets that are none, or that could gain under the null.

    Raises:
        UsageError: no rates, a rate outside [chance, 1) or named twice, or weights that do not sum to 1.
    """
    if not 1 <= len(prior) <= MOST_RATES:
        raise UsageError(f"got {len(prior)} rates to bet on, expected 1 to {MOST_RATES}")
    numbers = [number for pair in prior for number in pair]
    if any(len(pair) != 2 for pair in prior) or not all(type(n) in (int, float) for n in numbers):  # noqa: PLR2004
        raise UsageError(f"got the prior {prior!r}, expected pairs of a rate and its weight")
    rates, weights = [rate for rate, _ in prior], [weight for _, weight in prior]
    if not all(max(chance, 0.0) <= rate < 1.0 and rate > 0.0 for rate in rates) or len(set(rates)) != len(rates):
        raise UsageError(
            f"got the rates {rates}, expected different ones from {chance:g} up to but not including 1",
            hint="a bet below chance could gain from a suspect that avoids the targets by luck: use default_prior(C)",
        )
    if not all(0.0 < weight <= 1.0 for weight in weights) or abs(math.fsum(weights) - 1.0) > _SUM:
        raise UsageError(f"got weights that sum to {math.fsum(weights)}, expected positive ones that sum to 1")


class Mixture:
    """A checked mixture of bets against one chance; what it is worth depends on the counts alone.

    Raises:
        UsageError: bets that :func:`check_prior` refuses, or no probability.
    """

    __slots__ = ("_known", "_stakes", "chance")

    def __init__(self, prior: Prior, chance: float) -> None:
        if not 0.0 < chance < 1.0:
            raise UsageError(f"got chance {chance}, expected a probability strictly between 0 and 1")
        check_prior(prior, chance=chance)
        total = max(1.0, math.fsum(weight for _, weight in prior))  # rounded weights may not bet more than there is
        self.chance = chance
        self._stakes = [
            (math.log(weight / total), math.log(rate / chance), math.log1p(-rate) - math.log1p(-chance))
            for rate, weight in prior
        ]
        self._known: dict[tuple[int, int], float] = {(0, 0): 0.0}

    def log10_worth(self, hits: int, misses: int) -> float:
        """log10 E after ``hits`` and ``misses``, in any order; 0 before the first trial.

        Raises:
            UsageError: negative counts.
        """
        known = self._known.get((hits, misses))
        if known is not None:
            return known
        if min(hits, misses) < 0:
            raise UsageError(f"got {hits} hits and {misses} misses, expected counts")
        logs = [weight + hits * hit + misses * miss for weight, hit, miss in self._stakes]
        top = max(logs)
        value = (top + math.log(math.fsum(math.exp(each - top) for each in logs))) / _LN10
        self._known[hits, misses] = value
        return value


def mixture(prior: Prior, chance: float) -> Mixture:
    """The same mixture for the same bets: what it has worked out is kept."""
    return _mixture(tuple(tuple(pair) for pair in prior), chance)


@lru_cache(maxsize=64)
def _mixture(prior: tuple[Any, ...], chance: float) -> Mixture:
    return Mixture(prior, chance)
