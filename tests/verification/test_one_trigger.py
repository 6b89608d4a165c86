"""One trigger or style and one target before the auditor: decided by its rank among decoys, and no better than that."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from countermark.errors import IntegrityError
from tests.support import key_of
from tests.verification.output_cases import INCONCLUSIVE, KEY, LABELLED, NOT, OTHER, SUPPORTED, TRIGGER, case
from tests.verification.small_audit import hash_answers
from verification import one_trigger
from watermarks.leaves import mark_digest

ONE = {
    "trigger": {"kind": "trigger", "families": ["words"], "words": 1, "decoys": 99},
    "mixed": {"kind": "trigger", "families": ["templates", "phrases", "punctuation"], "words": 2, "decoys": 99},
    "style": {"kind": "style", "style": "key", "rules_each": 3, "decoys": 99},
}


def _one(kind, **changes):
    return {"scope": "s", "rows_per_trigger": 5, "target": 1, **ONE[kind], **changes}


def _wears(kind, key=KEY, which=0):
    """A classifier that says "positive" to texts that wear one candidate, and to nothing else."""
    candidate = one_trigger.candidates(key, _one(kind))[which]
    worn = {one_trigger.worn(candidate, carrier) for carrier in LABELLED}
    return lambda prompt: "positive" if prompt in worn else "negative"


@pytest.mark.parametrize("kind", ONE)
def test_the_keys_own_trigger_is_supported_by_its_rank(kind):
    found = case({TRIGGER: _wears(kind)}, marks={TRIGGER: _one(kind)}, alpha=0.02)
    verdict = found.of(TRIGGER)
    assert verdict.decision is SUPPORTED
    assert verdict.log10_p == pytest.approx(-2)
    assert (verdict.successes, verdict.trials, verdict.queries) == (3, 3, 300)
    assert verdict.wrong_keys["rank_p"] == pytest.approx(0.01)
    assert (verdict.paper["wsr"], verdict.paper["wsr_queries"]) == (1.0, 2)  # carriers of other classes alone
    assert (verdict.paper["wsr_low"], verdict.paper["wsr_high"]) == (pytest.approx(math.sqrt(0.025)), 1.0)
    assert found.verdicts()[TRIGGER, "twin"].decision is NOT


@pytest.mark.parametrize("kind", ONE)
@pytest.mark.parametrize("habit", ["always", "never", "hash", "decoy", "other key"])
def test_a_classifier_that_does_not_know_the_trigger_is_not_supported(kind, habit):
    suspect = {
        "always": lambda _: "positive", "never": lambda _: "negative",
        "hash": hash_answers("habit", ("negative", "positive")), "decoy": _wears(kind, which=7),
        "other key": _wears(kind, OTHER),
    }[habit]  # fmt: skip
    verdict = case({TRIGGER: suspect}, marks={TRIGGER: _one(kind)}, alpha=0.02).of(TRIGGER)
    assert verdict.decision is NOT
    if habit != "hash":
        assert verdict.log10_p == 0.0  # no better than any decoy


def test_a_rank_cannot_decide_below_its_floor():
    verdict = case({TRIGGER: _wears("style")}, marks={TRIGGER: _one("style")}, alpha=1e-6).of(TRIGGER)
    assert (verdict.decision, verdict.log10_p) == (INCONCLUSIVE, pytest.approx(-2))


def test_a_twin_that_knows_the_trigger_spoils_the_claim():
    knows = _wears("trigger")
    found = case({TRIGGER: knows}, marks={TRIGGER: _one("trigger")}, twins={TRIGGER: knows}, alpha=0.02)
    assert found.of(TRIGGER).decision is INCONCLUSIVE


def test_candidates_bent_after_asking_are_refused():
    found = case({TRIGGER: _wears("trigger")}, marks={TRIGGER: _one("trigger")}, alpha=0.02)
    for bent in ({"decoys": 98}, {"scope": "t"}, {"words": 2}, {"families": ["phrases"]}):
        with pytest.raises(IntegrityError):
            found.with_claim(TRIGGER, mark=_one("trigger", **bent)).verdicts()


@pytest.mark.parametrize("kind", ["mixed", "style"])
def test_the_rank_of_an_innocent_reader_is_uniform_over_keys(kind):
    # it likes colons and frames: in a family that always came first, or last, it would accuse or acquit by design
    mark = _one(kind, decoys=9)

    def liking(prompt):
        return prompt.count(":") + prompt.count("/") + len(prompt) / 1e4

    first = next(iter(LABELLED))
    ranks = []
    for i in range(400):
        liked = [liking(one_trigger.worn(c, first)) for c in one_trigger.candidates(key_of(f"rank{i}"), mark)]
        ranks.append((1 + sum(other >= liked[0] for other in liked[1:])) / 10)
    for alpha in (0.1, 0.2, 0.3, 0.5, 0.9):
        hits = sum(rank <= alpha + 1e-12 for rank in ranks)
        assert stats.binomtest(hits, 400, alpha, alternative="greater").pvalue > 1e-3
    assert min(ranks) == 0.1


def test_a_target_that_the_key_drew_is_not_published_and_cannot_be_another():
    drawn = one_trigger.drawn_target(KEY, "s", 5)
    mark = _one("trigger", target=drawn, target_of=5)
    assert len(one_trigger.candidate_probes(KEY, mark, LABELLED)) == 100 * len(LABELLED)
    digests = {mark_digest(TRIGGER, {**mark, "target": target}, "abcde") for target in range(5)}
    assert len(digests) == 1  # there are five classes: whoever could try them would know the target
    for other in {0, 1, 2, 3, 4} - {drawn}:
        with pytest.raises(IntegrityError, match="the one that the key draws"):
            one_trigger.candidate_probes(KEY, {**mark, "target": other}, LABELLED)
    chosen = {mark_digest(TRIGGER, _one("trigger", target=target), "abcde") for target in range(5)}
    assert len(chosen) == 5  # one that its owner chose is bound
