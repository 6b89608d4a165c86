"""Tails in integers, fractions and long decimals: slow, and right at any depth."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

DIGITS = 300


def log10_binomial(trials: int, p: Fraction) -> NDArray[np.float64]:
    """log10 P(X >= k), for every k."""
    yes, no = p.numerator, p.denominator - p.numerator
    ways = np.array([math.comb(trials, k) * yes**k * no ** (trials - k) for k in range(trials + 1)], object)
    return _log10_tails(ways) - trials * math.log10(p.denominator)


def log10_weighted(weights: Iterable[int], p: Fraction) -> NDArray[np.float64]:
    """log10 P(sum >= s), for every s, where each weight counts with probability ``p``."""
    return next(log10_repeated([*weights], p, [1]))


def log10_repeated(weights: list[int], p: Fraction, repeats: list[int]) -> Iterator[NDArray[np.float64]]:
    """The same for the sum of n such sums, for every n of ``repeats`` (ascending)."""
    yes, no = p.numerator, p.denominator - p.numerator
    ways = np.array([1], object)
    for n in range(1, repeats[-1] + 1):
        for weight in weights:
            more = np.zeros(len(ways) + weight, object)
            more[: len(ways)] += no * ways
            more[weight:] += yes * ways
            ways = more
        if n in repeats:
            yield _log10_tails(ways) - n * len(weights) * math.log10(p.denominator)


def log10_gamma(x: Fraction, shape: int) -> float:
    """log10 P(Gamma(shape, 1) >= x) by its finite sum."""
    return _log10([(_exponential_sum(x, shape)[-1], x)])


def log10_two_gammas(x: Fraction, shape: int, a: Fraction, b: Fraction) -> float:
    """log10 P(a · Gamma(shape, 1) + b · Gamma(shape, 1) >= x), a ≠ b, by partial fractions."""
    parts = []
    for rate, other in ((1 / a, 1 / b), (1 / b, 1 / a)):
        sums = _exponential_sum(rate * x, shape)
        poles = (
            (rate * other) ** shape * (-1) ** i * math.comb(shape + i - 1, i) / (other - rate) ** (shape + i)
            / rate ** (shape - i) * sums[shape - i - 1]
            for i in range(shape)
        )  # fmt: skip
        parts.append((sum(poles, Fraction(0)), rate * x))
    return _log10(parts)


def _log10_tails(ways: NDArray[np.object_]) -> NDArray[np.float64]:
    return np.array([math.log10(tail) for tail in np.cumsum(ways[::-1])[::-1]])


def _exponential_sum(x: Fraction, terms: int) -> list[Fraction]:
    """Σ_{k<n} xᵏ/k! for n = 1 … terms."""
    term, total, sums = Fraction(1), Fraction(0), []
    for k in range(terms):
        total += term
        sums.append(total)
        term *= x / (k + 1)
    return sums


def _log10(parts: list[tuple[Fraction, Fraction]]) -> float:
    """log10 Σ factor · e^-exponent."""
    with localcontext() as context:
        context.prec = DIGITS
        return float(sum((_decimal(f) * (-_decimal(e)).exp() for f, e in parts), Decimal(0)).log10())


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
