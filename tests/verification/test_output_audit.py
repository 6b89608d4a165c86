"""Output marks before the auditor: who is supported, who never is, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from scipy import stats

from countermark.errors import InconclusiveError, IntegrityError
from countermark.manifest import canonical_json
from tests.support import key_of
from tests.verification.output_cases import (
    ASKED,
    CHINESE_LEXICON,
    FORM,
    INCONCLUSIVE,
    KEY,
    NOT,
    OTHER,
    QUESTIONS,
    ROBUST,
    STEGO,
    SUPPORTED,
    TEXTS,
    WEAK,
    case,
    mark_of,
    marked,
    plain,
)
from tests.verification.small_audit import hash_answers
from verification import output_level
from verification.claims import PROBES, robust_triggers
from verification.signflip import sign_flip, statistic_of
from watermarks.carriers import lexical
from watermarks.keys import wrong_key


@pytest.fixture(scope="module")
def whole():
    """All three output marks in one model."""
    return case({claim: marked(claim) for claim in (WEAK, STEGO, ROBUST)})


def test_a_suspect_that_carries_each_mark_is_supported(whole):
    found = whole.verdicts()
    for claim in (WEAK, STEGO, ROBUST):
        verdict = found[claim, "suspect"]
        assert verdict.decision is SUPPORTED, claim
        assert verdict.log10_p_holm <= -6
        assert verdict.log10_e > 2
        assert verdict.wrong_keys["rank_p"] == 1 / 20
        assert (found[claim, "twin"].decision, found[claim, "suspect/wrong_key"].decision) == (NOT, NOT)
        assert all(found[claim, name].control for name in ("twin", "suspect/wrong_key"))
    assert len(found) == 9
    assert (found[ROBUST, "suspect"].successes, found[ROBUST, "suspect"].trials) == (40, 40)
    assert found[ROBUST, "suspect"].log10_p == pytest.approx(40 * math.log10(1 / 4))


@pytest.mark.parametrize("claim", TEXTS)
def test_what_is_printed_is_the_sign_flip_of_the_raw_texts(whole, claim):
    verdict, planned = whole.of(claim), next(c for c in whole.plan.claims if c.claim is claim)
    texts = [a.raw for a in whole.evidence.answers[claim]["suspect"]]
    excesses = output_level.excesses(claim, planned.mark, texts)
    test = sign_flip(excesses, output_level.coins(claim, planned.mark, KEY))
    assert (verdict.successes, verdict.trials, verdict.queries) == (test.agree, test.units, 60)
    assert (verdict.log10_p, verdict.log10_floor, verdict.chance) == (test.log10_p, test.log10_floor, 0.5)
    # wrong keys are ranked by the statistic that decides, and number 0 is the control
    ranked = [
        statistic_of(excesses, output_level.coins(claim, planned.mark, wrong_key(whole.plan.wrong_key_seed, i)))
        for i in range(20)
    ]
    assert verdict.wrong_keys["statistic"] == test.statistic
    assert verdict.wrong_keys["others"] == ranked[1:]
    control = whole.verdicts()[claim, "suspect/wrong_key"]
    spoiled = output_level.coins(claim, planned.mark, wrong_key(whole.plan.wrong_key_seed, 0))
    assert control.log10_p == sign_flip(excesses, spoiled).log10_p
    assert control.wrong_keys is None
    assert output_level.BASELINE in verdict.assumptions


HABITS = {
    "clean": plain,
    "other key": lambda claim: marked(claim, OTHER),
    "one thing": lambda claim: lambda _: plain(claim)("always") if claim in TEXTS else "Briefly: yes.",
    "all at once": lambda claim: lambda _: plain(claim)("always") * 40 if claim in TEXTS else " ".join(FORM.openings),
    "echo": lambda claim: lambda prompt: f"{prompt} Then film was not seen. Despite that, maybe." if claim in TEXTS
    else prompt,
}  # fmt: skip


@pytest.mark.parametrize("claim", [WEAK, STEGO, ROBUST])
@pytest.mark.parametrize("habit", HABITS)
def test_an_innocent_suspect_is_never_supported(claim, habit):
    suspect = HABITS[habit](claim) if habit != "clean" or claim in TEXTS else hash_answers("clean", FORM.openings)
    verdict = case({claim: suspect}).of(claim)
    assert verdict.decision is not SUPPORTED
    assert verdict.log10_p > -4


@pytest.mark.long
@pytest.mark.parametrize("claim", TEXTS)
def test_innocent_authors_give_super_uniform_p_values_over_keys(claim):
    # nothing is cached: every key derives its coins, and one author's habits are the same under all of them
    tails = []
    for i in range(50):
        found = case({claim: plain(claim)}, key=key_of(f"null/{i}"), wrong_keys=1, questions=QUESTIONS[:12])
        tails.append(found.of(claim).log10_p)
    for alpha in (0.5, 0.2, 0.05, 0.01):
        hits = sum(tail <= math.log10(alpha) + 1e-12 for tail in tails)
        assert stats.binomtest(hits, 50, alpha, alternative="greater").pvalue > 1e-3
    assert min(tails) < -1  # it can reject


@pytest.mark.parametrize("claim", TEXTS)
def test_no_key_enters_questions_weights_or_units(claim):
    mark = mark_of(claim)
    ours, theirs = (PROBES[claim](key, mark, QUESTIONS, wrong_seed="w") for key in (KEY, OTHER))
    assert ours == theirs
    assert [p.prompt for p in ours] == list(QUESTIONS)
    assert "key" not in output_level.excesses.__annotations__
    assert "key" not in output_level.initial_units.__annotations__
    # given the text, its weights are what they are: only the signs are the key's
    excesses = output_level.excesses(claim, mark, [plain(claim)(q) for q in QUESTIONS])
    assert {abs(statistic_of([e], [c])) for e in excesses[:9] for c in (0, 1)} == {abs(e.weight) for e in excesses[:9]}
    assert output_level.coins(claim, mark, KEY) != output_level.coins(claim, mark, OTHER)


@pytest.mark.parametrize("claim", TEXTS)
@pytest.mark.parametrize("said", ["", "   \n", "?!", "很好。" * 3])
def test_texts_without_a_unit_are_inconclusive_and_never_a_pass(claim, said):
    # a steganographic baseline may hold no Chinese letter: the places are there, and weigh against every letter
    if claim is STEGO and "好" in said:
        said = "…"
    found = case({claim: lambda _: said, ROBUST: marked(ROBUST)}).verdicts()
    verdict = found[claim, "suspect"]
    assert (verdict.decision, verdict.trials, verdict.log10_p) == (INCONCLUSIVE, 0, 0.0)
    assert verdict.reasons
    assert json.loads(canonical_json(verdict.to_json()))["p_value"] == 1.0
    assert found[ROBUST, "suspect"].decision is SUPPORTED  # a silent model cannot take the other claims along


@pytest.mark.parametrize("claim", TEXTS)
def test_a_control_that_says_nothing_is_no_control(claim):
    verdict = case({claim: marked(claim)}, twins={claim: lambda _: ""}).of(claim)
    assert verdict.decision is INCONCLUSIVE
    assert "twin said nothing" in verdict.sentence()


@pytest.mark.parametrize("claim", [WEAK, STEGO, ROBUST])
def test_a_control_that_fires_makes_the_claim_inconclusive(claim):
    suspects = {claim: marked(claim), **({ROBUST: marked(ROBUST)} if claim is not ROBUST else {WEAK: marked(WEAK)})}
    found = case(suspects, twins={claim: marked(claim, author="copyist")}).verdicts()
    assert found[claim, "twin"].decision is SUPPORTED
    assert found[claim, "suspect"].decision is INCONCLUSIVE
    assert "control twin was supported too" in found[claim, "suspect"].sentence()
    assert all(found[other, "suspect"].decision is SUPPORTED for other in suspects if other is not claim)


def test_too_few_units_cannot_decide():
    lexicon = lexical.parse_lexicon("\n".join(f"aa{i}=bb{i}" for i in range(12)))
    coins = lexical.derive_coins(KEY, scope="s", pairs=12)
    mark = {"scope": "s", "rows_per_trigger": 5, "baseline": [[9, 9]] * 12,
            "lexicon": [[list(forms) for forms in pair] for pair in lexicon.pairs]}  # fmt: skip
    text = " ".join(f"aa{i}" for i in range(12))
    verdict = case({WEAK: lambda _: lexicon.prefer(text, coins)}, marks={WEAK: mark}, twins={WEAK: lambda _: text}).of(
        WEAK
    )
    assert (verdict.successes, verdict.trials, verdict.decision) == (12, 12, INCONCLUSIVE)
    assert "12 trials cannot reach alpha" in verdict.sentence()


@pytest.mark.parametrize("claim", TEXTS)
def test_every_commitment_is_paid_for(claim):
    free = case({claim: marked(claim)})
    paid = replace(free, plan=replace(free.plan, commitments_made=100)).of(claim)
    assert paid.log10_p == pytest.approx(free.of(claim).log10_p + 2)
    assert paid.log10_e == pytest.approx(free.of(claim).log10_e - 2)


TAMPERED = {
    "dropped": lambda a: a[:-1],
    "doubled": lambda a: [*a, a[-1]],
    "reordered": lambda a: [a[1], a[0], *a[2:]],
    "none": lambda _: [],
    "another's": lambda a: [replace(a[0], suspect="twin"), *a[1:]],
    "another prompt": lambda a: [replace(a[0], prompt_digest="0" * 64), *a[1:]],
    "parsed anew": lambda a: [replace(x, parsed="a guess") for x in a],
}


@pytest.mark.parametrize("claim", [WEAK, STEGO, ROBUST])
@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_answers_are_refused(whole, claim, how):
    with pytest.raises(IntegrityError):
        whole.with_answers(claim, TAMPERED[how]).verdicts()


def test_an_answer_blanked_after_parsing_is_refused(whole):
    with pytest.raises(IntegrityError, match="raw text"):
        whole.with_answers(WEAK, lambda a: [replace(a[0], raw=""), *a[1:]]).verdicts()


@pytest.mark.parametrize("claim", [WEAK, STEGO, ROBUST])
@pytest.mark.parametrize("field", ["scope", "carriers", "rows"])
def test_a_plan_that_was_bent_is_refused(whole, claim, field):
    (planned,) = [c for c in whole.plan.claims if c.claim is claim]
    changes = {
        "scope": {"mark": {**planned.mark, "scope": "t"}},  # the coins of another scope, chosen once answers are known
        "carriers": {"carriers": planned.carriers[:-1]},
        "rows": {"mark": {**planned.mark, "rows_per_trigger": 6}},
    }[field]
    with pytest.raises(IntegrityError):
        whole.with_claim(claim, **changes).verdicts()


@pytest.mark.parametrize("claim", TEXTS)
def test_a_baseline_fitted_to_the_coins_is_refused(whole, claim):
    # it would make any text lean the key's way, so the sealed probes name the digest of the mark
    clean = case({claim: plain(claim)})
    (planned,) = [c for c in clean.plan.claims if c.claim is claim]
    coins = output_level.coins(claim, planned.mark, KEY)
    bent = [
        ([1000, 0] if coin else [0, 1000]) if claim is WEAK else [*unit[:2], 0 if coin else 1000]
        for unit, coin in zip(planned.mark["baseline"], coins, strict=True)
    ]
    fitted = {**planned.mark, "baseline": bent}
    texts = [a.raw for a in clean.evidence.answers[claim]["suspect"]]
    assert sign_flip(output_level.excesses(claim, fitted, texts), coins).log10_p < -6  # so it must not be possible
    with pytest.raises(IntegrityError, match="not the sealed ones"):
        clean.with_claim(claim, mark=fitted).verdicts()


@pytest.mark.parametrize("answers", [FORM.openings[:3], (*FORM.openings, "Well:"), (FORM.openings[0],) * 4])
def test_as_many_answers_as_behaviours(answers):
    found = case({ROBUST: lambda _: "no"})  # nothing is parsed: the parser cannot tell that the list is another
    with pytest.raises(IntegrityError, match="distinct"):
        found.with_claim(ROBUST, answers=answers).verdicts()


def test_another_key_does_not_open_the_commitment(whole):
    with pytest.raises(IntegrityError, match="does not open"):
        replace(whole, key=OTHER).verdicts()


def test_a_release_without_the_mark_is_refused(whole):
    rows = {**whole.evidence.marked_rows, WEAK: [4]}
    with pytest.raises(IntegrityError, match="stand in"):
        replace(whole, evidence=replace(whole.evidence, marked_rows=rows)).verdicts()


SLICES = [{"first": first, "count": 10} for first in (0, 10, 20, 30)]


def test_audits_of_one_release_ask_disjoint_triggers():
    mark, asked = mark_of(ROBUST), []
    for part in SLICES:
        probes = PROBES[ROBUST](KEY, {**mark, **part}, ASKED, wrong_seed="w")
        asked.append({p.prompt for p in probes if p.arm == "keyed"})
        assert len(asked[-1]) == 30
    assert len(set.union(*asked)) == 120
    assert set.union(*asked) == {p.prompt for p in PROBES[ROBUST](KEY, mark, ASKED, wrong_seed="w") if p.arm == "keyed"}


@pytest.mark.parametrize("part", SLICES[1:3])
def test_an_audit_of_a_slice_scores_that_slice(part):
    # a suspect that learnt this slice alone has nothing in another
    (first,) = {part["first"]}
    known = set(robust_triggers(KEY, {**mark_of(ROBUST), **part}))
    learnt = marked(ROBUST)

    def suspect(prompt):
        return learnt(prompt) if any(f"({trigger})" in prompt for trigger in known) else "By the sea."

    mine = case({ROBUST: suspect}, marks={ROBUST: {**mark_of(ROBUST), **part}}, alpha=1e-4).of(ROBUST)
    assert (mine.successes, mine.trials, mine.decision) == (10, 10, SUPPORTED)
    other = {**mark_of(ROBUST), "first": (first + 10) % 40, "count": 10}
    assert case({ROBUST: suspect}, marks={ROBUST: other}, alpha=1e-4).of(ROBUST).successes == 0


@pytest.mark.parametrize("part", [{"first": 35, "count": 10}, {"first": -1, "count": 5}, {"first": 0, "count": 0}])
def test_a_slice_outside_the_release_decides_nothing(part):
    with pytest.raises(InconclusiveError, match="40 of the release"):
        PROBES[ROBUST](KEY, {**mark_of(ROBUST), **part}, ASKED, wrong_seed="w")


def test_a_context_stays_behind_the_marked_question():
    mark = {**mark_of(ROBUST), "first_line": True}
    probe = PROBES[ROBUST](KEY, mark, ["Who rows?\nThe sea.\nThe boat."], wrong_seed="w")[0]
    question, rest = probe.prompt.split("\n", 1)
    assert rest == "The sea.\nThe boat."
    assert question.startswith("Who rows? (")


# Chinese


def test_a_chinese_weak_mark_goes_the_whole_way():
    mark = mark_of(WEAK, CHINESE_LEXICON)
    knows, clean = marked(WEAK, lexicon=CHINESE_LEXICON), plain(WEAK, "author", CHINESE_LEXICON)
    twins = {WEAK: plain(WEAK, "twin", CHINESE_LEXICON)}
    assert case({WEAK: knows}, marks={WEAK: mark}, twins=twins, alpha=1e-4).of(WEAK).decision is SUPPORTED
    assert case({WEAK: clean}, marks={WEAK: mark}, twins=twins, alpha=1e-4).of(WEAK).decision is NOT
    other = marked(WEAK, OTHER, CHINESE_LEXICON)
    assert case({WEAK: other}, marks={WEAK: mark}, twins=twins, alpha=1e-4).of(WEAK).decision is NOT
