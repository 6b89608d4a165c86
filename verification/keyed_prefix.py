"""A keyed claim whose asking may have stopped at any look: its finding from a prefix of the planned answers.

The e-process decides, and its p-value holds at every stop. What is exact at a fixed n alone (the binomial, the rank
among wrong keys, the paper's test) stands beside it, labelled as not valid under stopping; the interval of the match
rate is one that holds at every look.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from verification.findings import finding, nothing, ranking
from verification.keyed_beside import paper, wrong_matches
from verification.plan import KEYED_ARM
from verification.recipients import Naming, Scored
from verification.sequential import anytime_interval, log10_anytime_p, looked_at
from verification.statistics import holm
from verification.stopping import asked_triggers, courses, most, thresholds, wanted_answers, why_stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.opening import Opened
    from verification.plan import AuditPlan, ClaimPlan
    from verification.probe import Answer, Probe
    from verification.stopping import Course
    from verification.verdict import Verdict

METHOD = "keyed e-process (test martingale): one majority answer a trigger, valid at every look"
STOPPED_LABEL = "not valid under stopping, decides nothing"


def prefix_finding(
    plan: AuditPlan, claim: ClaimPlan, key: Opened, probes: Sequence[Probe], answers: Sequence[Answer], name: str
) -> Verdict:
    """The finding about one suspect; ``probes`` are all that were planned for it."""
    triggers, wanted, chance = asked_triggers(probes, answers, KEYED_ARM), wanted_answers(claim, key), _chance(claim)
    planned = len({probe.index for probe in probes if probe.arm == KEYED_ARM})
    found, bars = courses(plan, claim, wanted, triggers), thresholds(plan, claim)
    best = found[0]
    log10_p = log10_anytime_p(best.best - bars.paid)
    shown = {
        "looks": len(looked_at(best.path, plan.sequential.look)) if plan.sequential else 0,
        "log10_e_path": [value - bars.paid for value in best.path],
        "triggers": len(triggers),
        "planned": planned,
        "stopped": why_stopped(plan, claim, found, planned=planned),
        "log10_p_anytime": log10_p,
    }
    if not triggers:
        return replace(nothing(plan, claim, name, control=False, chance=chance), method=METHOD, sequential=shown)
    asked = probes[: len(answers)]
    base = finding(
        plan, claim, name, best.matches, len(triggers), chance, control=False,
        queries=sum(probe.arm == KEYED_ARM for probe in asked), tried=len(found),
    )  # fmt: skip
    ranked = ranking(best.matches, wrong_matches(plan, claim, triggers))
    figures = paper(claim, asked, answers, KEYED_ARM, wanted[best.recipient])
    return replace(
        base,
        method=METHOD,
        log10_p=log10_p,
        log10_p_holm=log10_p,
        log10_e=best.path[-1] - bars.paid,
        log10_floor=math.log10(len(found)) - most(plan, claim, matches=planned, triggers=planned),
        effect=anytime_interval(best.matches, len(triggers)),
        sequential={**shown, "fixed_n": {"label": STOPPED_LABEL, "log10_p": base.log10_p}},
        recipients=_naming(plan, found).to_json() if best.recipient else None,
        wrong_keys={**ranked, "label": STOPPED_LABEL},
        paper=figures and {**figures, "label": f"{figures['label']}; {STOPPED_LABEL}"},
    )


def _chance(claim: ClaimPlan) -> float:
    return 1.0 / len(claim.answers)


def _naming(plan: AuditPlan, found: Sequence[Course]) -> Naming:
    """Recipients named by their e-processes: Holm over all of them, the plan's other claims paid for."""
    raw = [log10_anytime_p(course.best - math.log10(plan.paid * plan.family)) for course in found]
    ranked = tuple(
        Scored(recipient=course.recipient, matches=course.matches, trials=len(course.path), log10_p=p, log10_p_holm=q)
        for course, p, q in zip(found, raw, holm(raw), strict=True)
    )
    named = tuple(each.recipient for each in ranked if each.log10_p_holm <= math.log10(plan.alpha))
    return Naming(ranked=ranked, named=named, word={0: "none", 1: "one"}.get(len(named), "mixed"))
