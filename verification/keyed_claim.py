"""Claims that ask: triggers or codewords whose answers the key drew.

One majority answer a trigger is one trial. At fixed n the exact binomial decides; where the plan allows looks, the
e-process of :mod:`verification.keyed_prefix`. The method's own numbers stand beside it, labelled: they are about this
model's reaction, and no false-positive bound.

Controls keep the exact binomial in either case. Models that are controls are asked in full, whatever the suspects
said; the wrong key's triggers stop with the keyed ones, whose targets are independent of the wrong key's: neither is
stopped by its own evidence. A control that was cut short is at most rejected too often, which errs against the claim.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from verification.findings import MUTE, SILENT, UNTOUCHED, control_level, finding, nothing, ranking
from verification.keyed_beside import paper, wrong_matches
from verification.keyed_prefix import prefix_finding
from verification.plan import KEYED_ARM, WRONG_KEY_ARM, probes_for
from verification.recipients import name_recipients
from verification.statistics import log10_binomial_tail
from verification.stopping import asked_triggers, wanted_answers
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.opening import Opened
    from verification.plan import AuditPlan, ClaimPlan
    from verification.probe import Answer, Probe
    from verification.verdict import Verdict


def keyed_findings(
    plan: AuditPlan, claim: ClaimPlan, key: Opened, listed: Sequence[Probe], answers: Mapping[str, Sequence[Answer]]
) -> list[Verdict]:
    """One finding a suspect, and one for a wrong key's triggers on it."""
    findings = []
    longest = max(
        len(asked_triggers(probes_for(listed, s), answers.get(s.name, ()), KEYED_ARM))
        for s in claim.suspects
        if not s.control
    )
    for suspect in claim.suspects:
        said = answers.get(suspect.name, ())
        probes = probes_for(listed, suspect)
        if suspect.control:
            found = _arm(plan, claim, probes, said, (suspect.name, True, KEYED_ARM, key))
            weighed = _unweighed(plan, claim, probes, said, longest)
            findings.append(replace(found, reasons=weighed or found.reasons))
            continue
        if plan.is_sequential(claim):
            findings.append(prefix_finding(plan, claim, key, probes, said, suspect.name))
        else:
            findings.append(_arm(plan, claim, probes, said, (suspect.name, False, KEYED_ARM, key)))
        other = wrong_key(plan.wrong_key_seed, 0)
        findings.append(
            _arm(plan, claim, probes, said, (f"{suspect.name}/{WRONG_KEY_ARM}", True, WRONG_KEY_ARM, other))
        )
    return [replace(each, assumptions=(*each.assumptions, UNTOUCHED)) for each in findings]


def _arm(
    plan: AuditPlan,
    claim: ClaimPlan,
    probes: Sequence[Probe],
    answers: Sequence[Answer],
    who: tuple[str, bool, str, Opened],
) -> Verdict:
    """One arm by the binomial over all its triggers, the best of the recipients, who are all paid for."""
    name, control, arm, key = who
    triggers, wanted = asked_triggers(probes, answers, arm), wanted_answers(claim, key)
    if not triggers:
        return nothing(plan, claim, name, control=control, chance=1.0 / len(claim.answers))
    naming = name_recipients(
        [vote for _, vote in triggers],
        {recipient: [targets[index] for index, _ in triggers] for recipient, targets in wanted.items()},
        classes=len(claim.answers), alpha=plan.alpha, log10_paid=math.log10(plan.paid * plan.family),
    )  # fmt: skip
    best, asked = max(naming.ranked, key=lambda each: each.matches), probes[: len(answers)]
    found = finding(
        plan, claim, name, best.matches, best.trials, 1.0 / len(claim.answers), control=control,
        queries=sum(probe.arm == arm for probe in asked), tried=len(naming.ranked),
    )  # fmt: skip
    found = replace(found, paper=paper(claim, asked, answers, arm, wanted[best.recipient]))
    if best.recipient:
        found = replace(found, recipients=naming.to_json())
    spoke = {p.index for p, a in zip(asked, answers, strict=True) if p.arm == arm and a.parsed in claim.answers}
    if control and _mute(plan, len(spoke), len(triggers), 1.0 / len(claim.answers), len(naming.ranked)):
        found = replace(found, reasons=(MUTE,))
    if arm == KEYED_ARM and not control:
        found = replace(found, wrong_keys=ranking(best.matches, wrong_matches(plan, claim, triggers)))
    return found


def _mute(plan: AuditPlan, heard: int, trials: int, chance: float, tried: int) -> bool:
    """Whether a control that was asked enough would pass even if every trigger it answered at all were the key's."""
    level = math.log10(control_level(plan.alpha) / tried)
    return trials * math.log10(chance) <= level < log10_binomial_tail(heard, trials, chance)


def _unweighed(
    plan: AuditPlan, claim: ClaimPlan, probes: Sequence[Probe], answers: Sequence[Answer], longest: int
) -> tuple[str, ...]:
    """Why a control shows nothing: it was asked less than the suspect, or was silent and could not have failed."""
    spoke: dict[int, bool] = {}
    for probe, answer in zip(probes, answers, strict=False):
        if probe.arm == KEYED_ARM:
            spoke[probe.index] = spoke.get(probe.index, False) or bool(answer.raw.strip())
    asked, heard = len(spoke), sum(spoke.values())
    if not heard:
        return (SILENT,)
    if asked < longest:
        return (f"was asked {asked} triggers, the suspect {longest}",)
    if heard < asked and -heard * math.log10(len(claim.answers)) > math.log10(plan.alpha):
        return (f"answered {heard} of {asked} triggers, too few to be weighed",)
    return ()
