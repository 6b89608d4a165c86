"""From a sealed plan and its answers to verdicts, in the numbered steps that the code below carries.

 0. The plan is the one that was sealed before the first query; what it does not show of times is said.
 1. The commitment opens, and every probe re-derives from what was opened.
 2. The release holds the marks that the plan speaks of.
 3. Every planned probe was answered once, or a prefix of them where the plan allows looks; refusals count against.
 4. Arms are interleaved in an order that knows no target; canaries show whether the suspect stayed the same.
 5. The primary test is exact.
 6. Where the plan allows looks, the e-process is the primary test; else its e-value stands beside.
 7. Controls run: clean twins, base model, human text, wrong keys.
 8. Multiplicity: Holm over the claims, every commitment made for the release paid for; Holm over each claim's
    controls, at the larger of alpha and .001, and nothing else paid: what lets a control off makes claims easier.
 9. Effect size with an exact interval.
10. Three words; a control that is supported, or that was not asked or did not say enough to be, makes its claim
    inconclusive, and so does a suspect that changed while it was asked.

Steps 0 and 4 are checked where the plan is opened: the digest of each probe list, order included, is in the plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from verification.canaries import drift_of
from verification.checks import check_answers, check_budget, check_plan, check_probes, check_stop, planted
from verification.claims import ONE_TRIGGER, TEXTS
from verification.findings import MUTE, SILENT, control_level
from verification.keyed_claim import keyed_findings
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

TOO_FEW = "trials cannot reach the level of a control even if all speak for the mark"


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
    """Steps 7, 8 and 10: the controls first, since a claim hangs on its own."""
    failed: dict[Claim, tuple[str, ...]] = {}
    short: dict[Claim, tuple[str, ...]] = {}
    decided: list[Verdict] = []
    for claim in plan.claims:
        controls = _controls(plan, [each for each in findings if each.control and each.claim == claim.claim])
        failed[claim.claim], short[claim.claim] = _failures(controls), _short(controls)
        decided += controls
    claims = [each for each in findings if not each.control]
    adjusted = holm([each.log10_p for each in claims]) if claims else []
    log10_alpha = math.log10(plan.alpha)
    for each, log10_p in zip(claims, adjusted, strict=True):
        reasons = (*(f"{each.suspect} {reason}" for reason in each.reasons), *failed[each.claim])
        held = replace(each, log10_p_holm=log10_p, reasons=reasons)
        verdict = _word(held, log10_alpha, log10_alpha - math.log10(len(claims) * plan.paid))
        if verdict.decision is Decision.SUPPORTED and short[each.claim]:
            verdict = replace(verdict, decision=Decision.INCONCLUSIVE, reasons=short[each.claim])
        decided.append(_unnamed(verdict))
    order = {(f.claim, f.suspect): i for i, f in enumerate(findings)}
    return sorted(decided, key=lambda v: order[v.claim, v.suspect])


def _controls(plan: AuditPlan, controls: Sequence[Verdict]) -> list[Verdict]:
    """One claim's controls, at a level of their own: at alpha 1e-6 next to nothing would ever be found out."""
    level = control_level(plan.alpha)
    adjusted = holm([each.log10_p for each in controls]) if controls else []
    return [
        _word(
            replace(each, alpha=level, log10_p_holm=log10_p), math.log10(level), math.log10(level / len(controls))
        )
        for each, log10_p in zip(controls, adjusted, strict=True)
    ]  # fmt: skip


def _failures(controls: Sequence[Verdict]) -> tuple[str, ...]:
    """Why a claim with these controls cannot be decided: one failed, or shows nothing.

    One that was asked enough and gave too few of the counted answers passes, and its word says what that is worth.
    """
    found = []
    for each in controls:
        if each.decision is Decision.SUPPORTED:
            found.append(f"control {each.suspect} was supported too")
        elif not each.trials:
            found.append(f"control {each.suspect} {SILENT}")
        elif each.decision is Decision.INCONCLUSIVE and each.reasons != (MUTE,) and not _too_few(each):
            found.append(f"control {each.suspect} {'; '.join(each.reasons)}")
    return tuple(found)


def _short(controls: Sequence[Verdict]) -> tuple[str, ...]:
    """Why these controls are none for a claim that is supported: a suspect that stops early takes its wrong key along,
    and where that ends without support nothing hangs on it.
    """
    return tuple(f"control {each.suspect} {each.reasons[0]}" for each in controls if _too_few(each))


def _too_few(control: Verdict) -> bool:
    return any(reason.endswith(TOO_FEW) for reason in control.reasons)


def _word(verdict: Verdict, log10_level: float, log10_bar: float) -> Verdict:
    """``log10_bar`` is what the smallest p of the family has to reach."""
    supported = verdict.log10_p_holm <= log10_level
    if verdict.reasons and not (verdict.control and supported):
        return replace(verdict, decision=Decision.INCONCLUSIVE)
    if supported:
        return replace(verdict, decision=Decision.SUPPORTED)
    reason = _undecided(verdict, log10_bar)
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
    if floor <= log10_bar:
        return ""
    trials = verdict.trials if shown is None else shown["planned"]
    return f"{trials} {TOO_FEW if verdict.control else 'trials cannot reach alpha even if all speak for the mark'}"


def _unnamed(verdict: Verdict) -> Verdict:
    """Nobody is named by evidence that does not hold: the ranked list stays, the names go."""
    if verdict.recipients is None or verdict.decision is Decision.SUPPORTED:
        return verdict
    return replace(verdict, recipients={**verdict.recipients, "word": "none", "named": []})
