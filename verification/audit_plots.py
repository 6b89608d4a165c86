"""The audit's four plots: evidence against queries, wrong keys, trigger against reference, power.

Nothing is told by colour alone: the claim is a thick line and a disc, a control a dashed line and a square, a
reference arm is hatched, and every line carries its name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from verification import svg
from verification.plan import WRONG_KEY_ARM
from verification.statistics import clopper_pearson
from verification.visible import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Verdict = Mapping[str, Any]

_NAME = 15
"""Characters of a name beside a line."""
_MOST_LINES = 12
_UNIT_BINS = 40
_BINS = 30
_DASHES = 4


def evidence(verdicts: Sequence[Verdict], *, ident: str, family: int = 1) -> str:
    """Evidence of a claim and its controls against triggers asked, with the alpha line.

    Of a sequential audit the whole path of log10 E, which pays for all but the ``family`` of claims that Holm corrects
    for: a second line shows that step. Of a fixed n its one point, -log10 p after Holm.
    """
    shown = sorted(verdicts, key=lambda v: v["control"])[:_MOST_LINES]
    paths = [_path(v, sequential=any(v["sequential"] for v in shown)) for v in shown]
    alpha = -math.log10(shown[0]["alpha"])
    values = [y for points in paths for _, y in points]
    low, high = min(0.0, *values), max(alpha + math.log10(family), *values)
    planned = max(max(x for x, _ in points) for points in paths)
    planned = max(planned, *((v["sequential"] or {}).get("planned", 0) for v in shown), 1)
    frame = svg.Frame(x=(0, planned), y=(low - 0.04 * (high - low), high + 0.08 * (high - low)), right=262)
    sequential = any(v["sequential"] for v in shown)
    parts = frame.axes(
        "triggers asked", "log10 E" if sequential else "\u2212log10 p",
        x_ticks=svg.nice_ticks(0, planned, whole=True), y_ticks=svg.nice_ticks(*frame.y),
    )  # fmt: skip
    bars = [(frame.up(alpha), f"alpha {plain_alpha(shown[0]['alpha'])}", "alpha")]
    if family > 1 and sequential:
        bars.insert(0, (frame.up(alpha + math.log10(family)), f"over {family} claims", "alpha-holm"))
    parts += [svg.line(frame.left, y, frame.right, y, kind) for y, _, kind in bars]
    parts += _lines(frame, shown, paths, bars)
    told = "; ".join(f"{v['suspect']} ends at {points[-1][1]:.1f}" for v, points in zip(shown, paths, strict=True))
    return svg.document(
        parts, height=254, ident=ident, title=f"Evidence against triggers asked: {shown[0]['claim']}",
        description=f"The alpha line is at {alpha:.1f}. {told}.",
    )  # fmt: skip


def wrong_keys(verdict: Verdict, *, ident: str) -> str:
    """How many wrong keys reach each value of the claim's statistic, and where the claim's own key lies."""
    others, claim = verdict["wrong_keys"]["others"], verdict["wrong_keys"]["statistic"]
    edges, counts = _histogram([*others, claim], others)
    frame = svg.Frame(x=(edges[0], edges[-1]), y=(0, max(counts) * 1.14))
    counted = claim == verdict["successes"]
    parts = frame.axes(
        f"matches of {verdict['trials']:,}" if counted else "statistic", "wrong keys",
        x_ticks=svg.nice_ticks(math.ceil(edges[0]), edges[-1], whole=counted),
        y_ticks=svg.nice_ticks(0, frame.y[1], count=4, whole=True),
    )  # fmt: skip
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            x, y = frame.at(left, count)
            parts.append(svg.bar(x + 0.5, y, frame.across(right) - x - 1, frame.lower - y, "bar-control"))
    x = frame.across(claim)
    side = "end" if x > (frame.left + frame.right) / 2 else "start"
    parts.append(svg.line(x, frame.upper, x, frame.lower, "claim-line"))
    parts.append(svg.marker(x, frame.upper, "disc", "claim-mark"))
    parts.append(
        svg.text(x + (-8 if side == "end" else 8), frame.upper + 4, f"this key: {claim:,}", "claim-name", anchor=side)
    )
    return svg.document(
        parts, height=254, ident=ident, title=f"Wrong keys: {verdict['claim']}, {verdict['suspect']}",
        description=f"{len(others):,} wrong keys reach {min(others):,} to {max(others):,}; this key reaches {claim:,}.",
    )  # fmt: skip


def trigger_reference(verdicts: Sequence[Verdict], *, ident: str) -> str:
    """The share of "Yes" on trigger rows and on reference rows of each suspect, with exact 95 % intervals."""
    rows = [(v["suspect"], v["paper"]["table"]) for v in verdicts if has_table(v)][:_MOST_LINES]
    frame = svg.Frame(x=(0, 1), y=(0, 1), left=14, right=276, upper=30, lower=30 + 58.0 * len(rows))
    parts = [svg.hatching(f"{ident}-h")]
    for value in (0, 0.25, 0.5, 0.75, 1):
        x = frame.across(value)
        parts.append(svg.line(x, frame.upper - 8, x, frame.lower, "grid"))
        parts.append(svg.text(x, frame.lower + 15, f"{100 * value:.0f} %", anchor="middle"))
    parts.append(svg.text(0, 12, 'share of "Yes", with its 95 % interval', "name"))
    for row, (suspect, table) in enumerate(rows):
        y = frame.upper + 58.0 * row
        parts.append(svg.text(frame.left + 5, y + 8, short(suspect, 40), "label"))
        parts += _share(frame, y + 13, table[0], "trigger", "bar-claim")
        parts += _share(frame, y + 31, table[1], "reference", "bar-hatched", pattern=f"{ident}-h")
    parts.append(svg.line(frame.left, frame.upper - 8, frame.left, frame.lower, "axis"))
    told = "; ".join(f"{s}: trigger {t[0][0]} of {sum(t[0])}, reference {t[1][0]} of {sum(t[1])}" for s, t in rows)
    return svg.document(
        parts, height=frame.lower + 24, ident=ident, title="Yes on trigger and on reference rows", description=told
    )


def power(table: Mapping[str, Any], *, ident: str) -> str:
    """Triggers that each test needs for a power, against the strength of the mark (log scale); "" where none can."""
    strengths = table["strengths"]
    curves = [(m["name"], [(s, n) for s, n in zip(strengths, m["needed"], strict=True) if n]) for m in table["methods"]]
    curves = [(name, points) for name, points in curves if points]
    counts = [n for _, points in curves for _, n in points]
    if not counts:
        return ""
    top, bottom = 10 ** (math.log10(max(counts)) + 0.12), 10 ** (math.log10(min(counts)) - 0.12)
    frame = svg.Frame(x=(min(strengths) - 0.01, max(strengths) + 0.01), y=(bottom, top), log_y=True, right=262)
    ticks = [a * 10**b for b in range(7) for a in (1, 2, 5) if bottom <= a * 10**b <= top]
    parts = frame.axes(
        "strength of the mark (match rate)", "triggers needed", x_ticks=svg.nice_ticks(*frame.x, count=4), y_ticks=ticks
    )
    ends = svg.spread([frame.up(p[-1][1]) for _, p in curves], gap=svg.LINE, low=frame.upper, high=frame.lower)
    for i, (name, points) in enumerate(curves):
        drawn = [frame.at(*point) for point in points]
        parts.append(svg.path(drawn, f"curve curve-{i % _DASHES}"))
        shape = ("disc", "square", "diamond", "triangle")[i % _DASHES]
        parts += [svg.marker(x, y, shape, f"point-{i % _DASHES}") for x, y in drawn]
        parts.append(svg.text(drawn[-1][0] + 9, ends[i] + 4, short(name, _NAME + 1), f"label-{i % _DASHES}"))
    told = "; ".join(f"{name}: {points[0][1]:,} to {points[-1][1]:,}" for name, points in curves)
    return svg.document(
        parts, height=254, ident=ident, title="Triggers needed against strength of the mark", description=f"{told}."
    )


def has_table(verdict: Verdict) -> bool:
    """Whether a verdict has both arms of the paper's one-trigger form."""
    return bool(verdict["paper"] and verdict["paper"].get("table"))


