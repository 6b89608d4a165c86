"""Exact tails of the schemes' laws, for many texts at once, in log space.

No normal approximation. Where a tail is found by inverting a characteristic function, the distribution is first tilted
so that the observed sum is its mean: the integral then has the tail's own size, and its relative error stays near
rounding however small the tail is. What is returned is never below that value by more than one part in 10⁹.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from countermark.errors import InconclusiveError, UsageError
from verification.statistics import log10_binomial_tail
from watermarks.schemes import BinomialLaw, CountLaw, GammaLaw, LatticeLaw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermarks.schemes.laws import Law

LN10 = math.log(10.0)
TINY = 1e-290
"""Below this a library tail may have lost digits: the log-space route takes over."""
_SAFETY = 1e-9
_SMALL = 24
"""Up to so many inputs a lattice law is convolved directly: sums of positive terms, exact at any depth."""
_GAUSS = 9.0
"""Inverse standard deviations beyond which a sum of many different weights has no frequency left (e^-40)."""
_DIFFERENT = 8
"""So many different weights it takes for that; a lattice of fewer is integrated over all frequencies."""
_CONVOLVED = 1024
"""Up to so many inputs a count law is convolved directly."""
_FAR = 10.0
_FAITHFUL = 1e-5
"""An integral below this has lost digits: the Chernoff bound, which is the factor before it, stands alone."""
_WIDE = 30.0
"""Standard deviation, in lattice steps, from which on that holds."""
_STEEPEST = 32.0
"""Tilt at which the smallest weight is missed with probability e^-32."""
_WINDOW = 40.0
"""Standard deviations of the tilted sum that the frequency grid keeps apart."""


def log10_tails(
    law: Law, totals: NDArray[np.int64], scored: NDArray[np.int64], counts: Sequence[NDArray[np.int64]] = ()
) -> NDArray[np.float64]:
    """log10 P(sum >= total) of each text, if the key is unrelated to it.

    Args:
        law: the statistic's law.
        totals: observed sums, ``[T]``.
        scored: how many PRF inputs were counted, ``[T]``; 0 is no evidence and an error.
        counts: for :class:`CountLaw`, the counts of the inputs of each text.

    Raises:
        InconclusiveError: a text without a counted input.
    """
    if not np.all(scored > 0):
        raise InconclusiveError("got 0 counted inputs, expected at least one", hint="the text is too short to say")
    match law:
        case BinomialLaw():
            logs = _binomial(totals, scored * law.trials, law.p)
        case GammaLaw(scales=(1.0,)):
            logs = _gamma(np.asarray(totals * law.unit, np.float64), scored)
        case GammaLaw(scales=(a, b)):
            logs = _mixed_gamma(np.asarray(totals * law.unit, np.float64), scored, (a, b))
        case GammaLaw():
            raise NotImplementedError(f"a law of {len(law.scales)} scales")
        case LatticeLaw():
            logs = _lattice(totals, scored, law)
        case CountLaw():
            logs = _by_text(totals, law, counts)
    return np.minimum(logs / LN10, 0.0)


@lru_cache(maxsize=4096)
def log10_floor(law: Law, scored: int) -> float:
    """The smallest log10 p that so many inputs can reach, if every one of them speaks for the mark."""
    if scored == 0:
        return 0.0
    match law:
        case BinomialLaw():
            return scored * law.trials * math.log10(law.p)
        case LatticeLaw():
            return scored * len(law.weights) * math.log10(law.p)
        case CountLaw():
            return scored * math.log10(law.p)
        case GammaLaw():
            most = int(scored * sum(law.scales) * 32.0 * math.log(2.0) / law.unit)
            return float(log10_tails(law, np.array([most]), np.array([scored]))[0])


def _binomial(totals: NDArray[np.int64], trials: NDArray[np.int64], p: float) -> NDArray[np.float64]:
    none = totals <= 0
    tail = np.where(none, 1.0, special.betainc(np.maximum(totals, 1), np.maximum(trials - totals + 1, 1), p))
    with np.errstate(divide="ignore"):
        logs = np.log(tail)
    for i in np.flatnonzero(tail < TINY):
        logs[i] = log10_binomial_tail(int(totals[i]), int(trials[i]), p) * LN10
    return logs


def _gamma(sums: NDArray[np.float64], shape: NDArray[np.int64]) -> NDArray[np.float64]:
    tail = special.gammaincc(shape, sums)
    with np.errstate(divide="ignore"):
        logs: NDArray[np.float64] = np.log(tail)
    deep = np.flatnonzero(tail < TINY)
    if len(deep):  # an integer shape: the tail is e^-x times a finite sum, which falls geometrically from its end
        x, last = sums[deep], shape[deep] - 1
        terms = np.minimum(last + 1, (50.0 / np.log(x / np.maximum(last, 1))).astype(np.int64) + 2)
        k = last[:, None] - np.arange(int(terms.max()))
        with np.errstate(invalid="ignore"):
            log_terms = np.where(k >= 0, k * np.log(x)[:, None] - special.gammaln(np.maximum(k, 0) + 1), -np.inf)
        logs[deep] = special.logsumexp(log_terms, axis=-1) - x + _SAFETY
    return logs


def _mixed_gamma(
    sums: NDArray[np.float64], shape: NDArray[np.int64], scales: tuple[float, float]
) -> NDArray[np.float64]:
    """A · Gamma(n, 1) + b · Gamma(n, 1) is R · (a u + b (1 - u)) with R ~ Gamma(2n, 1) and u ~ Beta(n, n), so its tail
    is the mean over u of a Gamma tail: an integral of positive terms, by Gauss-Legendre where the integrand lives.
    """
    a, b = scales
    x, n = sums[:, None], shape[:, None]

    def log_integrand(u: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = _gamma((x / (a * u + b * (1 - u))).ravel(), np.broadcast_to(2 * n, u.shape).ravel())
        log_beta: NDArray[np.float64] = (n - 1) * (np.log(u) + np.log1p(-u)) - special.betaln(n, n)
        return flat.reshape(u.shape) + log_beta

    low, high = np.zeros(x.shape), np.ones(x.shape)
    grid = (np.arange(32) + 0.5) / 32
    for _ in range(8):  # close in on where the integrand is more than e^-40 of its peak
        u = low + (high - low) * grid
        alive = (logs := log_integrand(u)) > logs.max(-1, keepdims=True) - 40.0
        step, before = (high - low) / 32, high - low
        low = np.maximum(low, np.where(alive, u, 2.0).min(-1, keepdims=True) - step)
        high = np.minimum(high, np.where(alive, u, -1.0).max(-1, keepdims=True) + step)
        if np.all(high - low > 0.5 * before):
            break
    nodes, weights = np.polynomial.legendre.leggauss(96)
    inside = log_integrand(low + (high - low) * (nodes + 1) / 2)
    tail: NDArray[np.float64] = special.logsumexp(inside, b=weights * (high - low) / 2, axis=-1) + _SAFETY
    return tail


def _by_text(totals: NDArray[np.int64], law: CountLaw, counts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Sums of texts that have their own counts; many keys tried on one text share its array."""
    if len(counts) != len(totals):
        raise UsageError(f"got counts of {len(counts)} texts for {len(totals)} sums, expected one each")
    logs = np.empty(len(totals))
    same: dict[int, list[int]] = {}
    for i, each in enumerate(counts):
        same.setdefault(id(each), []).append(i)
    for members in same.values():
        logs[members] = _counted(totals[members], law, counts[members[0]])
    return logs


