"""What the audit's template shows, put in order: verdicts with their controls, arms, error rates, hypotheses, plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verification import audit_plots
from verification.plan import SEQUENTIAL_CLAIMS, WRONG_KEY_ARM
from verification.report import CLAIM_TITLES
from verification.statistics import zero_events_upper_bound
from verification.stopping import ALPHA, BUDGET, EXHAUSTED
from verification.verdict import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

TITLES = {
    **CLAIM_TITLES,
    "input_level": "The classifier was trained on the marked rows",
    "double_i": "The model was trained on the marked instruct rows",
}
"""What is claimed of a suspect of which nothing is known but its answers."""
_STOPPED = {
    ALPHA: "stopped when the evidence reached alpha",
    EXHAUSTED: "stopped when the rest could no longer reach alpha",
    BUDGET: "the budget ended it before alpha was reached or out of reach",
}


def view(content: Row) -> dict[str, Any]:
    """Everything that the template needs besides the content itself."""
    verdicts = content["verdicts"]
    groups = _groups(verdicts)
    claims = [v for v in verdicts if not v["control"]]
    return {
        "blocks": [_block(v, groups[v["claim"]]) for v in claims],
        "suspects": list(dict.fromkeys(v["suspect"] for v in claims)),
        "exploratory": list(dict.fromkeys(reason for v in claims for reason in v["exploratory"])),
        "groups": groups,
        "asked": [_asked(claim, groups.get(claim["claim"], [])) for claim in content["plan"]["claims"]],
        "named": [v for v in verdicts if v["recipients"]],
        "papers": [v for v in verdicts if v["paper"]],
        "rates": [_rate(row) for row in content["error_rates"]],
        "assumptions": _assumptions(verdicts),
        "words": {str(d): str(d).replace("_", " ").capitalize() for d in Decision},
        "titles": TITLES,
        "drifts": [v for v in verdicts if v["drift"]],
        "has_table": audit_plots.has_table,
        "pictures": _pictures(content["power"], groups),
    }


def _groups(verdicts: Sequence[Row]) -> dict[str, list[Row]]:
    """Verdicts by claim in the order of the plan, the suspects before their controls."""
    found: dict[str, list[Row]] = {}
    for verdict in verdicts:
        found.setdefault(verdict["claim"], []).append(verdict)
    return {claim: sorted(group, key=lambda v: v["control"]) for claim, group in found.items()}


def _block(verdict: Row, group: Sequence[Row]) -> dict[str, Any]:
    controls = [v for v in group if v["control"]]
    return {
        "v": verdict,
        "title": TITLES.get(verdict["claim"], verdict["claim"]),
        "sentence": verdict["sentence"].removeprefix(f"Exploratory only: {'; '.join(verdict['exploratory'])}. "),
        "stopped": _stopped(verdict["sequential"]) if verdict["sequential"] else "every planned probe, each asked once",
        "controls": controls,
        "ratio": verdict["claim"] in SEQUENTIAL_CLAIMS,
        "loud": [v["suspect"] for v in controls if v["decision"] == Decision.SUPPORTED],
        "strongest": min(controls, key=lambda v: v["log10_p"], default=None),
    }


def _stopped(course: Row) -> str:
    whole = course["triggers"] == course["planned"] and course["stopped"] == EXHAUSTED
    why = "asked to the end" if whole else _STOPPED.get(course["stopped"], course["stopped"])
    return f"{course['triggers']:,} of {course['planned']:,} planned triggers: {why}"


def _asked(claim: Row, group: Sequence[Row]) -> dict[str, Any]:
    """A planned claim with what its verdicts say was asked of whom, arm by arm."""
    triggers = max((_planned(v) for v in group), default=0)
    arms: dict[str, dict[str, Any]] = {}
    for verdict in group:
        wrong = verdict["suspect"].endswith(f"/{WRONG_KEY_ARM}")
        arm = arms.setdefault("wrong key" if wrong else "keyed", {"of": [], "queries": []})
        arm["of"].append(verdict["suspect"].removesuffix(f"/{WRONG_KEY_ARM}"))
        arm["queries"].append(verdict["queries"])
        if audit_plots.has_table(verdict):
            for name, counts in zip(("paper: trigger", "paper: reference"), verdict["paper"]["table"], strict=True):
                arm = arms.setdefault(name, {"of": [], "queries": []})
                arm["of"].append(verdict["suspect"])
                arm["queries"].append(sum(counts))
    return {"claim": claim, "n_max": triggers, "arms": arms}


def _planned(verdict: Row) -> int:
    return int(verdict["sequential"]["planned"] if verdict["sequential"] else verdict["trials"])


def _rate(row: Row) -> dict[str, Any]:
    """An error rate that never reads as zero: "none in N" stands with the upper bound that N proves."""
    none = row["trials"] > 0 and not row["value"]
    high = (row["high"] or zero_events_upper_bound(row["trials"])) if none else row["high"]
    return {**row, "none": none, "high": high}


def _assumptions(verdicts: Sequence[Row]) -> list[dict[str, Any]]:
    """Each assumption once, with the claims that rest on it, or none where all do."""
    claims = list(dict.fromkeys(v["claim"] for v in verdicts))
    found: dict[str, dict[str, None]] = {}
    for verdict in verdicts:
        for assumption in verdict["assumptions"]:
            found.setdefault(assumption, {})[verdict["claim"]] = None
    return [{"text": text, "of": [] if len(of) == len(claims) else list(of)} for text, of in found.items()]


def _pictures(power: Row | None, groups: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """The plots as SVG text of our own; a plot whose evidence the audit does not have is absent."""
    verdicts = [v for group in groups.values() for v in group]
    family = sum(not v["control"] for v in verdicts)
    with_table = [v for v in verdicts if audit_plots.has_table(v)]
    return {
        "evidence": [
            (claim, audit_plots.evidence(group, ident=f"evidence-{i}", family=family))
            for i, (claim, group) in enumerate(groups.items())
        ],
        "wrong_keys": [
            (v, audit_plots.wrong_keys(v, ident=f"wrong-{i}"))
            for i, v in enumerate(v for v in verdicts if v["wrong_keys"])
        ],
        "trigger_reference": audit_plots.trigger_reference(with_table, ident="arms") if with_table else "",
        "power": audit_plots.power(power, ident="power") if power else "",
    }
