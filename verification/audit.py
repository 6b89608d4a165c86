"""From a sealed plan and its answers to verdicts, in the numbered steps that the code below carries.

 0. The plan is the one that was sealed before the first query; what it does not show of times is said.
 1. The commitment opens, and every probe re-derives from what was opened.
 2. The release holds the marks that the plan speaks of.
 3. Every planned probe was answered once, or a prefix of them where the plan allows looks; refusals count against.
 4. Arms are interleaved in an order that knows no target; canaries show whether the suspect stayed the same.
 5. The primary test is exact.
 6. Where the plan allows looks, the e-process is the primary test; else its e-value stands beside.
 7. Controls run: clean twins, base model, human text, wrong keys.
 8. Multiplicity: Holm over the claims, Holm over the controls, every commitment made for the release paid for.
 9. Effect size with an exact interval.
10. Three words; a control that is supported, or that has nothing to weigh, makes its claim inconclusive, and so does
    a suspect that changed while it was asked.

Steps 0 and 4 are checked where the plan is opened: the digest of each probe list, order included, is in the plan.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from verification.canaries import drift_of
from verification.checks import check_answers, check_budget, check_plan, check_probes, check_stop, planted
from verification.claims import ONE_TRIGGER, TEXTS
from verification.keyed_claim import SILENT, keyed_findings
from verification.one_trigger import trigger_findings
from verification.opening import LEAVES_NOT_REDERIVED, LeafOpening, check_opening, needs_key
from verification.output_level import text_findings
from verification.plan import WRONG_KEY_ARM, AuditPlan, Claim, ClaimPlan
from verification.statistics import holm
from verification.stopping import BUDGET
from verification.timing import exploratory_reasons, timing_assumptions
from verification.token_claim import token_findings
from verification.verdict import Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.corpus import Corpus
    from verification.opening import Opened
    from verification.probe import Answer, Probe

__all__ = ["Evidence", "audit", "planted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was gathered under the plan.

    Args:
        corpora: the texts of the token claim, by suspect name.
        answers: answers by claim and suspect, in the plan's order; a prefix where the plan allows looks.
        probes: the probe list of each claim that asks.
        marked_rows: for each claim, how many rows carry each trigger or codeword in the release.
        canaries: each asked suspect's answers to the plan's canaries: those of the start, the middle and the end.
    """

    corpora: Mapping[str, Corpus]
    answers: Mapping[Claim, Mapping[str, Sequence[Answer]]]
    probes: Mapping[Claim, Sequence[Probe]]
    marked_rows: Mapping[Claim, Sequence[int]] = field(default_factory=dict)
    canaries: Mapping[str, Sequence[Answer]] = field(default_factory=dict)


def audit(plan: AuditPlan, key: Opened, evidence: Evidence) -> list[Verdict]:
    """The verdicts of every claim and control of ``plan``; ``key`` is what opens the commitment: the key, or leaves.

    Raises:
        IntegrityError: the opening is not of what was committed, or probes, answers or release are not the plan's.
        InconclusiveError: the plan claims nothing.
    """
    check_plan(plan)
    check_opening(key, plan.commitment)  # 1
    check_budget(plan, evidence)  # 3
    findings: list[Verdict] = []
    for claim in plan.claims:
        findings += _findings(plan, claim, key, evidence)
    return _decide(plan, [_said(plan, each, leaves=isinstance(key, LeafOpening)) for each in findings])


def _findings(plan: AuditPlan, claim: ClaimPlan, key: Opened, evidence: Evidence) -> list[Verdict]:
    """One claim's findings, from evidence that has been checked against the plan."""
    if claim.claim is Claim.TOKEN:
        return token_findings(plan, claim, needs_key(key, claim.claim), evidence.corpora)
    check_probes(plan, claim, key, evidence)  # 1, 2
    for suspect in claim.suspects:
        check_answers(plan, claim, suspect, evidence)  # 3
    listed, answers = evidence.probes[claim.claim], evidence.answers.get(claim.claim, {})
    if claim.claim in ONE_TRIGGER:
        found = trigger_findings(plan, claim, listed, answers)
    elif claim.claim in TEXTS:
        found = text_findings(plan, claim, needs_key(key, claim.claim), answers)
    else:
        found = keyed_findings(plan, claim, key, listed, answers)
    for each in found:
        check_stop(plan, each)  # 6
    return [_drifted(plan, claim, each, evidence) for each in found] if plan.canaries else found


