"""Recorded answers: each where it belongs, none made up, and a file that is none refused by its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countermark.errors import IntegrityError, UsageError
from tests.verification.asking_cases import PROBES, Counting, ask, memory, says
from verification.probe import Probe
from verification.recorded import RecordedAnswers, write_questions
from verification.transcripts import transcript


@pytest.fixture
def folder():
    with memory() as made:
        yield made


def record(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return path


BY_ID = [{"id": p.id, "raw": says(p.prompt)} for p in PROBES]
BY_PROMPT = [{"prompt_digest": p.prompt_digest, "raw": says(p.prompt), "model": "m"} for p in PROBES]


@pytest.mark.parametrize("entries", [BY_ID, BY_PROMPT, BY_ID[:7] + BY_PROMPT[7:], BY_ID[::-1], [*BY_ID, BY_ID[3]]])
def test_recorded_answers_are_those_of_the_suspect(folder, entries):
    suspect = RecordedAnswers("s", record(folder / "r.jsonl", entries))
    assert ask(suspect, folder / "j") == ask(Counting(), folder / "k")


def test_the_model_is_taken_over(folder):
    ask(RecordedAnswers("s", record(folder / "r", BY_PROMPT)), folder / "j")
    assert {row["model"] for row in transcript(folder / "j")} == {"m"}


def test_an_id_goes_before_a_prompt(folder):
    twins = [Probe(id=f"canary-{i}", arm="canary", index=i, carrier=-1, prompt="prompt 1") for i in range(3)]
    entries = [{"prompt_digest": twins[0].prompt_digest, "raw": "Yes"}, {"id": "canary-1", "raw": "No"}]
    answers = ask(RecordedAnswers("s", record(folder / "r", entries)), folder / "j", twins)
    assert [a.raw for a in answers] == ["Yes", "No", "Yes"]


def test_a_missing_answer_is_named_and_not_made_up(folder):
    path = record(folder / "r", [*BY_ID[:9], *BY_ID[10:]])
    with pytest.raises(UsageError, match="keyed-9"):
        ask(RecordedAnswers("s", path), folder / "j")
    assert len(ask(RecordedAnswers("s", path), folder / "k", stop=lambda prefix: len(prefix) == 9, concurrency=1)) == 9


def test_the_journal_is_bound_to_the_bytes_of_the_file(folder):
    ask(RecordedAnswers("s", record(folder / "r", BY_ID)), folder / "j")
    ask(RecordedAnswers("s", record(folder / "moved", BY_ID)), folder / "j")
    with pytest.raises(IntegrityError, match="endpoint"):
        ask(RecordedAnswers("s", record(folder / "r", BY_PROMPT)), folder / "j")


def test_what_has_to_be_asked_is_written_in_the_plans_order(folder):
    write_questions(folder / "q.jsonl", PROBES)
    lines = [json.loads(line) for line in (folder / "q.jsonl").read_text("utf-8").splitlines()]
    assert [(e["id"], e["prompt"], e["prompt_digest"]) for e in lines] == [
        (p.id, p.prompt, p.prompt_digest) for p in PROBES
    ]


BAD = {
    "no JSON": "{",
    "a list": "[]",
    "a number": '{"id": "a", "raw": 7}',
    "no answer": '{"id": "a"}',
    "no name": '{"raw": "Yes"}',
    "an unknown field": '{"id": "a", "raw": "Yes", "x": "y"}',
    "deep": "[" * 100_000,
    "long": '{"id": "a", "raw": "' + "a" * (1 << 20) + '"}',
}


@pytest.mark.parametrize("name", BAD)
def test_a_line_of_another_shape_is_named(folder, name):
    path = folder / "r"
    path.write_text(f'{{"id": "keyed-0", "raw": "Yes"}}\n\n{BAD[name]}\n', "utf-8")
    with pytest.raises(IntegrityError, match="line 3"):
        RecordedAnswers("s", path)


def test_two_answers_to_one_probe_are_refused(folder):
    with pytest.raises(IntegrityError, match="second answer to id 'keyed-0' in line 2"):
        RecordedAnswers("s", record(folder / "r", [BY_ID[0], {**BY_ID[0], "raw": "another"}]))


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_no_answers_are_no_record(folder, data):
    (folder / "r").write_bytes(data)
    with pytest.raises(IntegrityError, match="no answer"):
        RecordedAnswers("s", folder / "r")
    with pytest.raises(IntegrityError, match="no readable file"):
        RecordedAnswers("s", folder / "nowhere")


@settings(max_examples=50)
@given(st.binary(max_size=60))
def test_no_bytes_are_a_crash(data):
    with memory() as folder:
        (folder / "r").write_bytes(data)
        with pytest.raises(IntegrityError):
            RecordedAnswers("s", folder / "r")
