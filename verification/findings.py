"""What every claim's finding has in common, before multiplicity and controls decide about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from verification.statistics import (
    Interval,
    clopper_pearson,
    grouped_share,
    log10_binomial_tail,
    log10_e_value,
    rank_p,
)
from verification.verdict import Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.plan import AuditPlan, ClaimPlan

HONEST_DRAW = "assumes the owner drew the key honestly: no public value B was fixed between commitment and marking"
CONTROL_LEVEL = 1e-3
SILENT = "said nothing that could be weighed"
MUTE = "gave too few of the counted answers to be supported, had they all been the key's"
"""Of a control that spoke, but not so: an innocent model may well. It is shown as what it is, no proof of innocence."""
UNTOUCHED = "assumes that the suspect's maker did not learn the targets from us"


def control_level(alpha: float) -> float:
    """The level of controls: what lies between it and alpha is no evidence, but it is no clean control either."""
    return max(alpha, CONTROL_LEVEL)


def finding(
    plan: AuditPlan,
    claim: ClaimPlan,
    name: str,
    hits: int,
    trials: int,
    chance: float,
    *,
    control: bool,
    queries: int,
    tried: int = 1,
) -> Verdict:
    """A verdict before multiplicity: exact tail (5), e-value (6), effect (9).

    ``tried`` is how many hypotheses the best of which this finding is (recipients of a release): all are paid for. The
    commitments and audits that an owner may have tried are paid by claims alone: a control that pays is let off.
    """
    paid = math.log10(tried * (1 if control else plan.paid))  # 8: a key chosen among several commitments
    raw = min(0.0, log10_binomial_tail(hits, trials, chance) + paid)
    honest = () if plan.commitment.get("public_value") else (HONEST_DRAW,)
    return Verdict(
        claim=claim.claim,
        suspect=name,
        control=control,
        decision=Decision.INCONCLUSIVE,
        method=claim.statistic,
        alpha=plan.alpha,
        queries=queries,
        log10_p=raw,
        log10_p_holm=raw,
        successes=hits,
        trials=trials,
        chance=chance,
        effect=clopper_pearson(hits, trials),
        log10_e=log10_e_value(hits, trials, chance) - paid,
        log10_floor=trials * math.log10(chance) + math.log10(tried),
        assumptions=honest,
    )


def nothing(plan: AuditPlan, claim: ClaimPlan, name: str, *, control: bool, chance: float) -> Verdict:
    """The finding about somebody who was not asked a single whole trigger: p is 1, and nothing could be less."""
    return Verdict(
        claim=claim.claim, suspect=name, control=control, decision=Decision.INCONCLUSIVE, method=claim.statistic,
        alpha=plan.alpha, queries=0, log10_p=0.0, log10_p_holm=0.0, log10_floor=0.0, successes=0, trials=0,
        chance=chance, effect=Interval(value=0.0, low=0.0, high=1.0, level=0.95),
    )  # fmt: skip


def ranking(claim: int, others: list[int]) -> dict[str, Any]:
    """The claim's statistic among those of wrong keys."""
    return {"statistic": claim, "others": others, "count": len(others), "rank_p": rank_p(claim, others)}


def success_rate(triggers: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """The watermark success rate of answers by trigger, for a verdict's ``paper``; None where nothing was counted."""
    count = sum(map(len, triggers))
    found = grouped_share(triggers) if count else None
    return {
        "wsr": found and found.value, "wsr_low": found and found.low, "wsr_high": found and found.high,
        "wsr_queries": count,
    }  # fmt: skip
