"""The journal: what was written is there or missed, no crash stops it, and no change goes unnoticed."""

from __future__ import annotations

import errno
import json
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countermark.errors import IntegrityError, RunLockedError, StorageError
from tests.verification.asking_cases import memory
from verification.journal import SECTOR, Journal, read_journal

HEADER = {"suspect": "s"}
JSON = st.dictionaries(st.text(max_size=5), st.text(max_size=40) | st.integers(-(2**53) + 1, 2**53 - 1), max_size=3)


def write(path, bodies):
    with Journal.open(path, HEADER) as journal:
        for body in bodies:
            journal.append(body)
    return path


def bodies_of(path):
    return [line.body for line in read_journal(path)][1:]


@pytest.fixture
def path(folder):
    return write(folder / "deep" / "journal.jsonl", [{"raw": f"said {i} * J é \n"} for i in range(4)])


@settings(max_examples=30)
@given(st.lists(JSON, max_size=4))
def test_what_was_written_is_read(bodies):
    with memory() as folder:
        path = write(folder / "journal.jsonl", bodies)
        assert bodies_of(path) == bodies
        with Journal.open(path, HEADER) as journal:
            assert [line.body for line in journal.lines][1:] == bodies
            journal.append({"more": 1})
        assert bodies_of(path) == [*bodies, {"more": 1}]


def test_every_flipped_bit_is_noticed(path):
    data = path.read_bytes()
    rng = random.Random(0)
    places = {*range(len(data) - 300, len(data)), *rng.sample(range(len(data)), 300)}
    for place in sorted(places):
        broken = bytearray(data)
        broken[place] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(IntegrityError, match="damaged"):
            read_journal(path)


@pytest.mark.parametrize("mask", [1 << bit for bit in range(8)])
def test_a_changed_last_line_feed_is_no_crash(path, mask):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ mask]))
    with pytest.raises(IntegrityError, match="line 5"):
        read_journal(path)


def test_a_line_torn_anywhere_is_dropped_and_written_over(path):
    data, whole = path.read_bytes(), bodies_of(path)
    start = data[:-1].rfind(b"\n") + 1
    for end in range(start, len(data)):
        path.write_bytes(data[:end])
        kept = whole if end == len(data) - 1 else whole[:-1]  # only its line feed is missing
        assert bodies_of(path) == kept
        with Journal.open(path, HEADER) as journal:
            journal.append({"next": end})
        assert bodies_of(path) == [*kept, {"next": end}]


def test_sectors_that_never_reached_the_disk_are_a_torn_line(path):
    with Journal.open(path, HEADER) as journal:
        journal.append({"raw": "long " * 400})
    data, before = path.read_bytes(), bodies_of(path)[:-1]
    start = data[:-1].rfind(b"\n") + 1
    first = (start // SECTOR + 1) * SECTOR
    for at in range(first, len(data) - SECTOR, SECTOR):
        path.write_bytes(data[:at] + bytes(SECTOR) + data[at + SECTOR :])
        assert bodies_of(path) == before
    path.write_bytes(data + bytes(700))  # the file grew before its data came
    assert len(bodies_of(path)) == len(before) + 1
    path.write_bytes(data[: first + 7] + bytes(3) + data[first + 10 :])  # less than a sector: no power cut does that
    with pytest.raises(IntegrityError, match="damaged"):
        read_journal(path)


def _lines(path):
    return path.read_bytes().splitlines(keepends=True)


CHANGES = {
    "dropped": lambda lines: [*lines[:2], *lines[3:]],
    "doubled": lambda lines: [*lines[:3], *lines[2:]],
    "swapped": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "without its header": lambda lines: lines[1:],
    "an empty line": lambda lines: [*lines[:2], b"\n", *lines[2:]],
    "another spelling": lambda lines: [lines[0], json.dumps(json.loads(lines[1])).encode() + b"\n", *lines[2:]],
    "a header alone, twice": lambda lines: [lines[0], lines[0]],
}


@pytest.mark.parametrize("name", CHANGES)
def test_lines_cannot_be_rearranged(path, name):
    path.write_bytes(b"".join(CHANGES[name](_lines(path))))
    with pytest.raises(IntegrityError, match="damaged"):
        read_journal(path)


def test_a_line_of_another_journal_does_not_fit(path, folder):
    other = write(folder / "other.jsonl", [{"raw": f"other {i}"} for i in range(4)])
    path.write_bytes(b"".join([*_lines(path)[:3], *_lines(other)[3:]]))
    with pytest.raises(IntegrityError, match="line 4"):
        read_journal(path)


def test_another_header_is_refused_by_name(path):
    with pytest.raises(IntegrityError, match="another suspect"):
        Journal.open(path, {"suspect": "x"})


@pytest.mark.parametrize("data", [b"", b"{}\n", b"[]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_journal_is_refused(folder, data):
    path = folder / "j"
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        read_journal(path)


def test_a_missing_journal_is_named(folder):
    with pytest.raises(IntegrityError, match="nowhere"):
        read_journal(folder / "nowhere")


def test_two_processes_cannot_write_one_journal(path):
    with Journal.open(path, HEADER), pytest.raises(RunLockedError):
        Journal.open(path, HEADER)
    Journal.open(path, HEADER).close()


def test_after_a_failed_write_nothing_more_is_written(path, monkeypatch):
    with Journal.open(path, HEADER) as journal:

        def full(_):
            raise OSError(errno.ENOSPC, "full")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError):
                journal.append({"a": 1})
        with pytest.raises(StorageError, match="last write failed"):
            journal.append({"b": 2})


def test_the_line_is_on_the_disk_when_append_returns(path, monkeypatch):
    synced = []
    fsync = os.fsync
    with Journal.open(path, HEADER) as journal:
        monkeypatch.setattr(os, "fsync", lambda fd: (fsync(fd), synced.append(path.read_bytes())))
        journal.append({"a": "here"})
    assert b'"here"' in synced[-1]
