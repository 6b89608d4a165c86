"""Plots of results for ``docs/results/``: one look for all, the same bytes for the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rows import Row

FOLDER = Path(__file__).parents[1] / "docs" / "results"
INK, MUTED, ACCENT = "#1b1f24", "#8a929c", "#b4472e"


def figure(columns: int = 1, height: float = 3.6) -> tuple[Any, Any]:
    """An empty figure with ``columns`` axes."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update(
        {
            "svg.hashsalt": "countermark", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
            "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": MUTED, "text.color": INK,
        }
    )  # fmt: skip
    return plt.subplots(1, columns, figsize=(5.2 * columns, height), layout="constrained", squeeze=False)


def save(drawn: Any, name: str) -> Path:  # noqa: ANN401 - a matplotlib figure
    """Writes ``docs/results/NAME.svg``."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.svg"
    drawn.savefig(path, metadata={"Date": None})
    return path


def bars(axis: Any, rows: Sequence[tuple[str, float]], *, line: float, title: str) -> None:  # noqa: ANN401
    """Horizontal bars of log10 p, the strongest longest, with the level that must be reached."""
    names, values = [name for name, _ in rows][::-1], [-value for _, value in rows][::-1]
    colours = [INK if value >= -line else MUTED for value in values]
    axis.barh(names, values, color=colours, height=0.62)
    axis.axvline(-line, color=ACCENT, linewidth=1.2)
    axis.set_xlabel("-log10 p")
    axis.set_title(title, loc="left", fontsize=9)


def chosen(rows: Sequence[Row], prefix: str, suffix: str) -> list[tuple[str, float]]:
    """(what stands between prefix and suffix, value) of the rows whose names have both."""
    return [
        (row["name"][len(prefix) : len(row["name"]) - len(suffix)], row["value"])
        for row in rows
        if row["name"].startswith(prefix) and row["name"].endswith(suffix)
    ]
