"""Exact tests, intervals and corrections. Pure; logarithms are to base 10 because that is how verdicts are read.

No normal approximation anywhere: a z-score of 4 at n = 25 and gamma = .25 is a false-positive rate of 2.1e-4, not the
3.2e-5 that its table promises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats

from countermark.errors import InconclusiveError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LN10 = math.log(10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with its two-sided confidence interval."""

    value: float
    low: float
    high: float
    level: float


def log10_binomial_tail(successes: int, trials: int, p: float) -> float:
    """log10 P(X >= successes) for X ~ Binomial(trials, p), exact in log space far below the smallest double.

    Raises:
        InconclusiveError: no trials (nothing is evidence of nothing).
        UsageError: counts or p out of range.
    """
    if trials == 0:
        raise InconclusiveError("got 0 trials, expected at least one", hint="a text or probe set must not be empty")
    if not (0 <= successes <= trials and 0.0 < p < 1.0):
        raise UsageError(f"got {successes} of {trials} at p={p}, expected 0 <= successes <= trials and 0 < p < 1")
    if successes <= trials * p:  # the tail is large: one minus the small side loses nothing
        return float(np.log10(stats.binom.sf(successes - 1, trials, p)))
    k = np.arange(successes, trials + 1)
    log_pmf = (
        special.gammaln(trials + 1) - special.gammaln(k + 1) - special.gammaln(trials - k + 1)
        + k * math.log(p) + (trials - k) * math.log1p(-p)
    )  # fmt: skip
    return min(0.0, float(special.logsumexp(log_pmf)) / _LN10)


def clopper_pearson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """The exact two-sided interval of a binomial share."""
    if trials == 0:
        raise InconclusiveError("got 0 trials, expected at least one")
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="exact")
    return Interval(value=successes / trials, low=float(interval.low), high=float(interval.high), level=level)


def grouped_share(groups: Sequence[Sequence[bool]], *, level: float = 0.95) -> Interval:
    """The share of hits over all groups, with the Clopper-Pearson interval of as many draws as there are groups.

    Answers of one group (the carriers of one trigger) lean together, so a group is one draw however many it holds;
    groups of unequal size are worth fewer (Kish's effective number). Of a single group each answer is a draw.

    Raises:
        InconclusiveError: nothing was counted.
    """
    hits, trials = sum(map(sum, groups)), sum(map(len, groups))
    if trials == 0:
        raise InconclusiveError("got 0 trials, expected at least one")
    several = sum(map(bool, groups)) > 1
    draws = trials**2 / sum(len(group) ** 2 for group in groups) if several else trials
    value, tail = hits / trials, (1.0 - level) / 2
    low = float(stats.beta.ppf(tail, value * draws, draws - value * draws + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1.0 - tail, value * draws + 1, draws - value * draws)) if hits < trials else 1.0
    return Interval(value=value, low=low, high=high, level=level)


def log10_e_value(successes: int, trials: int, p: float) -> float:
    """log10 of the e-value that bets on a match rate uniform over (p, 1); a test martingale, valid at any look.

    ``E = ∫ (q/p)^k ((1-q)/(1-p))^(n-k) dq / (1-p)`` over q in (p, 1). Its mean is at most 1 whenever every match has
    conditional probability at most p, and P(E >= 1/alpha) <= alpha (Ville).
    """
    if trials == 0:
        return 0.0
    a, b = successes + 1, trials - successes + 1
    # the Beta(a, b) tail above p is a binomial tail, which does not underflow
    tail = log10_binomial_tail(b, trials + 1, 1.0 - p) * _LN10
    log_e = (
        special.betaln(a, b) + tail - math.log1p(-p) - successes * math.log(p) - (trials - successes) * math.log1p(-p)
    )
    return float(log_e) / _LN10


def log10_calibrated_e(log10_p: float) -> float:
    """log10 of the e-value ``1 / (2 sqrt(p))``, for statistics whose alternative has no simple bet.

    Its mean is at most 1 for any valid p (a calibrator; Vovk and Wang, 2021). It gives away half the digits of p.
    """
    return -0.5 * log10_p - math.log10(2.0)


def log10_fisher(table: Sequence[Sequence[int]]) -> float:
    """log10 of the one-sided Fisher exact p of ``[[trigger yes, trigger no], [reference yes, reference no]]``.

    It tests whether *this model* reacts to the trigger, which an innocent model may do: never a false-positive bound.
    """
    (a, b), (c, d) = table
    if a + b == 0 or c + d == 0:
        raise InconclusiveError("got an empty arm, expected trigger and reference answers")
    support = np.arange(a, min(a + c, a + b) + 1)
    log_pmf = stats.hypergeom.logpmf(support, a + b + c + d, a + c, a + b)
    return min(0.0, float(special.logsumexp(log_pmf)) / _LN10)


def log10_mcnemar(for_trigger: int, for_reference: int) -> float:
    """log10 of the one-sided exact McNemar p: of the pairs whose two members differ, how many lean to the trigger.

    Like Fisher's it is about *this model's* reaction, never a false-positive bound. No discordant pair: p = 1.
    """
    discordant = for_trigger + for_reference
    return log10_binomial_tail(for_trigger, discordant, 0.5) if discordant else 0.0


def holm(log10_p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in log10; keeps the family-wise error over the whole list."""
    order = sorted(range(len(log10_p)), key=lambda i: log10_p[i])
    adjusted = [0.0] * len(log10_p)
    running = -math.inf
    for rank, index in enumerate(order):
        running = max(running, log10_p[index] + math.log10(len(log10_p) - rank))
        adjusted[index] = min(0.0, running)
    return adjusted


def rank_p(claim: float, others: Sequence[float]) -> float:
    """(1 + #{others >= claim}) / (M + 1): exact if the claim's key is exchangeable with the others."""
    if not others:
        raise InconclusiveError("got no wrong keys, expected at least one")
    return (1 + sum(other >= claim for other in others)) / (len(others) + 1)


def zero_events_upper_bound(trials: int, *, level: float = 0.95) -> float:
    """What "none in N" proves: the exact upper confidence bound of the rate, never "0 %"."""
    if trials < 1:
        raise InconclusiveError("got 0 trials, expected at least one")
    return float(1.0 - (1.0 - level) ** (1.0 / trials))
