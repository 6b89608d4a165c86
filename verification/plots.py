"""The report's plots as SVG strings, the same bytes for the same numbers."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CLAIM = "#1b6e53"
_CONTROL = "#8a8f98"
_ALPHA = "#b3402a"
_SUPPORTED_SPAN = 60.0
"""The strength plot shows log10 p down to here; the number itself stands beside the bar."""


def strength(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """-log10 p of every claim and control, with the alpha line."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9.4, 0.36 * len(verdicts) + 0.9))
    names = [_plain(f"{v['claim']} · {v['suspect']}") for v in verdicts]
    values = [min(-v["log10_p"], _SUPPORTED_SPAN) for v in verdicts]
    axes.barh(range(len(verdicts)), values, color=[_CONTROL if v["control"] else _CLAIM for v in verdicts], height=0.62)
    for row, verdict in enumerate(verdicts):
        axes.text(values[row] + 0.6, row, f"{verdict['log10_p']:.1f}", va="center", fontsize=8, color="#333")
    alpha = -math.log10(verdicts[0]["alpha"])
    axes.axvline(alpha, color=_ALPHA, linewidth=1.2, linestyle="--")
    axes.text(alpha, -0.85, "alpha", color=_ALPHA, fontsize=8, ha="center")
    axes.set_yticks(range(len(verdicts)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*values, alpha) * 1.12)
    axes.set_xlabel(f"-log10 p (bars end at {_SUPPORTED_SPAN:.0f}; green: claim, grey: control)", fontsize=8)
    return _svg(figure)


def wrong_keys(verdict: Mapping[str, Any]) -> str:
    """The statistic under wrong keys, and the claim's place among them."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    others, claim = verdict["wrong_keys"]["others"], verdict["wrong_keys"]["statistic"]
    figure, axes = plt.subplots(figsize=(3.7, 2.3))
    low, high = min(others), max(others)
    bins = [x - 0.5 for x in range(low, high + 2)] if high - low < 30 else 30  # noqa: PLR2004 - unit bins while legible
    axes.hist(others, bins=bins, color=_CONTROL)
    axes.axvline(claim, color=_CLAIM, linewidth=2)
    counted = claim == verdict["successes"]  # else a weighted statistic, which is out of nothing
    axes.set_title(f"{verdict['claim']}: {claim}" + (f" of {verdict['trials']}" if counted else ""), fontsize=9)
    what = "matches" if counted else "statistic"
    axes.set_xlabel(f"{what}; grey: {len(others)} wrong keys, green: the owner's", fontsize=7)
    axes.tick_params(labelsize=7)
    return _svg(figure)


def trigger_reference(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Double-I's own picture: the share of "Yes" on trigger rows against reference rows, by suspect."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    shown = [v for v in verdicts if v["paper"] and "table" in v["paper"]]
    figure, axes = plt.subplots(figsize=(3.7, 2.3))
    for offset, arm, colour in ((-0.19, 0, _CLAIM), (0.19, 1, _CONTROL)):
        shares = [v["paper"]["table"][arm][0] / sum(v["paper"]["table"][arm]) for v in shown]
        axes.bar([i + offset for i in range(len(shown))], shares, width=0.36, color=colour)
    axes.set_xticks(range(len(shown)), [_plain(v["suspect"]) for v in shown], fontsize=8)
    axes.set_ylim(0, 1.05)
    axes.set_title('"Yes" on trigger (green) and reference (grey)', fontsize=9)
    axes.tick_params(labelsize=7)
    return _svg(figure)


def _plain(text: str) -> str:
    """A name as it is: a dollar sign starts no formula."""
    return text.replace("$", r"\$")


def _svg(figure: Any) -> str:  # noqa: ANN401 - a matplotlib figure, without importing matplotlib
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "countermark", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.tight_layout()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    plt.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]
