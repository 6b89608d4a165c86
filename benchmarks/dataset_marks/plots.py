"""``docs/results/dataset_marks.svg``: how many rows a mark needs, and what it survives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks.plots import INK, MUTED, bars, chosen, figure, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.rows import Row

_WSR = re.compile(
    r"WSR trigger, (reviews|topics) (\d+) rows, [0-9.]+ % \((\d+) rows\), encoder(, clean twin)?, \d+ models?"
)

TICKS = (6, 12, 25, 50, 100, 200, 400)


def draw(rows: Sequence[Row]) -> Path | None:
    """The plot of what has been measured so far; None if there is nothing to see."""
    points = [
        (m[1], int(m[2]), int(m[3]), bool(m[4]), row["value"]) for row in rows if (m := _WSR.fullmatch(row["name"]))
    ]
    found = chosen(rows, "defence: ", ")")
    survived = [(name.split(", log10 p")[0], value) for name, value in found if "log10 p" in name]
    if not points and not survived:
        return None
    drawn, axes = figure(1 + bool(survived))
    left = axes[0][0]
    for (task, size), marker in zip(sorted({(p[0], p[1]) for p in points}), "osD^v<>", strict=False):
        for twin, colour in ((False, INK), (True, MUTED)):
            mine = sorted((p[2], p[4]) for p in points if p[:2] == (task, size) and p[3] is twin)
            label = f"{task}, {size} rows" + (", clean twin" if twin else "")
            left.plot(*zip(*mine, strict=True), marker=marker, color=colour, label=label)
    left.set_xscale("log")
    left.set_xticks(TICKS, labels=map(str, TICKS))
    left.minorticks_off()
    left.set_xlabel("marked rows")
    left.set_ylabel("watermark success rate")
    left.set_ylim(0, 1.02)
    left.set_title("one phrase, one class: rows that carry it", loc="left", fontsize=9)
    left.legend(frameon=False, fontsize=7)
    if survived:
        bars(axes[0][1], survived, line=-6.0, title="40 keyed triggers (2 classes) after a defence")
    return save(drawn, "dataset_marks")
