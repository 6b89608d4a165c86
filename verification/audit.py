"""From a sealed plan and its answers to verdicts, in the numbered steps that the code below carries.

 0. The plan is the one that was sealed before the first query.
 1. The commitment opens, and every probe re-derives from the key.
 2. The release holds the marks that the plan speaks of.
 3. Every planned probe was answered once; refusals count against the claim.
 4. Arms are interleaved in an order that knows no target.
 5. The primary test is exact.
 6. The e-value of the same evidence.
 7. Controls run: clean twins, base model, human text, wrong keys.
 8. Multiplicity: Holm over the claims, Holm over the controls, every commitment made for the release paid for.
 9. Effect size with an exact interval.
10. Three words; a control that is supported, or that has nothing to weigh, makes its claim inconclusive.

Steps 0 and 4 are checked where the plan is opened: the digest of each probe list, order included, is in the plan.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from countermark.errors import InconclusiveError, IntegrityError
from verification.claims import ONE_TRIGGER, PROBES, TEXTS, classes_of, derive_targets
from verification.double_i import recipients_of
from verification.keyed_claim import keyed_findings
from verification.one_trigger import trigger_findings
from verification.output_level import text_findings
from verification.plan import AuditPlan, Claim, ClaimPlan, probes_digest, probes_for
from verification.probe import PARSERS, Answer, Probe
from verification.statistics import holm
from verification.token_claim import token_findings
from verification.verdict import Decision, Verdict
from watermarks.keys import Key, commitment_opens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.corpus import Corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was gathered under the plan.

    Args:
        corpora: the texts of the token claim, by suspect name.
        answers: answers by claim and suspect, in the plan's order.
        probes: the probe list of each claim that asks.
        marked_rows: for each claim, how many rows carry each trigger or codeword in the release.
    """

    corpora: Mapping[str, Corpus]
    answers: Mapping[Claim, Mapping[str, Sequence[Answer]]]
    probes: Mapping[Claim, Sequence[Probe]]
    marked_rows: Mapping[Claim, Sequence[int]] = field(default_factory=dict)


def audit(plan: AuditPlan, key: Key, evidence: Evidence) -> list[Verdict]:
    """The verdicts of every claim and control of ``plan``.

    Raises:
        IntegrityError: the key is not the committed one, or probes, answers or release are not the plan's.
        InconclusiveError: the plan claims nothing.
    """
    if not plan.claims:
        raise InconclusiveError("got a plan without claims, expected at least one")
    for claim in plan.claims:
        if all(suspect.control for suspect in claim.suspects):
            raise InconclusiveError(
                f"got claim {claim.claim} without a suspect, expected at least one that is no control"
            )
    committed = plan.commitment
    if not commitment_opens(committed["sha256"], key, committed["config_digest"]):  # 1
        raise IntegrityError(
            f"got key {key.key_id}, which does not open commitment {committed['sha256'][:16]}…",
            hint="use the key ring that was committed, and the marking config of that release",
        )
    findings: list[Verdict] = []
    for claim in plan.claims:
        if claim.claim is Claim.TOKEN:
            findings += token_findings(plan, claim, key, evidence.corpora)
        else:
            _check_probes(plan, claim, key, evidence)  # 1, 2, 3
            listed, answers = evidence.probes[claim.claim], evidence.answers[claim.claim]
            if claim.claim in ONE_TRIGGER:
                findings += trigger_findings(plan, claim, listed, answers)
            elif claim.claim in TEXTS:
                findings += text_findings(plan, claim, key, answers)
            else:
                findings += keyed_findings(plan, claim, key, listed, answers)
    return _decide(plan, findings)


def planted(key: Key, claim: ClaimPlan) -> int:
    """How many triggers of this claim the release must hold, over all recipients' copies; a text mark is one."""
    if claim.claim in (*ONE_TRIGGER, *TEXTS):
        return 1
    copies = len(recipients_of(claim.mark))
    return copies * len(derive_targets(key, claim.claim, claim.mark))


def _check_probes(plan: AuditPlan, claim: ClaimPlan, key: Key, evidence: Evidence) -> None:
    derived = PROBES[claim.claim](key, claim.mark, claim.carriers, wrong_seed=plan.wrong_key_seed)
    planned = evidence.probes[claim.claim]
    if probes_digest(planned) != claim.probes or probes_digest(derived) != claim.probes:
        raise IntegrityError(
            f"got {claim.claim} probes that are not the sealed ones, expected those that key {key.key_id} re-derives",
            hint="the plan, the probes or the key were exchanged after sealing",
        )
    classes = classes_of(claim.claim, claim.mark)
    if classes is not None and not len(claim.answers) == len(set(claim.answers)) == classes:
        raise IntegrityError(
            f"got {len(claim.answers)} answers of claim {claim.claim}, expected {classes} distinct ones: chance is one "
            "in as many as the key draws from"
        )
    counts = evidence.marked_rows.get(claim.claim, ())
    expected = claim.mark["rows_per_trigger"]
    if list(counts) != [expected] * planted(key, claim):
        raise IntegrityError(
            f"got a release whose {claim.claim} triggers stand in {sorted(set(counts))} rows, expected {expected} each",
            hint="the release is not the one that was marked",
        )
    for suspect in claim.suspects:
        answers = evidence.answers.get(claim.claim, {}).get(suspect.name, ())
        wanted = [(p.id, suspect.name, p.arm, p.prompt_digest) for p in probes_for(planned, suspect)]
        if [(a.id, a.suspect, a.arm, a.prompt_digest) for a in answers] != wanted:
            raise IntegrityError(
                f"got {len(answers)} answers of {suspect.name}, expected one for each of {len(wanted)} planned probes",
                hint="no answer may be dropped, doubled or exchanged; probe again",
            )
        parse = PARSERS[claim.parser]
        misread = [answer.id for answer in answers if parse(answer.raw, claim.allowed) != answer.parsed]
        if misread:
            raise IntegrityError(
                f"got answer {misread[0]} of {suspect.name} parsed otherwise than {claim.parser} reads its raw text",
                hint="answers were edited after probing; probe again",
            )


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
            elif control and not each.trials:
                failed[each.claim].append(f"{each.suspect} said nothing that could be weighed")
            decided.append(verdict)
    order = {(f.claim, f.suspect): i for i, f in enumerate(findings)}
    return sorted(decided, key=lambda v: order[v.claim, v.suspect])


def _word(verdict: Verdict, log10_alpha: float, family: int, failed_controls: Sequence[str]) -> Verdict:
    if not verdict.control and failed_controls:
        reasons = tuple(f"control {failed}" for failed in failed_controls)
        return replace(verdict, decision=Decision.INCONCLUSIVE, reasons=reasons)
    if verdict.log10_p_holm <= log10_alpha:
        return replace(verdict, decision=Decision.SUPPORTED)
    floor = verdict.trials * math.log10(verdict.chance) if verdict.log10_floor is None else verdict.log10_floor
    if floor > log10_alpha - math.log10(family):
        reason = f"{verdict.trials} trials cannot reach alpha even if all speak for the mark"
        return replace(verdict, decision=Decision.INCONCLUSIVE, reasons=(reason,))
    return replace(verdict, decision=Decision.NOT_SUPPORTED)


def _unnamed(verdict: Verdict) -> Verdict:
    """Nobody is named by evidence that does not hold: the ranked list stays, the names go."""
    if verdict.recipients is None or verdict.decision is Decision.SUPPORTED:
        return verdict
    return replace(verdict, recipients={**verdict.recipients, "word": "none", "named": []})
