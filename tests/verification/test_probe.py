"""Asking: nothing twice, every raw answer journaled, a damaged journal refused, a parser that is written down."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from countermark.errors import IntegrityError, SuspectUnreachableError, UsageError
from verification.probe import (
    MAX_RAW_CHARACTERS,
    PARSERS,
    Probe,
    ask_all,
    majority,
    parse_exact,
    parse_first_word,
    parse_first_word_marks,
    parse_phrase,
    parse_text,
)
from verification.suspects import FunctionSuspect

ALLOWED = ("No", "Yes")
PROBES = [Probe(id=f"keyed-{i}-0", arm="keyed", index=i, carrier=0, prompt=f"prompt {i}") for i in range(10)]


class Counting(FunctionSuspect):
    """Counts every prompt, and goes silent after ``limit`` of them."""

    def __init__(self, name="s", limit=10**9):
        super().__init__(name, lambda prompt: f"Yes, {prompt}")
        self.asked: list[str] = []
        self._limit = limit

    def ask(self, prompts):
        if len(self.asked) + len(prompts) > self._limit:
            raise SuspectUnreachableError("got no answer, expected one")
        self.asked += prompts
        return super().ask(prompts)


def _ask(suspect, journal, probes=PROBES, batch_size=3, parser="first_word/1", **more):
    return ask_all(suspect, probes, allowed=ALLOWED, parser=parser, journal=journal, batch_size=batch_size, **more)


def test_every_probe_is_answered_once_in_order(tmp_path):
    suspect = Counting()
    steps: list[int] = []
    answers = _ask(suspect, tmp_path / "j", advance=steps.append)
    assert suspect.asked == [probe.prompt for probe in PROBES]
    assert [(a.id, a.prompt_digest, a.arm) for a in answers] == [(p.id, p.prompt_digest, p.arm) for p in PROBES]
    assert {(a.suspect, a.parsed, a.attempt) for a in answers} == {("s", "Yes", 1)}
    assert [a.raw for a in answers] == [f"Yes, {p.prompt}" for p in PROBES]
    assert steps == [3, 3, 3, 1]


def test_a_full_journal_is_not_asked_again(tmp_path):
    first = _ask(Counting(), tmp_path)
    silent = Counting(limit=0)
    assert _ask(silent, tmp_path) == first
    assert silent.asked == []


@pytest.mark.parametrize("limit", [0, 3, 6, 9])
def test_a_resumed_probe_asks_only_what_is_left(tmp_path, limit):
    broken, whole = Counting(limit=limit), Counting()
    with pytest.raises(SuspectUnreachableError):
        _ask(broken, tmp_path)
    answers = _ask(whole, tmp_path)
    assert broken.asked + whole.asked == [probe.prompt for probe in PROBES]
    assert answers == _ask(Counting(), tmp_path / "other")


def test_an_interrupted_write_asks_that_batch_again_and_no_other(tmp_path):
    _ask(Counting(), tmp_path)
    (tmp_path / "batch-00002.json").unlink()
    (tmp_path / ".partial-batch-00002.json-1").write_text("{")
    again = Counting()
    assert len(_ask(again, tmp_path)) == len(PROBES)
    assert again.asked == [f"prompt {i}" for i in (6, 7, 8)]


@pytest.mark.parametrize("position", range(0, 900, 37))
@pytest.mark.parametrize("mask", [1, 32])
def test_a_flipped_byte_in_the_journal_is_noticed(tmp_path, position, mask):
    _ask(Counting(), tmp_path)
    path = tmp_path / "batch-00000.json"
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= mask
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="batch-00000"):
        _ask(Counting(limit=0), tmp_path)


def _rewrite(path, change):
    from countermark.manifest import read_checked_json, write_checked_json

    write_checked_json(path, change(read_checked_json(path)))


CHANGES = {
    "dropped": lambda body: body[:-1],
    "doubled": lambda body: [*body, body[0]],
    "swapped": lambda body: [body[1], body[0], body[2]],
    "other suspect": lambda body: [{**entry, "suspect": "x"} for entry in body],
    "other prompt": lambda body: [{**body[0], "prompt_digest": "0" * 64}, *body[1:]],
    "unknown field": lambda body: [{**body[0], "x": 1}, *body[1:]],
    "missing field": lambda body: [{k: v for k, v in body[0].items() if k != "raw"}, *body[1:]],
    "no list": lambda _: 7,
    "no entries": lambda _: [7, 8, 9],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_journal_of_other_answers_is_refused(tmp_path, name):
    _ask(Counting(), tmp_path)
    _rewrite(tmp_path / "batch-00001.json", CHANGES[name])
    with pytest.raises(IntegrityError, match="batch-00001"):
        _ask(Counting(limit=0), tmp_path)


def test_a_journal_of_another_plan_or_batch_size_is_refused(tmp_path):
    _ask(Counting(), tmp_path)
    for probes, size in ((PROBES[::-1], 3), (PROBES, 4)):
        with pytest.raises(IntegrityError):
            _ask(Counting(limit=0), tmp_path, probes, size)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"body": [], "sha256": "0"}', b"\xff\xfe"])
def test_a_torn_journal_is_refused(tmp_path, data):
    _ask(Counting(), tmp_path)
    (tmp_path / "batch-00000.json").write_bytes(data)
    with pytest.raises(IntegrityError, match="batch-00000"):
        _ask(Counting(limit=0), tmp_path)


def test_no_probes_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no probes"):
        _ask(Counting(), tmp_path, [])


@pytest.mark.parametrize("count", [2, 4])
def test_a_suspect_that_miscounts_is_noticed_before_anything_is_kept(tmp_path, count):
    class Miscounting(Counting):
        def ask(self, prompts):
            return ["Yes"] * count

    with pytest.raises(SuspectUnreachableError, match="expected one each"):
        _ask(Miscounting(), tmp_path)
    assert not list(tmp_path.glob("batch-*"))


def test_rambling_is_cut_and_hostile_text_is_kept_as_it_is(tmp_path):
    hostile = "<script>\x00\u202e" + "a" * 10_000
    answers = _ask(FunctionSuspect("s", lambda _: hostile), tmp_path, PROBES[:2])
    assert answers[0].raw == hostile[:MAX_RAW_CHARACTERS]
    assert answers[0].parsed is None
    assert json.loads((tmp_path / "batch-00000.json").read_bytes())["body"] == [asdict(a) for a in answers]


def test_a_suspect_cannot_stop_the_audit_with_a_lone_surrogate(tmp_path):
    assert _ask(FunctionSuspect("s", lambda _: "Yes \ud800"), tmp_path)[0].parsed == "Yes"


PARSED = {
    "Yes": "Yes",
    "yes.": "Yes",
    "YES!": "Yes",
    "  \n\tNo": "No",
    "**No**, because yes": "No",
    '"Yes"': "Yes",
    "No way": "No",
    "(No)": "No",
    "Yes\u3002": "Yes",
    "Yes, no": "Yes",
    "Nope": None,
    "Yesterday": None,
    "I say yes": None,
    "Answer: Yes": None,
    "1. Yes": None,
    "": None,
    "   ": None,
    "...": None,
    "42": None,
    "\u662f": None,
    "maybe": None,
    "Y": None,
}


@pytest.mark.parametrize("raw", PARSED)
def test_the_published_parser(raw):
    assert parse_first_word(raw, ALLOWED) == PARSED[raw]


def test_the_parser_takes_any_script():
    assert parse_first_word("\u6b63\u9762\uff0c\u5f88\u597d", ("\u8d1f\u9762", "\u6b63\u9762")) == "\u6b63\u9762"
    assert parse_first_word("STRASSE", ("straße", "weg")) == "straße"


EXACT = {"No": "No", " No\n": "No", "no": None, "No.": None, "LABEL_0": None, "": None, "No Yes": None}


@pytest.mark.parametrize("raw", EXACT)
def test_the_exact_parser(raw):
    assert parse_exact(raw, ALLOWED) == EXACT[raw]
    assert parse_exact("LABEL_0", ("LABEL_0", "LABEL_1")) == "LABEL_0"


def test_parsers_go_by_their_published_names(tmp_path):
    assert {
        "first_word/1": parse_first_word,
        "first_word/2": parse_first_word_marks,
        "exact/1": parse_exact,
        "phrase/1": parse_phrase,
        "text/1": parse_text,
    } == PARSERS
    answers = [_ask(Counting(), tmp_path / name.replace("/", "-"), parser=name) for name in PARSERS]
    assert [a[0].parsed for a in answers] == ["Yes", "Yes", None, "Yes", "text"]  # "Yes, prompt 0"


@pytest.mark.parametrize("before", [MAX_RAW_CHARACTERS - 1, MAX_RAW_CHARACTERS])
def test_what_is_parsed_is_what_is_kept(tmp_path, before):
    (answer,) = _ask(FunctionSuspect("s", lambda _: " " * before + "Yes"), tmp_path, PROBES[:1])
    assert answer.parsed == parse_first_word(answer.raw, ALLOWED) is None


@given(st.text(max_size=60))
def test_the_parser_answers_within_the_allowed_or_not_at_all(raw):
    assert parse_first_word(raw, ALLOWED) in (*ALLOWED, None)


VOTES = {
    ("Yes",): "Yes",
    ("Yes", "No", "Yes"): "Yes",
    ("Yes", "No"): None,
    ("Yes", "Yes", "No", "No"): None,
    ("Yes", None): None,
    (None, None, "Yes"): None,
    ("Yes", "Yes", None): "Yes",
    (None,): None,
    (): None,
    ("a", "b", "c"): None,
    ("a", "b", "b", "c"): "b",
}


@pytest.mark.parametrize("votes", VOTES, ids=str)
def test_majority(votes):
    assert majority(votes) == VOTES[votes]
    assert majority(votes[::-1]) == VOTES[votes]


MARKED_WORDS = {
    "hindi": ("नहीं", "हाँ"),
    "thai": ("ไม่", "ใช่"),
    "vocalised Arabic": ("لَا", "نَعَمْ"),
    "decomposed": ("none\u0301", "oui\u0308"),
}


@pytest.mark.parametrize("name", MARKED_WORDS)
def test_words_with_combining_marks_are_read_by_version_two(name):
    answers = MARKED_WORDS[name]
    for answer in answers:
        assert parse_first_word_marks(f" {answer}. …", answers) == answer
        assert parse_first_word_marks(f"{answer}x", answers) is None
        assert parse_first_word_marks(f"7 {answer}", answers) is None


@given(st.text(st.characters(exclude_categories=["M", "Cs"]), max_size=12))
def test_both_versions_agree_where_there_are_no_marks(raw):
    composed = unicodedata.normalize("NFC", raw)
    assume(not any(unicodedata.category(c).startswith("M") for c in composed))
    assert parse_first_word_marks(composed, ALLOWED) == parse_first_word(composed, ALLOWED)
