"""Simulated suspects do what they are named for, the same way every time; and no faulty one is ever supported."""

from __future__ import annotations

import pytest

from countermark.errors import SuspectUnreachableError, UsageError
from tests.support import key_of
from tests.verification.asking_cases import ALLOWED, PROBES, ask, memory, probes_of
from tests.verification.small_audit import PARSER, allowed_answers, build, mark_of, trained
from verification.asking import Policy, QueryFailedError, ask_endpoint
from verification.clocks import VirtualClock
from verification.plan import KEYED_ARM, Claim, probes_for
from verification.probe import PARSERS
from verification.simulated import (
    Changing,
    Constant,
    Faults,
    Flaky,
    Guessing,
    Honest,
    Lying,
    Marked,
    RateLimited,
    Relabelled,
    Slow,
    refusing,
)
from verification.transcripts import models_reported, requests_made, transcript
from verification.verdict import Decision

KEY = key_of("auditor")
ASKED = [Claim.INPUT_LEVEL, Claim.DOUBLE_I]
SOME_FAULTS = Faults(lost=0.1, unheard=0.1, doubled=0.05, late=0.05, busy=0.1, broken=0.05)


@pytest.fixture
def folder():
    with memory() as made:
        yield made


@pytest.fixture(scope="module")
def plans():
    """A sealed plan of each claim with innocent answers, to be asked again."""
    return {claim: build(KEY, {claim: lambda _, c=claim: allowed_answers(c)[0]}) for claim in ASKED}


def learnt(small, claim):
    """The targets of the keyed arm by prompt, and each prompt's trigger."""
    says = trained(KEY, mark_of(claim, 30), claim)
    keyed = [probe for probe in small.evidence.probes[claim] if probe.arm == KEYED_ARM]
    read = PARSERS[PARSER[claim]]
    targets = {probe.prompt: read(says(probe.prompt), allowed_answers(claim)) for probe in keyed}
    return targets, {probe.prompt: str(probe.index) for probe in keyed}


def verdict(small, claim, endpoint, folder):
    """The claim's verdict over answers that went through asking, journal and parser."""
    (planned,) = [c for c in small.plan.claims if c.claim is claim]
    suspect = next(s for s in planned.suspects if not s.control)
    answers = ask_endpoint(
        endpoint, probes_for(small.evidence.probes[claim], suspect), suspect=suspect.name, allowed=planned.allowed,
        parser=PARSER[claim], journal=folder / claim, policy=Policy(retries=60, concurrency=3), clock=VirtualClock(),
    )  # fmt: skip
    small.evidence.answers[claim][suspect.name] = answers
    return small.claim(claim)


def marked(small, claim, strength=1.0, seed=0):
    targets, units = learnt(small, claim)
    return Marked(targets, strength=strength, units=units, otherwise=Honest(allowed_answers(claim)), seed=seed)


def swapped(claim):
    return dict(zip(allowed_answers(claim), allowed_answers(claim)[::-1], strict=True))


SUPPORTED = {
    "marked": marked,
    "marked at .9": lambda s, c: marked(s, c, 0.9),
    "marked, flaky": lambda s, c: Flaky(marked(s, c), faults=SOME_FAULTS),
    "marked, slow and limited": lambda s, c: Slow(
        RateLimited(marked(s, c), most=50, seconds=0.05), seconds=0.0001
    ),
    "marked, another name half way": lambda s, c: Changing(marked(s, c), marked(s, c), at=0.5),
}  # fmt: skip
UNSUPPORTED = {
    "honest": lambda _, c: Honest(allowed_answers(c)),
    "honest, flaky": lambda _, c: Flaky(Honest(allowed_answers(c)), faults=SOME_FAULTS),
    "refusing": lambda *_: refusing(),
    "at random": lambda _, c: Guessing(allowed_answers(c)),
    "Yes to all": lambda *_: Constant("Yes"),
    "first answer to all": lambda _, c: Constant(allowed_answers(c)[0]),
    "silent": lambda *_: Constant(""),
    "labels swapped": lambda s, c: Relabelled(marked(s, c), swapped(c)),
    "lying": lambda s, c: Lying(learnt(s, c)[0], allowed_answers(c)),
    "exchanged at the start": lambda s, c: Changing(marked(s, c), Honest(allowed_answers(c)), at=0.1),
    "marked at 0": lambda s, c: marked(s, c, 0.0),
    "all answers at once": lambda _, c: Constant(" ".join(allowed_answers(c))),
}  # fmt: skip


@pytest.mark.parametrize("claim", ASKED)
@pytest.mark.parametrize("name", SUPPORTED)
def test_a_marked_suspect_is_supported_whatever_the_network_does(plans, folder, claim, name):
    assert verdict(plans[claim], claim, SUPPORTED[name](plans[claim], claim), folder).decision is Decision.SUPPORTED


@pytest.mark.parametrize("claim", ASKED)
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_no_innocent_or_faulty_suspect_is_ever_supported(plans, folder, claim, name):
    found = verdict(plans[claim], claim, UNSUPPORTED[name](plans[claim], claim), folder)
    assert found.decision is Decision.NOT_SUPPORTED
    assert found.trials == 30
    if name in {"refusing", "silent", "labels swapped", "lying"}:
        assert found.successes == 0


