"""``docs/results/double_i.svg``: what the mark survives, and how much of a set it needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks.plots import ACCENT, INK, MUTED, bars, chosen, figure, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.rows import Row

_SHARE = re.compile(r"share ([0-9.]+) % (lora|full): .*, matched")


def draw(rows: Sequence[Row]) -> Path | None:
    """The plot of what has been measured so far; None if there is nothing to see."""
    changes = chosen(rows, "robustness: ", ", log10 p")
    curve = [(m[2], float(m[1]), row) for row in rows if (m := _SHARE.fullmatch(row["name"]))]
    if not changes and not curve:
        return None
    drawn, axes = figure(1 + bool(curve))
    left, right = axes[0][0], axes[0][-1]
    if changes:
        bars(left, changes, line=-6.0, title="20 codewords (C = 4) after a change of the model")
    if not curve:
        return save(drawn, "double_i")
    for method, colour in (("lora", INK), ("full", MUTED)):
        points = sorted((share, row["value"], row["low"], row["high"]) for kind, share, row in curve if kind == method)
        if points:
            x, y, low, high = zip(*points, strict=True)
            right.plot(x, y, marker="o", color=colour, label={"lora": "LoRA", "full": "full"}[method])
            right.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    right.axhline(0.25, color=ACCENT, linewidth=1.2)
    right.set_xscale("log")
    right.set_xlabel("backdoor rows, % of the set (three epochs)")
    right.set_ylabel("codewords matched")
    right.set_ylim(0, 1.02)
    right.set_title("share of backdoor rows; the line is chance", loc="left", fontsize=9)
    right.legend(frameon=False)
    return save(drawn, "double_i")
