"""False positives of every test an audit decides by, over simulated innocent suspects, and of one that it does not use.

These simulations redraw targets, so they check the arithmetic of the tests and of their looks; that a whole audit
(derive, ask, parse, score) keeps its level is tested beside the code, with keys drawn afresh each time.
"""

from __future__ import annotations

import math
import time
import zlib
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from benchmarks.audit import COMMAND
from benchmarks.audit.simulate import CHUNK, HABITS, keyed_paths, null_matches, pair_paths, worth_table
from benchmarks.rows import Row, row
from verification.bets import default_prior
from verification.power import fisher_critical
from verification.statistics import clopper_pearson, log10_binomial_tail, log10_mcnemar

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

AUDITS = 100_000
ANSWERS = 200
FIXED_N = 60
WRONG_KEYS = 999
LEVELS = (0.05, 0.01, 0.001)
NOT_ABOVE = 1e-3
"""A rate misses its level where an exact one-sided test at this level says that it lies above."""

Draw = np.random.Generator


def rows(audits: int = AUDITS) -> list[Row]:
    """Every test's rate at every level."""
    found = []
    for classes in (2, 4):
        for habit in HABITS:
            name = f"a look after each of {ANSWERS} answers, C = {classes}, {habit} suspect"
            found += _rates(f"keyed e-process, {name}", _keyed(habit, classes), audits)
    found += _rates(f"pairs e-process, a look after each of {ANSWERS} pairs, reacting suspect", _pairs, audits)
    found += _rates(f"keyed binomial, fixed n = {FIXED_N}", _binomial, audits)
    found += _rates(f"rank among {WRONG_KEYS} wrong keys, fixed n = {FIXED_N}", _rank, audits)
    found += _rates(f"McNemar, fixed n = {FIXED_N} pairs, roles by a fair coin", _mcnemar, audits)
    found += _peeking(audits)
    return found


def _rates(name: str, log10_p: Callable[[int, Draw], NDArray[np.float64]], audits: int) -> list[Row]:
    """The share of audits whose p ever is at most each level; ``ok`` unless it lies significantly above."""
    started, draw = time.perf_counter(), np.random.default_rng([20_260_101, zlib.crc32(name.encode())])
    smallest = np.concatenate([log10_p(min(CHUNK, audits - at), draw) for at in range(0, audits, CHUNK)])
    seconds = time.perf_counter() - started
    found = []
    for alpha in LEVELS:
        false = int((smallest <= math.log10(alpha) + 1e-12).sum())
        share = clopper_pearson(false, audits)
        each = row(
            f"{name}: false positives at {alpha:g}", share.value, low=share.low, high=share.high, bar=("<=", alpha),
            trials=audits, seconds=seconds, command=COMMAND,
        )  # fmt: skip
        above = stats.binomtest(false, audits, alpha, alternative="greater").pvalue
        found.append({**each, "ok": bool(above > NOT_ABOVE)})
    return found


def _keyed(habit: str, classes: int) -> Callable[[int, Draw], NDArray[np.float64]]:
    table = worth_table(default_prior(classes), 1.0 / classes, ANSWERS)

    def smallest(audits: int, draw: Draw) -> NDArray[np.float64]:
        matches = null_matches(habit, audits, ANSWERS, classes=classes, draw=draw)
        least: NDArray[np.float64] = -keyed_paths(matches, table).max(axis=1)
        return least

    return smallest


def _pairs(audits: int, draw: Draw) -> NDArray[np.float64]:
    """The suspect answers one member of most pairs with "yes", and a fair coin says whether that was the trigger."""
    table = worth_table(default_prior(2), 0.5, ANSWERS)
    differs, coin = draw.random((audits, ANSWERS)) < 0.8, draw.random((audits, ANSWERS)) < 0.5
    least: NDArray[np.float64] = -pair_paths(differs & coin, differs & ~coin, table).max(axis=1)
    return least


def _binomial(audits: int, draw: Draw) -> NDArray[np.float64]:
    tails = np.array([log10_binomial_tail(k, FIXED_N, 0.5) for k in range(FIXED_N + 1)])
    return tails[null_matches("biased", audits, FIXED_N, classes=2, draw=draw).sum(axis=1)]


def _rank(audits: int, draw: Draw) -> NDArray[np.float64]:
    """Given the answers every wrong key's matches are a draw of their own: so many of them are at least as good."""
    matches = null_matches("biased", audits, FIXED_N, classes=2, draw=draw).sum(axis=1)
    better = draw.binomial(WRONG_KEYS, stats.binom.sf(matches - 1, FIXED_N, 0.5))
    least: NDArray[np.float64] = np.log10((1 + better) / (WRONG_KEYS + 1))
    return least


def _mcnemar(audits: int, draw: Draw) -> NDArray[np.float64]:
    differ = draw.binomial(FIXED_N, 0.8, audits)
    leans = draw.binomial(differ, 0.5)
    known = {(a, d): log10_mcnemar(a, d - a) for a, d in {*zip(leans.tolist(), differ.tolist(), strict=True)}}
    return np.array([known[pair] for pair in zip(leans.tolist(), differ.tolist(), strict=True)])


def _peeking(audits: int) -> list[Row]:
    """What happens to fixed-n tests that are looked at: no bar, this is why the e-process is there."""
    started, draw, alpha, most, step = time.perf_counter(), np.random.default_rng(7), 0.01, 200, 5
    looks = range(step, most + 1, step)
    critical = {n: fisher_critical(n, alpha=alpha) for n in looks}
    tails = [[log10_binomial_tail(k, n, 0.5) for k in range(n + 1)] for n in range(1, most + 1)]
    least = np.array([next((k for k, t in enumerate(each) if t <= math.log10(alpha)), most + 1) for each in tails])
    fisher = binomial = 0
    for at in range(0, audits, CHUNK):
        size = min(CHUNK, audits - at)
        yes = [np.cumsum(draw.random((size, most)) < 0.5, axis=1) for _ in range(2)]
        both = [(yes[0][:, n - 1], yes[0][:, n - 1] + yes[1][:, n - 1], critical[n]) for n in looks]
        fisher += int(np.any([trigger >= bars[total] for trigger, total, bars in both], axis=0).sum())
        binomial += int((yes[0] >= least).any(axis=1).sum())
    found = []
    for name, false in (
        (f"Fisher peeked at every 10 queries up to {2 * most}", fisher),
        (f"keyed binomial peeked at after each of {most} answers", binomial),
    ):
        share = clopper_pearson(false, audits)
        found.append(
            row(
                f"{name}: false positives at nominal {alpha:g}, not used", share.value, low=share.low, high=share.high,
                trials=audits, seconds=time.perf_counter() - started, command=COMMAND,
            )
        )  # fmt: skip
    return found
