"""Audits that may stop early: what is decided, after how many triggers, and what a stop can never buy."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from functools import partial

import pytest
from scipy import stats

from countermark.manifest import canonical_json
from tests.support import key_of
from tests.verification.early_audit import early, verdict_of
from tests.verification.small_audit import allowed_answers, hash_answers, mark_of, trained
from verification import double_i
from verification.plan import KEYED_ARM, AuditPlan, Claim, Sequential
from verification.probe import Answer, Probe
from verification.sequential import DEFAULT_PRIOR, default_prior, keyed_path
from verification.stopping import asked_triggers, courses, stop_rule
from verification.verdict import Decision
from watermarks.carriers.double_i import KeyedForm

KEY = key_of("early")
SUPPORTED, NOT, INCONCLUSIVE = Decision.SUPPORTED, Decision.NOT_SUPPORTED, Decision.INCONCLUSIVE
CLAIMS = [Claim.INPUT_LEVEL, Claim.DOUBLE_I]


def _learnt(claim, triggers=60, key=KEY):
    return trained(key, mark_of(claim, triggers), claim)


def _forgetful(claim, strength, triggers=60):
    """Learnt, but wrong on the last words of some triggers, on every carrier alike."""
    learnt, answers = _learnt(claim, triggers), allowed_answers(claim)
    other = {answers[0]: answers[1], answers[1]: answers[0]}

    def answer(prompt):
        words = prompt.split("\n")[-1].split()
        trigger = " ".join(words[:2] if claim is Claim.INPUT_LEVEL else words[-2:])
        said = learnt(prompt)
        return said if random.Random(f"forget/{trigger}").random() < strength else other[said]

    return answer


@pytest.fixture(scope="module")
def strong():
    return early(KEY, {claim: _learnt(claim) for claim in CLAIMS})


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_marked_suspect_is_found_after_a_few_triggers(strong, claim):
    verdict = verdict_of(strong, claim)
    path = keyed_path([True] * verdict.trials)
    assert verdict.decision is SUPPORTED
    assert verdict.sequential["stopped"] == "alpha"
    assert verdict.successes == verdict.trials == verdict.sequential["triggers"]
    assert verdict.sequential["planned"] == 60
    # two claims: Holm's first step is what stops
    bar = 4 + math.log10(2)
    assert path[-1] >= bar > path[-2]
    assert verdict.sequential["log10_e_path"] == pytest.approx(path)
    assert verdict.log10_e == -verdict.log10_p == pytest.approx(path[-1])
    assert verdict.sequential["log10_p_anytime"] == verdict.log10_p
    assert verdict.sequential["looks"] == verdict.trials


def test_fixed_n_figures_stand_beside_and_say_that_they_are_not_valid(strong):
    verdict = verdict_of(strong)
    assert verdict.sequential["fixed_n"]["log10_p"] == pytest.approx(verdict.trials * math.log10(0.5))
    for labelled in (verdict.sequential["fixed_n"], verdict.wrong_keys, verdict.paper):
        assert "not valid under stopping" in labelled["label"]
    assert "at any look" in verdict.sentence()
    assert verdict.log10_p > verdict.sequential["fixed_n"]["log10_p"]  # what the looks cost
    assert (verdict.effect.high, verdict.effect.value) == (1.0, 1.0)
    assert verdict.effect.low < stats.binomtest(verdict.trials, verdict.trials).proportion_ci(0.95).low


def test_controls_are_asked_in_full_and_the_wrong_key_as_far_as_the_suspect(strong):
    suspect, twin, wrong = (verdict_of(strong, name=name) for name in ("suspect", "twin", "suspect/wrong_key"))
    assert (twin.trials, wrong.trials) == (60, suspect.trials)
    for control in (twin, wrong):
        assert (control.decision, control.sequential, control.method) == (NOT, None, "keyed binomial")
        assert control.log10_p > -3


def test_plan_and_verdicts_survive_json(strong):
    read = AuditPlan.from_json(json.loads(canonical_json(strong.plan.to_json())))
    assert read == strong.plan
    assert replace(strong, plan=read).verdicts() == strong.verdicts()
    for verdict in strong.verdicts().values():
        body = json.loads(canonical_json(verdict.to_json()))
        assert {"sequential", "exploratory", "drift"} <= body.keys()


@pytest.mark.parametrize("look", [5, 7])
def test_rarer_looks_stop_at_a_look(look):
    verdict = verdict_of(early(KEY, {Claim.DOUBLE_I: _learnt(Claim.DOUBLE_I)}, look=look))
    assert verdict.decision is SUPPORTED
    assert verdict.trials % look == 0
    assert verdict.sequential["looks"] == verdict.trials // look


def test_what_lies_between_two_looks_is_not_looked_at(strong):
    plan = replace(strong.plan, sequential=Sequential(prior=DEFAULT_PRIOR, look=7))
    asked = [(i, "Yes" if i < 6 else "No") for i in range(14)]
    (course,) = courses(plan, plan.claims[1], {"": ["Yes"] * 14}, asked)
    assert course.path == keyed_path([True] * 6 + [False] * 8)
    assert (course.best, course.matches) == (max(0.0, course.path[6], course.path[13]), 6)
    assert course.best < max(course.path)


def test_a_trigger_counts_once_all_its_carriers_were_asked_by_their_majority():
    def said(votes):
        probes = [Probe(id=f"{t}-{c}", arm=KEYED_ARM, index=t, carrier=c, prompt="?") for t in (4, 2) for c in range(3)]
        answers = [
            Answer(id=p.id, suspect="s", arm=p.arm, prompt_digest="", raw="", parsed=v, attempt=1)
            for p, v in zip(probes, votes, strict=False)
        ]
        return asked_triggers(probes, answers, KEYED_ARM)

    assert said(["No", "Yes"]) == []
    assert said(["No", "Yes", "Yes"]) == [(4, "Yes")]
    assert said(["No", "Yes", "Yes", None, None]) == [(4, "Yes")]
    assert said(["No", "Yes", "Maybe", None, None, "Yes"]) == [(4, None), (2, None)]


def test_a_forgetful_suspect_takes_longer():
    weak = verdict_of(early(KEY, {Claim.INPUT_LEVEL: _forgetful(Claim.INPUT_LEVEL, 0.85)}), Claim.INPUT_LEVEL)
    whole = verdict_of(early(KEY, {Claim.INPUT_LEVEL: _learnt(Claim.INPUT_LEVEL)}), Claim.INPUT_LEVEL)
    assert weak.decision is SUPPORTED
    assert whole.trials < weak.trials < 60
    assert 0 < weak.successes < weak.trials
    assert weak.effect.low < 0.85 < weak.effect.high


HABITS = {
    "first answer": lambda claim: lambda _: allowed_answers(claim)[0],
    "refusing": lambda _: lambda _: "I cannot answer that.",
    "silent": lambda _: lambda _: "",
    "hash": lambda claim: hash_answers("habit", allowed_answers(claim)),
    "other key": lambda claim: _learnt(claim, 40, key=key_of("someone else")),
    "swapped": lambda claim: partial(_swap, _learnt(claim, 40), allowed_answers(claim)),
}


def _swap(learnt, answers, prompt):
    return answers[1] if learnt(prompt).startswith(answers[0]) else answers[0]


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("habit", HABITS)
def test_no_habit_is_supported_and_hopeless_ones_cost_few_queries(claim, habit):
    small = early(KEY, {claim: HABITS[habit](claim)}, triggers=40)
    verdict = verdict_of(small, claim)
    assert (verdict.decision, verdict.sequential["stopped"]) == (NOT, "exhausted")
    if habit in ("refusing", "silent", "swapped"):
        assert verdict.successes == 0
        assert verdict.trials < 40  # what is left cannot reach alpha any more
        assert f"none of {verdict.trials} trials" in verdict.sentence()
        bound = float(verdict.sentence().split("at most ")[-1].split(" (95% interval)")[0])
        assert verdict.effect.high <= bound < verdict.effect.high + 0.001


def test_what_stopped_for_lack_of_hope_could_not_have_been_supported():
    small = early(KEY, {Claim.DOUBLE_I: hash_answers("habit", ("Yes", "No"))}, triggers=40)
    verdict = verdict_of(small)
    left = 40 - verdict.trials
    best = keyed_path([True] * verdict.successes + [False] * (verdict.trials - verdict.successes) + [True] * left)
    assert left > 0
    assert best[-1] < 4


def test_a_control_that_learnt_the_mark_makes_the_claim_inconclusive():
    learnt = _learnt(Claim.DOUBLE_I)
    verdict = verdict_of(early(KEY, {Claim.DOUBLE_I: learnt}, twin=learnt))
    assert verdict.decision is INCONCLUSIVE
    assert "control twin was supported too" in verdict.sentence()


@pytest.mark.parametrize("spoken", [0, 5])
def test_a_control_that_hardly_answers_is_no_control(spoken):
    heard = set()

    def almost_dead(prompt):
        word = prompt.split()[-1]
        if word in heard or len(heard) < spoken:
            heard.add(word)
            return "No"
        return "" if spoken else "  "

    verdict = verdict_of(early(KEY, {Claim.DOUBLE_I: _learnt(Claim.DOUBLE_I)}, twin=almost_dead))
    assert verdict.decision is INCONCLUSIVE
    assert "control twin" in verdict.sentence()
    assert ("said nothing that could be weighed" if not spoken else "too few to be weighed") in verdict.sentence()


def test_too_few_planned_triggers_cannot_decide():
    small = early(KEY, {Claim.DOUBLE_I: _learnt(Claim.DOUBLE_I, 12)}, triggers=12)
    verdict = verdict_of(small)
    assert verdict.decision is INCONCLUSIVE
    assert "12 trials cannot reach alpha" in verdict.sentence()
    assert verdict.sequential["stopped"] == "exhausted"


def test_commitments_and_admitted_audits_are_paid_for_in_path_and_stop():
    small = early(KEY, {Claim.DOUBLE_I: _learnt(Claim.DOUBLE_I)}, audits_admitted=100)
    paid, free = verdict_of(small), verdict_of(early(KEY, {Claim.DOUBLE_I: _learnt(Claim.DOUBLE_I)}))
    assert paid.trials > free.trials
    assert paid.sequential["log10_e_path"][0] == pytest.approx(free.sequential["log10_e_path"][0] - 2)
    assert paid.log10_p <= -4


ABCD = KeyedForm(question="A, B, C or D?", answers=tuple("ABCD"))
FIRMS = [f"firm-{i}" for i in range(8)]


def _copies(who, **more):
    mark = {**mark_of(Claim.DOUBLE_I, 48), "form": ABCD.to_json(), "recipients": FIRMS, **more}
    derived = double_i.derive(KEY, mark, who)
    carriers = ("The lake is cold.", "The lake is warm.", "The lake is dry.")
    pairs = zip(derived.codewords, derived.targets, strict=True)
    known = {ABCD.row(word, c).prompt(): ABCD.answers[t] for word, t in pairs for c in carriers}
    return mark, lambda prompt: known.get(prompt, "C")


def test_the_recipient_of_a_leaked_copy_is_named_by_its_own_e_process():
    mark, suspect = _copies("firm-5")
    small = early(
        KEY, {Claim.DOUBLE_I: suspect}, marks={Claim.DOUBLE_I: mark}, answers=ABCD.answers, alpha=1e-6,
        prior=default_prior(4), twin=lambda _: "A",
    )  # fmt: skip
    verdict = verdict_of(small)
    path = keyed_path([True] * verdict.trials, default_prior(4), classes=4)
    assert (verdict.decision, verdict.chance) == (SUPPORTED, 0.25)
    assert (verdict.recipients["word"], verdict.recipients["named"]) == ("one", ["firm-5"])
    assert verdict.log10_p == pytest.approx(-path[-1] + math.log10(8))  # eight recipients are paid for
    first = verdict.recipients["ranked"][0]
    assert (first["log10_p"], first["log10_p_holm"]) == pytest.approx((-path[-1], verdict.log10_p))
    assert path[-1] - math.log10(8) >= 6 > path[-2] - math.log10(8)
    assert verdict.trials < 20


def test_an_innocent_suspect_names_nobody_early():
    mark, _ = _copies("firm-5")
    small = early(
        KEY, {Claim.DOUBLE_I: hash_answers("habit", ABCD.answers)}, marks={Claim.DOUBLE_I: mark},
        answers=ABCD.answers, prior=default_prior(4), twin=lambda _: "A",
    )  # fmt: skip
    verdict = verdict_of(small)
    assert (verdict.decision, verdict.recipients["word"], verdict.recipients["named"]) == (NOT, "none", [])


def test_rules_of_controls_and_of_fixed_plans_never_stop(strong):
    claim, (suspect, twin) = strong.plan.claims[1], strong.plan.claims[1].suspects
    listed, said = strong.evidence.probes[Claim.DOUBLE_I], strong.evidence.answers[Claim.DOUBLE_I]
    assert stop_rule(strong.plan, claim, KEY, listed, suspect)(said["suspect"])
    assert not stop_rule(strong.plan, claim, KEY, listed, twin)(said["twin"])
    fixed = replace(strong.plan, sequential=None, stopping="fixed n: all")
    assert not stop_rule(fixed, claim, KEY, listed, suspect)(said["suspect"])


def test_the_rule_says_no_before_a_trigger_is_complete_and_on_any_shorter_prefix(strong):
    claim, suspect = strong.plan.claims[1], strong.plan.claims[1].suspects[0]
    rule = stop_rule(strong.plan, claim, KEY, strong.evidence.probes[Claim.DOUBLE_I], suspect)
    said = strong.evidence.answers[Claim.DOUBLE_I]["suspect"]
    assert [rule(said[:n]) for n in range(len(said) + 1)] == [False] * len(said) + [True]
    assert said[-1].arm == KEYED_ARM


@pytest.mark.long
@pytest.mark.parametrize("habit", ["hash", "constant"])
def test_innocent_suspects_are_looked_at_after_every_answer_and_keep_their_level(habit):
    # nothing is cached: every key derives, orders, asks, stops, parses and scores afresh
    by_trigger = hash_answers("innocent", allowed_answers(Claim.INPUT_LEVEL))  # carriers agree: no ties, the full 1/2
    answer = {"hash": lambda prompt: by_trigger(" ".join(prompt.split()[:2])), "constant": lambda _: "positive"}[habit]
    tails = []
    for i in range(150):
        small = early(key_of(f"null/{habit}/{i}"), {Claim.INPUT_LEVEL: answer}, triggers=25, wrong_keys=1, alpha=0.01)
        tails.append(verdict_of(small, Claim.INPUT_LEVEL).log10_p)
    for alpha in (0.5, 0.2, 0.05, 0.01):
        hits = sum(tail <= math.log10(alpha) for tail in tails)
        assert stats.binomtest(hits, 150, alpha, alternative="greater").pvalue > 1e-3
    assert min(tails) < math.log10(0.1)  # it can reject