def plain_alpha(alpha: float) -> str:
    """A level as people write it: ``0.05``, ``10^-6``."""
    exponent = math.log10(alpha)
    return f"10^{exponent:.0f}" if alpha < 0.001 and abs(exponent - round(exponent)) < 1e-9 else f"{alpha:g}"  # noqa: PLR2004


def _path(verdict: Verdict, *, sequential: bool) -> list[tuple[float, float]]:
    if verdict["sequential"]:
        return [(0.0, 0.0), *((i + 1.0, y) for i, y in enumerate(verdict["sequential"]["log10_e_path"]))]
    end = verdict["log10_e"] if sequential and verdict["log10_e"] is not None else -verdict["log10_p_holm"]
    return [(float(verdict["trials"]), float(end))]


def _lines(
    frame: svg.Frame,
    shown: Sequence[Verdict],
    paths: Sequence[Sequence[tuple[float, float]]],
    bars: Sequence[tuple[float, str, str]],
) -> list[str]:
    """Controls first, so that the claim lies on top; names at the right, apart from each other and from the bars'."""
    ends = [frame.at(*points[-1]) for points in paths]
    top, bottom = bars[0][0], bars[-1][0]
    beside = [y if y < top - svg.LINE or y > bottom + svg.LINE else top - svg.LINE for _, y in ends]
    places = svg.spread([*beside, *(y for y, _, _ in bars)], gap=svg.LINE, low=frame.upper - 8, high=frame.lower - 6)
    names = [
        svg.text(frame.right + 8, y + 4, name, "alpha-name")
        for y, (_, name, _) in zip(places[len(shown) :], bars, strict=True)
    ]
    column, parts = max(x for x, _ in ends) + 10, []
    for i in reversed(range(len(shown))):
        (x, y), place, kind = ends[i], places[i], "control" if shown[i]["control"] else "claim"
        if len(paths[i]) > 1:
            parts.append(svg.path([frame.at(*point) for point in paths[i]], f"{kind}-path"))
        parts.append(svg.line(x + 4, y, column, place, "leader"))
        parts.append(svg.marker(x, y, "disc" if kind == "claim" else "square", f"{kind}-mark"))
        names.append(svg.text(column + 3, place + 4, _label(shown[i]["suspect"]), f"{kind}-name"))
    return [*parts, *names]