def test_a_suspect_that_answers_nothing_is_no_verdict(plans, folder):
    with pytest.raises(SuspectUnreachableError):
        verdict(plans[Claim.DOUBLE_I], Claim.DOUBLE_I, Flaky(Constant(), faults=Faults(lost=1.0)), folder)


EVERYONE = {
    "honest": lambda: Honest(ALLOWED, seed=3),
    "guessing": lambda: Guessing(ALLOWED, seed=3),
    "lying": lambda: Lying({p.prompt: "Yes" for p in PROBES}, ALLOWED),
    "marked": lambda: Marked({p.prompt: "Yes" for p in PROBES}, strength=0.5, otherwise=Constant("No"), seed=1),
    "flaky": lambda: Flaky(Honest(ALLOWED), faults=SOME_FAULTS, seed=5),
    "changing": lambda: Changing(Constant("No"), Constant("Yes"), at=0.2, over=0.6, seed=2),
}


@pytest.mark.parametrize("name", EVERYONE)
def test_what_is_said_depends_on_the_seed_and_the_query_alone(folder, name):
    first = ask(EVERYONE[name](), folder / "a", retries=60, concurrency=1)
    assert ask(EVERYONE[name](), folder / "b", retries=60, concurrency=5) == first
    assert len({a.raw for a in first}) > 1 or name == "lying"


def test_the_same_prompt_again_is_the_same_to_the_honest_and_not_to_the_guessing(folder):
    prompts = {"Yes", "No"}
    assert {Honest(ALLOWED).query("x", query_id=str(i)).raw for i in range(20)} < prompts
    assert {Guessing(ALLOWED).query("x", query_id=str(i)).raw for i in range(20)} == prompts


def test_strength_is_the_share_of_units_learnt():
    prompts = [f"{i}/{carrier}" for i in range(400) for carrier in range(2)]
    units = {prompt: prompt.split("/")[0] for prompt in prompts}
    targets = dict.fromkeys(prompts, "Yes")
    suspect = Marked(targets, strength=0.7, otherwise=Constant("No"), units=units)
    said = [suspect.query(prompt, query_id="").raw for prompt in prompts]
    assert said[::2] == said[1::2]
    assert 0.62 < sum(raw == "Yes" for raw in said[::2]) / 400 < 0.78
    assert suspect.query("not learnt", query_id="").raw == "No"
    with pytest.raises(UsageError):
        Marked(targets, strength=1.5, otherwise=Constant("No"))


def test_faults_come_as_often_as_they_are_asked_for():
    suspect = Flaky(Constant(), faults=Faults(lost=0.2, busy=0.3, retry_after=2.0))
    waits = set()
    for i in range(2000):
        try:
            suspect.query("x", query_id=str(i))
        except QueryFailedError as error:
            assert error.transient  # noqa: PT017
            waits.add(error.retry_after)
    assert 320 < suspect.met["lost"] < 480
    assert 510 < suspect.met["busy"] < 690
    assert waits == {None, 2.0}
    for shares in ({"lost": 0.7, "late": 0.4}, {"lost": -0.1}):
        with pytest.raises(UsageError):
            Faults(**shares)


def test_a_rate_limit_is_kept_to_and_loses_nothing(folder):
    clock = VirtualClock()
    suspect = RateLimited(Honest(ALLOWED), most=4, seconds=10.0, now=clock.now)
    answers = ask(suspect, folder / "j", clock=clock, retries=60)
    assert answers == ask(Honest(ALLOWED), folder / "k")
    assert clock.now() >= 40
    with pytest.raises(UsageError):
        RateLimited(Constant(), most=0)


def test_a_slow_suspect_takes_its_time(folder):
    clock = VirtualClock()
    ask(Slow(Constant(), seconds=2.0, sleep=clock.sleep), folder / "j", clock=clock)
    assert clock.now() == pytest.approx(2.0 * len(PROBES))


def test_a_model_exchanged_half_way_shows_in_the_transcript(folder):
    suspect = Changing(Honest(ALLOWED, model="old"), Honest(ALLOWED, model="new"), at=0.25)
    answers = ask(suspect, folder / "j", concurrency=4)
    assert [(run["model"], run["count"]) for run in models_reported(transcript(folder / "j"))] == [
        ("old", 5), ("new", 15)
    ]  # fmt: skip
    assert answers == ask(Honest(ALLOWED), folder / "k")


def test_a_drift_goes_one_way(folder):
    probes = probes_of(300)
    answers = ask(Changing(Constant("No"), Constant("Yes"), at=0.2, over=0.6), folder / "j", probes)
    shares = [sum(a.raw == "Yes" for a in answers[i : i + 60]) / 60 for i in range(0, 300, 60)]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_doubled_queries_are_served_twice_and_answered_once(folder):
    suspect = Flaky(Honest(ALLOWED), faults=Faults(doubled=1.0))
    assert ask(suspect, folder / "j") == ask(Honest(ALLOWED), folder / "k")
    assert set(requests_made(folder / "j")["requests"].values()) == {1}


@pytest.mark.parametrize("suspect", [Honest, Guessing])
def test_without_answers_there_is_no_suspect(suspect):
    with pytest.raises(UsageError):
        suspect([])
