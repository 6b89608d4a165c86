"""The ledger in SQLite: what is acknowledged stays, once, whoever appends beside, and a failed commit is the end."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countermark.errors import RunLockedError, StorageError, UsageError
from tests.verification.ledgers import (
    event,
    events,
    faults,
    flipped,
    made,
    opened,
    sha,
    stolen,
    verified,
)
from verification import ledger_sqlite, merkle
from verification.faults import Fault, LedgerError
from verification.ledger import Ledger
from verification.ledger_events import prepare
from verification.ledger_sqlite import SqliteStore


def test_numbers_count_up_and_a_retry_gets_the_old_ones(tmp_path):
    with made(tmp_path / "l.db", 3) as ledger:
        assert ledger.append(events(3, first=2)) == [2, 3, 4]
        assert ledger.append([event(9), event(0), event(9)]) == [5, 0, 5]
        assert ledger.append([]) == []
    with opened(tmp_path / "l.db") as ledger:
        assert ledger.append(events(10)) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 5]
        assert verified(ledger).sound
        assert [json.loads(each.data)["seq"] for each in ledger.entries()] == list(range(10))


def test_one_id_cannot_stand_for_two_events(tmp_path):
    with made(tmp_path / "l.db", 3) as ledger:
        taken = {**event(1), "id": sha("mine")}
        assert ledger.append([taken]) == [3]
        with pytest.raises(UsageError, match="entry 3"):
            ledger.append([event(50), {**event(2), "id": sha("mine")}])
        assert ledger.size() == 4  # all or none
        with pytest.raises(UsageError):
            ledger.append([event(51), {**event(51), "answer": "x", "id": prepare(event(51)).id.hex()}])
        assert ledger.append([event(50)]) == [4]


def test_a_wrong_event_keeps_its_whole_call_out(tmp_path):
    with made(tmp_path / "l.db", 1) as ledger:
        with pytest.raises(UsageError):
            ledger.append([event(5), {"event": "poem"}])
        assert ledger.size() == 1


def test_many_threads_share_commits_and_nobody_waits_for_ever(tmp_path):
    with made(tmp_path / "l.db", 0) as ledger:
        got: dict[int, list[int]] = {}

        def work(worker):
            mine = [ledger.append([event(worker * 100 + each)])[0] for each in range(20)]
            got[worker] = mine + ledger.append(events(20, first=worker * 100))

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        assert sorted(number for mine in got.values() for number in mine[:20]) == list(range(160))
        for mine in got.values():
            assert mine[:20] == mine[20:]
        assert verified(ledger).sound


def test_a_bad_call_does_not_spoil_those_it_shares_a_commit_with(tmp_path):
    with made(tmp_path / "l.db", 1) as ledger:
        conflict = {**event(7), "id": prepare(event(0)).id.hex()}
        outcomes = []

        def work(body):
            try:
                outcomes.append(ledger.append([body]))
            except UsageError:
                outcomes.append("refused")

        ledger._writing.acquire()  # everybody queues, then one commit
        threads = [threading.Thread(target=work, args=(body,)) for body in (event(1), conflict, event(2))]
        for each in threads:
            each.start()
        while len(ledger._queue) < 3:
            pass
        ledger._writing.release()
        for each in threads:
            each.join(60)
        assert "refused" in outcomes
        assert sorted(each[0] for each in outcomes if each != "refused") == [1, 2]


def test_two_processes_take_turns(tmp_path):
    with made(tmp_path / "l.db", 0) as one, opened(tmp_path / "l.db") as other:
        for each in range(0, 600, 3):
            one.append([event(each)])
            other.append(events(2, first=each + 1))
            assert one.append([event(each + 2)]) == [each + 2]  # what the other appended is known
        assert one.size() == other.size() == 600
        assert verified(one).sound
        assert one.root() == other.root()


def test_a_busy_ledger_says_so_and_stays_sound(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_sqlite, "WAIT_SECONDS", 0.05)
    with made(tmp_path / "l.db", 2) as ledger, stolen(tmp_path / "l.db") as thief:
        thief.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunLockedError):
            ledger.append([event(9)])
        thief.execute("ROLLBACK")
        assert ledger.append([event(9)]) == [2]


class FailingStore(SqliteStore):
    """A disk that fails at the worst moment."""

    failing = False

    def writing(self):
        class Connection:
            def __init__(self, real):
                self.real = real

            def __getattr__(self, name):
                return getattr(self.real, name)

            def execute(self, query, *arguments):
                if query == "COMMIT":
                    raise sqlite3.OperationalError("disk I/O error")
                return self.real.execute(query, *arguments)

        if self.failing:
            self._writer = Connection(self._writer)
        return super().writing()


def test_a_failed_commit_is_never_retried(tmp_path):
    SqliteStore(tmp_path / "l.db", create=True).close()
    store = FailingStore(tmp_path / "l.db")
    ledger = Ledger(store)
    ledger.append(events(2))
    store.failing = True
    with pytest.raises(StorageError, match="disk I/O error"):
        ledger.append([event(2)])
    store.failing = False
    with pytest.raises(StorageError, match="last write failed"):
        ledger.append([event(3)])
    ledger.close()
    with opened(tmp_path / "l.db") as again:
        assert again.append(events(4)) == [0, 1, 2, 3]
        assert verified(again).sound


def test_a_closed_ledger_takes_nothing(tmp_path):
    ledger = made(tmp_path / "l.db", 1)
    ledger.close()
    with pytest.raises(StorageError):
        ledger.append([event(2)])


def test_the_settings_that_make_commits_durable_are_asked_back(tmp_path, monkeypatch):
    made(tmp_path / "l.db", 1).close()
    for wrong in ({"journal_mode": "delete"}, {"synchronous": 1}):
        monkeypatch.setattr(ledger_sqlite, "_REQUIRED", wrong)
        with pytest.raises(StorageError, match=next(iter(wrong))):
            opened(tmp_path / "l.db")
    monkeypatch.undo()
    with opened(tmp_path / "l.db") as ledger:
        assert ledger._store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
        assert ledger._store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_ledger_is_private_and_never_replaced(tmp_path):
    old = os.umask(0)
    try:
        made(tmp_path / "l.db", 1).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "l.db").stat().st_mode) == 0o600
    with pytest.raises(UsageError):
        made(tmp_path / "l.db", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.db"]
    with pytest.raises(UsageError):
        opened(tmp_path / "none.db")


def test_other_files_are_no_ledger(tmp_path):
    (tmp_path / "noise.db").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "empty.db").write_bytes(b"")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE meta (name TEXT, value TEXT)")
    other.close()
    for name in ("noise.db", "empty.db", "other.db"):
        with pytest.raises(LedgerError) as caught:
            opened(tmp_path / name)
        assert caught.value.fault == Fault.UNREADABLE
        assert caught.value.exit_code == 3


def test_accidents_are_stopped_by_the_database_itself(tmp_path):
    made(tmp_path / "l.db", 2).close()
    with sqlite3.connect(tmp_path / "l.db") as connection:
        for statement in ("UPDATE entries SET data = x''", "DELETE FROM entries", "DELETE FROM nodes"):
            if "nodes" in statement:
                connection.execute("INSERT INTO nodes VALUES (8, 0, x'')")
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    connection.close()


def test_segments_of_ids_are_written_read_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr("verification.ledger_ids.SEGMENT", 64)
    monkeypatch.setattr("verification.ledger_sqlite.SEGMENT", 64)
    with made(tmp_path / "l.db", 300) as ledger, opened(tmp_path / "l.db") as other:
        assert other.append(events(320)) == list(range(320))
        assert ledger.append(events(400)) == list(range(400))
        assert verified(other).sound
    with opened(tmp_path / "l.db") as ledger:
        assert ledger.append([event(3), event(170), event(399)]) == [3, 170, 399]
    with stolen(tmp_path / "l.db") as thief:
        (keys,) = thief.execute("SELECT keys FROM ids WHERE segment = 2").fetchone()
        thief.execute("UPDATE ids SET keys = ? WHERE segment = 2", (flipped(keys, 77),))
    with opened(tmp_path / "l.db") as ledger:
        assert faults(verified(ledger)) == [("id_changed", 128, 192)]
    with stolen(tmp_path / "l.db") as thief:
        thief.execute("DELETE FROM ids WHERE segment = 2")
    with opened(tmp_path / "l.db") as ledger, pytest.raises(LedgerError):
        ledger.append([event(5)])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=12))
def test_any_order_of_events_and_retries_gives_each_one_number(tmp_path_factory, calls):
    folder = tmp_path_factory.mktemp("any")
    with made(folder / "l.db", 0) as ledger:
        numbers: dict[int, int] = {}
        for call in calls:
            for each, got in zip(call, ledger.append([event(each) for each in call]), strict=True):
                assert numbers.setdefault(each, got) == got
        assert sorted(numbers.values()) == list(range(len(numbers))) == list(range(ledger.size()))
        leaves = [merkle.leaf_hash(each.data) for each in ledger.entries()]
        assert ledger.root() == merkle.root_of(leaves)
        assert verified(ledger).sound
