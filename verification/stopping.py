"""How far a keyed claim has come in a prefix of its answers, and whether it may stop there.

What stops an audit here is read from the sealed plan alone, and again by whoever checks it: the evidence has reached
alpha after every correction at a look, or no outcome of the triggers that are left could reach it any more. The latter
saves queries and can never make a claim supported; neither can a budget that ends early, nor answers beyond the stop.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from verification.bets import chance_of, mixture
from verification.claims import derive_targets
from verification.double_i import recipients_of
from verification.plan import KEYED_ARM, probes_for
from verification.probe import majority
from verification.sequential import KeyedProcess, boundaries, looked_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verification.opening import Opened
    from verification.plan import AuditPlan, ClaimPlan, PlannedSuspect
    from verification.probe import Answer, Probe

ALPHA = "alpha"
EXHAUSTED = "exhausted"
BUDGET = "budget"
"""Why the asking stopped: alpha was reached; what the plan holds cannot reach it any more; neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What log10 E is compared with.

    Args:
        paid: log10 of what every p-value is multiplied by: commitments, audits, and recipients of this claim.
        enough: supported at this E whatever the plan's other claims say: Holm's first step.
        needed: below this E the claim is not supported whatever they say: Holm's last step.
    """

    paid: float
    enough: float
    needed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One recipient's evidence after so many triggers. ``path`` is log10 E after each, nothing paid yet."""

    recipient: str
    matches: int
    path: tuple[float, ...]
    best: float
    """Largest log10 E at any look, at least 0: minus this is the anytime-valid log10 p."""


def thresholds(plan: AuditPlan, claim: ClaimPlan) -> Thresholds:
    """The bars of one keyed claim."""
    paid = math.log10(plan.paid) + math.log10(len(recipients_of(claim.mark)))
    needed = paid - math.log10(plan.alpha)
    return Thresholds(paid=paid, needed=needed, enough=needed + math.log10(max(1, plan.family)))


def asked_triggers(probes: Sequence[Probe], answers: Sequence[Answer], arm: str) -> list[tuple[int, str | None]]:
    """The triggers of an arm that every carrier has asked, in the order of asking, with the majority's answer each."""
    planned: defaultdict[int, int] = defaultdict(int)
    for probe in probes:
        planned[probe.index] += probe.arm == arm
    ballots: defaultdict[int, list[str | None]] = defaultdict(list)
    done = []
    for probe, answer in zip(probes, answers, strict=False):  # answers may be a prefix
        if probe.arm == arm:
            ballots[probe.index].append(answer.parsed)
            if len(ballots[probe.index]) == planned[probe.index]:
                done.append((probe.index, majority(ballots[probe.index])))
    return done


def wanted_answers(claim: ClaimPlan, key: Opened) -> dict[str, list[str]]:
    """What each recipient's copy taught, by trigger."""
    return {
        who: [claim.answers[target] for target in derive_targets(key, claim.claim, claim.mark, who)]
        for who in recipients_of(claim.mark)
    }


def courses(
    plan: AuditPlan, claim: ClaimPlan, wanted: Mapping[str, Sequence[str]], asked: Sequence[tuple[int, str | None]]
) -> list[Course]:
    """Every recipient's evidence, strongest first; ties by name."""
    if plan.sequential is None:
        raise UsageError("got a plan of fixed n, expected a sequential one")
    found = []
    for who, targets in wanted.items():
        process = KeyedProcess(plan.sequential.prior, classes=len(claim.answers))
        for index, vote in asked:
            process.see(vote == targets[index])
        best = max([0.0, *looked_at(process.path, plan.sequential.look)])
        found.append(Course(recipient=who, matches=process.hits, path=tuple(process.path), best=best))
    return sorted(found, key=lambda course: (-course.best, course.recipient))


def most(plan: AuditPlan, claim: ClaimPlan, *, matches: int, triggers: int) -> float:
    """log10 E of so many matches; nothing reaches more than ``triggers`` matches of as many."""
    if plan.sequential is None:
        raise UsageError("got a plan of fixed n, expected a sequential one")
    return mixture(plan.sequential.prior, chance_of(len(claim.answers))).log10_worth(matches, triggers - matches)


def why_stopped(plan: AuditPlan, claim: ClaimPlan, found: Sequence[Course], *, planned: int) -> str:
    """``alpha``, ``exhausted`` or ``budget``, from all recipients' evidence and the number of triggers planned."""
    bars, asked = thresholds(plan, claim), len(found[0].path)
    if found[0].best >= bars.enough:
        return ALPHA
    left = planned - asked
    reach = max(most(plan, claim, matches=course.matches + left, triggers=planned) for course in found)
    return EXHAUSTED if left == 0 or max(reach, found[0].best) < bars.needed else BUDGET


def stop_rule(
    plan: AuditPlan, claim: ClaimPlan, key: Opened, listed: Sequence[Probe], suspect: PlannedSuspect
) -> Callable[[Sequence[Answer]], bool]:
    """What the asking loop asks after each answer: may it stop? ``listed`` is the claim's probe list as planned.

    The rule gets the answers so far, in the plan's order. It says True only where a trigger has just been completed,
    so that the prefix is one that an audit accepts. Controls, and claims that are not looked at early, are asked in
    full: their rule never says True.
    """
    if suspect.control or not plan.is_sequential(claim) or plan.sequential is None:
        return lambda _: False
    probes, wanted, look = probes_for(listed, suspect), wanted_answers(claim, key), plan.sequential.look
    ends = set(boundaries(probes))

    def may_stop(answers: Sequence[Answer]) -> bool:
        if len(answers) not in ends:
            return False
        asked = asked_triggers(probes, answers, KEYED_ARM)
        if len(asked) % look and len(asked) != len(ends):
            return False
        return why_stopped(plan, claim, courses(plan, claim, wanted, asked), planned=len(ends)) != BUDGET

    return may_stop
