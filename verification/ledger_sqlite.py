"""A ledger in one SQLite file: WAL, ``synchronous=FULL``, both read back at every open and refused otherwise.

One process writes at a time (SQLite's own lock, waited for); many may read. The file must be on a local disk: WAL needs
shared memory and a file system that locks. 0600 from birth: entries hold no secret, but hashes of what may be guessed.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from countermark.errors import RunLockedError, StorageError, UsageError
from countermark.files import PRIVATE_FILE_MODE, fsync_dir, make_dir, storage_errors
from verification.faults import Fault, LedgerError
from verification.ledger_events import ID_BYTES, id_of
from verification.ledger_ids import KEY_BYTES, SEGMENT, IdIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from verification.ledger_store import LooseRow, NodeRow, Row

FORMAT = "countermark-ledger/1"
WAIT_SECONDS = 60.0
_FETCH = 2048
_REQUIRED = {"journal_mode": "wal", "synchronous": 2}
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (seq INTEGER PRIMARY KEY, data BLOB NOT NULL, leaf BLOB NOT NULL);
CREATE TABLE nodes (level INTEGER, position INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, position)) WITHOUT ROWID;
CREATE TABLE ids (segment INTEGER PRIMARY KEY, keys BLOB NOT NULL);
CREATE TABLE checkpoints (number INTEGER PRIMARY KEY, size INTEGER NOT NULL, note BLOB NOT NULL UNIQUE);
"""
_GUARD = """CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;"""


