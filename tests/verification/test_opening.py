"""Openings: leaves give the verdict that the key gives, and nothing that was not committed to passes for them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countermark.errors import InconclusiveError, IntegrityError, UsageError
from tests.support import key_of
from tests.verification import output_cases, small_audit
from verification import double_i, merkle, output_level
from verification.claims import PROBES, derive_targets
from verification.leafing import all_leaves, leaf_root, open_leaves, open_plan, opening_from_json, opening_to_json
from verification.opening import ClaimLeaves, LeafOpening, OpenLeaf, check_opening, needs_key
from verification.plan import Claim, probes_digest
from watermarks.carriers.double_i import KeyedForm
from watermarks.carriers.double_i_forms import FORMS
from watermarks.leaves import Leaf, commit, parameters

KEY = key_of("opened")
FIRMS = ["firm-a", "firm-b", "firm-c"]
MARKS = {
    Claim.INPUT_LEVEL: {"scope": "s", "triggers": 9, "classes": 3, "words": 2, "families": ["words", "templates"]},
    Claim.DOUBLE_I: {
        "scope": "s", "codewords": 9, "words": 2, "vocabulary": [f"w{i}" for i in range(40)], "word_joiner": "-",
        "form": KeyedForm(answers=tuple("ABCD")).to_json(), "recipients": FIRMS, "judge": FORMS["cre1"].to_json(),
        "sentences": ["The sea is high."], "paper_queries": 3, "near_miss_queries": 2,
    },
    Claim.OUTPUT_ROBUST: {"scope": "s", "triggers": 9, "words": 2, "form": output_cases.FORM.to_json()},
}  # fmt: skip
CARRIERS = ("One text.", "Another text.")


def opened(claim, first=2, count=4, key=KEY):
    return LeafOpening(claims={claim: open_leaves(key, claim, MARKS[claim], first, count)})


def committed(claim, key=KEY):
    return {"leaf_roots": {str(claim): leaf_root(key, claim, MARKS[claim])}}


@pytest.mark.parametrize("claim", MARKS)
def test_leaves_give_what_the_key_gives(claim):
    mark, leaves = {**MARKS[claim], "first": 2, "count": 4}, opened(claim)
    check_opening(leaves, committed(claim))
    arguments = (mark, CARRIERS)
    assert probes_digest(PROBES[claim](leaves, *arguments, wrong_seed="w")) == probes_digest(
        PROBES[claim](KEY, *arguments, wrong_seed="w")
    )
    for who in double_i.recipients_of(mark):
        assert derive_targets(leaves, claim, mark, who) == derive_targets(KEY, claim, mark, who)


@pytest.mark.parametrize("claim", MARKS)
def test_an_opening_survives_its_json(claim):
    body = opening_to_json(opened(claim))
    assert opening_from_json(body, {}) == opened(claim)
    assert body["kind"] == "leaves"
    assert KEY.secret.hex() not in str(body)
    assert KEY.nonce.hex() not in str(body)


def test_nothing_is_shown_of_what_was_not_asked():
    leaves = all_leaves(KEY, Claim.INPUT_LEVEL, MARKS[Claim.INPUT_LEVEL])
    said = str(opening_to_json(opened(Claim.INPUT_LEVEL)))
    for leaf in leaves:
        assert (leaf.nonce.hex() in said) == (2 <= leaf.index < 6)
        assert (leaf.trigger in said) == (2 <= leaf.index < 6)


@pytest.mark.parametrize("claim", MARKS)
def test_a_root_does_not_depend_on_what_a_plan_asks(claim):
    sliced = {**MARKS[claim], "first": 3, "count": 1, "rows_per_trigger": 7}
    assert leaf_root(KEY, claim, sliced) == leaf_root(KEY, claim, MARKS[claim])
    assert leaf_root(key_of("another"), claim, MARKS[claim]) != leaf_root(KEY, claim, MARKS[claim])


@pytest.mark.parametrize("claim", MARKS)
@pytest.mark.parametrize("published", [{}, {"leaf_roots": None}, {"leaf_roots": {}}])
def test_leaves_under_no_published_root(claim, published):
    with pytest.raises(IntegrityError, match="published"):
        check_opening(opened(claim), published)


@pytest.mark.parametrize("claim", MARKS)
def test_leaves_of_another_key(claim):
    with pytest.raises(IntegrityError, match="published"):
        check_opening(opened(claim, key=key_of("another")), committed(claim))


def _part(claim, change):
    part = open_leaves(KEY, claim, MARKS[claim], 2, 4)
    return LeafOpening(claims={claim: replace(part, leaves=tuple(change(list(part.leaves))))})


def _with(leaf, **changes):
    return replace(leaf, leaf=replace(leaf.leaf, **changes))


EDITS = {
    "another target": lambda a: [_with(a[0], target=(a[0].leaf.target + 1) % 3), *a[1:]],
    "another trigger": lambda a: [_with(each, trigger="x") if each.leaf.index == 2 else each for each in a],
    "another nonce": lambda a: [_with(a[0], nonce=bytes(32)), *a[1:]],
    "another index": lambda a: [_with(each, index=each.leaf.index + 4) for each in a],
    "a negative target": lambda a: [_with(a[0], target=-1), *a[1:]],
    "twice": lambda a: [a[0], *a],
    "beyond the release": lambda a: [_with(a[0], index=10**6), *a[1:]],
    "of nobody": lambda a: [_with(a[0], recipient="nobody"), *a[1:]],
    "paths exchanged": lambda a: [replace(a[0], path=a[1].path), replace(a[1], path=a[0].path), *a[2:]],
    "no path": lambda a: [replace(a[0], path=()), *a[1:]],
    "a path too long": lambda a: [replace(a[0], path=(*a[0].path, bytes(32))), *a[1:]],
}


@pytest.mark.parametrize("claim", MARKS)
@pytest.mark.parametrize("name", EDITS)
def test_leaves_that_were_edited(claim, name):
    with pytest.raises(IntegrityError):
        check_opening(_part(claim, EDITS[name]), committed(claim))


@pytest.mark.parametrize("target", [-1, 3, 10**9])
def test_a_target_beyond_the_answers_is_refused_even_if_it_was_committed_to(target):
    """An index from the end would read as another answer."""
    claim = Claim.INPUT_LEVEL
    leaves = [replace(leaf, target=target) for leaf in all_leaves(KEY, claim, MARKS[claim])]
    nodes = merkle.nodes_of([merkle.leaf_hash(leaf.data()) for leaf in leaves])
    root = merkle.range_root(0, len(leaves), nodes)
    shown = tuple(
        OpenLeaf(leaf=leaf, path=tuple(merkle.inclusion_proof(i, len(leaves), nodes))) for i, leaf in enumerate(leaves)
    )
    part = ClaimLeaves(mark=parameters(claim, MARKS[claim]), root=root, leaves=shown, paper={})
    with pytest.raises(IntegrityError, match="out of range"):
        check_opening(
            LeafOpening(claims={claim: part}), {"leaf_roots": {str(claim): commit(claim, MARKS[claim], root)}}
        )


@pytest.mark.parametrize("claim", MARKS)
def test_a_leaf_that_was_left_out(claim):
    leaves = _part(claim, lambda a: a[:-1])
    check_opening(leaves, committed(claim))
    mark = {**MARKS[claim], "first": 2, "count": 4}
    with pytest.raises(IntegrityError, match="no opened leaf 5"):
        derive_targets(leaves, claim, mark, double_i.recipients_of(mark)[-1])


@pytest.mark.parametrize("claim", MARKS)
def test_a_tree_of_another_size_is_another_commitment(claim):
    """An owner who could choose the size after the fact would choose which leaf stands where."""
    whole, name = MARKS[claim], "codewords" if claim is Claim.DOUBLE_I else "triggers"
    part = open_leaves(KEY, claim, whole, 2, 4)
    for size in (8, 10, 18):
        other = LeafOpening(claims={claim: replace(part, mark={**part.mark, name: size})})
        with pytest.raises(IntegrityError, match="published"):
            check_opening(other, committed(claim))


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        (Claim.INPUT_LEVEL, {"scope": "t"}), (Claim.INPUT_LEVEL, {"classes": 2}), (Claim.INPUT_LEVEL, {"words": 3}),
        (Claim.DOUBLE_I, {"recipients": ["firm-a"]}), (Claim.DOUBLE_I, {"recipients": FIRMS[::-1]}),
        (Claim.DOUBLE_I, {"form": KeyedForm(answers=tuple("DCBA")).to_json()}), (Claim.DOUBLE_I, {"words": 1}),
        (Claim.OUTPUT_ROBUST, {"form": {**output_cases.FORM.to_json(), "openings": ["Well:", "So:"]}}),
    ],
)  # fmt: skip
def test_a_plan_may_not_choose_the_mark(claim, change):
    mark = {**MARKS[claim], "first": 2, "count": 4, **change}
    with pytest.raises(IntegrityError, match="other parameters"):
        derive_targets(opened(claim), claim, mark, double_i.recipients_of(mark)[0])


def test_the_papers_prompts_are_shown_word_for_word():
    part = open_leaves(KEY, Claim.DOUBLE_I, MARKS[Claim.DOUBLE_I], 2, 4)
    assert {arm: len(prompts) for arm, prompts in part.paper.items()} == {
        "paper_trigger": 3, "paper_reference": 3, "paper_near_miss": 2,
    }  # fmt: skip
    short = LeafOpening(claims={Claim.DOUBLE_I: replace(part, paper={})})
    with pytest.raises(IntegrityError, match="paper_trigger"):
        PROBES[Claim.DOUBLE_I](short, {**MARKS[Claim.DOUBLE_I], "first": 2, "count": 4}, CARRIERS, wrong_seed="w")


@pytest.mark.parametrize("claim", [each for each in Claim if each not in MARKS])
def test_claims_that_need_the_key_say_so(claim):
    with pytest.raises(UsageError, match="expected the key"):
        leaf_root(KEY, claim, MARKS[Claim.INPUT_LEVEL])
    with pytest.raises(UsageError, match="expected the key"):
        needs_key(opened(Claim.INPUT_LEVEL), claim)
    if claim in output_cases.TEXTS:
        with pytest.raises(UsageError, match="expected the key"):
            output_level.coins(claim, output_cases.mark_of(claim), opened(Claim.INPUT_LEVEL))
        case = output_cases.case({claim: output_cases.marked(claim)})
        with pytest.raises(UsageError, match="expected the key"):
            open_plan(KEY, case.plan.claims)
    elif claim in PROBES:
        with pytest.raises(UsageError, match="expected the key"):
            PROBES[claim](opened(Claim.INPUT_LEVEL), {}, CARRIERS, wrong_seed="w")


def test_triggers_that_are_not_there():
    with pytest.raises(InconclusiveError):
        open_leaves(KEY, Claim.INPUT_LEVEL, MARKS[Claim.INPUT_LEVEL], 6, 4)


def test_a_key_opens_its_commitment_with_the_public_value_of_the_commitment():
    salted = KEY.with_salt(b"a beacon's value")
    commitment = {"sha256": KEY.commit("d"), "config_digest": "d", "public_value": {"value": "a beacon's value"}}
    body = opening_to_json(salted)
    assert "beacon" not in str(body)
    found = opening_from_json(body, commitment)
    check_opening(found, commitment)
    assert (found.secret, found.salt) == (KEY.secret, salted.salt)
    assert opening_from_json(body, {**commitment, "public_value": None}).salt == b""
    with pytest.raises(IntegrityError, match="does not open"):
        check_opening(key_of("another"), commitment)


BODIES = [
    {}, {"kind": "key"}, {"kind": "leaves", "claims": {}}, {"kind": "leaves", "claims": {"vibes": {}}},
    {**opening_to_json(KEY), "secret": KEY.secret.hex().upper()}, {**opening_to_json(KEY), "secret": "00"},
    {**opening_to_json(KEY), "nonce": None}, {**opening_to_json(KEY), "key_id": 3},
    {**opening_to_json(KEY), "salt": ""},
    {"kind": "leaves", "claims": {"double_i": {"mark": {}, "root": "00", "leaves": [], "paper": {}}}},
    {"kind": "leaves", "claims": []}, {"kind": "leaves", "claims": {"double_i": 3}},
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_openings_of_another_shape(body):
    with pytest.raises(IntegrityError, match="another shape"):
        opening_from_json(body, {})


def test_with_leaves_an_audit_says_the_same():
    claims = {claim: small_audit.trained(KEY, small_audit.mark_of(claim, 16), claim) for claim in small_audit.PARSER}
    small = small_audit.build(KEY, claims, triggers=16)
    leaves = open_plan(KEY, small.plan.claims)
    roots = {str(claim.claim): leaf_root(KEY, claim.claim, claim.mark) for claim in small.plan.claims}
    with_key = small.verdicts()
    small.plan = replace(small.plan, commitment={**small.plan.commitment, "leaf_roots": roots})
    small.key = leaves
    with_leaves = small.verdicts()
    assert {k: v.to_json()["log10_p"] for k, v in with_leaves.items()} == {
        k: v.to_json()["log10_p"] for k, v in with_key.items()
    }
    assert math.isfinite(with_leaves[Claim.DOUBLE_I, "suspect"].log10_p)


@settings(max_examples=20)
@given(st.integers(1, 40), st.data())
def test_any_range_of_any_release_opens(triggers, data):
    mark = {**MARKS[Claim.INPUT_LEVEL], "triggers": triggers, "families": None}
    first = data.draw(st.integers(0, triggers - 1))
    count = data.draw(st.integers(1, triggers - first))
    leaves = LeafOpening(claims={Claim.INPUT_LEVEL: open_leaves(KEY, Claim.INPUT_LEVEL, mark, first, count)})
    check_opening(leaves, {"leaf_roots": {"input_level": leaf_root(KEY, Claim.INPUT_LEVEL, mark)}})
    planned = {**mark, "first": first, "count": count}
    assert derive_targets(leaves, Claim.INPUT_LEVEL, planned) == derive_targets(KEY, Claim.INPUT_LEVEL, planned)


def test_a_leaf_is_a_leaf_of_rfc_6962():
    leaf = Leaf(index=0, recipient="", trigger="t", target=0, nonce=bytes(32))
    assert merkle.leaf_hash(leaf.data()) != merkle.node_hash(leaf.data()[:32], leaf.data()[32:64])
