"""The audit's plots: whatever the numbers, nothing is drawn outside, nothing lies on top of another name."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verification.audit_pages import Page
from verification import audit_plots, svg


@st.composite
def verdict_lists(draw):
    planned = draw(st.integers(1, 400))
    found = []
    for i in range(draw(st.integers(1, 14))):
        path = draw(st.lists(st.floats(-30, 330), max_size=8)) if draw(st.booleans()) else None
        found.append(
            {
                "claim": "double_i", "suspect": draw(st.text(max_size=30)), "control": i > 0, "alpha": 1e-6,
                "log10_e": draw(st.one_of(st.none(), st.floats(-300, 900))), "log10_p_holm": draw(st.floats(-900, 0)),
                "trials": draw(st.integers(0, 400)),
                "sequential": None if path is None else {"log10_e_path": path, "planned": planned},
            }
        )  # fmt: skip
    return found


@given(verdict_lists(), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_nothing_is_drawn_outside_the_evidence_plot(verdicts, family):
    _assert_inside(audit_plots.evidence(verdicts, ident="e", family=family))


@given(st.lists(st.integers(0, 500), min_size=1, max_size=60), st.integers(0, 500), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_histogram_counts_every_wrong_key(others, claim, counted):
    verdict = {
        "claim": "double_i", "suspect": "s", "successes": claim if counted else claim + 1, "trials": 500,
        "wrong_keys": {"statistic": claim, "others": others},
    }  # fmt: skip
    drawn = audit_plots.wrong_keys(verdict, ident="w")
    _assert_inside(drawn)
    bars = [a for t, a in Page(drawn).elements if t == "rect"]
    assert 1 <= len(bars) <= len(set(others))


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 4), min_size=1, max_size=14))
@settings(max_examples=40, deadline=None)
def test_arms_of_any_size_are_drawn_or_named_as_not_asked(tables):
    verdicts = [{"suspect": f"s{i}", "paper": {"table": [list(t[:2]), list(t[2:])]}} for i, t in enumerate(tables)]
    drawn = audit_plots.trigger_reference(verdicts, ident="a")
    _assert_inside(drawn)
    shown = tables[:12]
    assert drawn.count("not asked") == sum((sum(t[:2]) == 0) + (sum(t[2:]) == 0) for t in shown)


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(1, 10**6)), min_size=3, max_size=3), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_power_is_drawn_where_there_is_any(needed):
    methods = [{"name": f"test {i}", "needed": row} for i, row in enumerate(needed)]
    drawn = audit_plots.power({"strengths": [0.5, 0.7, 0.9], "methods": methods}, ident="p")
    assert bool(drawn) == any(n for row in needed for n in row)
    if drawn:
        _assert_inside(drawn)


@given(st.lists(st.floats(0, 100), max_size=9))
def test_names_lie_apart_and_in_their_order(places):
    moved = svg.spread(places, gap=10, low=0, high=100)
    ordered = sorted(zip(places, moved, strict=True))
    assert all(-1e-9 <= m <= 100 + 1e-9 for m in moved)
    assert all(b[1] - a[1] >= 10 - 1e-9 for a, b in pairwise(ordered))


@given(st.floats(-1000, 1000), st.floats(0.001, 2000))
def test_ticks_are_round_few_and_within(low, span):
    ticks = svg.nice_ticks(low, low + span)
    assert 1 <= len(ticks) <= 12
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in ticks)


def _assert_inside(drawn: str) -> None:
    (_, root), *elements = Page(drawn).elements
    _, _, width, height = map(float, root["viewbox"].split())
    for tag, attributes in elements:
        if tag == "pattern" or "class" not in attributes or attributes["class"].startswith("hatch"):
            continue
        xs = [float(attributes[k]) for k in ("x", "x1", "x2", "cx") if k in attributes]
        ys = [float(attributes[k]) for k in ("y", "y1", "y2", "cy") if k in attributes]
        for pair in attributes.get("points", "").split():
            x, y = map(float, pair.split(","))
            xs.append(x)
            ys.append(y)
        assert all(math.isfinite(v) for v in xs + ys)
        assert all(-6 <= x <= width + 6 for x in xs), attributes
        assert all(0 <= y <= height for y in ys), attributes
