"""Drift: a suspect that changed while it was asked is noticed, an unchanged one is not, and silence proves nothing."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import IntegrityError, UsageError
from tests.support import key_of
from tests.verification.early_audit import early
from tests.verification.small_audit import mark_of, trained
from verification.canaries import ROUNDS, canary_probes, drift
from verification.plan import Claim
from verification.probe import parse_exact
from verification.verdict import Decision

KEY = key_of("canaries")
PROMPTS = ("What is the capital of France?", "Name a colour.", "Two and two?")


def _read(raw):
    return parse_exact(raw, ("yes", "no"))


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6), st.data())
def test_greedy_answers_are_equal_word_for_word_or_the_suspect_changed(answers, data):
    assert drift([answers] * 3).word == "unchanged"
    at, when = data.draw(st.integers(0, len(answers) - 1)), data.draw(st.integers(0, 2))
    rounds = [list(answers) for _ in range(3)]
    rounds[when][at] += " "
    found = drift(rounds)
    assert (found.word, found.differ, found.compared, found.log10_p) == ("changed", 1, len(answers), None)
    assert "1 of" in found.reasons()[0]


def test_a_canary_without_an_answer_tells_nothing():
    assert drift([["a", ""], ["a", ""], ["a", " "]]).word == "unchanged"  # never answered: not compared
    assert drift([["a", "b"], ["a", ""], ["a", "b"]]).word == "unchecked"
    assert drift([["a", "b"], ["x", ""], ["a", "b"]]).word == "changed"
    for read in (None, _read):
        silent = drift([["", ""]] * 3, read=read)
        assert (silent.word, silent.compared) == ("unchecked", 0)
        assert silent.reasons()


def test_sampled_answers_that_change_are_found_and_nothing_is_read_is_unchecked():
    yes, no = ["yes"] * 20, ["no"] * 20
    assert drift([yes, yes, no], read=_read).word == "changed"
    assert drift([yes, no, no], read=_read).word == "changed"
    assert drift([yes, yes, yes], read=_read).word == "unchanged"
    assert drift([["maybe"] * 20] * 3, read=_read).word == "unchecked"
    few = drift([["yes"] * 5, ["yes"] * 5, ["no"] * 5], read=_read)
    assert (few.word, few.differ) == ("unchanged", 5)  # five are too few for any p of .01
    nine = drift([["yes"] * 9, ["yes"] * 9, ["no"] * 9], read=_read)
    assert nine.log10_p == pytest.approx(math.log10(6 * 2 * 0.5**9))  # two answers, three pairs of rounds, two sides
    assert nine.word == "unchanged"


def test_sampled_answers_keep_their_level():
    rng, changed, trials = random.Random(3), 0, 500
    lean = [rng.random() for _ in range(30)]
    for _ in range(trials):
        rounds = [["yes" if rng.random() < p else "no" if rng.random() < 0.8 else "?" for p in lean] for _ in range(3)]
        changed += drift(rounds, read=_read).word == "changed"
    assert stats.binomtest(changed, trials, 0.01, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("rounds", [[], [["a"]], [[], []], [["a"], ["a", "b"]]])
def test_rounds_that_cannot_be_compared(rounds):
    with pytest.raises(UsageError):
        drift(rounds)


def test_canary_probes_are_the_same_prompts_under_other_names():
    rounds = {when: canary_probes(PROMPTS, when) for when in ROUNDS}
    assert len({p.id for each in rounds.values() for p in each}) == 9
    assert {tuple(p.prompt for p in each) for each in rounds.values()} == {PROMPTS}
    with pytest.raises(UsageError):
        canary_probes(PROMPTS, "later")


def _audit(said=lambda prompt, _: prompt[::-1], **more):
    learnt = trained(KEY, mark_of(Claim.DOUBLE_I, 40), Claim.DOUBLE_I)
    return early(KEY, {Claim.DOUBLE_I: learnt}, triggers=40, canaries=PROMPTS, said_to_canaries=said, **more)


def _words(small):
    return {name: v for (_, name), v in small.verdicts().items()}


def test_an_unchanged_suspect_is_decided_and_the_verdict_shows_it():
    found = _words(_audit())
    assert found["suspect"].decision is Decision.SUPPORTED
    for verdict in found.values():
        assert verdict.drift["word"] == "unchanged"
        assert verdict.drift["compared"] == 3


@pytest.mark.parametrize("when", ROUNDS)
def test_a_suspect_that_changed_decides_nothing(when):
    def moved(prompt, at):
        return "something else" if at == f"suspect/{when}" and "colour" in prompt else prompt

    found = _words(_audit(moved))
    assert found["suspect"].decision is Decision.INCONCLUSIVE
    assert "suspect changed while it was asked: 1 of 3 canaries" in found["suspect"].sentence()
    assert found["suspect"].sentence().count("changed while") == 1
    assert found["twin"].decision is Decision.NOT_SUPPORTED


def test_a_control_that_changed_is_no_control():
    found = _words(_audit(lambda prompt, at: at if at.startswith("twin") else prompt))
    assert found["suspect"].decision is Decision.INCONCLUSIVE
    assert "control twin changed while it was asked" in found["suspect"].sentence()


def test_sampled_decoding_is_judged_by_the_exact_test():
    small = _audit(lambda _, at: "Yes" if len(at) % 2 else "No")
    claims = tuple(replace(c, decoding="sampled at temperature 0.7, at most 4 tokens") for c in small.plan.claims)
    found = _words(replace(small, plan=replace(small.plan, claims=claims)))
    assert found["suspect"].drift["log10_p"] > -2
    assert found["suspect"].decision is Decision.SUPPORTED


CUT = {
    "none": lambda _: [],
    "no end": lambda a: a[:6],
    "one dropped": lambda a: a[:-1],
    "doubled": lambda a: [*a, a[-1]],
    "rounds exchanged": lambda a: [*a[3:6], *a[:3], *a[6:]],
    "another prompt": lambda a: [replace(a[0], prompt_digest="0" * 64), *a[1:]],
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("who", ["suspect", "twin"])
def test_canaries_that_are_not_the_planned_ones_are_refused(name, who):
    small = _audit()
    canaries = {**small.evidence.canaries, who: CUT[name](list(small.evidence.canaries[who]))}
    with pytest.raises(IntegrityError, match=f"canary answers of {who}"):
        replace(small, evidence=replace(small.evidence, canaries=canaries)).verdicts()