def _drifted(plan: AuditPlan, claim: ClaimPlan, finding: Verdict, evidence: Evidence) -> Verdict:
    """Step 4: what the canaries show; a wrong key's arm stands with its suspect, whose own verdict says it."""
    arm = finding.suspect not in {suspect.name for suspect in claim.suspects}
    name = finding.suspect.removesuffix(f"/{WRONG_KEY_ARM}") if arm else finding.suspect
    shown = drift_of(plan.canaries, claim, name, evidence.canaries.get(name, ()))
    reasons = finding.reasons if arm else (*finding.reasons, *shown.reasons())
    return replace(finding, drift=shown.to_json(), reasons=reasons)


def _said(plan: AuditPlan, finding: Verdict, *, leaves: bool) -> Verdict:
    """Step 0: what the plan leaves open goes with every verdict."""
    assumed = (*finding.assumptions, *timing_assumptions(plan), *((LEAVES_NOT_REDERIVED,) if leaves else ()))
    return replace(finding, assumptions=assumed, exploratory=exploratory_reasons(plan))


def _decide(plan: AuditPlan, findings: list[Verdict]) -> list[Verdict]:
    """Steps 7, 8 and 10."""
    log10_alpha = math.log10(plan.alpha)
    decided: list[Verdict] = []
    failed: defaultdict[Claim, list[str]] = defaultdict(list)
    for control in (True, False):
        group = [each for each in findings if each.control is control]
        adjusted = holm([each.log10_p for each in group]) if group else []
        for each, log10_p in zip(group, adjusted, strict=True):
            family = len(group) * plan.paid
            verdict = _unnamed(_word(replace(each, log10_p_holm=log10_p), log10_alpha, family, failed[each.claim]))
            if control and verdict.decision is Decision.SUPPORTED:
                failed[each.claim].append(f"{each.suspect} was supported too")
            elif control and (each.reasons or not each.trials):
                failed[each.claim].append(f"{each.suspect} {'; '.join(each.reasons) or SILENT}")
            decided.append(verdict)
    order = {(f.claim, f.suspect): i for i, f in enumerate(findings)}
    return sorted(decided, key=lambda v: order[v.claim, v.suspect])


def _word(verdict: Verdict, log10_alpha: float, family: int, failed_controls: Sequence[str]) -> Verdict:
    supported = verdict.log10_p_holm <= log10_alpha
    reasons = verdict.reasons
    if not verdict.control:
        reasons = (*(f"{verdict.suspect} {reason}" for reason in reasons), *(f"control {f}" for f in failed_controls))
    if reasons and not (verdict.control and supported):
        return replace(verdict, decision=Decision.INCONCLUSIVE, reasons=reasons)
    if supported:
        return replace(verdict, decision=Decision.SUPPORTED)
    reason = _undecided(verdict, log10_alpha - math.log10(family))
    if reason:
        return replace(verdict, decision=Decision.INCONCLUSIVE, reasons=(reason,))
    return replace(verdict, decision=Decision.NOT_SUPPORTED)


def _undecided(verdict: Verdict, log10_bar: float) -> str:
    """Why what is not supported is no finding against the mark either, where that is so."""
    shown = verdict.sequential
    if shown is not None and shown["stopped"] == BUDGET:
        return (
            f"the budget ended after {verdict.trials} of {shown['planned']} triggers, before the plan's rule would stop"
        )
    floor = verdict.trials * math.log10(verdict.chance) if verdict.log10_floor is None else verdict.log10_floor
    trials = verdict.trials if shown is None else shown["planned"]
    return f"{trials} trials cannot reach alpha even if all speak for the mark" if floor > log10_bar else ""


def _unnamed(verdict: Verdict) -> Verdict:
    """Nobody is named by evidence that does not hold: the ranked list stays, the names go."""
    if verdict.recipients is None or verdict.decision is Decision.SUPPORTED:
        return verdict
    return replace(verdict, recipients={**verdict.recipients, "word": "none", "named": []})
