"""Asking: one answer a query whatever happens, in the plan's order, within the budget, and nothing asked twice."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import asdict
from itertools import pairwise

import pytest

from countermark.errors import IntegrityError, SuspectUnreachableError, UsageError
from countermark.manifest import canonical_json
from tests.verification.asking_cases import ALLOWED, PROBES, Counting, ask, memory, probes_of, says
from verification import rounds
from verification.asking import Policy, QueryFailedError, Reply, query_id
from verification.clocks import VirtualClock, WallClock
from verification.journal import Journal, read_journal
from verification.probe import MAX_RAW_CHARACTERS, Probe, parse_first_word
from verification.simulated import Faults, Flaky, Honest
from verification.spending import OVERHEAD, Spending, estimate, tokens_of
from verification.transcripts import models_reported, requests_made, transcript

DROPPED = QueryFailedError("dropped", transient=True)
REFUSED = QueryFailedError("status 400", transient=False, billed=False)
NO_KEY = QueryFailedError("status 401", transient=False, whole=True, billed=False, hint="name the key")
DOWN = QueryFailedError("no connection", transient=True, whole=True, billed=False)


@pytest.fixture
def folder():
    with memory() as made:
        yield made


@pytest.fixture
def answers(folder):
    return ask(Counting(), folder / "undisturbed")


def kinds(path):
    return [line.body["kind"] for line in read_journal(path)]


def test_every_probe_is_answered_once_in_order(folder):
    endpoint, steps = Counting(), []
    answers = ask(endpoint, folder / "j", advance=steps.append)
    assert [(a.id, a.prompt_digest, a.arm, a.suspect) for a in answers] == [
        (p.id, p.prompt_digest, p.arm, "s") for p in PROBES
    ]
    assert [a.raw for a in answers] == [says(p.prompt) for p in PROBES]
    assert [a.parsed for a in answers] == [parse_first_word(a.raw, ALLOWED) for a in answers]
    assert {a.attempt for a in answers} == {1}
    assert set(endpoint.asked.values()) == {1}
    assert sum(steps) == len(PROBES)


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_the_order_of_arrival_does_not_matter(folder, answers, concurrency):
    rng, under_way, most = random.Random(1), [0], [0]
    lock, full = threading.Lock(), threading.Event()

    class Shuffling(Counting):
        def query(self, prompt, *, query_id):
            with lock:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])
            if most[0] == concurrency:
                full.set()
            if prompt != PROBES[0].prompt:  # the first goes alone
                full.wait(10)
            time.sleep(rng.random() * 0.004)
            with lock:
                under_way[0] -= 1
            return super().query(prompt, query_id=query_id)

    assert ask(Shuffling(), folder / "j", concurrency=concurrency) == answers
    assert most[0] == concurrency


def test_a_full_journal_is_not_asked_again(folder, answers):
    silent = Counting(fail=lambda *_: DOWN)
    assert ask(silent, folder / "undisturbed") == answers
    assert not silent.asked


def test_resumed_at_every_line_it_asks_only_what_has_no_answer(folder, answers):
    flaky = Counting(fail=lambda prompt, nth: DROPPED if nth == 1 and prompt[-1] in "13" else None)
    ask(flaky, folder / "whole", probes=PROBES[:5])
    data = (folder / "whole").read_bytes().splitlines(keepends=True)
    ids = {next(iter(each)) for each in flaky.ids.values()}
    for count in range(len(data) + 1):
        for torn in (b"", data[count][:25] if count < len(data) else b""):
            path = folder / f"{count}-{len(torn)}"
            path.write_bytes(b"".join(data[:count]) + torn)
            had = (
                {line.body["probe"] for line in read_journal(path) if line.body["kind"] == "answer"} if count else set()
            )
            again = Counting()
            assert ask(again, path, probes=PROBES[:5]) == answers[:5]
            assert set(again.asked) == {p.prompt for p in PROBES[:5] if p.id not in had}
            assert {next(iter(each)) for each in again.ids.values()} <= ids
            assert transcript(path) == transcript(folder / "whole")


def test_a_query_keeps_its_id_and_no_other_has_it(folder):
    endpoint = Counting(fail=lambda _, nth: DROPPED if nth < 3 else None)
    ask(endpoint, folder / "j", plan="p")
    assert all(len(ids) == 1 for ids in endpoint.ids.values())
    found = {next(iter(ids)) for ids in endpoint.ids.values()}
    assert len(found) == len(PROBES)
    assert found == {query_id(plan="p", suspect="s", probe=p) for p in PROBES}
    other = {query_id(plan=a, suspect=b, probe=p) for a, b in (("p", "t"), ("q", "s")) for p in PROBES}
    assert len(other) == 2 * len(PROBES)
    assert not other & found


def test_the_request_is_journaled_before_it_is_sent_and_the_answer_before_it_is_used(folder):
    path, seen = folder / "j", []

    class Reading(Counting):
        def query(self, prompt, *, query_id):
            seen.append((prompt, [line.body for line in read_journal(path)]))
            return super().query(prompt, query_id=query_id)

    def look(prefix):
        said = {line.body["probe"]: line.body["raw"] for line in read_journal(path) if line.body["kind"] == "answer"}
        assert [a.raw for a in prefix] == [said[a.id] for a in prefix]
        return False

    ask(Reading(), path, stop=look, concurrency=1)
    assert len(seen) == len(PROBES)
    for (prompt, bodies), probe in zip(seen, PROBES, strict=True):
        assert prompt == probe.prompt
        assert (bodies[-1]["kind"], bodies[-1]["probe"]) == ("sent", probe.id)


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


def test_rambling_is_cut_and_hostile_text_is_kept_as_it_is(folder):
    hostile = "<script>\x00\u202e\n" + "a" * 10_000
    answers = ask(Counting(answer=lambda _: hostile, model="m" * 10_000), folder / "j", PROBES[:2])
    assert answers[0].raw == hostile[:MAX_RAW_CHARACTERS]
    assert len(transcript(folder / "j")[0]["model"]) == rounds.MAX_MODEL_CHARACTERS
    (body,) = [line.body for line in read_journal(folder / "j") if line.body.get("probe") == "keyed-0"][1:]
    assert body["characters"] == len(hostile)
    assert ask(Counting(answer=lambda _: "Yes \ud800"), folder / "k", PROBES[:1])[0].parsed == "Yes"


def test_what_it_counts_cannot_be_more_than_a_number(folder):
    class Lavish(Counting):
        def query(self, prompt, *, query_id):
            return Reply(raw="Yes", prompt_tokens=10**30, completion_tokens=-5)

    budget = Spending(tokens=10**6)
    assert len(ask(Lavish(), folder / "j", budget=budget, concurrency=1)) == 1
    assert budget.tokens == rounds.MAX_TOKENS


def test_the_transcript_knows_no_clock_and_no_faults(folder):
    faults = Faults(lost=0.2, unheard=0.1, busy=0.1)
    for name, endpoint in {"calm": Honest(ALLOWED), "rough": Flaky(Honest(ALLOWED), faults=faults)}.items():
        ask(endpoint, folder / name, retries=60, concurrency=4)
    calm, rough = (canonical_json(transcript(folder / name)) for name in ("calm", "rough"))
    assert calm == rough
    assert requests_made(folder / "calm") != requests_made(folder / "rough")
    assert {key for row in transcript(folder / "calm") for key in row} == {
        "id", "prompt_digest", "status", "raw", "model"
    }  # fmt: skip


def test_an_interrupted_audit_has_a_transcript_up_to_where_it_got(folder, answers):
    dead = Counting(fail=lambda prompt, _: DOWN if int(prompt.split()[-1]) >= 6 else None)
    with pytest.raises(SuspectUnreachableError):
        ask(dead, folder / "j", concurrency=1)
    assert [row["raw"] for row in transcript(folder / "j")] == [a.raw for a in answers[:6]]


def test_a_model_that_changes_half_way_is_recorded(folder):
    class Changing(Counting):
        def query(self, prompt, *, query_id):
            reply = super().query(prompt, query_id=query_id)
            return Reply(raw=reply.raw, model="a" if int(prompt.split()[-1]) < 12 else "b")

    ask(Changing(), folder / "j")
    assert models_reported(transcript(folder / "j")) == [
        {"model": "a", "first": "keyed-0", "count": 12},
        {"model": "b", "first": "keyed-12", "count": 8},
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"suspect": "t"}, "suspect"),
        ({"plan": "other"}, "plan"),
        ({"probes": PROBES[::-1]}, "probes"),
        ({"probes": PROBES[:-1]}, "probes"),
    ],
)
def test_a_journal_of_something_else_is_refused(folder, answers, change, said):
    with pytest.raises(IntegrityError, match=said):
        ask(Counting(), folder / "undisturbed", **change)


def test_a_journal_of_another_endpoint_is_refused(folder, answers):
    endpoint = Counting()
    endpoint.describe = lambda: {"address": "https://elsewhere"}
    with pytest.raises(IntegrityError, match="endpoint"):
        ask(endpoint, folder / "undisturbed")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"kind": "answer", "probe": "keyed-3", "request": 99, "tokens": 0, "raw": "Yes", "model": ""}, "two answers"),
        ({"kind": "answer", "probe": "keyed-99", "request": 99, "tokens": 0, "raw": "Yes", "model": ""}, "keyed-99"),
        ({"kind": "sent", "probe": "keyed-3"}, "another shape"),
        ({"kind": "mystery", "probe": "keyed-3"}, "mystery"),
    ],
)
def test_lines_that_asking_does_not_write_are_refused(folder, answers, line, said):
    path = folder / "undisturbed"
    with Journal.open(path, {k: v for k, v in read_journal(path)[0].body.items() if k not in {"kind", "format"}}) as j:
        j.append(line)
    for read in (transcript, requests_made, lambda _: ask(Counting(), path)):
        with pytest.raises(IntegrityError, match=said):
            read(path)


@pytest.mark.parametrize("probes", [[], [*PROBES, PROBES[0]]])
def test_no_probes_and_doubled_ones_are_refused(folder, probes):
    with pytest.raises(UsageError):
        ask(Counting(), folder / "j", probes)


@pytest.mark.parametrize(
    "settings",
    [
        {"concurrency": 0}, {"timeout": 0.0}, {"timeout": float("nan")}, {"retries": -1}, {"max_tokens": 0},
        {"max_characters": MAX_RAW_CHARACTERS + 1}, {"give_up": 0}, {"backoff": -1.0},
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_kept_is_refused(settings):
    with pytest.raises(UsageError):
        Policy(**settings)


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


def test_probes_may_share_a_prompt(folder):
    twins = [Probe(id=f"canary-{i}", arm="canary", index=i, carrier=-1, prompt="prompt 1") for i in range(3)]
    endpoint = Counting()
    assert [a.raw for a in ask(endpoint, folder / "j", twins)] == [says("prompt 1")] * 3
    assert len(endpoint.ids["prompt 1"]) == 3
