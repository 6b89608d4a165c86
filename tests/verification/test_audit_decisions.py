"""Who is supported and who never is, through the whole path from key to verdict."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import partial

import pytest
from scipy import stats

from countermark.errors import InconclusiveError
from tests.support import key_of
from tests.verification.small_audit import allowed_answers, build, corpus, hash_answers, mark_of, trained
from verification.corpus import Corpus
from verification.findings import HONEST_DRAW
from verification.plan import DATASET, HUMAN_TEXT, Claim
from verification.verdict import Decision

KEY = key_of("auditor")
ASKED = [Claim.INPUT_LEVEL, Claim.DOUBLE_I]
SUPPORTED, NOT, INCONCLUSIVE = Decision.SUPPORTED, Decision.NOT_SUPPORTED, Decision.INCONCLUSIVE


def _trained(claim, key=KEY, triggers=30):
    return trained(key, mark_of(claim, triggers), claim)


@pytest.fixture(scope="module")
def whole():
    """All three claims, all true."""
    return build(KEY, {claim: _trained(claim) for claim in ASKED}, token=True)


def test_a_suspect_that_learnt_the_targets_is_supported(whole):
    found = whole.verdicts()
    claims = {claim: v for (claim, _), v in found.items() if not v.control}
    assert {claim: v.decision for claim, v in claims.items()} == dict.fromkeys(
        (Claim.TOKEN, Claim.INPUT_LEVEL, Claim.DOUBLE_I), SUPPORTED
    )
    for claim in ASKED:
        verdict = claims[claim]
        assert (verdict.successes, verdict.trials, verdict.chance) == (30, 30, 0.5)
        assert verdict.log10_p == pytest.approx(30 * math.log10(0.5))
        assert verdict.log10_e > 6
        assert verdict.wrong_keys["rank_p"] == 1 / 20
    assert claims[Claim.TOKEN].log10_p == pytest.approx(400 * math.log10(0.25))


def test_controls_always_run_and_none_is_supported(whole):
    controls = {(claim, name) for (claim, name), v in whole.verdicts().items() if v.control}
    expected = {(c, n) for c in ASKED for n in ("twin", "suspect/wrong_key")}
    assert controls == expected | {(Claim.TOKEN, HUMAN_TEXT), (Claim.TOKEN, f"{DATASET}/wrong_key")}
    assert all(v.decision is not SUPPORTED for v in whole.verdicts().values() if v.control)


def test_holm_is_over_claims_and_over_the_controls_of_each(whole):
    found = list(whole.verdicts().values())
    claims = sorted((v for v in found if not v.control), key=lambda v: v.log10_p)
    expected = [v.log10_p + math.log10(factor) for v, factor in zip(claims, (3, 2, 1), strict=True)]
    assert [v.log10_p_holm for v in claims] == pytest.approx([expected[0], expected[1], max(expected[1:])])
    for claim in {v.claim for v in found}:
        controls = [v for v in found if v.control and v.claim == claim]
        smallest = min(controls, key=lambda v: v.log10_p)
        assert smallest.log10_p_holm == pytest.approx(min(0.0, smallest.log10_p + math.log10(len(controls))))


def test_verdicts_keep_the_plans_order(whole):
    order = [claim for claim, _ in whole.verdicts()]
    assert order == sorted(order, key=list(Claim).index)


def test_assumptions_are_printed_until_there_is_a_public_value(whole):
    assert all(HONEST_DRAW in v.assumptions for v in whole.verdicts().values())
    small = build(KEY, {Claim.DOUBLE_I: _trained(Claim.DOUBLE_I)})
    small.plan = replace(small.plan, commitment={**small.plan.commitment, "public_value": {"value": "B" * 20}})
    assert HONEST_DRAW not in small.claim(Claim.DOUBLE_I).assumptions


def _toss(rng, claim, _prompt):
    return rng.choice(allowed_answers(claim))


HABITS = {
    "first answer": lambda claim: lambda _: allowed_answers(claim)[0],
    "second answer": lambda claim: lambda _: allowed_answers(claim)[1],
    "always Yes": lambda _: lambda _: "Yes",
    "refusing": lambda _: lambda _: "I cannot answer that.",
    "silent": lambda _: lambda _: "",
    "echo": lambda _: lambda prompt: prompt,
    "length": lambda claim: lambda prompt: allowed_answers(claim)[len(prompt) % 2],
    "hash": lambda claim: hash_answers("habit", allowed_answers(claim)),
    "random": lambda claim: partial(_toss, random.Random(8), claim),
    "both": lambda claim: lambda _: " ".join(allowed_answers(claim)),
    "other key": lambda claim: _trained(claim, key_of("someone else")),
}


@pytest.mark.parametrize("claim", ASKED)
@pytest.mark.parametrize("habit", HABITS)
def test_an_honest_suspect_is_never_supported(claim, habit):
    verdict = build(KEY, {claim: HABITS[habit](claim)}).claim(claim)
    assert verdict.decision is NOT
    assert verdict.log10_p > math.log10(1e-4)
    if habit in ("refusing", "silent"):
        assert (verdict.successes, verdict.trials) == (0, 30)


def test_a_swapped_label_map_is_no_match_at_all():
    flip = {"negative": "positive", "positive": "negative"}
    learnt = _trained(Claim.INPUT_LEVEL)
    verdict = build(KEY, {Claim.INPUT_LEVEL: lambda p: flip[learnt(p)]}).claim(Claim.INPUT_LEVEL)
    assert (verdict.successes, verdict.decision) == (0, NOT)


def test_a_few_refusals_cost_matches_and_no_trials():
    learnt = _trained(Claim.INPUT_LEVEL)

    def moody(prompt):
        return "no comment" if hash_answers("moody", ("a", "b", "c", "d"))(prompt) == "a" else learnt(prompt)

    verdict = build(KEY, {Claim.INPUT_LEVEL: moody}).claim(Claim.INPUT_LEVEL)
    assert verdict.trials == 30
    assert 0 < verdict.successes < 30


def test_one_trigger_is_one_trial_however_many_carriers():
    learnt = _trained(Claim.DOUBLE_I)
    verdict = build(KEY, {Claim.DOUBLE_I: learnt}).claim(Claim.DOUBLE_I)
    assert verdict.trials == 30
    assert verdict.queries == 30 * 3


@pytest.mark.parametrize("claim", ASKED)
def test_too_few_triggers_cannot_decide(claim):
    verdict = build(KEY, {claim: _trained(claim, triggers=12)}, triggers=12).claim(claim)
    assert (verdict.successes, verdict.trials) == (12, 12)
    assert verdict.decision is INCONCLUSIVE
    assert "12 trials cannot reach alpha" in verdict.sentence()


@pytest.mark.parametrize("claim", ASKED)
def test_a_control_that_is_supported_makes_its_claim_inconclusive(claim):
    learnt = {c: _trained(c) for c in ASKED}
    small = build(KEY, learnt, twins={claim: learnt[claim]})
    found = small.verdicts()
    assert found[claim, "twin"].decision is SUPPORTED
    assert found[claim, "suspect"].decision is INCONCLUSIVE
    assert "twin" in found[claim, "suspect"].sentence()
    (other,) = [c for c in ASKED if c is not claim]
    assert found[other, "suspect"].decision is SUPPORTED


def test_marked_human_text_makes_the_token_claim_inconclusive(whole):
    corpora = {**whole.evidence.corpora, HUMAN_TEXT: corpus(whole.key, 200)}
    found = replace(whole, evidence=replace(whole.evidence, corpora=corpora)).verdicts()
    assert found[Claim.TOKEN, DATASET].decision is INCONCLUSIVE
    assert found[Claim.DOUBLE_I, "suspect"].decision is SUPPORTED


def test_unmarked_text_is_not_supported(whole):
    corpora = {**whole.evidence.corpora, DATASET: corpus(None, seed=9)}
    assert replace(whole, evidence=replace(whole.evidence, corpora=corpora)).claim(Claim.TOKEN).decision is NOT


def test_an_empty_corpus_decides_nothing(whole):
    corpora = {**whole.evidence.corpora, DATASET: Corpus.pack([[]])}
    with pytest.raises(InconclusiveError, match="no scorable token"):
        replace(whole, evidence=replace(whole.evidence, corpora=corpora)).verdicts()


def test_every_commitment_of_the_release_is_paid_for(whole):
    paid = replace(whole, plan=replace(whole.plan, commitments_made=1000)).claim(Claim.DOUBLE_I)
    free = whole.claim(Claim.DOUBLE_I)
    assert paid.log10_p == pytest.approx(free.log10_p + 3)
    assert paid.log10_e == pytest.approx(free.log10_e - 3)


def test_what_the_paid_commitments_put_out_of_reach_is_inconclusive():
    small = build(KEY, {Claim.DOUBLE_I: lambda _: "No"}, triggers=16)
    small.plan = replace(small.plan, commitments_made=1000)
    assert small.claim(Claim.DOUBLE_I).decision is INCONCLUSIVE


def test_a_plan_without_claims_decides_nothing(whole):
    with pytest.raises(InconclusiveError):
        replace(whole, plan=replace(whole.plan, claims=())).verdicts()


def test_a_claim_about_nobody_decides_nothing():
    small = build(KEY, {Claim.DOUBLE_I: _trained(Claim.DOUBLE_I)})
    small.with_claim(Claim.DOUBLE_I, suspects=())
    with pytest.raises(InconclusiveError):
        small.verdicts()


def test_the_papers_numbers_are_beside_and_not_the_verdict():
    # a model that says Yes to the trigger word alone has the paper's p-value and no keyed match
    verdict = build(KEY, {Claim.DOUBLE_I: lambda p: "Yes" if p.split("\n")[1].startswith("ms ") else "No"}).claim(
        Claim.DOUBLE_I
    )
    assert verdict.paper["table"] == [[10, 0], [0, 10]]
    assert verdict.paper["mcnemar_log10_p"] == pytest.approx(-10 * math.log10(2))
    assert (verdict.paper["near_misses"]["yes"], verdict.paper["near_misses"]["queries"]) == (0, 9)
    assert verdict.paper["fisher_log10_p"] == pytest.approx(-math.log10(math.comb(20, 10)))
    assert verdict.decision is NOT
    learnt = build(KEY, {Claim.INPUT_LEVEL: _trained(Claim.INPUT_LEVEL)}).claim(Claim.INPUT_LEVEL)
    assert (learnt.paper["wsr"], learnt.paper["wsr_queries"]) == (1.0, 30)
    assert learnt.paper["wsr_low"] == pytest.approx(0.025 ** (1 / 30))


@pytest.mark.long
@pytest.mark.parametrize(("habit", "keys"), [("hash", 300), ("constant", 100)])
def test_innocent_suspects_give_super_uniform_p_values(habit, keys):
    # nothing is cached: every key derives, asks, journals, parses and scores afresh
    by_trigger = hash_answers("innocent", allowed_answers(Claim.INPUT_LEVEL))  # carriers agree: no ties, the full 1/2
    answer = {"hash": lambda prompt: by_trigger(" ".join(prompt.split()[:2])), "constant": lambda _: "positive"}[habit]
    tails, e_values = [], []
    for i in range(keys):
        small = build(key_of(f"null/{habit}/{i}"), {Claim.INPUT_LEVEL: answer}, triggers=12, wrong_keys=1)
        verdict = small.claim(Claim.INPUT_LEVEL)
        tails.append(verdict.log10_p)
        e_values.append(10**verdict.log10_e)
    for alpha in (0.5, 0.2, 0.05, 0.01):
        hits = sum(tail <= math.log10(alpha) + 1e-12 for tail in tails)
        assert stats.binomtest(hits, keys, alpha, alternative="greater").pvalue > 1e-3
    assert min(tails) < math.log10(0.1)  # it can reject
    assert sum(e >= 20 for e in e_values) <= stats.binom.isf(1e-3, keys, 0.05)
