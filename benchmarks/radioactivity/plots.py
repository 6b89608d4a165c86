"""``docs/results/radioactivity.svg``: marked students by mode, and the p-values of clean ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.plots import ACCENT, INK, bars, chosen, figure, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.rows import Row


def draw(rows: Sequence[Row], null: Sequence[float]) -> Path:
    """``null`` are p-values of clean students under keys that have nothing to do with them."""
    drawn, axes = figure(2)
    left, right = axes[0]
    bars(left, chosen(rows, "", ": log10 p"), line=-4.0, title="students of marked text, by mode and statistic")
    ordered = sorted(null)
    right.plot([(i + 1) / len(ordered) for i in range(len(ordered))], ordered, color=INK, linewidth=1.2)
    right.plot([0, 1], [0, 1], color=ACCENT, linewidth=1.0)
    right.set_xlabel("share of clean students and keys")
    right.set_ylabel("p-value (below the line: too small too often)")
    right.set_title("clean students", loc="left", fontsize=9)
    return save(drawn, "radioactivity")
