"""The one form of a result: a row a figure, in ``benchmarks/results/AREA.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.files import atomic_write, make_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def row(
    name: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    bar: tuple[str, float] | None = None,
    trials: int,
    seconds: float,
    command: str,
) -> Row:
    """A figure with its interval (or range) and, where there is one, the bar it has to reach."""
    met = None if bar is None else {">=": value >= bar[1], "<=": value <= bar[1], "==": value == bar[1]}[bar[0]]
    return {
        "name": name,
        "value": _short(value),
        "low": None if low is None else _short(low),
        "high": None if high is None else _short(high),
        "bar": None if bar is None else {"op": bar[0], "value": bar[1]},
        "ok": True if met is None else bool(met),
        "trials": trials,
        "seconds": round(seconds, 1),
        "command": command,
    }


def clustered(shares: Sequence[float]) -> tuple[float, float, float]:
    """Mean share of the clusters and its 95 % interval (Student): what lies within a cluster counts as one draw."""
    import math
    import statistics

    from scipy import stats

    mean, spread = statistics.fmean(shares), statistics.stdev(shares) / math.sqrt(len(shares))
    reach = float(stats.t.ppf(0.975, len(shares) - 1)) * spread
    return mean, max(0.0, mean - reach), mean + reach


def write(area: str, rows: Sequence[Row]) -> None:
    """Writes ``results/AREA.json``, atomically."""
    make_dir(RESULTS)
    atomic_write(RESULTS / f"{area}.json", (json.dumps(list(rows), indent=1) + "\n").encode())


def show(rows: Sequence[Row]) -> None:
    """The rows as a table for people."""
    for each in rows:
        bar = f"{each['bar']['op']} {each['bar']['value']}" if each["bar"] else ""
        word = "" if not each["bar"] else "ok  " if each["ok"] else "MISS"
        spread = "" if each["low"] is None else f"[{each['low']:g}, {each['high']:g}]"
        print(f"{word:<4} {each['name']:<78} {each['value']:>12g} {spread:<24} {bar}")


def _short(value: float) -> float:
    return float(f"{value:.6g}")
