"""Where an audit that may stop early ended: what is a departure from its plan, and what only leaves it undecided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from countermark.errors import IntegrityError
from tests.support import key_of
from tests.verification.early_audit import answers_of, cut, early, verdict_of, with_budget
from tests.verification.small_audit import mark_of, trained
from verification.claims import PROBES
from verification.plan import Claim, PlannedSuspect, probes_digest, probes_for
from verification.sequential import boundaries, trigger_order
from verification.verdict import Decision

KEY = key_of("early")
SUPPORTED, INCONCLUSIVE = Decision.SUPPORTED, Decision.INCONCLUSIVE
CLAIMS = [Claim.INPUT_LEVEL, Claim.DOUBLE_I]


def _learnt(claim):
    return trained(KEY, mark_of(claim, 60), claim)


@pytest.fixture(scope="module")
def strong():
    return early(KEY, {claim: _learnt(claim) for claim in CLAIMS})


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_prefix_that_ends_inside_a_trigger_is_refused(strong, claim):
    probes = probes_for(strong.evidence.probes[claim], strong.plan.claims[0].suspects[0])
    ends = boundaries(probes)
    small = with_budget(strong)
    for count in range(1, ends[1] + 1):
        if count in ends:
            assert verdict_of(cut(small, count, claim), claim).trials == ends.index(count) + 1
        else:
            with pytest.raises(IntegrityError, match="up to a whole trigger"):
                cut(small, count, claim).verdicts()


def test_stopping_where_the_plan_goes_on_is_a_departure(strong):
    ends = boundaries(probes_for(strong.evidence.probes[Claim.DOUBLE_I], strong.plan.claims[0].suspects[0]))
    with pytest.raises(IntegrityError, match="stopping rule goes on"):
        cut(strong, ends[4]).verdicts()
    with pytest.raises(IntegrityError, match="0 answers"):
        cut(strong, 0).verdicts()


def test_a_budget_that_ends_leaves_the_claim_undecided_and_never_supported(strong):
    ends = boundaries(probes_for(strong.evidence.probes[Claim.DOUBLE_I], strong.plan.claims[0].suspects[0]))
    small = with_budget(strong)
    verdict = verdict_of(cut(small, ends[4]))
    assert (verdict.decision, verdict.sequential["stopped"], verdict.trials) == (INCONCLUSIVE, "budget", 5)
    assert "the budget ended after 5 of 60 triggers" in verdict.sentence()
    never = verdict_of(cut(small, 0))
    assert (never.decision, never.trials, never.log10_p) == (INCONCLUSIVE, 0, 0.0)


def test_a_control_that_was_asked_less_than_the_suspect_decides_nothing(strong):
    twin = PlannedSuspect(name="twin", control=True, digest="t")
    ends = boundaries(probes_for(strong.evidence.probes[Claim.DOUBLE_I], twin))
    with pytest.raises(IntegrityError, match="answers of twin"):
        cut(strong, ends[4], who="twin").verdicts()
    small = with_budget(strong)
    less = verdict_of(cut(small, ends[4], who="twin"))
    assert less.decision is INCONCLUSIVE
    assert "control twin was asked 5 triggers, the suspect 1" in less.sentence()
    assert verdict_of(cut(small, 0, who="twin")).decision is INCONCLUSIVE
    asked = verdict_of(strong).trials
    assert verdict_of(cut(small, ends[asked - 1], who="twin")).decision is SUPPORTED


def test_answers_beyond_the_stop_change_no_p(strong):
    claim, suspect = strong.plan.claims[1], strong.plan.claims[1].suspects[0]
    probes = probes_for(strong.evidence.probes[Claim.DOUBLE_I], suspect)
    learnt, stopped = _learnt(Claim.DOUBLE_I), verdict_of(strong)
    ends = boundaries(probes)

    def then_wrong(prompt):
        return learnt(prompt) if prompt in early_prompts else "Unsure"

    early_prompts = {p.prompt for p in probes[: ends[stopped.trials - 1]]}
    said = answers_of(claim, "suspect", probes[: ends[stopped.trials + 9]], then_wrong)
    mine = {**strong.evidence.answers[Claim.DOUBLE_I], "suspect": said}
    evidence = replace(strong.evidence, answers={**strong.evidence.answers, Claim.DOUBLE_I: mine})
    longer = verdict_of(replace(strong, evidence=evidence))
    assert longer.trials == stopped.trials + 10
    assert (longer.log10_p, longer.decision) == (stopped.log10_p, SUPPORTED)
    assert longer.log10_e < stopped.log10_e  # the e-value is that of the last look


def test_probes_in_another_order_are_not_the_sealed_ones(strong):
    listed = PROBES[Claim.DOUBLE_I](
        KEY, strong.plan.claims[1].mark, strong.plan.claims[1].carriers, wrong_seed=strong.plan.wrong_key_seed
    )
    for other in (listed, trigger_order(listed, "another seed")):
        small = replace(
            strong, evidence=replace(strong.evidence, probes={**strong.evidence.probes, Claim.DOUBLE_I: other})
        )
        small.with_claim(Claim.DOUBLE_I, probes=probes_digest(other))
        with pytest.raises(IntegrityError, match="not the sealed ones"):
            small.verdicts()


TAMPERED = {
    "dropped first": lambda a: a[1:],
    "doubled": lambda a: [a[0], a[0], *a[2:]],
    "reordered": lambda a: [a[1], a[0], *a[2:]],
    "other prompt": lambda a: [replace(a[0], prompt_digest="0" * 64), *a[1:]],
    "edited": lambda a: [replace(a[0], raw="No comment"), *a[1:]],
    "a trigger cut out": lambda a: [*a[:20], *a[28:]],
}


@pytest.mark.parametrize("name", TAMPERED)
@pytest.mark.parametrize("who", ["suspect", "twin"])
def test_tampered_answers_are_refused(strong, name, who):
    small = with_budget(strong)
    mine = small.evidence.answers[Claim.INPUT_LEVEL]
    changed = {**mine, who: TAMPERED[name](list(mine[who]))}
    evidence = replace(small.evidence, answers={**small.evidence.answers, Claim.INPUT_LEVEL: changed})
    with pytest.raises(IntegrityError):
        replace(small, evidence=evidence).verdicts()


def test_more_answers_of_a_paid_endpoint_than_the_budget_has_are_a_departure(strong):
    spent = sum(len(each["suspect"]) for each in strong.evidence.answers.values())
    assert verdict_of(with_budget(strong, spent)).decision is SUPPORTED
    with pytest.raises(IntegrityError, match=f"got {spent} answers of paid endpoints"):
        with_budget(strong, spent - 1).verdicts()
