"""What stands beside a keyed claim's deciding number: the method's own figures, and wrong keys on the same answers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from verification import double_i
from verification.double_i import PAPER_LABEL
from verification.findings import success_rate
from verification.plan import KEYED_ARM, Claim
from verification.stopping import wanted_answers
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.plan import AuditPlan, ClaimPlan
    from verification.probe import Answer, Probe


def wrong_matches(plan: AuditPlan, claim: ClaimPlan, triggers: Sequence[tuple[int, str | None]]) -> list[int]:
    """The same answers against the targets of wrong keys (the best recipient of each, as for the claim's own key)."""
    found = []
    for i in range(1, plan.wrong_keys + 1):
        wanted = wanted_answers(claim, wrong_key(plan.wrong_key_seed, i))
        found.append(max(sum(vote == targets[index] for index, vote in triggers) for targets in wanted.values()))
    return found


def paper(
    claim: ClaimPlan, probes: Sequence[Probe], answers: Sequence[Answer], arm: str, targets: Sequence[str]
) -> dict[str, Any] | None:
    """The method's own numbers: the watermark success rate, for Double-I Fisher on trigger against reference.

    At the input level WSR counts carriers of other classes, as the paper does.
    """
    if claim.claim is Claim.DOUBLE_I:
        asked = {probe.arm for probe in probes}  # a short prefix may hold none of them yet
        whole = {KEYED_ARM, double_i.TRIGGER_ARM, double_i.REFERENCE_ARM} <= asked
        return double_i.paper(claim.mark, probes, answers) if arm == KEYED_ARM and whole else None
    others: defaultdict[int, list[bool]] = defaultdict(list)
    for probe, answer in zip(probes, answers, strict=True):
        of_class = claim.carrier_labels and claim.carrier_labels[probe.carrier] == targets[probe.index]
        if probe.arm == arm and not of_class:
            others[probe.index].append(answer.parsed == targets[probe.index])
    return {"label": PAPER_LABEL, **success_rate(list(others.values()))}
