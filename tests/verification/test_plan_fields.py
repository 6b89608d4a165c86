"""What a plan seals of looks, bets, budgets, times and signers: nothing ill-formed is read, nothing old is changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import canonical_json, digest
from tests.support import key_of
from tests.verification.early_audit import early
from tests.verification.small_audit import build, mark_of, trained
from verification.plan import (
    FIXED_N,
    SEQUENTIAL_STOPPING,
    AuditPlan,
    Budget,
    Claim,
    PlannedSuspect,
    Sequential,
    Timing,
)
from verification.sequential import DEFAULT_PRIOR
from verification.timing import NO_TIMING, UNKNOWN_RELEASE, exploratory_reasons

KEY = key_of("planner")
LEDGER = Timing(evidence="ledger", commitment_time="2026-01-01T00:00:00Z", suspect_released="2026-02-01")
LATER = {"sequential", "canaries", "budget", "timing", "signer"}


@pytest.fixture(scope="module")
def fixed():
    claims = (Claim.INPUT_LEVEL, Claim.DOUBLE_I)
    return build(KEY, {c: trained(KEY, mark_of(c, 16), c) for c in claims}, triggers=16)


@pytest.fixture(scope="module")
def full():
    learnt = trained(KEY, mark_of(Claim.DOUBLE_I, 40), Claim.DOUBLE_I)
    return early(
        KEY, {Claim.DOUBLE_I: learnt}, triggers=40, canaries=("Why?",), budget=Budget(queries=900, tokens=9000),
        timing=LEDGER, signer="ab" * 32,
    )  # fmt: skip


def _json(plan):
    return json.loads(canonical_json(plan.to_json()))


def test_a_plan_with_every_field_survives_its_json(full):
    body = _json(full.plan)
    assert body.keys() >= LATER
    assert body["claims"][0]["suspects"][0]["kind"] == "chat"
    read = AuditPlan.from_json(body)
    assert read == full.plan
    assert digest(read.to_json()) == digest(body)


def test_a_plan_of_before_these_fields_reads_as_ever_and_keeps_its_digest(fixed):
    body = _json(fixed.plan)
    assert not LATER & body.keys()
    assert set(body["claims"][0]["suspects"][0]) == {"name", "control", "digest"}
    read = AuditPlan.from_json(body)
    assert (read.sequential, read.canaries, read.budget, read.timing, read.signer) == (None, (), None, None, "")
    assert read.claims[0].suspects[0].kind == "folder"
    assert digest(read.to_json()) == digest(body)


def test_bets_of_a_single_rate_come_back_from_canonical_json(full):
    plan = replace(full.plan, sequential=Sequential(prior=((0.9, 1.0),), look=3))
    assert AuditPlan.from_json(_json(plan)) == plan


BROKEN = {
    "sequential a list": {"sequential": []},
    "sequential without prior": {"sequential": {"look": 1}},
    "sequential with more": {"sequential": {"prior": [[0.9, 1.0]], "look": 1, "x": 1}},
    "no bets": {"sequential": {"prior": [], "look": 1}},
    "weights above 1": {"sequential": {"prior": [[0.9, 0.7], [0.8, 0.7]], "look": 1}},
    "a rate below chance": {"sequential": {"prior": [[0.3, 1.0]], "look": 1}},
    "a rate of 1": {"sequential": {"prior": [[1, 1.0]], "look": 1}},
    "a rate as text": {"sequential": {"prior": [["0.9", 1.0]], "look": 1}},
    "a rate as bool": {"sequential": {"prior": [[True, 1.0]], "look": 1}},
    "no look": {"sequential": {"prior": [[0.9, 1.0]], "look": 0}},
    "half a look": {"sequential": {"prior": [[0.9, 1.0]], "look": 0.5}},
    "canaries a text": {"canaries": "Why?"},
    "canaries of numbers": {"canaries": [1]},
    "an empty canary": {"canaries": [" "]},
    "no budget": {"budget": {"queries": 0}},
    "a negative budget": {"budget": {"queries": -5, "tokens": None}},
    "tokens as text": {"budget": {"queries": 5, "tokens": "9"}},
    "no tokens": {"budget": {"queries": 5, "tokens": 0}},
    "budget with more": {"budget": {"queries": 5, "euros": 9}},
    "budget a number": {"budget": 5},
    "evidence unheard of": {"timing": {"evidence": "rumour", "commitment_time": "", "suspect_released": ""}},
    "a time of no form": {"timing": {"evidence": "ledger", "commitment_time": "yesterday", "suspect_released": ""}},
    "a time elsewhere": {
        "timing": {"evidence": "ledger", "commitment_time": "2026-01-01T00:00:00+02:00", "suspect_released": ""}
    },
    "month 13": {"timing": {"evidence": "ledger", "commitment_time": "2026-13-01", "suspect_released": ""}},
    "a time of null": {"timing": {"evidence": "ledger", "commitment_time": None, "suspect_released": ""}},
    "timing with more": {"timing": {"evidence": "none", "x": ""}},
    "a short signer": {"signer": "ab"},
    "a signer in capitals": {"signer": "AB" * 32},
    "signer null": {"signer": None},
    "alpha as text": {"alpha": "0.05"},
    "alpha of 1": {"alpha": 1},
    "alpha null": {"alpha": None},
    "no commitments": {"commitments_made": 0},
    "half a commitment": {"commitments_made": 0.5},
    "audits negative": {"audits_admitted": -1},
    "audits true": {"audits_admitted": True},
    "fixed n and looks": {"stopping": FIXED_N},
    "an unknown field": {"sequentially": None},
}


@pytest.mark.parametrize("name", BROKEN)
def test_ill_typed_fields_are_refused(full, name):
    with pytest.raises(IntegrityError, match="another shape"):
        AuditPlan.from_json({**_json(full.plan), **BROKEN[name]})


@pytest.mark.parametrize(
    "change",
    [{"kind": "oracle"}, {"kind": None}, {"address": None}, {"address": "http://me:secret@host/v1"}, {"url": "x"}],
)
def test_ill_typed_suspects_are_refused(full, change):
    body = _json(full.plan)
    body["claims"][0]["suspects"][0].update(change)
    with pytest.raises(IntegrityError, match="another shape"):
        AuditPlan.from_json(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(LATER)), JSON)
def test_whatever_stands_in_a_field_is_read_whole_or_refused(full, name, value):
    body = {**_json(full.plan), name: value}
    try:
        read = AuditPlan.from_json(body)
    except IntegrityError:
        return
    assert AuditPlan.from_json(_json(read)) == read


def test_what_cannot_be_sealed_is_a_usage_error(full):
    for change in (
        {"alpha": 1.5},
        {"commitments_made": 0},
        {"stopping": FIXED_N},
        {"signer": "x"},
        {"canaries": ("",)},
    ):
        with pytest.raises(UsageError) as caught:
            replace(full.plan, **change)
        assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"from 0\.5"):
        replace(full.plan, sequential=Sequential(prior=((0.4, 1.0),)))
    with pytest.raises(UsageError, match="credentials"):
        PlannedSuspect(name="s", control=False, digest="d", kind="chat", address="https://user:pass@api/v1")


def test_a_plan_may_look_early_at_some_claims_only(full):
    assert full.plan.is_sequential(full.plan.claims[0])
    texts = replace(full.plan.claims[0], claim=Claim.OUTPUT_WEAK, answers=())
    assert not replace(full.plan, claims=(texts,)).is_sequential(texts)
    assert not replace(full.plan, sequential=None).is_sequential(full.plan.claims[0])


TIMES = {
    ("ledger", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"): True,
    ("timestamp", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01+00:00"): True,
    ("public_value", "2026-01-01", "2026-01-02T00:00:01Z"): True,
    ("ledger", "2026-01-01", "2026-01-01"): False,
    ("ledger", "2026-01-01", "2026-01-02"): False,  # it may have been midnight
    ("ledger", "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z"): False,
    ("ledger", "2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z"): False,
    ("ledger", "", "2026-02-01T00:00:00Z"): False,
    ("none", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"): False,
    ("none", "", ""): False,
    ("ledger", "2026-01-01T00:00:00Z", ""): True,
}


@pytest.mark.parametrize(("times", "confirmatory"), TIMES.items())
def test_a_commitment_that_is_not_shown_to_come_first_can_only_explore(full, times, confirmatory):
    evidence, committed, released = times
    timing = Timing(evidence=evidence, commitment_time=committed, suspect_released=released)
    small = replace(full, plan=replace(full.plan, timing=timing))
    assert bool(exploratory_reasons(small.plan)) is not confirmatory
    for verdict in small.verdicts().values():
        assert verdict.exploratory == exploratory_reasons(small.plan)
        assert verdict.sentence().startswith("Exploratory only: ") is not confirmatory
        assert (UNKNOWN_RELEASE in verdict.assumptions) is (confirmatory and not released)
        assert NO_TIMING not in verdict.assumptions


def test_a_plan_that_asked_for_no_time_evidence_says_so_and_is_not_called_exploratory(fixed):
    for verdict in fixed.verdicts().values():
        assert NO_TIMING in verdict.assumptions
        assert (verdict.exploratory, verdict.drift, verdict.sequential) == ((), None, None)


def test_names_that_stand_twice_are_refused(fixed):
    twins = (*fixed.plan.claims[0].suspects, PlannedSuspect(name="suspect/wrong_key", control=True, digest="x"))
    small = replace(fixed, plan=fixed.plan)
    small.with_claim(Claim.INPUT_LEVEL, suspects=twins)
    with pytest.raises(IntegrityError, match="twice in a plan"):
        small.verdicts()
    doubled = replace(fixed, plan=replace(fixed.plan, claims=fixed.plan.claims[:1] * 2))
    with pytest.raises(IntegrityError, match="twice in a plan"):
        doubled.verdicts()


def test_the_stopping_rule_in_words_names_controls_and_budget():
    assert "controls" in SEQUENTIAL_STOPPING
    assert "budget" in SEQUENTIAL_STOPPING
    assert all(rate >= 0.5 for rate, _ in DEFAULT_PRIOR)