def _counted(totals: NDArray[np.int64], law: CountLaw, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """One text, many sums; over all frequencies for the many inputs of a corpus, and where a convolution underflows."""
    values, repeats = np.unique(law.weight(counts), return_counts=True)
    logs = np.full(len(totals), -np.inf)
    if len(counts) <= _CONVOLVED:
        table = _count_table(law, tuple(values.tolist()), tuple(repeats.tolist()))
        inside = totals < len(table)
        logs[inside] = table[np.maximum(totals[inside], 0)]
    deep = np.flatnonzero(logs <= math.log(TINY))
    for part in np.array_split(deep, max(1, len(deep) // 64)):
        logs[part] = _weighted(totals[part], np.tile(repeats, (len(part), 1)), values, law.p, reach=math.inf)
    return logs


@lru_cache(maxsize=16)
def _count_table(law: CountLaw, values: tuple[int, ...], repeats: tuple[int, ...]) -> NDArray[np.float64]:
    """Ln P(sum >= s) for every s, by direct convolution; the same for every key that is tried on a text."""
    pmf = np.zeros(sum(v * r for v, r in zip(values, repeats, strict=True)) + 1)
    pmf[0], top = 1.0, 0
    for weight in np.repeat(values, repeats):
        top += int(weight)
        pmf[weight : top + 1] = (1 - law.p) * pmf[weight : top + 1] + law.p * pmf[: top + 1 - weight]
        pmf[:weight] *= 1 - law.p
    with np.errstate(divide="ignore"):
        return np.log(np.cumsum(pmf[::-1])[::-1]) + _SAFETY


def _lattice(totals: NDArray[np.int64], scored: NDArray[np.int64], law: LatticeLaw) -> NDArray[np.float64]:
    values, repeats = np.unique(np.array(law.weights), return_counts=True)
    reach = _GAUSS if len(values) >= _DIFFERENT else math.inf
    pairs, where = np.unique(np.stack([totals, scored]), axis=1, return_inverse=True)
    sums, n = pairs
    logs = np.empty(len(sums))
    for i in np.flatnonzero(n <= _SMALL):
        logs[i] = _lattice_table(law, int(n[i]))[max(0, int(sums[i]))]
    many = np.flatnonzero(n > _SMALL)
    for part in np.array_split(many, max(1, len(many) // 256)):
        logs[part] = _weighted(sums[part], n[part][:, None] * repeats, values, law.p, reach=reach)
    return logs[where.reshape(-1)]


@lru_cache(maxsize=256)
def _lattice_table(law: LatticeLaw, scored: int) -> NDArray[np.float64]:
    """Ln P(sum >= s) for every s, by direct convolution."""
    pmf = np.ones(1)
    for weight, repeats in zip(*np.unique(np.array(law.weights), return_counts=True), strict=True):
        n = scored * int(repeats)
        k = np.arange(n + 1)
        spaced = np.zeros(n * int(weight) + 1)
        spaced[:: int(weight)] = np.exp(
            special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
            + k * math.log(law.p) + (n - k) * math.log1p(-law.p)
        )  # fmt: skip
        pmf = np.convolve(pmf, spaced)
    return np.log(np.cumsum(pmf[::-1])[::-1]) + _SAFETY


def _weighted(
    totals: NDArray[np.int64], trials: NDArray[np.int64], values: NDArray[np.int64], p: float, *, reach: float
) -> NDArray[np.float64]:
    """Ln P(Σ_v v · Binomial(trials_v, p) >= total) for totals ``[T]``, trials ``[T, W]`` and values ``[W]``.

    With z = theta + i omega and the cumulant K, the tail is exp(K(theta) - theta x) times the mean over omega in
    (-pi, pi) of exp(K(z) - K(theta) - i omega x) / (1 - e^-z). Frequencies are taken at the midpoints of a grid, up
    to ``reach`` inverse standard deviations of the tilted sum.
    """
    common = int(np.gcd.reduce(values))
    values, totals = values // common, -(-totals // common)
    logs = np.zeros(len(totals))
    most = trials @ values
    full = totals >= most
    logs[full] = np.where(totals[full] > most[full], -np.inf, trials[full].sum(-1) * math.log(p))
    deviation = np.sqrt((trials * values**2).sum(-1) * p * (1 - p))
    inner = np.flatnonzero(~full & (totals > most * p - _FAR * deviation))  # further below the tail is 1
    if not len(inner):
        return logs
    x, n = totals[inner].astype(float), trials[inner]
    theta = np.maximum(_saddle(x, n, values, p), 1.0 / deviation[inner])
    q = special.expit(values * theta[:, None] + math.log(p / (1 - p)))
    spread = np.sqrt((n * values**2 * q * (1 - q)).sum(-1))
    step = math.pi / np.ceil(np.maximum(_WINDOW * spread, 64.0) / 2)  # an even part of the period
    furthest = np.where(spread > _WIDE, reach, math.inf) / spread
    count = int(np.ceil(np.minimum(furthest, math.pi) / step - 1e-9).max())
    omega = step[:, None] * (np.arange(count) + 0.5)
    angle = omega[..., None] * values
    log_phi = (n[:, None, :] * np.log1p(q[:, None, :] * np.expm1(1j * angle))).sum(-1)
    terms = np.exp(log_phi - 1j * omega * x[:, None]) / -np.expm1(-(theta[:, None] + 1j * omega))
    integral = (terms.real * (omega < math.pi)).sum(-1) * step / math.pi
    peak = (n * np.logaddexp(math.log1p(-p), math.log(p) + values * theta[:, None])).sum(-1) - theta * x
    logs[inner] = peak + np.where(integral > _FAITHFUL, np.log(np.maximum(integral, _FAITHFUL)), 0.0) + _SAFETY
    return logs


def _saddle(x: NDArray[np.float64], n: NDArray[np.int64], values: NDArray[np.int64], p: float) -> NDArray[np.float64]:
    """The tilt whose mean is x, by bisection; 0 where x is below the mean."""
    low, high = np.zeros(len(x)), np.full(len(x), 1.0)

    def mean(t: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (n * values * special.expit(values * t[:, None] + math.log(p / (1 - p)))).sum(-1)
        return found

    while np.any(short := mean(high) < x) and high.max() < _STEEPEST:
        high = np.where(short, 2 * high, high)
    for _ in range(40):
        middle = (low + high) / 2
        short = mean(middle) < x
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return low
