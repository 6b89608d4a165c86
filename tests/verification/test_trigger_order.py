"""Orders of asking whose prefixes can be scored: whole triggers, arms in step, from a public seed alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countermark.errors import UsageError
from tests.support import key_of
from tests.verification.small_audit import CARRIERS, mark_of
from verification.claims import PROBES
from verification.plan import KEYED_ARM, WRONG_KEY_ARM, Claim, PlannedSuspect, probes_for
from verification.probe import Probe
from verification.sequential import boundaries, trigger_order, whole_prefix

KEY = key_of("orders")
CLAIMS = [Claim.INPUT_LEVEL, Claim.DOUBLE_I]


def _listed(claim, triggers=12, key=KEY):
    return PROBES[claim](key, mark_of(claim, triggers), CARRIERS[claim], wrong_seed="w")


@pytest.mark.parametrize("claim", CLAIMS)
def test_rounds_end_with_the_carriers_of_one_keyed_trigger(claim):
    listed = _listed(claim)
    ordered = trigger_order(listed, "seed")
    assert sorted(p.id for p in ordered) == sorted(p.id for p in listed)
    ends = boundaries(ordered)
    assert (len(ends), ends[-1]) == (12, len(ordered))
    carriers = len(CARRIERS[claim])
    for done, end in enumerate(ends, start=1):
        assert len({p.index for p in ordered[end - carriers : end]}) == 1
        assert {p.arm for p in ordered[end - carriers : end]} == {KEYED_ARM}
        for arm in (KEYED_ARM, WRONG_KEY_ARM):
            assert sum(p.arm == arm for p in ordered[:end]) == done * carriers
    assert [p.index for p in ordered if p.arm == KEYED_ARM][::carriers] != list(range(12))


def test_other_arms_are_spread_and_rows_that_belong_together_stay_together():
    ordered = trigger_order(_listed(Claim.DOUBLE_I), "seed")
    ends = boundaries(ordered)
    for end in ends:
        found = {arm: {p.index for p in ordered[:end] if p.arm == arm} for arm in ("paper_trigger", "paper_reference")}
        assert found["paper_trigger"] == found["paper_reference"]
    half = ordered[: ends[5]]
    assert 4 <= sum(p.arm == "paper_trigger" for p in half) <= 6


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.sampled_from(CLAIMS), st.text(max_size=4))
def test_the_order_is_a_function_of_the_set_and_the_public_seed(shuffler, claim, seed):
    listed = _listed(claim, 5)
    mixed = list(listed)
    shuffler.shuffle(mixed)
    once = trigger_order(listed, seed)
    assert once == trigger_order(mixed, seed) == trigger_order(once, seed)


def test_the_order_depends_on_the_seed_and_on_no_target():
    positions = {
        tuple(
            (p.arm, p.index, p.carrier) for p in trigger_order(_listed(Claim.INPUT_LEVEL, key=key_of(str(i))), "seed")
        )
        for i in range(5)
    }
    assert len(positions) == 1
    listed = _listed(Claim.INPUT_LEVEL)
    assert trigger_order(listed, "a") != trigger_order(listed, "b")


def test_controls_are_asked_in_the_same_rounds_without_the_wrong_key():
    ordered = trigger_order(_listed(Claim.INPUT_LEVEL), "seed")
    twin = probes_for(ordered, PlannedSuspect(name="twin", control=True, digest="t"))
    assert boundaries(twin) == tuple(2 * (i + 1) for i in range(12))
    assert [whole_prefix(twin, n) for n in (0, 1, 2, 3, 24, 99)] == [0, 0, 2, 2, 24, 24]


def test_nothing_keyed_is_no_order():
    stray = Probe(id="a", arm="paper_trigger", index=0, carrier=-1, prompt="?")
    for probes in ([], [stray]):
        with pytest.raises(UsageError):
            trigger_order(probes, "seed")
