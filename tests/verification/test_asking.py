"""Asking: one answer a query whatever happens, in the plan's order, within the budget, and nothing asked twice."""

from __future__ import annotations

import random
import threading
import time

import pytest

from countermark.errors import IntegrityError, SuspectUnreachableError, UsageError
from countermark.manifest import canonical_json
from tests.verification.asking_cases import ALLOWED, DOWN, DROPPED, PROBES, Counting, ask, says
from verification import rounds
from verification.asking import Policy, Reply, query_id
from verification.journal import Journal, read_journal
from verification.probe import MAX_RAW_CHARACTERS, Probe, parse_first_word
from verification.simulated import Faults, Flaky, Honest
from verification.spending import Spending
from verification.transcripts import models_reported, requests_made, transcript


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


def test_probes_may_share_a_prompt(folder):
    twins = [Probe(id=f"canary-{i}", arm="canary", index=i, carrier=-1, prompt="prompt 1") for i in range(3)]
    endpoint = Counting()
    assert [a.raw for a in ask(endpoint, folder / "j", twins)] == [says("prompt 1")] * 3
    assert len(endpoint.ids["prompt 1"]) == 3
