"""Many simulated audits at once: innocent suspects of several habits, and the e-process read off a table.

The table holds what :class:`verification.bets.Mixture` says for every count of hits and misses, so the path of each
audit is the one that the audit itself works out, trigger by trigger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verification.bets import mixture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from verification.bets import Prior

CHUNK = 10_000
HABITS = ("uniform", "constant", "biased", "sticky", "learning")
"""Answers drawn evenly; always the same; nine in ten the same; the last one again nine times in ten; and one that
answers with the target of the trigger before, whether or not anybody told it."""


def null_matches(
    habit: str, audits: int, answers: int, *, classes: int, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """``[audits, answers]``: whether an innocent suspect's answer is the target that the key drew."""
    targets = draw.integers(0, classes, (audits, answers), dtype=np.int8)
    if habit == "learning":
        said = np.roll(targets, 1, axis=1)
        said[:, 0] = 0
        return said == targets
    fresh = draw.integers(0, classes, (audits, answers), dtype=np.int8)
    if habit == "constant":
        fresh[:] = 0
    if habit in ("biased", "sticky"):
        stays = draw.random((audits, answers)) < 0.9
        if habit == "biased":
            fresh[stays] = 0
        else:
            since = np.maximum.accumulate(np.where(stays, 0, np.arange(answers)), axis=1)
            fresh = np.take_along_axis(fresh, since, axis=1)
    return fresh == targets


def worth_table(prior: Prior, chance: float, trials: int) -> NDArray[np.float64]:
    """log10 E after ``[hits, misses]``, up to ``trials`` of both together."""
    bets, table = mixture(prior, chance), np.full((trials + 1, trials + 1), -np.inf)
    for hits in range(trials + 1):
        for misses in range(trials + 1 - hits):
            table[hits, misses] = bets.log10_worth(hits, misses)
    return table


def keyed_paths(matches: NDArray[np.bool_], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """log10 E of every audit after every answer."""
    hits = np.cumsum(matches, axis=1)
    return table[hits, np.arange(1, matches.shape[1] + 1) - hits]


def pair_paths(
    trigger: NDArray[np.bool_], reference: NDArray[np.bool_], table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """log10 E of every audit after every pair."""
    return table[np.cumsum(trigger & ~reference, axis=1), np.cumsum(reference & ~trigger, axis=1)]


def reached(paths: NDArray[np.float64], log10_bar: float) -> NDArray[np.int64]:
    """After how many trials each path first reaches the bar; one more than there are where it does not."""
    over = paths >= log10_bar
    return np.where(over.any(axis=1), over.argmax(axis=1) + 1, paths.shape[1] + 1)
