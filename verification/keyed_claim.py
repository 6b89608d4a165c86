"""Claims that ask: triggers or codewords whose answers the key drew.

The keyed binomial decides (one majority answer a trigger, exact tail). The method's own numbers stand beside it,
labelled: they are about this model's reaction, and no false-positive bound.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from verification import double_i
from verification.claims import derive_targets
from verification.double_i import PAPER_LABEL
from verification.findings import UNTOUCHED, finding, ranking
from verification.plan import KEYED_ARM, WRONG_KEY_ARM, Claim, probes_for
from verification.probe import majority
from verification.recipients import Naming, name_recipients
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.plan import AuditPlan, ClaimPlan
    from verification.probe import Answer, Probe
    from verification.verdict import Verdict
    from watermarks.keys import Key


def keyed_findings(
    plan: AuditPlan, claim: ClaimPlan, key: Key, listed: Sequence[Probe], answers: Mapping[str, Sequence[Answer]]
) -> list[Verdict]:
    """One finding a suspect, and one for a wrong key's triggers on it."""
    findings = []
    for suspect in claim.suspects:
        probes, said = probes_for(listed, suspect), answers[suspect.name]
        arms = [(suspect.name, suspect.control, KEYED_ARM, key)]
        if not suspect.control:
            arms.append((f"{suspect.name}/{WRONG_KEY_ARM}", True, WRONG_KEY_ARM, wrong_key(plan.wrong_key_seed, 0)))
        for name, control, arm, who in arms:
            found = _arm(plan, claim, probes, said, (name, control, arm, who))
            findings.append(replace(found, assumptions=(*found.assumptions, UNTOUCHED)))
    return findings


def _arm(
    plan: AuditPlan,
    claim: ClaimPlan,
    probes: Sequence[Probe],
    answers: Sequence[Answer],
    who: tuple[str, bool, str, Key],
) -> Verdict:
    name, control, arm, key = who
    votes = _votes(probes, answers, arm)
    naming = _naming(plan, claim, votes, key)
    best = naming.ranked[0]
    found = finding(
        plan,
        claim,
        name,
        best.matches,
        best.trials,
        1.0 / len(claim.answers),
        control=control,
        queries=sum(probe.arm == arm for probe in probes),
        tried=len(naming.ranked),
    )
    found = replace(found, paper=_paper(claim, probes, answers, arm, _wanted(claim, key, best.recipient)))
    if best.recipient:
        found = replace(found, recipients=naming.to_json())
    if arm == KEYED_ARM and not control:
        found = replace(found, wrong_keys=ranking(best.matches, _wrong_matches(plan, claim, votes)))
    return found


def _naming(plan: AuditPlan, claim: ClaimPlan, votes: Sequence[str | None], key: Key) -> Naming:
    """Every recipient scored on the same votes; commitments and the plan's other claims are paid for."""
    targets = {who: _wanted(claim, key, who) for who in double_i.recipients_of(claim.mark)}
    family = plan.paid * sum(not s.control for each in plan.claims for s in each.suspects)
    return name_recipients(votes, targets, classes=len(claim.answers), alpha=plan.alpha, log10_paid=math.log10(family))


def _wanted(claim: ClaimPlan, key: Key, recipient: str) -> list[str]:
    return [claim.answers[t] for t in derive_targets(key, claim.claim, claim.mark, recipient)]


def _votes(probes: Sequence[Probe], answers: Sequence[Answer], arm: str) -> list[str | None]:
    """One majority answer a trigger, however many queries it took."""
    ballots: defaultdict[int, list[str | None]] = defaultdict(list)
    for probe, answer in zip(probes, answers, strict=True):
        if probe.arm == arm:
            ballots[probe.index].append(answer.parsed)
    return [majority(ballots[index]) for index in sorted(ballots)]


def _wrong_matches(plan: AuditPlan, claim: ClaimPlan, votes: Sequence[str | None]) -> list[int]:
    """The same answers against the targets of wrong keys (the best recipient of each, as for the claim's own key)."""
    recipients = double_i.recipients_of(claim.mark)
    found = []
    for i in range(1, plan.wrong_keys + 1):
        key = wrong_key(plan.wrong_key_seed, i)
        targets = [_wanted(claim, key, who) for who in recipients]
        found.append(max(sum(v == t for v, t in zip(votes, each, strict=True)) for each in targets))
    return found


def _paper(
    claim: ClaimPlan, probes: Sequence[Probe], answers: Sequence[Answer], arm: str, targets: Sequence[str]
) -> dict[str, Any] | None:
    """The method's own numbers: the watermark success rate, for Double-I Fisher on trigger against reference.

    At the input level WSR counts carriers of other classes, as the paper does.
    """
    if claim.claim is Claim.DOUBLE_I:
        return double_i.paper(claim.mark, probes, answers) if arm == KEYED_ARM else None
    others = [
        answer.parsed == targets[probe.index]
        for probe, answer in zip(probes, answers, strict=True)
        if probe.arm == arm
        and not (claim.carrier_labels and claim.carrier_labels[probe.carrier] == targets[probe.index])
    ]
    return {"label": PAPER_LABEL, "wsr": sum(others) / len(others) if others else None, "wsr_queries": len(others)}
