"""Asking within a budget: a stop or an empty purse cuts at the same place whatever the timing."""

from __future__ import annotations

import random
import threading
import time

import pytest

from countermark.errors import SuspectUnreachableError, UsageError
from tests.verification.asking_cases import DOWN, DROPPED, PROBES, Counting, ask
from verification.asking import Policy, QueryFailedError
from verification.spending import OVERHEAD, Spending, estimate, tokens_of
from verification.transcripts import requests_made, transcript


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_a_stop_cuts_at_the_same_place_whatever_the_timing(folder, answers, concurrency):
    rng, prefixes = random.Random(concurrency), []

    class Shuffling(Counting):
        def query(self, prompt, *, query_id):
            time.sleep(rng.random() * 0.003)
            return super().query(prompt, query_id=query_id)

    def stop(prefix):
        prefixes.append(len(prefix))
        return sum(a.parsed == "Yes" for a in prefix) >= 5

    endpoint = Shuffling()
    found = ask(endpoint, folder / "j", stop=stop, concurrency=concurrency)
    assert found == answers[:8]
    assert prefixes == list(range(1, 9))
    unused = requests_made(folder / "j")["unused"]
    assert len(endpoint.asked) - len(found) == len(unused) < concurrency
    assert transcript(folder / "j") == transcript(folder / "undisturbed")[:8]
    assert ask(Counting(fail=lambda *_: DOWN), folder / "j", stop=stop) == found


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_budget_of_queries_is_kept_and_gives_a_prefix(folder, answers, concurrency):
    flaky = Counting(fail=lambda _, nth: DROPPED if nth < 3 else None)
    budget = Spending(queries=7)
    assert ask(flaky, folder / "j", budget=budget, concurrency=concurrency) == answers[:7]
    assert (len(flaky.asked), budget.queries, budget.short_of) == (7, 7, "queries")
    assert requests_made(folder / "j")["ended"] == "budget"
    more = Counting()
    assert ask(more, folder / "j", budget=Spending(queries=9)) == answers[:9]
    assert len(more.asked) == 2
    assert ask(Counting(), folder / "j", budget=Spending()) == answers
    assert requests_made(folder / "j")["ended"] == "complete"


def test_a_budget_is_shared_and_no_journal_is_charged_twice(folder, answers):
    budget = Spending(queries=30)
    assert ask(Counting(), folder / "a", budget=budget) == answers
    assert len(ask(Counting(), folder / "b", budget=budget, suspect="t")) == 10
    assert len(ask(Counting(), folder / "b", budget=budget, suspect="t")) == 10
    again = Spending(queries=30)
    assert ask(Counting(), folder / "a", budget=again) == answers
    assert again.queries == 20
    assert len(ask(Counting(), folder / "b", budget=again, suspect="t")) == 10


@pytest.mark.parametrize("concurrency", [1, 2, 6])
def test_a_budget_of_tokens_is_kept_whatever_the_timing(folder, answers, concurrency):
    policy = Policy(concurrency=concurrency, max_tokens=10)
    reserved = tokens_of(PROBES[0].prompt) + OVERHEAD + 10
    budget = Spending(tokens=10 * 7 + reserved - 7)  # ten answers of 7 tokens, after which no request can be sure
    found = ask(Counting(), folder / "j", policy=policy, budget=budget)
    assert found == answers[:10]
    assert (budget.tokens, budget.short_of) == (70, "tokens")


def test_unknown_outcomes_are_charged_and_refusals_are_not(folder):
    policy = Policy(max_tokens=10, concurrency=1)
    reserved = tokens_of(PROBES[0].prompt) + OVERHEAD + 10
    for error, charged in ((DROPPED, reserved), (QueryFailedError("429", transient=True, billed=False), 0)):
        budget = Spending()
        ask(Counting(fail=lambda _, nth, e=error: e if nth == 1 else None), folder / str(charged), PROBES[:1],
            policy=policy, budget=budget)  # fmt: skip
        assert budget.tokens == charged + 7
        assert requests_made(folder / str(charged))["tokens"] == charged + 7


def test_nothing_to_spend_asks_nothing(folder):
    endpoint, budget = Counting(), Spending(queries=0)
    assert ask(endpoint, folder / "j", budget=budget) == []
    assert not endpoint.asked
    assert budget.short_of == "queries"


@pytest.mark.parametrize("limits", [{"queries": -1}, {"tokens": -1}])
def test_a_negative_budget_is_refused(limits):
    with pytest.raises(UsageError):
        Spending(**limits)


def test_what_is_under_way_when_the_audit_stops_is_waited_for_and_kept(folder, answers):
    stopped = threading.Event()

    class Half(Counting):
        def query(self, prompt, *, query_id):
            if prompt == PROBES[4].prompt:
                stopped.wait(10)
                time.sleep(0.05)
            if prompt == PROBES[5].prompt:
                stopped.set()
                raise QueryFailedError("status 429", transient=True, retry_after=1e6)
            return super().query(prompt, query_id=query_id)

    with pytest.raises(SuspectUnreachableError):
        ask(Half(), folder / "j", concurrency=2)
    again = Counting()
    assert ask(again, folder / "j") == answers
    assert PROBES[4].prompt not in again.asked


def test_the_estimate_is_an_upper_bound_of_what_is_charged(folder):
    policy = Policy(max_tokens=8, retries=2)
    found = estimate(PROBES, policy, price_in=3.0, price_out=10.0)
    budget = Spending()
    ask(Counting(), folder / "j", policy=policy, budget=budget)
    assert found.queries == 20
    assert budget.tokens <= found.prompt_tokens + found.completion_tokens
    assert found.cost == pytest.approx((found.prompt_tokens * 3 + 160 * 10) / 1e6)
    assert (found.most_requests, found.cost_at_most) == (60, pytest.approx(3 * found.cost))
    for bad in (([], {}), (PROBES, {"price_in": -1.0}), (PROBES, {"price_out": float("nan")})):
        with pytest.raises(UsageError):
            estimate(bad[0], policy, **bad[1])


def test_tokens_are_counted_high_for_english_and_not_low_for_chinese():
    assert tokens_of("The lake is cold, and the ferry does not leave before nine.") >= 14
    assert tokens_of("湖水很冷") == 4
    assert tokens_of("") == 0
