"""The ledger in PostgreSQL: a real server, several writers, a killed server, a server that is not durable."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from countermark.errors import StorageError, UnsafePermissionsError, UsageError
from tests.verification.ledgers import (
    SIGNER,
    Postgres,
    event,
    events,
    faults,
    find_postgres,
    flipped,
    verified,
)
from verification.ledger import Ledger
from verification.ledger_proof import check_export, check_proof, export, prove_inclusion, sign_checkpoint

pytest.importorskip("sqlalchemy", reason="the extra `postgres` is not installed")
pytest.importorskip("pg8000", reason="the extra `postgres` is not installed")
BINARIES = find_postgres()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL server: apt-get install postgresql"),
]


@pytest.fixture(scope="module")
def server():
    made = Postgres(BINARIES)
    yield made
    made.remove()


@pytest.fixture
def url(server, request):
    return server.url("t" + str(abs(hash(request.node.name))))


def store(url, **options):
    from verification.ledger_postgres import PostgresStore

    return Ledger(PostgresStore(url, **options))


def test_the_same_log_as_in_sqlite(url, tmp_path):
    from verification.ledger_sqlite import SqliteStore

    with store(url, create=True) as there, Ledger(SqliteStore(tmp_path / "l.db", create=True)) as here:
        for ledger in (here, there):
            assert ledger.append(events(300)) == list(range(300))
            assert ledger.append([event(7), event(400), event(400)]) == [7, 300, 300]
            sign_checkpoint(ledger, SIGNER)
            assert verified(ledger).sound
            assert check_proof(prove_inclusion(ledger, 257), [SIGNER.verifier]).index == 257
            export(ledger, tmp_path / "out.jsonl")
            assert check_export(tmp_path / "out.jsonl", [SIGNER.verifier]).signed == 301
        assert here.root() == there.root()
        assert [each.data for each in here.entries()] == [each.data for each in there.entries()]
    with store(url) as again:
        assert again.append([event(299), event(500)]) == [299, 301]
        with pytest.raises(UsageError):
            again.append([{**event(1), "id": "0" * 64}, {**event(2), "id": "0" * 64}])
        assert again.size() == 302


def test_several_writers_at_once(url):
    store(url, create=True).close()
    ledgers = [store(url) for _ in range(3)]
    got: list[int] = []

    def work(ledger, worker):
        for each in range(25):
            got.extend(ledger.append([event(1000 * worker + each), event(each)]))

    threads = [threading.Thread(target=work, args=(ledgers[worker % 3], worker)) for worker in range(1, 7)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert ledgers[0].size() == 6 * 25 + 25
    assert sorted(set(got)) == list(range(175))
    assert all(verified(each).sound for each in ledgers)
    for each in ledgers:
        each.close()


WRITER = """
import sys
from tests.verification.ledgers import events
from verification.ledger import Ledger
from verification.ledger_postgres import PostgresStore
ledger = Ledger(PostgresStore(sys.argv[1]))
for first in range(0, 10**6, 4):
    print(*ledger.append(events(4, first=first)), flush=True)
"""


def test_a_killed_server_loses_nothing_that_was_acknowledged(server, url):
    store(url, create=True).close()
    for _ in range(2):
        command = [sys.executable, "-c", WRITER, url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as writer:
            lines = [writer.stdout.readline() for _ in range(8)]
            server.kill()
            lines += writer.stdout.readlines()
            assert writer.wait(60) != 0  # it was told, and did not go on
        acknowledged = [int(number) for line in lines for number in line.split()]
        assert len(acknowledged) >= 32
        with store(url) as ledger:
            assert verified(ledger).sound
            assert ledger.size() > max(acknowledged)
            assert ledger.append(events(len(acknowledged))) == acknowledged


def test_a_server_that_does_not_keep_its_promises_is_refused(server, url):
    store(url, create=True).close()
    for name in ("fsync", "full_page_writes"):
        server.sql(f"ALTER SYSTEM SET {name} = off")
        server.sql("SELECT pg_reload_conf()")
        try:
            for _ in range(100):
                if server.sql(f"SHOW {name}").strip() == "off":
                    break
            with pytest.raises(StorageError, match=name):
                store(url)
        finally:
            server.sql(f"ALTER SYSTEM RESET {name}")
            server.sql("SELECT pg_reload_conf()")
    server.sql("ALTER ROLE ledger SET synchronous_commit = off")
    try:
        with store(url) as ledger, ledger.snapshot() as session:
            assert session._ask("SHOW synchronous_commit")[0][0] == "on"
    finally:
        server.sql("ALTER ROLE ledger RESET synchronous_commit")


def test_tampering_is_reported_with_its_place(server, url):
    with store(url, create=True) as ledger:
        ledger.append(events(20))
        note = sign_checkpoint(ledger, SIGNER)
        rows = list(_rows(ledger))
    name = url.split("/")[3].split("?")[0]
    server.sql("ALTER TABLE countermark_entries DISABLE TRIGGER ALL", name)
    with store(url) as ledger:
        for seq, _, data, leaf in rows[::7]:
            for column, value in (("data", data), ("leaf", leaf), ("id", rows[seq][1])):
                server.sql(_update(column, flipped(value, 5 * seq + 3), seq), name)
                expected = "id_changed" if column == "id" else "entry_changed"
                assert faults(verified(ledger)) == [(expected, seq, seq + 1)]
                server.sql(_update(column, value, seq), name)
        server.sql("DELETE FROM countermark_entries WHERE seq = 4", name)
        assert faults(verified(ledger)) == [("entry_missing", 4, 5)]
        server.sql("DELETE FROM countermark_entries", name)
        assert faults(verified(ledger, note)) == [("truncated", 0, 20)]


def _update(column, value, seq):
    return f"UPDATE countermark_entries SET {column} = '\\x{value.hex()}' WHERE seq = {seq}"


def _rows(ledger):
    with ledger.snapshot() as session:
        yield from session.rows(0, session.size())


def test_accidents_are_stopped_by_the_database_itself(server, url):
    store(url, create=True).close()
    name = url.split("/")[3].split("?")[0]
    for statement in ("UPDATE countermark_entries SET seq = 1", "TRUNCATE countermark_entries"):
        with pytest.raises(AssertionError, match="append-only"):
            server.sql(statement, name)


def test_what_is_no_ledger_there(server, url, tmp_path):
    with pytest.raises(UsageError, match="without a ledger"):
        store(url)
    store(url, create=True).close()
    with pytest.raises(UsageError, match="holds a ledger"):
        store(url, create=True)
    with pytest.raises(UsageError) as caught:
        store("postgresql://ledger:hunter2@localhost/x")
    assert "hunter2" not in caught.value.diagnostics()
    (tmp_path / "password").write_text("hunter2\n")
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(UnsafePermissionsError):
        store(f"{url}&password_file={tmp_path}/password")
    (tmp_path / "password").chmod(0o600)
    store(f"{url}&password_file={tmp_path}/password").close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the driver leaves its socket open
def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(StorageError) as caught:
        store(f"postgresql://ledger@/x?unix_sock={tmp_path}/none")
    assert len(caught.value.diagnostics().splitlines()) == 2
    gc.collect()
