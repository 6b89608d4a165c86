"""Ledgers for tests: events, a log on a temporary disk, a thief's way into the database, and a PostgreSQL server."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verification.checkpoint import Signer
from verification.ledger import Ledger
from verification.ledger_check import check
from verification.ledger_sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verification.ledger_report import Report

SIGNER = Signer(name="example.com/ledger", seed=bytes(range(32)))
OTHER = Signer(name="example.com/ledger", seed=bytes(32))
AT = "2026-01-31T12:00:00Z"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def event(number: int, **fields: Any) -> dict[str, Any]:
    """An event that is the same in every run, one for each number."""
    body = {"event": "query", "at": AT, "endpoint": "detect", "answer": "marked", "request_sha256": sha(f"q{number}")}
    return body | fields


def events(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [event(number) for number in range(first, first + count)]


def made(path: Path, count: int) -> Ledger:
    """A fresh SQLite ledger with ``count`` entries."""
    ledger = Ledger(SqliteStore(path, create=True))
    ledger.append(events(count))
    return ledger


def opened(path: Path) -> Ledger:
    return Ledger(SqliteStore(path))


def verified(ledger: Ledger, *known: bytes) -> Report:
    with ledger.snapshot() as session:
        return check(session, [SIGNER.verifier], known)


@contextmanager
def stolen(path: Path) -> Iterator[sqlite3.Connection]:
    """The database in the hands of somebody who may write to it: without the triggers against accidents."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        yield connection


def find_postgres() -> Path | None:
    """The newest server of Debian's package, or of the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = shutil.which("postgres")
    return installed[-1].parent if installed else Path(found).parent if found else None


class Postgres:
    """A real server on a socket in a temporary folder; never started as root, which it refuses."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="cm-pg-"))
        self._user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        if self._user:
            os.chown(self.folder, 65534, 65534)
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "ledger", "-E", "UTF8")
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "-D", "data", "-w", "-t", "120", "-l", "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL to the server and all of its processes, then a new start with recovery."""
        pid = int((self.folder / "data/postmaster.pid").read_text().split("\n")[0])
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
        for each in (pid, *map(int, children.stdout.split())):
            subprocess.run(["kill", "-9", str(each)], capture_output=True, check=False)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)
        self.start()

    def sql(self, statement: str, database: str = "postgres") -> str:
        done = self._run("psql", "-h", str(self.folder), "-U", "ledger", "-At", "-c", statement, database)
        return done.stdout

    def url(self, database: str) -> str:
        """A new, empty database of that name."""
        self.sql(f"CREATE DATABASE {database}")
        return f"postgresql://ledger@/{database}?unix_sock={self.folder}/.s.PGSQL.5432"

    def _run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # to files, not pipes: the server that pg_ctl leaves behind would hold a pipe open
        out = self.folder / "out"
        with out.open("w") as stream:
            done: Any = subprocess.run(
                [*self._user, str(self._binaries / command), *arguments],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False, timeout=180,
            )  # fmt: skip
        done.stdout = out.read_text()
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done


def flipped(data: bytes, bit: int) -> bytes:
    """``data`` with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def faults(report: Report) -> list[tuple[str, int, int]]:
    return [(str(each.fault), each.first, each.stop) for each in report.problems]


def with_new_hashes(connection: sqlite3.Connection, entries: Sequence[bytes]) -> None:
    """What a thief who knows the format writes: every entry, hash and node anew, all of them consistent."""
    from verification.ledger_tree import Edge
    from verification.merkle import leaf_hash

    connection.execute("BEGIN")
    connection.execute("DELETE FROM entries")
    connection.execute("DELETE FROM nodes")
    edge, nodes = Edge(0, [[] for _ in range(5)]), []
    for seq, data in enumerate(entries):
        connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (seq, data, leaf_hash(data)))
        edge.add(leaf_hash(data), nodes)
    connection.executemany("INSERT INTO nodes VALUES (?, ?, ?)", nodes)
    connection.execute("COMMIT")


def prepare_other(seq: int) -> bytes:
    """Another entry for that place."""
    from verification.ledger_events import prepare

    return prepare(event(10**9 + seq)).numbered(seq)


def rows_of(ledger: Ledger) -> list[Any]:
    """The stored rows."""
    with ledger.snapshot() as session:
        return list(session.rows(0, session.size()))


def signed_in_three_steps(path: Path) -> list[bytes]:
    """A log of 600 entries with checkpoints at 100, 300 and 600; returns them."""
    from verification.ledger_proof import sign_checkpoint

    notes = []
    with made(path, 100) as ledger:
        for more in (0, 200, 300):
            ledger.append(events(more, first=ledger.size()))
            notes.append(sign_checkpoint(ledger, SIGNER))
    return notes
