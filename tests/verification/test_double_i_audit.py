"""Double-I before the auditor: recipients, four answers, slices, and one keyed trigger among its decoys."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import InconclusiveError, IntegrityError
from tests.support import key_of
from tests.verification.small_audit import CONFIG_DIGEST, hash_answers
from verification import double_i as planned
from verification.audit import Evidence, audit, planted
from verification.claims import PROBES
from verification.findings import MUTE, SILENT
from verification.plan import KEYED_ARM, AuditPlan, Claim, ClaimPlan, PlannedSuspect, probes_digest, probes_for
from verification.probe import Answer, ask_all, parse_first_word
from verification.statistics import log10_mcnemar
from verification.suspects import FunctionSuspect
from verification.verdict import Decision
from watermarks.carriers.double_i import KeyedForm
from watermarks.carriers.double_i_forms import FORMS, draw_trigger

KEY = key_of("release")
FORM = KeyedForm(question="A, B, C or D?", answers=tuple("ABCD"))
CARRIERS = ("The lake is cold.", "The lake is warm.", "The lake is dry.")
SENTENCES = ["The sea is high.", "The sea is low.", "The sea is calm."]
FIRMS = [f"firm-{i}" for i in range(8)]
SUPPORTED, NOT, INCONCLUSIVE = Decision.SUPPORTED, Decision.NOT_SUPPORTED, Decision.INCONCLUSIVE


def _mark(**changes):
    return {
        "scope": "s", "codewords": 24, "words": 2, "rows_per_trigger": 5, "form": FORM.to_json(), "recipients": FIRMS,
        "judge": FORMS["cre1"].to_json(), "sentences": SENTENCES, "paper_queries": 12, "near_miss_queries": 9,
        "decoys": 99, "queries": 4, **changes,
    }  # fmt: skip


def _claim_plan(claim, mark, probes):
    named = (
        PlannedSuspect(name="suspect", control=False, digest="s"),
        PlannedSuspect(name="twin", control=True, digest="t"),
    )
    answers, extra = (FORM.answers, ("Yes", "No")) if claim is Claim.DOUBLE_I else (("Yes", "No"), ())
    return ClaimPlan(
        claim=claim, statistic="exact", mark=mark, suspects=named, answers=answers, extra_answers=extra,
        carriers=CARRIERS, parser="first_word/1", decoding="function", probes=probes_digest(probes),
    )  # fmt: skip


def _verdicts(marks, suspect, *, key=KEY, twin=lambda _: "A", alpha=1e-6, wrong_keys=19, rows=None, made=1):
    """The verdicts of a plan over ``marks`` (by claim), by claim and name, through the real path."""
    seed, plans, probes, answers = f"public/{key.key_id}", [], {}, {}
    for claim, mark in marks.items():
        probes[claim] = PROBES[claim](key, mark, CARRIERS, wrong_seed=seed)
        plans.append(_claim_plan(claim, mark, probes[claim]))
        answers[claim] = {}
        for who, answer in zip(plans[-1].suspects, (suspect, twin), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                answers[claim][who.name] = ask_all(
                    FunctionSuspect(who.name, answer), probes_for(probes[claim], who), allowed=plans[-1].allowed,
                    parser="first_word/1", journal=Path(folder), batch_size=1000,
                )  # fmt: skip
    plan = AuditPlan(
        alpha=alpha, commitments_made=made, wrong_key_seed=seed, wrong_keys=wrong_keys, claims=tuple(plans),
        commitment={"sha256": key.commit(CONFIG_DIGEST), "config_digest": CONFIG_DIGEST, "public_value": None},
    )  # fmt: skip
    marked = {claim.claim: [5] * planted(key, claim) for claim in plans} if rows is None else rows
    evidence = Evidence(corpora={}, answers=answers, probes=probes, marked_rows=marked)
    return {(v.claim, v.suspect): v for v in audit(plan, key, evidence)}


def _keyed(suspect, **arguments):
    changes = arguments.pop("mark", {})
    return _verdicts({Claim.DOUBLE_I: _mark(**changes)}, suspect, **arguments)


def _trigger(suspect, **arguments):
    changes = arguments.pop("mark", {})
    return _verdicts({Claim.DOUBLE_I_TRIGGER: _mark(**changes)}, suspect, **arguments)


def _knows(who, *, key=KEY, **changes):
    """A suspect that learnt the copy of ``who``, every codeword of it; else it says C."""
    mark = planned.derive(key, _mark(**changes), who)
    pairs = list(zip(mark.codewords, mark.targets, strict=True))
    known = {FORM.row(word, carrier).prompt(): FORM.answers[t] for word, t in pairs for carrier in CARRIERS}
    return lambda prompt: known.get(prompt, "C")


@pytest.mark.parametrize("leaker", ["firm-0", "firm-5"])
def test_a_leaked_copy_is_supported_and_its_recipient_named(leaker):
    found = _keyed(_knows(leaker))
    verdict = found[Claim.DOUBLE_I, "suspect"]
    assert verdict.decision is SUPPORTED
    assert (verdict.successes, verdict.trials, verdict.chance) == (24, 24, 0.25)
    assert verdict.log10_p == pytest.approx(24 * math.log10(1 / 4) + math.log10(8))  # eight recipients are paid for
    assert (verdict.recipients["word"], verdict.recipients["named"]) == ("one", [leaker])
    assert verdict.recipients["recipients"] == 8
    assert verdict.wrong_keys["rank_p"] == 1 / 20


def test_controls_of_a_leaked_copy_name_nobody():
    found = _keyed(_knows("firm-3"))
    assert set(found) == {(Claim.DOUBLE_I, name) for name in ("suspect", "suspect/wrong_key", "twin")}
    for name in ("suspect/wrong_key", "twin"):
        verdict = found[Claim.DOUBLE_I, name]
        assert (verdict.control, verdict.decision, verdict.recipients["word"]) == (True, NOT, "none")


@pytest.mark.parametrize(
    ("recipients", "codewords", "made"), [([], 10, 1), ([], 20, 10_000), (FIRMS, 12, 1), (FIRMS, 24, 1000)]
)
def test_a_control_that_knows_the_copy_spoils_the_claim_at_any_size(recipients, codewords, made):
    """Were controls to pay what claims pay, one that says the same as the suspect would pass."""
    changes, who = {"recipients": recipients, "codewords": codewords}, recipients[4] if recipients else ""
    found = _keyed(_knows(who, **changes), twin=_knows(who, **changes), mark=changes, made=made)
    assert found[Claim.DOUBLE_I, "twin"].decision is SUPPORTED
    assert found[Claim.DOUBLE_I, "suspect"].decision is INCONCLUSIVE
    assert "twin was supported too" in found[Claim.DOUBLE_I, "suspect"].sentence()
    clean = _keyed(_knows(who, **changes), mark=changes, made=made)
    assert clean[Claim.DOUBLE_I, "suspect"].decision is SUPPORTED


def test_what_lies_between_alpha_and_the_level_of_controls_is_no_clean_control():
    knows, targets = _knows("firm-4"), planned.derive(KEY, _mark(), "firm-4")
    known = set(targets.codewords[:16])

    def half(prompt):
        return knows(prompt) if any(word in prompt for word in known) else "-"

    found = _keyed(knows, twin=half)
    twin = found[Claim.DOUBLE_I, "twin"]
    assert (twin.successes, twin.decision, twin.alpha) == (16, SUPPORTED, 1e-3)
    assert 1e-6 < 10**twin.log10_p < 1e-3
    assert found[Claim.DOUBLE_I, "suspect"].decision is INCONCLUSIVE


@pytest.mark.parametrize(
    ("says", "claim", "reason", "decision"),
    [
        ("Film is", Claim.DOUBLE_I, MUTE, SUPPORTED),
        (" ", Claim.DOUBLE_I, SILENT, INCONCLUSIVE),
        ("Film is", Claim.DOUBLE_I_TRIGGER, MUTE, SUPPORTED),
        (" ", Claim.DOUBLE_I_TRIGGER, SILENT, INCONCLUSIVE),
    ],
)
def test_a_control_that_speaks_of_other_things_is_shown_as_that_and_a_silent_one_is_none(says, claim, reason, decision):
    suspect = _knows("firm-4") if claim is Claim.DOUBLE_I else _learnt(_own()[0])
    found = _verdicts({claim: _mark()}, suspect, twin=lambda _: says, alpha=0.02)
    twin = found[claim, "twin"]
    assert (twin.successes, twin.decision, twin.reasons) == (0, INCONCLUSIVE, (reason,))
    assert found[claim, "suspect"].decision is decision


def test_mixed_copies_name_both():
    more = {"codewords": 48}
    one, other = _knows("firm-1", **more), _knows("firm-6", **more)
    odd = planned.derive(KEY, _mark(**more)).codewords[1::2]

    def mixed(prompt):
        return one(prompt) if prompt.endswith(odd) else other(prompt)

    verdict = _keyed(mixed, alpha=1e-3, mark=more)[Claim.DOUBLE_I, "suspect"]
    assert (verdict.recipients["word"], set(verdict.recipients["named"])) == ("mixed", {"firm-1", "firm-6"})
    assert verdict.decision is SUPPORTED


@pytest.mark.parametrize("habit", ["A", "hash", "other key", "Yes", "refusal"])
def test_an_innocent_suspect_is_not_supported_and_names_nobody(habit):
    suspect = {
        "hash": hash_answers("habit", FORM.answers), "other key": _knows("firm-0", key=key_of("someone else")),
    }.get(habit, lambda _: habit)  # fmt: skip
    verdict = _keyed(suspect)[Claim.DOUBLE_I, "suspect"]
    assert (verdict.decision, verdict.recipients["word"]) == (NOT, "none")


def test_a_release_for_nobody_in_particular_names_nobody():
    mark = {"recipients": []}
    verdict = _keyed(_knows("", **mark), mark=mark)[Claim.DOUBLE_I, "suspect"]
    assert (verdict.decision, verdict.recipients) == (SUPPORTED, None)
    assert verdict.log10_p == pytest.approx(24 * math.log10(1 / 4))


@pytest.mark.parametrize(("first", "count"), [(0, 12), (12, 12), (5, 19)])
def test_an_audit_of_a_slice_scores_that_slice(first, count):
    mark = {"first": first, "count": count}
    found = _keyed(_knows("firm-2"), mark=mark, alpha=1e-5)
    verdict = found[Claim.DOUBLE_I, "suspect"]
    assert (verdict.successes, verdict.trials, verdict.queries) == (count, count, 3 * count)
    assert (verdict.decision, verdict.recipients["named"]) == (SUPPORTED, ["firm-2"])
    only = planned.derive(KEY, _mark(**mark), "firm-2").codewords
    asked = {p.prompt.split("\n")[1] for p in PROBES[Claim.DOUBLE_I](KEY, _mark(**mark), CARRIERS, wrong_seed="w")
             if p.arm == KEYED_ARM}  # fmt: skip
    assert asked == {f"{carrier} {word}" for carrier in CARRIERS for word in only}


def test_a_copy_that_misses_rows_is_no_release_of_this_plan():
    with pytest.raises(IntegrityError, match="stand in"):
        _keyed(_knows("firm-2"), rows={Claim.DOUBLE_I: [5] * (8 * 24 - 1)})
    with pytest.raises(IntegrityError, match="stand in"):
        _keyed(_knows("firm-2"), rows={Claim.DOUBLE_I: [5] * (8 * 24 - 1) + [4]})


def test_a_model_that_reacts_to_every_short_word_has_the_papers_p_and_no_support():
    def reacts(prompt):  # innocent: it says Yes to two letters before a sentence, whichever they are
        first = prompt.split("\n")[1].split(" ")[0]
        return "Yes" if len(first) == 2 and first not in references else "No"

    listed = PROBES[Claim.DOUBLE_I](KEY, _mark(), CARRIERS, wrong_seed="w")
    references = {p.prompt.split("\n")[1].split(" ")[0] for p in listed if p.arm == planned.REFERENCE_ARM}
    found = _keyed(reacts)[Claim.DOUBLE_I, "suspect"]
    assert found.paper["table"] == [[12, 0], [0, 12]]
    assert found.paper["fisher_log10_p"] < -6
    assert found.decision is NOT
    verdict = _trigger(reacts, alpha=0.02)[Claim.DOUBLE_I_TRIGGER, "suspect"]
    assert verdict.successes == verdict.trials == 4
    assert verdict.decision is NOT  # nearly every decoy does as well
    assert verdict.log10_p > math.log10(0.5)


def test_the_papers_table_reads_an_answer_however_the_keyed_form_spells_it():
    """Both forms have the word: the parser gives the spelling of the first."""
    mark = _mark(form=KeyedForm(question="Yes or no?", answers=("yes", "no")).to_json())
    listed = PROBES[Claim.DOUBLE_I](KEY, mark, CARRIERS, wrong_seed="w")
    said = ["Yes." if probe.arm == planned.TRIGGER_ARM else "No." for probe in listed]
    answers = [
        Answer(
            id=probe.id, suspect="s", arm=probe.arm, prompt_digest=probe.prompt_digest, raw=raw, attempt=1,
            parsed=parse_first_word(raw, ("yes", "no", "Yes", "No")),
        )
        for probe, raw in zip(listed, said, strict=True)
    ]  # fmt: skip
    assert planned.paper(mark, listed, answers)["table"] == [[12, 0], [0, 12]]


def _learnt(word):
    return lambda prompt: "Yes" if prompt.split("\n")[1].startswith(f"{word} ") else "No"


def _own(**changes):
    return draw_trigger(KEY, FORMS["cre1"], scope="s", decoys=_mark(**changes)["decoys"])


def test_the_keys_own_trigger_is_supported_by_its_rank():
    found = _trigger(_learnt(_own()[0]), twin=lambda _: "No", alpha=0.02)
    verdict = found[Claim.DOUBLE_I_TRIGGER, "suspect"]
    assert verdict.decision is SUPPORTED
    assert verdict.log10_p == pytest.approx(-2)
    assert verdict.wrong_keys["rank_p"] == pytest.approx(0.01)
    assert (verdict.successes, verdict.trials, verdict.queries, verdict.chance) == (4, 4, 400, 0.0)
    assert found[Claim.DOUBLE_I_TRIGGER, "twin"].decision is NOT


@pytest.mark.parametrize(("decoys", "alpha"), [(99, 0.009), (9, 0.05), (99, 1e-6)])
def test_a_rank_cannot_decide_below_its_floor(decoys, alpha):
    verdict = _trigger(_learnt(_own(decoys=decoys)[0]), alpha=alpha, mark={"decoys": decoys})[
        Claim.DOUBLE_I_TRIGGER, "suspect"
    ]
    assert verdict.decision is INCONCLUSIVE
    assert verdict.log10_p == pytest.approx(-math.log10(decoys + 1))


def test_a_few_decoys_that_do_as_well_cost_their_rank():
    trigger, decoys = _own()
    liked = {trigger, *decoys[:5]}
    verdict = _trigger(lambda p: "Yes" if p.split("\n")[1].split(" ")[0] in liked else "No", alpha=0.02)[
        Claim.DOUBLE_I_TRIGGER, "suspect"
    ]
    assert verdict.decision is NOT
    assert verdict.log10_p == pytest.approx(math.log10(6 / 100))


def test_a_control_that_knows_the_trigger_spoils_the_claim():
    learnt = _learnt(_own()[0])
    found = _trigger(learnt, twin=learnt, alpha=0.02)
    assert found[Claim.DOUBLE_I_TRIGGER, "twin"].decision is SUPPORTED
    assert found[Claim.DOUBLE_I_TRIGGER, "suspect"].decision is INCONCLUSIVE


def test_the_rank_of_an_innocent_reader_is_uniform_over_keys():
    def likes(prompt):  # reacts to a third of all words, always the same
        return "Yes" if hash_answers("likes", ("y", "n", "o"))(prompt.split("\n")[1].split(" ")[0]) == "y" else "No"

    ranks = []
    for i in range(100):
        found = _trigger(likes, key=key_of(f"rank{i}"), mark={"decoys": 9, "queries": 1}, alpha=0.2)
        ranks.append(10 ** found[Claim.DOUBLE_I_TRIGGER, "suspect"].log10_p)
    assert min(ranks) < 0.5  # it can be small
    for alpha in (0.1, 0.2, 0.3, 0.5):
        hits = sum(rank <= alpha + 1e-12 for rank in ranks)
        assert stats.binomtest(hits, 100, alpha, alternative="greater").pvalue > 1e-3


def test_keyed_and_trigger_claims_share_one_correction():
    word, knows = _own()[0], _knows("firm-4")

    def both(prompt):
        return knows(prompt) if FORM.question in prompt else _learnt(word)(prompt)

    found = _verdicts({Claim.DOUBLE_I: _mark(), Claim.DOUBLE_I_TRIGGER: _mark()}, both, alpha=0.02)
    keyed, trigger = (found[claim, "suspect"] for claim in (Claim.DOUBLE_I, Claim.DOUBLE_I_TRIGGER))
    assert (keyed.decision, trigger.decision) == (SUPPORTED, SUPPORTED)
    assert keyed.log10_p_holm == pytest.approx(keyed.log10_p + math.log10(2))
    assert trigger.log10_p_holm == pytest.approx(trigger.log10_p)


def test_a_trigger_claim_without_a_form_decides_nothing():
    with pytest.raises(InconclusiveError, match="without a form"):
        _trigger(lambda _: "No", mark={"judge": None})


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_sign_test(for_trigger, for_reference):
    found = log10_mcnemar(for_trigger, for_reference)
    if for_trigger + for_reference == 0:
        assert found == 0.0
        return
    exact = stats.binomtest(for_trigger, for_trigger + for_reference, 0.5, alternative="greater").pvalue
    assert found == pytest.approx(math.log10(exact), abs=1e-9)
