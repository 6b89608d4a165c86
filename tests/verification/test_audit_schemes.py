"""The token claim under every scheme and statistic: the same words, and every number where it says it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from scipy import stats

from countermark.errors import InconclusiveError, IntegrityError, UsageError
from tests.support import key_of
from tests.verification.marked import SCHEMES, STATISTICS, marked, unmarked
from verification.audit import Evidence, audit
from verification.corpus import Corpus
from verification.detect import Mark, detect, search
from verification.plan import DATASET, HUMAN_TEXT, AuditPlan, Claim, ClaimPlan, PlannedSuspect
from verification.statistics import clopper_pearson, log10_calibrated_e, log10_e_value
from verification.tally import tally
from verification.verdict import Decision
from watermarks.keys import Key, wrong_key
from watermarks.schemes import BinomialLaw

KEY = key_of("schemes")
WRONG_ARM = f"{DATASET}/wrong_key"
ALPHA, WRONG_KEYS = 1e-6, 29
SUPPORTED, NOT, INCONCLUSIVE = Decision.SUPPORTED, Decision.NOT_SUPPORTED, Decision.INCONCLUSIVE
every_statistic = pytest.mark.parametrize(("name", "statistic"), STATISTICS)
weighed = pytest.mark.parametrize(
    ("name", "statistic"), [(n, s) for n, s in STATISTICS if s != SCHEMES[n].count_statistic]
)


@dataclass(kw_only=True)
class TokenAudit:
    """An audit of the token claim alone."""

    scheme: object
    statistic: str
    plan: AuditPlan
    corpora: dict[str, Corpus]
    key: Key = KEY

    @classmethod
    def of(cls, name, statistic="", *, key=KEY, **size):
        scheme = SCHEMES[name]
        statistic = statistic or scheme.statistics[0]
        mark = {
            "scheme": scheme.name,
            "params": scheme.params(),
            "tokenizer": "t",
            "scope": "s",
            "statistic": statistic,
        }
        suspects = (
            PlannedSuspect(name=DATASET, control=False, digest="d"),
            PlannedSuspect(name=HUMAN_TEXT, control=True, digest=""),
        )
        plan = AuditPlan(
            alpha=ALPHA,
            commitment={"sha256": key.commit("c"), "config_digest": "c", "public_value": None},
            commitments_made=1,
            wrong_key_seed=f"public/{name}",
            wrong_keys=WRONG_KEYS,
            claims=(ClaimPlan(claim=Claim.TOKEN, statistic=f"{statistic}, exact", mark=mark, suspects=suspects),),
        )
        made = cls(scheme=scheme, statistic=statistic, plan=plan, corpora={}, key=key)
        made.corpora = {
            DATASET: Corpus.pack(marked(scheme, made.subkey(), **size)),
            HUMAN_TEXT: Corpus.pack(unmarked()),
        }
        return made

    def subkey(self, key=None):
        label = {"params": self.scheme.params(), "tokenizer": "t", "scope": "s"}
        return (key or self.key).token_subkey(scheme=self.scheme.name, **label)

    def detect(self, corpus, key=None, statistic=None):
        return detect(self.corpora[corpus], self.scheme, self.subkey(key), statistic=statistic or self.statistic)[1]

    def verdicts(self):
        return {v.suspect: v for v in audit(self.plan, self.key, Evidence(corpora=self.corpora, answers={}, probes={}))}

    def claim(self):
        return self.verdicts()[DATASET]

    def with_texts(self, corpus, texts):
        return replace(self, corpora={**self.corpora, corpus: Corpus.pack(texts)})

    def with_plan(self, **changes):
        return replace(self, plan=replace(self.plan, **changes))


@every_statistic
def test_a_marked_release_is_supported_and_no_control_is(name, statistic):
    found = TokenAudit.of(name, statistic).verdicts()
    assert {who: v.decision for who, v in found.items()} == {DATASET: SUPPORTED, WRONG_ARM: NOT, HUMAN_TEXT: NOT}
    assert {who: v.control for who, v in found.items()} == {DATASET: False, WRONG_ARM: True, HUMAN_TEXT: True}
    assert found[DATASET].log10_p < -20
    assert all(found[who].log10_p > -4 for who in (WRONG_ARM, HUMAN_TEXT))


@every_statistic
def test_the_p_value_is_that_of_detection(name, statistic):
    small = TokenAudit.of(name, statistic)
    found = small.verdicts()
    arms = {
        DATASET: (DATASET, KEY),
        HUMAN_TEXT: (HUMAN_TEXT, KEY),
        WRONG_ARM: (DATASET, wrong_key(small.plan.wrong_key_seed, 0)),
    }
    for who, (corpus, key) in arms.items():
        evidence = small.detect(corpus, key)
        assert found[who].log10_p == pytest.approx(evidence.log10_p, rel=1e-11, abs=1e-12)
        assert found[who].log10_floor == evidence.log10_floor
        assert found[who].method == f"{statistic}, exact"


@every_statistic
def test_the_effect_is_that_of_the_count_statistic(name, statistic):
    small = TokenAudit.of(name, statistic)
    for who, verdict in small.verdicts().items():
        if who == WRONG_ARM:
            continue
        law = small.scheme.law(small.scheme.count_statistic)
        counts = small.detect(who, statistic=small.scheme.count_statistic)
        assert isinstance(law, BinomialLaw)
        assert (verdict.successes, verdict.trials, verdict.chance) == (counts.total, counts.scored * law.trials, law.p)
        assert verdict.effect == clopper_pearson(counts.total, counts.scored * law.trials)
    verdict = small.claim()
    assert verdict.effect.low > verdict.chance


@every_statistic
def test_the_e_value_is_a_bet_on_the_count_or_the_calibrated_p(name, statistic):
    small = TokenAudit.of(name, statistic)
    for verdict in small.verdicts().values():
        if statistic == small.scheme.count_statistic:
            expected = log10_e_value(verdict.successes, verdict.trials, verdict.chance)
        else:
            expected = log10_calibrated_e(verdict.log10_p)
        assert verdict.log10_e == pytest.approx(expected, rel=1e-11, abs=1e-12)
        assert (
            verdict.log10_e <= -verdict.log10_p + 1e-9
        )  # no e-value says more than its p: E >= 1/p has mean above one
    assert small.claim().log10_e > 9


def test_the_calibrator_has_mean_one_under_a_uniform_p():
    steps = 200_000
    p = ((i + 0.5) / steps for i in range(steps))
    mean = sum(10 ** log10_calibrated_e(math.log10(each)) for each in p) / steps
    assert mean == pytest.approx(1.0, abs=2e-3)
    assert log10_calibrated_e(0.0) == pytest.approx(math.log10(0.5))
    assert log10_calibrated_e(-600.0) == pytest.approx(300.0, abs=0.31)


@every_statistic
def test_the_claim_is_ranked_among_keys_that_anyone_can_derive(name, statistic):
    small = TokenAudit.of(name, statistic)
    ranking = small.claim().wrong_keys
    wrong = [small.subkey(wrong_key(small.plan.wrong_key_seed, i)) for i in range(1, WRONG_KEYS + 1)]
    sums = tally(small.corpora[DATASET], small.scheme, wrong, statistic=statistic)
    assert ranking["others"] == sums.corpus_totals.tolist()
    assert len(set(ranking["others"])) > 5
    assert ranking["statistic"] == small.detect(DATASET).total
    assert (ranking["count"], ranking["rank_p"]) == (WRONG_KEYS, 1 / (WRONG_KEYS + 1))
    assert all(v.wrong_keys is None for v in small.verdicts().values() if v.control)


@every_statistic
def test_a_release_too_short_to_say_is_inconclusive(name, statistic):
    # whatever is in it: no text of one input can reach one in a million, under most laws
    scheme = SCHEMES[name]
    texts = marked(scheme, TokenAudit.of(name, texts=1).subkey(), texts=1, length=scheme.inputs.width + 1)
    small = TokenAudit.of(name, statistic).with_texts(DATASET, texts)
    verdict = small.claim()
    reachable = small.detect(DATASET).log10_floor <= math.log10(ALPHA)
    assert verdict.decision is not SUPPORTED
    assert verdict.decision is (NOT if reachable else INCONCLUSIVE)
    assert reachable == (scheme.law(statistic).__class__.__name__ in {"GammaLaw", "LatticeLaw"} or statistic == "mean")
    if not reachable:
        assert "cannot reach alpha" in verdict.sentence()


@every_statistic
def test_what_is_too_short_follows_the_floor_of_the_law(name, statistic):
    small = TokenAudit.of(name, statistic, texts=1, length=14).with_texts(DATASET, unmarked(texts=1, length=14))
    floor = small.detect(DATASET).log10_floor
    for factor, word in ((1.5, NOT), (0.5, INCONCLUSIVE)):
        assert small.with_plan(alpha=10**floor * factor).claim().decision is word
    # the floor is one claim's: what other commitments cost is beyond reach too
    paid = small.with_plan(alpha=10**floor * 1.5, commitments_made=10)
    assert paid.claim().decision is INCONCLUSIVE


@every_statistic
def test_a_release_with_nothing_to_score_decides_nothing(name, statistic):
    for texts in ([[]], [[1] * SCHEMES[name].inputs.width]):
        for corpus in (DATASET, HUMAN_TEXT):
            with pytest.raises(InconclusiveError, match=f"corpus '{corpus}' with no scorable token"):
                TokenAudit.of(name, statistic, texts=2).with_texts(corpus, texts).verdicts()


@every_statistic
def test_an_unmarked_release_is_not_supported(name, statistic):
    small = TokenAudit.of(name, statistic, texts=1)
    assert small.with_texts(DATASET, unmarked(seed=5)).claim().decision is NOT


@every_statistic
def test_marked_human_text_makes_the_claim_inconclusive(name, statistic):
    small = TokenAudit.of(name, statistic)
    found = small.with_texts(HUMAN_TEXT, marked(small.scheme, small.subkey(), seed=8)).verdicts()
    assert found[HUMAN_TEXT].decision is SUPPORTED
    assert found[DATASET].decision is INCONCLUSIVE
    assert HUMAN_TEXT in found[DATASET].sentence()


@every_statistic
def test_every_commitment_is_paid_for_in_p_and_in_e(name, statistic):
    small = TokenAudit.of(name, statistic)
    free, paid = small.claim(), small.with_plan(commitments_made=1000).claim()
    assert paid.log10_p == pytest.approx(free.log10_p + 3)
    assert paid.log10_e == pytest.approx(free.log10_e - 3)
    assert paid.log10_p_holm == pytest.approx(paid.log10_p)
    assert all(v.log10_p <= 0.0 for v in small.with_plan(commitments_made=1000).verdicts().values())


@every_statistic
def test_a_key_that_was_not_committed_opens_nothing(name, statistic):
    with pytest.raises(IntegrityError, match="does not open commitment"):
        replace(TokenAudit.of(name, statistic, texts=1), key=key_of("another")).verdicts()


@weighed
def test_another_statistic_is_another_p_of_the_same_effect(name, statistic):
    one, other = TokenAudit.of(name, statistic).claim(), TokenAudit.of(name, SCHEMES[name].count_statistic).claim()
    assert one.log10_p != other.log10_p
    assert (one.effect, one.successes, one.trials) == (other.effect, other.successes, other.trials)


def test_a_plan_with_a_statistic_that_the_scheme_does_not_have_is_refused():
    small = TokenAudit.of("kgw")
    (claim,) = small.plan.claims
    broken = replace(claim, mark={**claim.mark, "statistic": "credit"})
    with pytest.raises(UsageError, match="got statistic 'credit' for scheme 'kgw'"):
        small.with_plan(claims=(broken,)).verdicts()


@every_statistic
def test_innocent_releases_give_super_uniform_p_values(name, statistic):
    # a release as it is, many keys: the law is over the draw of the key
    small, keys = TokenAudit.of(name, statistic, texts=1), 400
    marks = [
        Mark(name=str(i), scheme=small.scheme, subkey=small.subkey(key_of(f"innocent/{i}")), statistic=statistic)
        for i in range(keys)
    ]
    tails = [f.evidence.log10_p for f in search([*unmarked(texts=3), [1, 2, 3, 4, 5, 6] * 20], marks)]
    for alpha in (0.5, 0.1, 0.01):
        hits = sum(tail <= math.log10(alpha) for tail in tails)
        assert stats.binomtest(hits, keys, alpha, alternative="greater").pvalue > 1e-3
    assert min(tails) < math.log10(0.05)
