"""Who leaked: the right one of many, nobody where nobody did, and all of those whose copies were mixed."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import InconclusiveError
from tests.support import key_of
from verification.recipients import name_recipients
from verification.statistics import clopper_pearson, log10_binomial_tail
from watermarks.carriers import double_i

ANSWERS = ("A", "B", "C", "D")
ALPHA = 1e-6
KEY = key_of("release")


def _targets(names, *, key=KEY, codewords=20):
    return {
        who: [
            ANSWERS[t] for t in double_i.derive_targets(key, scope="s", codewords=codewords, classes=4, recipient=who)
        ]
        for who in names
    }


def _firms(count):
    return [f"firm-{i}" for i in range(count)]


def _name(votes, targets, *, alpha=ALPHA, paid=0.0):
    return name_recipients(votes, targets, classes=4, alpha=alpha, log10_paid=paid)


@pytest.mark.parametrize("leaker", _firms(8))
def test_one_of_eight_is_named(leaker):
    targets = _targets(_firms(8))
    naming = _name(targets[leaker], targets)
    assert (naming.word, naming.named) == ("one", (leaker,))
    best = naming.ranked[0]
    assert (best.recipient, best.matches, best.trials) == (leaker, 20, 20)
    assert best.log10_p == pytest.approx(20 * math.log10(1 / 4) - math.log10(0.99))  # the other test has .01
    assert best.log10_p_holm == pytest.approx(best.log10_p + math.log10(8))
    assert [each.log10_p for each in naming.ranked] == sorted(each.log10_p for each in naming.ranked)


def test_a_leaker_that_forgot_a_quarter_is_still_named():
    targets = _targets(_firms(8), codewords=40)
    votes = [t if i % 4 else None for i, t in enumerate(targets["firm-3"])]
    assert _name(votes, targets).named == ("firm-3",)


def test_nobody_of_a_thousand_is_named_beside_the_leaker():
    targets = _targets(_firms(1001), codewords=40)
    naming = _name(targets["firm-0"], targets, alpha=0.01)
    assert naming.named == ("firm-0",)
    assert len(naming.ranked) == 1001
    others = {who: wanted for who, wanted in targets.items() if who != "firm-0"}
    without = _name(targets["firm-0"], others, alpha=0.01)
    assert (without.word, without.named) == ("none", ())


HABITS = {
    "first answer": lambda rng, n: ["A"] * n,
    "coin": lambda rng, n: rng.choices(ANSWERS, k=n),
    "two answers": lambda rng, n: rng.choices("AB", k=n),
    "half silent": lambda rng, n: rng.choices(["C", None], k=n),
}


@pytest.mark.long
@pytest.mark.parametrize("habit", HABITS)
def test_innocent_suspects_name_anybody_with_at_most_the_family_wise_error(habit):
    # a fresh release for every suspect: with 12 codewords and 30 recipients there is something to err about
    alpha, suspects, codewords = 0.05, 400, 12
    rng, wrong, careless = random.Random(f"innocent/{habit}"), 0, 0
    for i in range(suspects):
        targets = _targets(_firms(30), key=key_of(f"innocent/{habit}/{i}"), codewords=codewords)
        naming = _name(HABITS[habit](rng, codewords), targets, alpha=alpha)
        wrong += bool(naming.named)
        careless += naming.ranked[0].log10_p <= math.log10(alpha)
    assert clopper_pearson(wrong, suspects, level=0.999).low <= alpha
    if habit != "half silent":  # without Holm the bound would not hold
        assert clopper_pearson(careless, suspects, level=0.999).low > alpha


def test_without_correction_a_thousand_innocents_would_hold_a_leaker():
    targets = _targets(_firms(1000), codewords=20)
    votes = random.Random(5).choices(ANSWERS, k=20)
    naming = _name(votes, targets, alpha=0.01)
    assert naming.ranked[0].log10_p < math.log10(0.01)  # somebody matches by chance
    assert naming.word == "none"


def test_mixed_copies_are_named_as_mixed():
    targets = _targets(_firms(8), codewords=60)
    votes = [targets["firm-2" if i % 2 else "firm-5"][i] for i in range(60)]
    naming = _name(votes, targets)
    assert naming.word == "mixed"
    assert set(naming.named) == {"firm-2", "firm-5"}


@pytest.mark.long
def test_most_even_mixtures_of_two_copies_name_both():
    rng, both, wrong = random.Random("mixed"), 0, 0
    for i in range(200):
        targets = _targets(_firms(8), key=key_of(f"mixed/{i}"), codewords=60)
        naming = _name([targets[rng.choice(("firm-2", "firm-5"))][n] for n in range(60)], targets)
        both += set(naming.named) == {"firm-2", "firm-5"}
        wrong += bool(set(naming.named) - {"firm-2", "firm-5"})
    assert (both >= 190, wrong) == (True, 0)


def test_who_is_only_found_beside_another_is_said_to_be():
    targets = {"a": list("ABCD" * 15), "b": list("BCDA" * 15), "c": list("CDAB" * 15)}
    votes = [*targets["a"][:40], *targets["b"][40:]]
    naming = _name(votes, targets)
    assert naming.word == "mixed"
    assert {each.recipient: each.beside for each in naming.ranked} == {"a": "b", "b": "a", "c": ""}


def test_two_with_the_same_evidence_are_ordered_by_name():
    targets = {"b": ["A"] * 10, "a": ["A"] * 10}
    assert [each.recipient for each in _name(["A"] * 10, targets).ranked] == ["a", "b"]


@given(st.integers(0, 20))
def test_unreadable_votes_are_trials_without_a_match(unread):
    targets = _targets(_firms(4))
    votes = [None] * unread + targets["firm-1"][unread:]
    found = {each.recipient: each for each in _name(votes, targets).ranked}["firm-1"]
    assert (found.matches, found.trials) == (20 - unread, 20)
    expected = min(0.0, log10_binomial_tail(20 - unread, 20, 1 / 4) - math.log10(0.99))
    assert found.log10_p <= expected + 1e-9
    assert found.beside or found.log10_p == pytest.approx(expected)


def test_only_unreadable_votes_name_nobody():
    naming = _name([None] * 20, _targets(_firms(4)), alpha=0.49)
    assert (naming.word, {each.log10_p for each in naming.ranked}) == ("none", {0.0})


def test_what_else_was_tried_is_paid_for():
    targets = _targets(_firms(8))
    free, paid = (_name(targets["firm-0"], targets, paid=cost) for cost in (0.0, 5.5))
    assert paid.ranked[0].log10_p == pytest.approx(free.ranked[0].log10_p + 5.5)
    assert free.named == ("firm-0",)
    assert paid.named == ()  # 4^-20 * 10^5.5 * 8 is above 1e-6
    assert all(each.log10_p <= 0 for each in paid.ranked)


@pytest.mark.parametrize(("votes", "targets"), [([], {"a": []}), (["A"], {}), ([], {})])
def test_nothing_to_score_decides_nothing(votes, targets):
    with pytest.raises(InconclusiveError, match="expected some"):
        _name(votes, targets)


def test_votes_and_targets_must_be_of_the_same_codewords():
    with pytest.raises(ValueError, match="zip"):
        _name(["A", "B"], {"a": ["A"]})


def test_a_report_shows_ten_and_everybody_who_is_named():
    targets = _targets(_firms(30))
    body = _name(targets["firm-7"], targets).to_json()
    assert (body["word"], body["named"], body["recipients"], len(body["ranked"])) == ("one", ["firm-7"], 30, 10)
    assert body["ranked"][0]["recipient"] == "firm-7"
    same = dict.fromkeys(_firms(12), targets["firm-0"])
    assert len(_name(targets["firm-0"], same).to_json()["ranked"]) == 12
