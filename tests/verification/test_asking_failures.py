"""Asking an endpoint that fails: tried again, given up or accused of nothing, and no answer is lost or doubled."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import asdict
from itertools import pairwise

import pytest

from countermark.errors import SuspectUnreachableError
from tests.verification.asking_cases import DOWN, DROPPED, PROBES, Counting, ask, probes_of, says
from verification import rounds
from verification.asking import Policy, QueryFailedError, Reply
from verification.clocks import VirtualClock, WallClock
from verification.journal import read_journal
from verification.simulated import Faults, Flaky
from verification.transcripts import requests_made, transcript

REFUSED = QueryFailedError("status 400", transient=False, billed=False)
NO_KEY = QueryFailedError("status 401", transient=False, whole=True, billed=False, hint="name the key")


def kinds(path):
    return [line.body["kind"] for line in read_journal(path)]


def test_retries_back_off_and_give_the_same_answers(folder, answers):
    clock, times = VirtualClock(), []

    def fail(prompt, nth):
        if prompt == PROBES[5].prompt:
            times.append(clock.now())
        return DROPPED if prompt == PROBES[5].prompt and nth <= 7 else None

    assert ask(Counting(fail=fail), folder / "j", clock=clock, concurrency=1) == answers
    waits = [b - a for a, b in pairwise(times)]
    policy = Policy()
    for i, wait in enumerate(waits):
        full = min(policy.longest_backoff, policy.backoff * 2**i)
        assert full / 2 < wait <= full
    assert requests_made(folder / "j")["requests"][PROBES[5].id] == 8


def test_everybody_waits_as_long_as_the_endpoint_asks(folder, answers):
    clock, sent = VirtualClock(), []
    busy = QueryFailedError("status 429", transient=True, retry_after=40.0, billed=False)

    def fail(prompt, nth):
        sent.append(clock.now())
        return busy if prompt == PROBES[3].prompt and nth == 1 else None

    assert ask(Counting(fail=fail), folder / "j", clock=clock, concurrency=1) == answers
    assert sent[:4] == [0.0] * 4
    assert min(sent[4:]) >= 40


def test_a_wait_beyond_patience_stops_the_audit_and_says_how_long(folder, answers):
    busy = QueryFailedError("status 429", transient=True, retry_after=86400.0, billed=False)
    endpoint = Counting(fail=lambda prompt, nth: busy if prompt == PROBES[9].prompt else None)
    with pytest.raises(SuspectUnreachableError, match="wait 86400 s"):
        ask(endpoint, folder / "j")
    assert ask(Counting(), folder / "j") == answers


@pytest.mark.parametrize(("error", "attempt", "calls"), [(REFUSED, 1, 1), (DROPPED, 4, 4)])
@pytest.mark.parametrize("place", [0, 7])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_query_that_fails_for_good_counts_against_the_claim(
    folder, answers, error, attempt, calls, place, concurrency
):
    prompt = PROBES[place].prompt
    endpoint = Counting(fail=lambda asked, _: error if asked == prompt else None)
    found = ask(endpoint, folder / "j", retries=3, concurrency=concurrency)
    assert (found[place].raw, found[place].parsed, found[place].attempt) == ("", None, attempt)
    assert [a for i, a in enumerate(found) if i != place] == [a for i, a in enumerate(answers) if i != place]
    assert endpoint.asked[prompt] == calls
    assert transcript(folder / "j")[place]["status"] == "failed"
    again = Counting()
    assert ask(again, folder / "j", retries=3) == found
    assert not again.asked


@pytest.mark.parametrize(("error", "calls"), [(NO_KEY, 1), (DOWN, 3)])
def test_an_endpoint_that_never_worked_is_found_out_quickly(folder, answers, error, calls):
    endpoint = Counting(fail=lambda *_: error)
    with pytest.raises(SuspectUnreachableError, match=error.reason) as caught:
        ask(endpoint, folder / "j", concurrency=1)
    assert endpoint.asked.total() == calls
    assert caught.value.hint == (error.hint or caught.value.hint)
    assert ask(Counting(), folder / "j") == answers


@pytest.mark.parametrize("error", [NO_KEY, DOWN, DROPPED, QueryFailedError("status 400", transient=False)])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_endpoint_that_dies_half_way_loses_nothing(folder, answers, error, concurrency):
    dead = threading.Event()

    def fail(prompt, nth):
        if prompt == PROBES[10].prompt:
            dead.set()
        return error if dead.is_set() else None

    endpoint = Counting(fail=fail)
    if error.transient or error.whole:
        with pytest.raises(SuspectUnreachableError, match=error.reason):
            ask(endpoint, folder / "j", concurrency=concurrency, retries=2)
        assert "lost" not in kinds(folder / "j")
        assert ask(Counting(), folder / "j") == answers
    else:  # one who refuses every query from now on is taken at its word
        found = ask(endpoint, folder / "j", concurrency=1)
        assert [a.raw for a in found] == [a.raw for a in answers[:10]] + [""] * 10


def test_a_key_that_expires_under_way_costs_no_answer(folder, answers):
    overtaken, expired = threading.Event(), threading.Event()

    def fail(prompt, nth):
        if prompt == PROBES[4].prompt:  # sent with a good key, and overtaken by another query
            overtaken.wait(10)
            expired.set()
        if prompt == PROBES[6].prompt:
            overtaken.set()
            expired.wait(10)
        return NO_KEY if expired.is_set() else None

    with pytest.raises(SuspectUnreachableError, match="401"):
        ask(Counting(fail=fail), folder / "j", concurrency=2)
    assert "lost" not in kinds(folder / "j")
    assert ask(Counting(), folder / "j") == answers


def test_one_who_refuses_everything_is_unreachable(folder):
    with pytest.raises(SuspectUnreachableError, match="3 queries failed"):
        ask(Counting(fail=lambda *_: REFUSED), folder / "j", concurrency=1)


def test_the_last_query_may_fail_twice_and_no_more(folder, answers):
    endpoint = Counting(fail=lambda prompt, _: DROPPED if prompt == PROBES[-1].prompt else None)
    with pytest.raises(SuspectUnreachableError):
        ask(endpoint, folder / "j", retries=1)
    found = ask(endpoint, folder / "j", retries=1)
    assert found[:-1] == answers[:-1]
    assert (found[-1].raw, found[-1].attempt) == ("", 2)


def test_a_dead_endpoint_is_never_counted_however_often_it_is_tried(folder, answers):
    for _ in range(4):
        with pytest.raises(SuspectUnreachableError):
            ask(Counting(fail=lambda *_: DROPPED), folder / "j", retries=1)
    assert ask(Counting(), folder / "j") == answers


def test_whoever_keeps_no_timeout_is_left_alone_and_its_late_answer_ignored(folder, monkeypatch):
    monkeypatch.setattr(rounds, "GRACE", 0.0)
    released = threading.Event()

    class Hanging(Counting):
        def query(self, prompt, *, query_id):
            reply = super().query(prompt, query_id=query_id)
            if prompt == PROBES[2].prompt and self.asked[prompt] == 1:
                released.wait(10)
                return Reply(raw="No, late")
            if prompt == PROBES[2].prompt:
                threading.Timer(0.05, released.set).start()
            if prompt == PROBES[5].prompt:
                released.wait(10)
                time.sleep(0.05)
            return reply

    policy = Policy(concurrency=2, timeout=0.3, backoff=0.01)
    endpoint = Hanging()
    found = ask(endpoint, folder / "j", PROBES[:6], policy=policy, clock=WallClock())
    assert [a.raw for a in found] == [says(p.prompt) for p in PROBES[:6]]
    assert endpoint.asked[PROBES[2].prompt] == 2
    assert requests_made(folder / "j")["late"][PROBES[2].id] == 1


def test_a_bug_of_the_endpoint_is_no_answer(folder, answers):
    def fail(prompt, _):
        return ZeroDivisionError("a bug") if prompt == PROBES[4].prompt else None

    with pytest.raises(ZeroDivisionError):
        ask(Counting(fail=fail), folder / "j")
    assert ask(Counting(), folder / "j") == answers


def test_an_endpoint_may_ask_for_less_at_once(folder):
    endpoint, under_way = Counting(), []

    class Narrow:
        name, threads = "narrow", 1

        def query(self, prompt, *, query_id):
            under_way.append(1)
            assert len(under_way) == 1
            reply = endpoint.query(prompt, query_id=query_id)
            under_way.pop()
            return reply

    assert len(ask(Narrow(), folder / "j", concurrency=8)) == len(PROBES)


def disturbed(folder, seed, answers, probes):
    """One random schedule of faults; True if nothing was lost, nothing doubled, and all answers are as they were."""
    rng = random.Random(seed)
    shares = [rng.random() for _ in range(6)]
    scale = rng.uniform(0.3, 0.6) / sum(shares)
    names = ("lost", "unheard", "doubled", "late", "busy", "broken")
    faults = Faults(**dict(zip(names, (share * scale for share in shares), strict=True)))
    inner = Counting()
    path = folder / str(seed)
    found = ask(Flaky(inner, faults=faults, seed=seed), path, probes, retries=60, concurrency=rng.randint(1, 6))
    made = requests_made(path)
    assert min(made["requests"].values()) >= 1
    assert set(inner.asked) == {probe.prompt for probe in probes}
    return [asdict(a) for a in found] == [asdict(a) for a in answers]


def test_faults_lose_no_answer_and_double_none(folder):
    probes = probes_of(12)
    answers = ask(Counting(), folder / "calm", probes)
    assert all(disturbed(folder, seed, answers, probes) for seed in range(8))


@pytest.mark.long
def test_500_schedules_of_faults_lose_no_answer_and_double_none(folder):
    probes = probes_of(40)
    answers = ask(Counting(), folder / "calm", probes)
    assert all(disturbed(folder, seed, answers, probes) for seed in range(500))