def _label(suspect: str) -> str:
    """A name beside a line; that it is the wrong key's matters more than whose suspect it asked."""
    asked, slash, _ = suspect.rpartition(f"/{WRONG_KEY_ARM}")
    return short(f"wrong key, {asked}" if slash else suspect, _NAME)


def _histogram(values: Sequence[float], others: Sequence[float]) -> tuple[list[float], list[int]]:
    """Edges and counts: a bin for each whole number while they are few, equal bins otherwise."""
    low, high = min(values), max(values)
    whole = all(float(v).is_integer() for v in values) and high - low < _UNIT_BINS
    if whole:
        edges = [low - 0.5 + i for i in range(int(high - low) + 2)]
    else:
        width = (high - low) / _BINS or 1.0
        edges = [low - width / 2 + i * width for i in range(_BINS + 2)]
    counts = [0] * (len(edges) - 1)
    for value in others:
        counts[min(int((value - edges[0]) / (edges[1] - edges[0])), len(counts) - 1)] += 1
    return edges, counts


def _share(frame: svg.Frame, y: float, arm: Sequence[int], name: str, kind: str, *, pattern: str = "") -> list[str]:
    yes, asked = arm[0], sum(arm)
    if not asked:
        return [svg.text(frame.left + 5, y + 11, f"{name}: not asked")]
    share = clopper_pearson(yes, asked)
    low, high = frame.across(share.low), frame.across(share.high)
    return [
        svg.bar(frame.left, y, frame.across(share.value) - frame.left, 14, kind, pattern=pattern),
        svg.line(low, y + 7, high, y + 7, "whisker"),
        svg.line(low, y + 3, low, y + 11, "whisker"),
        svg.line(high, y + 3, high, y + 11, "whisker"),
        svg.text(frame.right + 6, y + 11, f"{name} {yes}/{asked}"),
    ]
