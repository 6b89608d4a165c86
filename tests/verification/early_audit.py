"""Sequential audits at small size, through the real path: derive, order, seal, ask until the rule stops, score."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.verification.small_audit import (
    CARRIERS,
    CONFIG_DIGEST,
    LABELS,
    PARSER,
    Small,
    allowed_answers,
    mark_of,
)
from verification.audit import Evidence, planted
from verification.canaries import ROUNDS, canary_probes
from verification.claims import PROBES
from verification.plan import (
    SEQUENTIAL_STOPPING,
    AuditPlan,
    Budget,
    Claim,
    ClaimPlan,
    PlannedSuspect,
    Sequential,
    probes_digest,
    probes_for,
)
from verification.probe import PARSERS, Answer
from verification.sequential import DEFAULT_PRIOR, trigger_order, whole_prefix
from verification.stopping import stop_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verification.probe import Probe
    from verification.verdict import Verdict
    from watermarks.keys import Key

PAIR = (
    PlannedSuspect(name="suspect", control=False, digest="s", kind="chat", address="http://127.0.0.1:8000/v1"),
    PlannedSuspect(name="twin", control=True, digest="t"),
)


def answers_of(
    claim: ClaimPlan,
    suspect: str,
    probes: Sequence[Probe],
    answer: Callable[[str], str],
    stop: Any = None,
    most: int = 10**6,
) -> list[Answer]:
    """What a function says, one answer at a time, until the rule stops or the budget ends."""
    said: list[Answer] = []
    for probe in probes[:most]:
        raw = answer(probe.prompt)
        said.append(
            Answer(
                id=probe.id, suspect=suspect, arm=probe.arm, prompt_digest=probe.prompt_digest, raw=raw,
                parsed=PARSERS[claim.parser](raw, claim.allowed) if claim.parser else None, attempt=1,
            )
        )  # fmt: skip
        if stop is not None and stop(said):
            return said
    return said[: whole_prefix(probes, len(said))] if len(said) < len(probes) else said


def early(
    key: Key,
    suspects: Mapping[Claim, Callable[[str], str]],
    *,
    twin: Callable[[str], str] | None = None,
    triggers: int = 60,
    alpha: float = 1e-4,
    look: int = 1,
    wrong_keys: int = 19,
    marks: Mapping[Claim, dict[str, Any]] | None = None,
    answers: tuple[str, ...] | None = None,
    budget: Budget | None = None,
    most: int = 10**6,
    prior: Any = DEFAULT_PRIOR,
    canaries: tuple[str, ...] = (),
    said_to_canaries: Callable[[str, str], str] = lambda prompt, _: prompt[::-1],
    **fields: Any,
) -> Small:
    """Seals a sequential plan, asks everybody under the plan's own stopping rule, and hands over plan and evidence."""
    seed, claims, probes = f"public/{key.key_id}", [], {}
    for claim in suspects:
        mark = (marks or {}).get(claim) or mark_of(claim, triggers)
        probes[claim] = trigger_order(PROBES[claim](key, mark, CARRIERS[claim], wrong_seed=seed), seed)
        claims.append(
            ClaimPlan(
                claim=claim, statistic="keyed binomial", mark=mark, suspects=PAIR,
                answers=answers or allowed_answers(claim), extra_answers=("Yes", "No") if answers else (),
                carriers=CARRIERS[claim], carrier_labels=LABELS if claim is Claim.INPUT_LEVEL else (),
                parser=PARSER[claim], decoding="greedy", probes=probes_digest(probes[claim]),
            )
        )  # fmt: skip
    plan = AuditPlan(
        alpha=alpha, commitments_made=1, wrong_key_seed=seed, wrong_keys=wrong_keys, claims=tuple(claims),
        commitment={"sha256": key.commit(CONFIG_DIGEST), "config_digest": CONFIG_DIGEST, "public_value": None},
        sequential=Sequential(prior=prior, look=look), stopping=SEQUENTIAL_STOPPING, budget=budget, canaries=canaries,
        **fields,
    )  # fmt: skip
    given = {
        each.claim: _asked(plan, each, key, probes[each.claim], (suspects[each.claim], twin), most) for each in claims
    }
    shown = _canaries(claims[0], canaries, said_to_canaries) if canaries else {}
    rows = {each.claim: [5] * planted(key, each) for each in claims}
    evidence = Evidence(corpora={}, answers=given, probes=probes, marked_rows=rows, canaries=shown)
    return Small(key=key, plan=plan, evidence=evidence)


def _asked(
    plan: AuditPlan,
    claim: ClaimPlan,
    key: Key,
    listed: Sequence[Probe],
    who_says: tuple[Callable[[str], str], Callable[[str], str] | None],
    most: int,
) -> dict[str, list[Answer]]:
    suspect, twin = who_says
    other = twin or (lambda _: claim.answers[1])
    return {
        who.name: answers_of(
            claim, who.name, probes_for(listed, who), other if who.control else suspect,
            stop_rule(plan, claim, key, listed, who), 10**6 if who.control else most,
        )
        for who in PAIR
    }  # fmt: skip


def _canaries(claim: ClaimPlan, prompts: tuple[str, ...], said: Callable[[str, str], str]) -> dict[str, list[Answer]]:
    asked = [(when, probe) for when in ROUNDS for probe in canary_probes(prompts, when)]
    return {
        who.name: [
            replace(answers_of(claim, who.name, [p], lambda _: "")[0], raw=said(p.prompt, f"{who.name}/{when}"))
            for when, p in asked
        ]
        for who in PAIR
    }


def verdict_of(small: Small, claim: Claim = Claim.DOUBLE_I, name: str = "suspect") -> Verdict:
    """One verdict of an audit."""
    return small.verdicts()[claim, name]


def cut(small: Small, count: int, claim: Claim = Claim.DOUBLE_I, who: str = "suspect") -> Small:
    """Only the first ``count`` answers of somebody."""
    mine = small.evidence.answers[claim]
    answers = {**small.evidence.answers, claim: {**mine, who: mine[who][:count]}}
    return replace(small, evidence=replace(small.evidence, answers=answers))


def with_budget(small: Small, queries: int = 10_000) -> Small:
    """The same evidence under a plan that has a budget."""
    return replace(small, plan=replace(small.plan, budget=Budget(queries=queries)))
