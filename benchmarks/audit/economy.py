"""What an audit costs in answers: where the e-process stops, beside fixed-n tests of equal power."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from benchmarks.audit import COMMAND
from benchmarks.audit.simulate import CHUNK, keyed_paths, pair_paths, reached, worth_table
from benchmarks.rows import Row, row
from verification.power import binomial_needed, fisher_needed, pair_stopping_law, quantile, stopping_law
from verification.sequential import DEFAULT_PRIOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RUNS = 100_000
ALPHA, BAR = 1e-6, 6.0
POWER = 0.95
MOST = 250
STRENGTHS = (0.99, 0.95, 0.9, 0.8, 0.7, 0.65, 0.6, 0.55)
PAIRS = ((0.99, 0.5), (0.95, 0.5), (0.9, 0.3), (0.8, 0.5))
_PAIRS_MOST = 1_000


def rows(runs: int = RUNS) -> list[Row]:
    """Simulated where there is a bar; all else from the exact law of the stop."""
    return [*simulated(runs), *_keyed_table(), *_pair_table()]


def simulated(runs: int) -> list[Row]:
    """The rows that have a bar."""
    table = worth_table(DEFAULT_PRIOR, 0.5, MOST)

    def keyed(size: int, draw: np.random.Generator) -> NDArray[np.float64]:
        return keyed_paths(draw.random((size, MOST)) < 0.95, table)

    def pairs(size: int, draw: np.random.Generator) -> NDArray[np.float64]:
        return pair_paths(draw.random((size, MOST)) < 0.95, draw.random((size, MOST)) < 0.5, table)

    what = f"alpha {ALPHA:g}"
    return [
        *_simulated(f"keyed e-process, strength .95, {what}: answers to the stop", keyed, runs, (30, None)),
        *_simulated(f"pairs e-process, rates .95/.50, {what}: pairs to the stop", pairs, runs, (60, 95)),
    ]


def _simulated(
    name: str,
    paths: Callable[[int, np.random.Generator], NDArray[np.float64]],
    runs: int,
    bars: tuple[int | None, int | None],
) -> list[Row]:
    """Median and 95 % quantile with distribution-free 95 % intervals (order statistics)."""
    started, draw = time.perf_counter(), np.random.default_rng(20_260_102)
    stops = np.sort(np.concatenate([reached(paths(min(CHUNK, runs - at), draw), BAR) for at in range(0, runs, CHUNK)]))
    found = []
    for share, bar in zip((0.5, 0.95), bars, strict=True):
        low, middle, high = (
            stops[min(runs - 1, int(i))]
            for i in (stats.binom.ppf(0.025, runs, share), runs * share, stats.binom.ppf(0.975, runs, share))
        )
        found.append(
            row(
                f"{name}, {_share(share)}, {runs} simulated", float(middle), low=float(low), high=float(high),
                bar=None if bar is None else ("<=", bar), trials=runs, seconds=time.perf_counter() - started,
                command=COMMAND,
            )
        )  # fmt: skip
    return found


def _keyed_table() -> list[Row]:
    found = []
    for strength in STRENGTHS:
        started = time.perf_counter()
        law = stopping_law(strength, DEFAULT_PRIOR, chance=0.5, log10_bar=BAR)
        fixed = binomial_needed(strength, chance=0.5, alpha=ALPHA, power=POWER)
        found += _exact(f"strength {strength:g}, alpha {ALPHA:g}: answers", law, "keyed binomial", fixed, started)
    return found


def _pair_table() -> list[Row]:
    found = []
    for trigger, reference in PAIRS:
        started = time.perf_counter()
        law = pair_stopping_law(trigger, reference, DEFAULT_PRIOR, log10_bar=BAR, most=_PAIRS_MOST)
        fixed = fisher_needed(trigger, reference, alpha=ALPHA, power=POWER)
        name = f"rates {trigger:g}/{reference:g}, alpha {ALPHA:g}: pairs"
        found += _exact(name, law, "Fisher", fixed, started)
    return found


def _exact(name: str, law: NDArray[np.float64], test: str, fixed: int | None, started: float) -> list[Row]:
    figures = [(f"e-process, {_share(share)}", quantile(law, share)) for share in (0.5, POWER)]
    figures.append((f"{test} at fixed n for power {POWER:g}", fixed))
    return [
        row(
            f"{name}, {what} (exact law)", float(value), trials=1, seconds=time.perf_counter() - started,
            command=COMMAND,
        )
        for what, value in figures
        if value is not None
    ]  # fmt: skip


def _share(share: float) -> str:
    return "median" if share == 0.5 else f"{share:.0%} quantile"
