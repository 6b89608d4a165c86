"""What was gathered is what was planned, exactly: probes, release, answers, canaries, budget. Steps 1 to 4 of an audit.

Each function names what differs, and none of them mends anything: evidence that departs from its plan is no evidence.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from countermark.errors import InconclusiveError, IntegrityError
from verification.claims import ONE_TRIGGER, PROBES, TEXTS, classes_of, derive_targets
from verification.double_i import recipients_of
from verification.plan import WRONG_KEY_ARM, probes_digest, probes_for
from verification.probe import PARSERS
from verification.sequential import boundaries, trigger_order
from verification.stopping import BUDGET

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from verification.audit import Evidence
    from verification.opening import Opened
    from verification.plan import AuditPlan, ClaimPlan, PlannedSuspect
    from verification.probe import Answer, Probe
    from verification.verdict import Verdict

PAID_KINDS = ("chat", "completions", "classifier_http")
"""Suspects whose queries a plan's budget is about."""


def check_plan(plan: AuditPlan) -> None:
    """The plan claims something, of somebody, and names everybody once.

    Raises:
        InconclusiveError: there is nothing to decide. IntegrityError: two of one name.
    """
    if not plan.claims:
        raise InconclusiveError("got a plan without claims, expected at least one")
    for claim in plan.claims:
        if all(suspect.control for suspect in claim.suspects):
            raise InconclusiveError(
                f"got claim {claim.claim} without a suspect, expected at least one that is no control"
            )
    names = [(c.claim, name) for c in plan.claims for s in c.suspects for name in (s.name, f"{s.name}/{WRONG_KEY_ARM}")]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise IntegrityError(f"got {twice[0][1]!r} of claim {twice[0][0]} twice in a plan, expected every name once")


def planted(key: Opened, claim: ClaimPlan) -> int:
    """How many triggers of this claim the release must hold, over all recipients' copies; a text mark is one."""
    if claim.claim in (*ONE_TRIGGER, *TEXTS):
        return 1
    copies = len(recipients_of(claim.mark))
    return copies * len(derive_targets(key, claim.claim, claim.mark, recipients_of(claim.mark)[0]))


def planned_order(plan: AuditPlan, claim: ClaimPlan, probes: Sequence[Probe]) -> list[Probe]:
    """The order in which a claim's probes are asked: trigger by trigger where the plan allows looks."""
    return trigger_order(probes, plan.wrong_key_seed) if plan.is_sequential(claim) else list(probes)


def check_probes(plan: AuditPlan, claim: ClaimPlan, key: Opened, evidence: Evidence) -> None:
    """The probes are the sealed ones, and those that the key re-derives; the release holds every trigger."""
    derived = PROBES[claim.claim](key, claim.mark, claim.carriers, wrong_seed=plan.wrong_key_seed)
    planned = evidence.probes[claim.claim]
    sealed = {probes_digest(planned), probes_digest(planned_order(plan, claim, derived))}
    if sealed != {claim.probes}:
        raise IntegrityError(
            f"got {claim.claim} probes that are not the sealed ones, expected those that the opening re-derives",
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


def check_answers(plan: AuditPlan, claim: ClaimPlan, suspect: PlannedSuspect, evidence: Evidence) -> None:
    """Every planned probe was answered once, in the plan's order, and is read as the plan's parser reads it.

    A suspect of a claim that may be looked at early answers a prefix that ends with a whole trigger; a control does so
    only where a budget could end.
    """
    probes = probes_for(evidence.probes[claim.claim], suspect)
    answers = evidence.answers.get(claim.claim, {}).get(suspect.name, ())
    wanted = [(p.id, suspect.name, p.arm, p.prompt_digest) for p in probes]
    ends = {len(wanted)}
    if plan.is_sequential(claim) and (plan.budget is not None or not suspect.control):
        ends |= {*boundaries(probes), *((0,) if plan.budget is not None else ())}
    got = [(a.id, a.suspect, a.arm, a.prompt_digest) for a in answers]
    if len(got) not in ends or got != wanted[: len(got)]:
        raise IntegrityError(
            f"got {len(got)} answers of {suspect.name}, expected one for each of {len(wanted)} planned probes"
            + (", or for the first of them up to a whole trigger" if len(ends) > 1 else ""),
            hint="no answer may be dropped, doubled or exchanged; probe again",
        )
    parse = PARSERS[claim.parser]
    misread = [answer.id for answer in answers if parse(answer.raw, claim.allowed) != answer.parsed]
    if misread:
        raise IntegrityError(
            f"got answer {misread[0]} of {suspect.name} parsed otherwise than {claim.parser} reads its raw text",
            hint="answers were edited after probing; probe again",
        )


def check_stop(plan: AuditPlan, finding: Verdict) -> None:
    """The asking stopped where the plan allows it: at alpha, where nothing was left to reach it, or with the budget."""
    stopped = finding.sequential["stopped"] if finding.sequential else None
    if stopped == BUDGET and plan.budget is None:
        raise IntegrityError(
            f"got {finding.trials} triggers of {finding.suspect}, where the plan's stopping rule goes on",
            hint="ask the rest of the plan; a plan without a budget has no other end",
        )


def check_budget(plan: AuditPlan, evidence: Evidence) -> None:
    """No more queries were sent to paid endpoints than the plan's budget has."""
    if plan.budget is None:
        return
    paid = {s.name for claim in plan.claims for s in claim.suspects if s.kind in PAID_KINDS}
    lists: Iterable[tuple[str, Sequence[Answer]]] = [
        *((name, said) for each in evidence.answers.values() for name, said in each.items()),
        *evidence.canaries.items(),
    ]
    spent = sum(len(said) for name, said in lists if name in paid)
    if spent > plan.budget.queries:
        raise IntegrityError(
            f"got {spent} answers of paid endpoints, expected at most the {plan.budget.queries} of the plan's budget",
            hint="an audit that departs from its sealed plan is none; plan another with a larger budget",
        )