class SqliteSession:
    """One transaction on one connection; ``ids`` is what the writer knows of the ids so far."""

    def __init__(self, connection: sqlite3.Connection, ids: IdIndex) -> None:
        self._connection = connection
        self._ids = ids

    def size(self) -> int:
        (found,) = self._connection.execute("SELECT max(seq) FROM entries").fetchone()
        return 0 if found is None else int(found) + 1

    def find(self, ids: Sequence[bytes]) -> Mapping[bytes, tuple[int, bytes]]:
        self._learn()
        wanted = set(ids)
        found: dict[bytes, tuple[int, bytes]] = {}
        for seq in self._ids.candidates(ids):
            for _, _, data, _ in self.rows(seq, seq + 1):
                if id_of(data) in wanted:
                    found[id_of(data)] = (seq, data)
        return found

    def add(self, rows: Sequence[Row], nodes: Sequence[NodeRow]) -> None:
        self._learn()
        entries = [(seq, data, leaf) for seq, _, data, leaf in rows]
        self._connection.executemany("INSERT INTO entries (seq, data, leaf) VALUES (?, ?, ?)", entries)
        self._connection.executemany("INSERT INTO nodes (level, position, hash) VALUES (?, ?, ?)", nodes)
        segments = list(self._ids.add(id_ for _, id_, _, _ in rows))
        self._connection.executemany("INSERT INTO ids (segment, keys) VALUES (?, ?)", segments)

    def rows(self, first: int, stop: int) -> Iterator[LooseRow]:
        query = "SELECT seq, data, leaf FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq"
        cursor = self._connection.execute(query, (first, stop))
        while part := cursor.fetchmany(_FETCH):
            for seq, data, leaf in part:
                yield seq, None, data, leaf

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        if level == 0:
            query = "SELECT leaf FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq"
            return [found for (found,) in self._connection.execute(query, (first, first + count))]
        query = "SELECT hash FROM nodes WHERE level = ? AND position >= ? AND position < ? ORDER BY position"
        return [found for (found,) in self._connection.execute(query, (level, first, first + count))]

    def nodes(self) -> Iterator[NodeRow]:
        yield from self._connection.execute("SELECT level, position, hash FROM nodes ORDER BY level, position")

    def misfiled(self, ids: bytes) -> Iterator[tuple[int, int]]:
        """Segments that do not hold the keys of their entries, or are missing, or too many."""
        if not ids:
            return
        stored = dict(self._connection.execute("SELECT segment, keys FROM ids"))
        for first in range(0, len(ids) // ID_BYTES - SEGMENT + 1, SEGMENT):
            part = ids[first * ID_BYTES : (first + SEGMENT) * ID_BYTES]
            keys = b"".join(part[i : i + KEY_BYTES] for i in range(0, len(part), ID_BYTES))
            if stored.pop(first // SEGMENT, None) != keys:
                yield first, first + SEGMENT
        yield from ((segment * SEGMENT, (segment + 1) * SEGMENT) for segment in stored)

    def notes(self) -> list[tuple[int, bytes]]:
        return list(self._connection.execute("SELECT size, note FROM checkpoints ORDER BY size, number"))

    def add_note(self, size: int, note: bytes) -> None:
        self._connection.execute("INSERT OR IGNORE INTO checkpoints (size, note) VALUES (?, ?)", (size, note))

    def _learn(self) -> None:
        """Brings the index up to the log: what other processes appended, or all of it after opening."""
        size = self.size()
        while self._ids.size + SEGMENT <= size and self._ids.size % SEGMENT == 0:
            found = self._connection.execute("SELECT keys FROM ids WHERE segment = ?", (self._ids.size // SEGMENT,))
            ((keys,),) = found.fetchall() or [(b"",)]
            if len(keys) != SEGMENT * KEY_BYTES:
                raise LedgerError(
                    Fault.ID_CHANGED, f"got no whole segment of ids at entry {self._ids.size}, expected one"
                )
            self._ids.add_segment(keys)
        for _ in self._ids.add(id_of(data) for _, _, data, _ in self.rows(self._ids.size, size)):
            pass
        if self._ids.size != size:
            raise LedgerError(Fault.ENTRY_MISSING, f"got {self._ids.size} entries of {size}, expected all")


class SqliteStore:
    """The store; see :class:`verification.ledger.Store`.

    Raises:
        UsageError: no file, or ``create`` and there is one.
        LedgerError: ``unreadable``: no database, or no ledger.
        StorageError: the database does not take the settings that make commits durable.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.place = str(path)
        self._path = path
        if create:
            _create(path)
        elif not path.is_file():
            raise UsageError(f"got no ledger {path}, expected one", hint="make one with `countermark ledger init`")
        self._ids = IdIndex()
        with _readable(path):
            self._writer = _connect(path)
            _check_format(self._writer, path)

    @contextmanager
    def writing(self) -> Iterator[SqliteSession]:
        try:
            self._begin()
            yield SqliteSession(self._writer, self._ids)
            self._writer.execute("COMMIT")
        except BaseException as error:
            self._ids = IdIndex()  # it may know entries that are not there
            with suppress(sqlite3.Error):
                self._writer.rollback()
            if isinstance(error, sqlite3.Error):
                raise StorageError(
                    f"could not write to {self._path}: got {type(error).__name__} ({error}), expected a durable commit",
                    hint="a failed commit is never retried: mend the disk, open the ledger again and verify it",
                ) from error
            raise

    def _begin(self) -> None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise RunLockedError(
                f"got a ledger {self._path} to which another process has been writing for {WAIT_SECONDS:g} s, "
                "expected a free one",
                hint="wait for it; several writers at once are what PostgreSQL is for",
            ) from error

    @contextmanager
    def reading(self) -> Iterator[SqliteSession]:
        with _readable(self._path):
            connection = _connect(self._path)
            try:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                yield SqliteSession(connection, IdIndex())
            finally:
                connection.close()

    def close(self) -> None:
        self._writer.close()


def _create(path: Path) -> None:
    """A new, empty ledger: complete under its name, or not there."""
    make_dir(path.parent)
    unfinished = path.with_name(f".partial-{path.name}-{os.getpid()}")
    with storage_errors(path):
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE))
        try:
            with closing(_connect(unfinished)) as connection:
                tables = ("entries", "nodes", "ids", "meta", "checkpoints")
                guards = [_GUARD.format(table=t, verb=v) for t in tables for v in ("UPDATE", "DELETE")]
                insert = f"INSERT INTO meta VALUES ('format', '{FORMAT}');"  # noqa: S608 - a constant
                connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "".join(guards) + insert + "COMMIT;")
            os.link(unfinished, path)  # unlike a rename, it replaces nothing
        except FileExistsError:
            hint = "a ledger is never replaced"
            raise UsageError(f"got {path}, which exists, expected a new file", hint=hint) from None
        finally:
            unfinished.unlink(missing_ok=True)
        fsync_dir(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are durable; asked back, never assumed."""
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for setting in (
            "trusted_schema = OFF", "cell_size_check = ON", "journal_mode = WAL", "synchronous = FULL",
            "fullfsync = ON", "checkpoint_fullfsync = ON",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {setting}").fetchall()
        _require_durable(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_durable(connection: sqlite3.Connection, path: Path) -> None:
    for name, expected in _REQUIRED.items():
        (found,) = connection.execute(f"PRAGMA {name}").fetchone()
        if found != expected:
            raise StorageError(
                f"got {name} = {found!r} for {path}, expected {expected!r}",
                hint="put the ledger on a local disk that can lock and share memory",
            )


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if found != (FORMAT,):
        raise LedgerError(Fault.UNREADABLE, f"got format {found} in {path}, expected {FORMAT}")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Damage that SQLite itself notices, as an integrity failure."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StorageError(f"could not read {path}: got {error}, expected a readable database") from error
        raise LedgerError(
            Fault.UNREADABLE,
            f"got a database {path} that SQLite cannot read ({error}), expected a whole one",
            hint="restore it from a copy; `countermark ledger verify` of an export needs no database",
        ) from error
