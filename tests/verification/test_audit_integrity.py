"""What was exchanged, dropped, doubled or edited after sealing is an integrity failure, never a verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from countermark.errors import IntegrityError
from tests.support import key_of
from tests.verification.small_audit import build, mark_of, trained
from verification.plan import Claim

KEY = key_of("sealed")
ASKED = [Claim.INPUT_LEVEL, Claim.DOUBLE_I]


@pytest.fixture(scope="module")
def honest():
    return build(KEY, {claim: trained(KEY, mark_of(claim, 16), claim) for claim in ASKED}, triggers=16)


@pytest.fixture
def small(honest):
    return replace(honest, plan=honest.plan, evidence=honest.evidence)


def _refused(small, match="."):
    with pytest.raises(IntegrityError, match=match) as caught:
        small.verdicts()
    assert caught.value.exit_code == 3


def _answers(small, claim, change, who="suspect"):
    mine = small.evidence.answers[claim]
    changed = {**small.evidence.answers, claim: {**mine, who: change(list(mine[who]))}}
    small.evidence = replace(small.evidence, answers=changed)


def test_the_honest_one_passes(small):
    assert len(small.verdicts()) == 6


def test_a_key_that_was_not_committed(small):
    small.key = key_of("another")
    _refused(small, "does not open commitment")


@pytest.mark.parametrize("field", ["nonce", "secret", "key_id"])
def test_a_key_that_differs_in_one_field(small, field):
    value = getattr(small.key, field)
    small.key = replace(small.key, **{field: value[::-1]})
    _refused(small, "does not open commitment")


def test_another_salt_rederives_other_probes(small):
    small.key = small.key.with_salt(b"a public value that came later")
    _refused(small, "not the sealed ones")


@pytest.mark.parametrize("field", ["sha256", "config_digest"])
def test_a_commitment_that_was_edited(small, field):
    small.plan = replace(small.plan, commitment={**small.plan.commitment, field: "0" * 64})
    _refused(small, "does not open commitment")


TAMPERED = {
    "dropped": lambda a: a[:-1],
    "dropped first": lambda a: a[1:],
    "none": lambda _: [],
    "doubled": lambda a: [*a, a[-1]],
    "doubled in place": lambda a: [a[0], a[0], *a[2:]],
    "reordered": lambda a: [a[1], a[0], *a[2:]],
    "reversed": lambda a: a[::-1],
    "other prompt": lambda a: [replace(a[0], prompt_digest="0" * 64), *a[1:]],
    "other id": lambda a: [replace(a[0], id="keyed-99-0"), *a[1:]],
}


@pytest.mark.parametrize("claim", ASKED)
@pytest.mark.parametrize("name", TAMPERED)
@pytest.mark.parametrize("who", ["suspect", "twin"])
def test_answers_that_were_tampered_with(small, claim, name, who):
    _answers(small, claim, TAMPERED[name], who)
    _refused(small, f"answers of {who}")


def test_all_answers_of_one_suspect_dropped(small):
    mine = small.evidence.answers[Claim.DOUBLE_I]
    answers = {**small.evidence.answers, Claim.DOUBLE_I: {"suspect": mine["suspect"]}}
    small.evidence = replace(small.evidence, answers=answers)
    _refused(small, "twin")


def test_answers_of_another_suspect(small):
    other = small.evidence.answers[Claim.DOUBLE_I]["suspect"]
    _answers(small, Claim.DOUBLE_I, lambda _: other, "twin")
    _refused(small)


def test_a_parsed_answer_that_the_raw_text_does_not_give(small):
    _answers(small, Claim.DOUBLE_I, lambda a: [replace(x, raw="I will not say.") for x in a])
    _refused(small)


@pytest.mark.parametrize("claim", ASKED)
def test_carriers_that_were_edited(small, claim):
    carriers = next(c.carriers for c in small.plan.claims if c.claim is claim)
    small.with_claim(claim, carriers=(carriers[0] + " ", *carriers[1:]))
    _refused(small, "not the sealed ones")


@pytest.mark.parametrize("claim", ASKED)
def test_a_carrier_fewer(small, claim):
    carriers = next(c.carriers for c in small.plan.claims if c.claim is claim)
    small.with_claim(claim, carriers=carriers[:-1])
    _refused(small, "not the sealed ones")


@pytest.mark.parametrize("claim", ASKED)
@pytest.mark.parametrize("change", [{"scope": "t"}, {"words": 3}, {"triggers": 15, "codewords": 15}])
def test_mark_parameters_that_were_edited(small, claim, change):
    mark = next(c.mark for c in small.plan.claims if c.claim is claim)
    small.with_claim(claim, mark={**mark, **{k: v for k, v in change.items() if k in mark}})
    _refused(small, "not the sealed ones")


PROBES = {
    "dropped": lambda p: p[:-1],
    "reordered": lambda p: p[::-1],
    "other prompt": lambda p: [replace(p[0], prompt="?"), *p[1:]],
    "other index": lambda p: [replace(p[0], index=p[0].index + 1), *p[1:]],
    "other arm": lambda p: [replace(p[0], arm="wrong_key" if p[0].arm == "keyed" else "keyed"), *p[1:]],
    "none": lambda _: [],
}


@pytest.mark.parametrize("claim", ASKED)
@pytest.mark.parametrize("name", PROBES)
def test_probes_that_were_edited(small, claim, name):
    probes = {**small.evidence.probes, claim: PROBES[name](list(small.evidence.probes[claim]))}
    small.evidence = replace(small.evidence, probes=probes)
    _refused(small, "not the sealed ones")


def test_another_public_seed_is_another_plan(small):
    small.plan = replace(small.plan, wrong_key_seed="another")
    _refused(small, "not the sealed ones")


ROWS = {
    "one missing": [5] * 15 + [4],
    "one too many": [6] + [5] * 15,
    "absent": [0] * 16,
    "nothing": [],
    "for fewer triggers": [5],
}


@pytest.mark.parametrize("claim", ASKED)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_a_release_that_does_not_hold_the_mark(small, claim, rows):
    small.evidence = replace(small.evidence, marked_rows={**small.evidence.marked_rows, claim: rows})
    _refused(small, "triggers stand in")


def test_a_release_that_was_not_counted(small):
    small.evidence = replace(small.evidence, marked_rows={})
    _refused(small)
