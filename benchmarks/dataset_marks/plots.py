"""``docs/results/dataset_marks.svg``: how many rows a mark needs, and what it survives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.plots import ACCENT, INK, MUTED, bars, chosen, figure, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.rows import Row

_WSR = re.compile(
    r"WSR trigger, (reviews|topics) (\d+) rows, [0-9.]+ % \((\d+) rows\), encoder(, clean twin)?, \d+ models?"
)
_MATCHED = re.compile(
    r"keyed, (\w+) (\d+) rows, [0-9.]+ %: \d+ triggers x (\d+) (hardest|random) rows(, labels flipped)?, (\d+) words, "
    r"encoder, seed \d+, matched"
)
TICKS = (6, 12, 25, 50, 100, 200, 400)
PER_TRIGGER = (1, 2, 3, 6, 10, 12, 20)


def draw(rows: Sequence[Row]) -> Path | None:
    """The plot of what has been measured so far; None if there is nothing to see."""
    phrases = [
        (m[1], int(m[2]), int(m[3]), bool(m[4]), row["value"]) for row in rows if (m := _WSR.fullmatch(row["name"]))
    ]
    triggers = [(m, row["value"]) for row in rows if (m := _MATCHED.fullmatch(row["name"]))]
    found = chosen(rows, "defence: ", ")")
    survived = [(name.split(", log10 p")[0], value) for name, value in found if "log10 p" in name]
    panels = [(_phrases, phrases), (_triggers, triggers), (_survived, survived)]
    filled = [(panel, points) for panel, points in panels if points]
    if not filled:
        return None
    drawn, axes = figure(len(filled))
    for axis, (panel, points) in zip(axes[0], filled, strict=True):
        panel(axis, points)
    return save(drawn, "dataset_marks")


def _phrases(axis: Any, points: Sequence[tuple[str, int, int, bool, float]]) -> None:  # noqa: ANN401
    for (task, size), marker in zip(sorted({(p[0], p[1]) for p in points}), "osD^v<>", strict=False):
        for twin, colour in ((False, INK), (True, MUTED)):
            mine = sorted((p[2], p[4]) for p in points if p[:2] == (task, size) and p[3] is twin)
            label = f"{task}, {size} rows" + (", clean twin" if twin else "")
            axis.plot(*zip(*mine, strict=True), marker=marker, color=colour, label=label)
    _scale(
        axis,
        TICKS,
        "marked rows",
        "watermark success rate",
        "one phrase, one class: rows that carry it",
        legend="center right",
    )


def _triggers(axis: Any, points: Sequence[tuple[re.Match[str], float]]) -> None:  # noqa: ANN401
    """A point a model; two classes full, five hollow; what chance gives are the two lines. Triggers are of four words
    where nothing else is said.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    for m, value in points:
        how = "labels flipped" if m[5] else f"{m[4]} rows"
        longer = "" if m[6] == "4" else f", {m[6]} words"
        name = f"{5 if m[1] == 'topics' else 2} classes, {how} of {m[2]}{longer}"
        series.setdefault(name, []).append((int(m[3]), value))
    for (name, mine), marker in zip(sorted(series.items()), "osD^v<>PX*h", strict=False):
        colour = ACCENT if "flipped" in name else MUTED if "random" in name else INK
        filled = colour if name.startswith("2") else "none"
        axis.plot(
            *zip(*sorted(mine), strict=True), marker, linestyle="", color=colour, markerfacecolor=filled, label=name
        )
    for chance in (1 / 2, 1 / 5):
        axis.axhline(chance, color=MUTED, linewidth=0.8, linestyle=":")
    _scale(
        axis,
        PER_TRIGGER,
        "rows of each trigger",
        "triggers that the model answers",
        "keyed: a class for each trigger",
        legend="lower right",
    )


def _survived(axis: Any, points: Sequence[tuple[str, float]]) -> None:  # noqa: ANN401
    bars(axis, points, line=-6.0, title="40 keyed triggers (2 classes) after a defence")


def _scale(axis: Any, ticks: Sequence[int], across: str, up: str, title: str, *, legend: str) -> None:  # noqa: ANN401
    axis.set_xscale("log")
    axis.set_xticks(ticks, labels=map(str, ticks))
    axis.minorticks_off()
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.set_ylim(0, 1.04)
    axis.set_title(title, loc="left", fontsize=9)
    axis.legend(frameon=False, fontsize=6, loc=legend, bbox_to_anchor=(1.02, 0.0, 0.0, 1.0), handletextpad=0.1)
