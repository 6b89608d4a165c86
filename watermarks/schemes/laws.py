"""The exact laws of a statistic when the key has nothing to do with the text. Values only; the tails are computed in
:mod:`verification.tails`.

Every statistic is an integer (logarithms are rounded down to a fixed point), so that its sum depends on no order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TWO32 = 1 << 32
_COUNT_SCALE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BinomialLaw:
    """The sum over n distinct PRF inputs is Binomial(``trials`` · n, ``p``)."""

    p: float
    trials: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeLaw:
    """The sum over n distinct PRF inputs is the sum over weights of weight · Binomial(n, ``p``)."""

    p: float
    weights: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountLaw:
    """The sum over distinct PRF inputs of ``weight(count)`` · Bernoulli(``p``).

    Given the text the weights are fixed numbers, whatever function of the count they are: the law stays exact.
    """

    p: float

    @staticmethod
    def weight(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """floor(4 · √count): an input that came up often says more, but not in proportion."""
        return np.sqrt(counts * _COUNT_SCALE).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class GammaLaw:
    """``unit`` times the sum over n distinct PRF inputs is stochastically at most Σ_j ``scales[j]`` · Gamma(n, 1)."""

    unit: float
    scales: tuple[float, ...] = (1.0,)


Law = BinomialLaw | LatticeLaw | CountLaw | GammaLaw
