"""The append-only log: events in, numbers out; what was acknowledged is never lost, doubled, or changed unseen.

An entry is the canonical JSON of an event with its number (``seq``); its bytes are the leaf of an RFC 6962 tree. The
store holds entries, their leaf hashes, and the hashes of every complete subtree over 256, 65,536, … entries, so that a
proof reads a few hundred hashes however long the log is. :func:`verification.ledger_check.check` trusts none of them.

*Durable* means: when :meth:`Ledger.append` returns, the database has committed and the operating system says that the
bytes are on the disk. Appenders that wait at the same time share one commit. A commit that fails is fatal: this ledger
object refuses everything after it, since nobody can say what is on the disk. Open it again, and append again: the id
makes that safe.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from countermark.errors import StorageError, UsageError
from verification import merkle
from verification.faults import LedgerError
from verification.ledger_events import prepare
from verification.ledger_tree import TILE_LEVELS, Edge, size_within, stored_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from verification.ledger_events import Prepared
    from verification.ledger_store import NodeRow, Row, Session, Store

MAX_GROUP = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry as it was appended."""

    seq: int
    data: bytes


@dataclass(slots=True)
class _Waiting:
    """One call of append: what it brings, and what it gets."""

    events: list[Prepared]
    indices: list[int] = field(default_factory=list)
    error: Exception | None = None
    done: bool = False


class Ledger:
    """A log in a store. Threads may share it; processes open their own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writing = threading.Lock()
        self._queueing = threading.Lock()
        self._queue: list[_Waiting] = []
        self._edge = Edge(0, [[] for _ in TILE_LEVELS])
        self._broken = False

    @property
    def place(self) -> str:
        """Where the log is, for messages."""
        return self._store.place

    def close(self) -> None:
        """Closes the store; everything acknowledged is durable already."""
        with self._writing:
            self._broken = True
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, events: Sequence[Mapping[str, Any]]) -> list[int]:
        """Appends events and returns their numbers once they are durable: all of them, or none.

        An event whose id is in the log already is not appended again; its number is returned.

        Raises:
            UsageError: an event that is none, or an id that stands for another event.
            StorageError: the commit failed, now or earlier. The events may be in the log or not.
        """
        waiting = _Waiting([prepare(event) for event in events])
        if not waiting.events:
            return []
        with self._queueing:
            self._queue.append(waiting)
        with self._writing:  # whoever gets here first commits for all who wait
            while not waiting.done:
                self._commit(self._take())
        if waiting.error is not None:
            raise waiting.error
        return waiting.indices

    def size(self) -> int:
        """The number of entries."""
        with self._store.reading() as session:
            return session.size()

    def entries(self, first: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Entries first … stop - 1 as they are stored, unchecked; for evidence use :func:`ledger_check.check`."""
        with self._store.reading() as session:
            for seq, _, data, _ in session.rows(first, session.size() if stop is None else stop):
                yield Entry(seq=seq, data=data)

    def root(self, size: int | None = None) -> bytes:
        """The root over the first ``size`` entries, from stored hashes."""
        with self._store.reading() as session:
            return stored_root(session, size_within(session, size))

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """One unchanging state of the log, for readers of several things that must fit."""
        with self._store.reading() as session:
            yield session

    def add_checkpoint(self, size: int, note: bytes) -> None:
        """Keeps a signed checkpoint with the log; see :func:`verification.ledger_proof.sign_checkpoint`."""
        with self._writing, self._fatal(), self._store.writing() as session:
            session.add_note(size, note)

    def _take(self) -> list[_Waiting]:
        """What one commit holds: whole calls, in order, until there is enough."""
        with self._queueing:
            count = total = 0
            while count < len(self._queue) and (not count or total + len(self._queue[count].events) <= MAX_GROUP):
                total += len(self._queue[count].events)
                count += 1
            taken, self._queue = self._queue[:count], self._queue[count:]
        return taken

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            with self._fatal(), self._store.writing() as session:
                edge = self._write(session, group)
            self._edge = edge
        except BaseException as error:  # every caller of the group gets it: nobody may take silence for success
            for waiting in group:
                waiting.error = error if isinstance(error, Exception) else self._interrupted()
            if not isinstance(error, Exception):
                raise
        finally:
            for waiting in group:
                waiting.done = True

    def _write(self, session: Session, group: list[_Waiting]) -> Edge:
        edge = self._edge.copy() if self._edge.size == session.size() else Edge.load(session)
        found = session.find([event.id for waiting in group for event in waiting.events])
        seen: dict[bytes, tuple[int, bytes]] = {}
        rows: list[Row] = []
        nodes: list[NodeRow] = []
        for waiting in group:
            try:
                fresh, waiting.indices = _number(waiting.events, found, seen, edge.size)
            except UsageError as error:
                waiting.error = error
                continue
            for row in fresh:
                rows.append(row)
                seen[row[1]] = (row[0], row[2])
                edge.add(row[3], nodes)
        session.add(rows, nodes)
        return edge

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """After a failed write nothing is written any more: what reached the disk is unknown."""
        if self._broken:
            raise self._interrupted()
        try:
            yield
        except (UsageError, LedgerError) as error:
            self._broken = isinstance(error, StorageError)
            raise
        except BaseException:
            self._broken = True
            raise

    def _interrupted(self) -> StorageError:
        return StorageError(
            f"got a ledger {self.place} whose last write failed or that was closed, expected a sound one",
            hint="open it again, verify it, and append the unacknowledged events again: their ids keep them single",
        )


def _number(
    events: Sequence[Prepared],
    found: Mapping[bytes, tuple[int, bytes]],
    seen: Mapping[bytes, tuple[int, bytes]],
    first: int,
) -> tuple[list[Row], list[int]]:
    """Numbers for the events that are new, and the numbers of the others.

    Raises:
        UsageError: an id that stands for other bytes.
    """
    own: dict[bytes, tuple[int, bytes]] = {}
    rows: list[Row] = []
    indices: list[int] = []
    for event in events:
        known = found.get(event.id) or seen.get(event.id) or own.get(event.id)
        if known is None:
            seq = first + len(rows)
            data = event.numbered(seq)
            own[event.id] = (seq, data)
            rows.append((seq, event.id, data, merkle.leaf_hash(data)))
        elif event.numbered(known[0]) != known[1]:
            raise UsageError(
                f"got another event under the id {event.id.hex()} of entry {known[0]}, expected the same one",
                hint="retry with exactly what was sent before, its time included, or use another id",
            )
        else:
            seq = known[0]
        indices.append(seq)
    return rows, indices
