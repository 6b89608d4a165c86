"""Plans and verdicts as JSON: nothing lost on the way, closed words, twelve digits, and sentences that hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import IntegrityError
from countermark.manifest import canonical_json, digest
from tests.support import key_of
from tests.verification.small_audit import CARRIERS, build, mark_of, trained
from verification.claims import double_i_probes, input_level_probes
from verification.plan import AuditPlan, Claim, probes_digest
from verification.statistics import Interval
from verification.verdict import Decision, Verdict, rounded

KEY = key_of("planner")


@pytest.fixture(scope="module")
def small():
    claims = (Claim.INPUT_LEVEL, Claim.DOUBLE_I)
    return build(KEY, {c: trained(KEY, mark_of(c, 16), c) for c in claims}, triggers=16, token=True)


def test_a_plan_survives_its_json(small):
    read = AuditPlan.from_json(json.loads(canonical_json(small.plan.to_json())))
    assert read == small.plan
    assert digest(read.to_json()) == digest(small.plan.to_json())
    assert replace(small, plan=read).verdicts() == small.verdicts()


def test_a_plan_holds_no_secret(small):
    text = canonical_json(small.plan.to_json())
    for secret in (KEY.secret, KEY.nonce):
        assert secret.hex().encode() not in text


SHAPES = {
    "no claims": lambda b: {k: v for k, v in b.items() if k != "claims"},
    "no alpha": lambda b: {k: v for k, v in b.items() if k != "alpha"},
    "unknown field": lambda b: {**b, "x": 1},
    "unknown claim": lambda b: {**b, "claims": [{**b["claims"][0], "claim": "vibes"}]},
    "claim without suspects": lambda b: {**b, "claims": [{k: v for k, v in b["claims"][0].items() if k != "suspects"}]},
    "suspect of another shape": lambda b: {**b, "claims": [{**b["claims"][0], "suspects": [{"name": "x"}]}]},
    "claims null": lambda b: {**b, "claims": None},
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_plan_of_another_shape_is_refused(small, name):
    with pytest.raises(IntegrityError, match="another shape"):
        AuditPlan.from_json(SHAPES[name](json.loads(canonical_json(small.plan.to_json()))))


@pytest.mark.parametrize("number", [2, None, "1"])
def test_a_plan_of_another_format_is_refused(small, number):
    with pytest.raises(IntegrityError):
        AuditPlan.from_json({**json.loads(canonical_json(small.plan.to_json())), "format": number})


@pytest.mark.parametrize("body", [[], None, 7])
def test_json_that_is_no_object_is_no_plan(body):
    with pytest.raises(IntegrityError):
        AuditPlan.from_json(body)


@pytest.mark.parametrize(
    ("claim", "make"), [(Claim.INPUT_LEVEL, input_level_probes), (Claim.DOUBLE_I, double_i_probes)]
)
def test_probes_rederive_and_every_trigger_meets_every_carrier(claim, make):
    mark = mark_of(claim, 10)
    probes = make(KEY, mark, CARRIERS[claim], wrong_seed="w")
    assert probes == make(KEY, mark, CARRIERS[claim], wrong_seed="w")
    assert len({p.id for p in probes}) == len(probes)
    for arm in ("keyed", "wrong_key"):
        pairs = {(p.index, p.carrier) for p in probes if p.arm == arm}
        assert pairs == {(t, c) for t in range(10) for c in range(len(CARRIERS[claim]))}
    others = (
        make(key_of("x"), mark, CARRIERS[claim], wrong_seed="w"),
        make(KEY, mark, CARRIERS[claim], wrong_seed="v"),
    )
    assert len({probes_digest(p) for p in (probes, *others)}) == 3


@pytest.mark.parametrize(
    ("claim", "make"), [(Claim.INPUT_LEVEL, input_level_probes), (Claim.DOUBLE_I, double_i_probes)]
)
def test_arms_are_interleaved(claim, make):
    arms = [p.arm for p in make(KEY, mark_of(claim, 40), CARRIERS[claim], wrong_seed="w")]
    half = len(arms) // 2
    for arm in set(arms):
        assert 0.25 < arms[:half].count(arm) / arms.count(arm) < 0.75


def test_verdict_json_is_plain_and_closed(small):
    for verdict in small.verdicts().values():
        body = verdict.to_json()
        assert json.loads(canonical_json(body)) == json.loads(json.dumps(body))
        assert body["decision"] in {"supported", "not_supported", "inconclusive"}
        assert body["claim"] in {"token", "input_level", "double_i"}
        assert body["p_value"] == pytest.approx(10 ** body["log10_p"])
        assert body["sentence"] == verdict.sentence()
        assert "innocent" not in body["sentence"]


def test_the_words_are_closed():
    assert {str(d) for d in Decision} == {"supported", "not_supported", "inconclusive"}
    assert {str(c) for c in Claim} == {
        "token", "input_level", "double_i", "double_i_trigger", "input_trigger", "output_weak", "output_robust",
        "output_steganographic",
    }  # fmt: skip
    for closed in (Decision, Claim):
        with pytest.raises(ValueError, match="guilty"):
            closed("guilty")


def _verdict(log10_p: float, decision: Decision = Decision.SUPPORTED, **more) -> Verdict:
    return Verdict(
        claim=Claim.TOKEN, suspect="s", control=False, decision=decision, method="m", alpha=1e-6, queries=0,
        log10_p=log10_p, log10_p_holm=log10_p, successes=1, trials=3, chance=0.25,
        effect=Interval(value=1 / 3, low=0.0, high=1.0, level=0.95), **more,
    )  # fmt: skip


def test_a_p_value_that_underflows_is_zero_and_its_logarithm_stays():
    body = _verdict(-5000.123456789012345).to_json()
    assert body["p_value"] == 0.0
    assert body["log10_p"] == -5000.12345679
    assert body["effect"]["value"] == 0.333333333333


def test_a_number_that_is_none_is_null():
    assert _verdict(-1.0, log10_e=float("-inf")).to_json()["log10_e"] is None
    assert rounded({"a": [float("nan"), (float("inf"),)], "b": True, "c": 10**20}) == {
        "a": [None, [None]],
        "b": True,
        "c": 10**20,
    }


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_keeps_twelve_digits_and_is_idempotent(value):
    once = rounded(value)
    assert rounded(once) == once
    assert once == pytest.approx(value, rel=5e-12)
    assert len(re.sub(r"e.*|[-.]", "", repr(once)).strip("0")) <= 12 or abs(once) >= 1e12


def test_an_inconclusive_verdict_says_why():
    assert "too few" in _verdict(-1.0, Decision.INCONCLUSIVE, reasons=("too few triggers",)).sentence()


@given(st.floats(-400, 0))
def test_the_bound_of_the_sentence_is_a_bound(log10_p):
    sentence = _verdict(log10_p).sentence()
    (stated,) = re.findall(r"10\^(-?[0-9.]+)", sentence)
    assert float(stated) >= log10_p
