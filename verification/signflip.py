"""The sign-flip test: does a text lean the way of the key's coins? Exact, whatever the text's own habits are.

Every unit (a pair of synonyms, a sentence initial) has an excess: how much more often the text says one thing than a
baseline that was fixed without the key. If the text is independent of the key, then *given the text* every coin is
still fair, so the sum of excesses, each signed by its coin, is a weighted sum of fair signs: nothing is assumed about
the text, and however often a unit occurs its coin is one trial (statistics.md 7.7; Fisher's randomisation test).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from countermark.errors import InconclusiveError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCALE = 64
CLIP = 3.0
"""No standardised excess counts for more: a habit of the text in one frequent unit must not drown all others."""
SHIFT = 2.0
"""How far a marked text is taken to move a pair's log odds: the preferred side's become e^2 times as high."""
HABIT = 12.0
"""How firmly an innocent text keeps to a pair's usual share: as one does who counted a dozen. A model that was trained
on the unmarked set keeps to it more firmly, one that never saw it less.
"""
PAIR_CLIP = 5.0
"""No pair weighs more than five units of log likelihood."""
MOST_UNITS = 512
"""So many fair signs have no pattern whose probability underflows a double."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """What a text does in one unit.

    Args:
        count: how often the unit's one side occurs.
        of: out of how many.
        expected: the baseline's share for that side, strictly between 0 and 1; fixed without the key.
    """

    count: int
    of: int
    expected: float

    def __post_init__(self) -> None:
        if not (0 <= self.count <= self.of and 0.0 < self.expected < 1.0):
            raise UsageError(f"got {self.count} of {self.of} at {self.expected}, expected counts and a share in (0, 1)")

    @property
    def weight(self) -> int:
        """The signed weight: standardised excess, clipped, in whole steps. Any function of the text alone is exact."""
        spread = math.sqrt(self.of * self.expected * (1.0 - self.expected) + 0.25)
        standardised = (self.count - self.of * self.expected) / spread
        return round(SCALE * max(-CLIP, min(CLIP, standardised)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairExcess(Excess):
    """What a text does in a pair of synonyms, of which a mark makes one side likelier whatever the usual share is.

    Weighed by half the log likelihood ratio of the two coins, which no other weight beats where its law is right
    (Neyman and Pearson): the count is beta-binomial about the usual share, its odds shifted up or down by the coin.
    Where the law is wrong, power is lost and not validity: the weight is a function of the text alone.
    """

    @property
    def weight(self) -> int:
        usual = math.log(self.expected / (1.0 - self.expected))
        up, down = (1.0 / (1.0 + math.exp(-(usual + shift))) for shift in (SHIFT, -SHIFT))
        ratio = (self._log_likelihood(up) - self._log_likelihood(down)) / 2
        return round(SCALE * max(-PAIR_CLIP, min(PAIR_CLIP, ratio)))

    def _log_likelihood(self, share: float) -> float:
        """Of the count, beta-binomial about ``share``; without the terms that do not depend on it."""
        one, other = HABIT * share, HABIT * (1.0 - share)
        counted = math.lgamma(one + self.count) + math.lgamma(other + self.of - self.count)
        return counted - math.lgamma(one) - math.lgamma(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignFlip:
    """The outcome.

    Args:
        statistic: sum of the weights, each signed by its coin.
        agree, units: how many units with any weight lean the coin's way.
        log10_p: log10 P(a sum of fair signs is at least the statistic), exact.
        log10_floor: what it would be if every unit leaned the coin's way.
    """

    statistic: int
    agree: int
    units: int
    log10_p: float
    log10_floor: float


def sign_flip(excesses: Sequence[Excess], coins: Sequence[int]) -> SignFlip:
    """Weighs every unit's excess with its coin (1: the side counted is the preferred one; 0: it is not).

    Raises:
        InconclusiveError: no unit has any weight: nothing is evidence of nothing.
        UsageError: more than :data:`MOST_UNITS` units.
    """
    weights, statistic, agree = _signed(excesses, coins)
    if not weights:
        raise InconclusiveError(
            "got texts in which no keyed unit occurs, expected some", hint="ask for longer answers, or for more"
        )
    return SignFlip(
        statistic=statistic, agree=agree, units=len(weights),
        log10_p=_log10_tail(weights, statistic), log10_floor=-len(weights) * math.log10(2.0),
    )  # fmt: skip


def statistic_of(excesses: Sequence[Excess], coins: Sequence[int]) -> int:
    """The statistic alone: what a wrong key is ranked by."""
    return _signed(excesses, coins)[1]


def _signed(excesses: Sequence[Excess], coins: Sequence[int]) -> tuple[list[int], int, int]:
    if len(excesses) > MOST_UNITS:
        raise UsageError(f"got {len(excesses)} units, expected at most {MOST_UNITS}")
    weighed = [(each.weight, coin) for each, coin in zip(excesses, coins, strict=True) if each.weight]
    signed = [weight if coin else -weight for weight, coin in weighed]
    return [abs(weight) for weight in signed], sum(signed), sum(weight > 0 for weight in signed)


def _log10_tail(weights: Sequence[int], statistic: int) -> float:
    """P(sum of +-w >= statistic): the law of a sum of whole numbers, by convolution; only additions of positives."""
    total = sum(weights)
    law = np.zeros(total + 1)
    law[0], top = 1.0, 0
    for weight in weights:  # of the subset sum S: the signed sum is 2 S - total
        shifted = law[: top + 1].copy()
        law[weight : weight + top + 1] += shifted
        law[: top + weight + 1] *= 0.5
        top += weight
    least = max(0, -((-(statistic + total)) // 2))
    return min(0.0, math.log10(float(law[least:].sum())))
