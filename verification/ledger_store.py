"""What a ledger asks of a database: a small protocol, kept by SQLite and by PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

Row = tuple[int, bytes, bytes, bytes]
"""Number, id, bytes and leaf hash of an entry, as stored."""
NodeRow = tuple[int, int, bytes]
"""Level, position and hash of a complete subtree."""
LooseRow = tuple[int, bytes | None, bytes, bytes | None]
"""Number, id, bytes and leaf hash, of which only number and bytes are certain: not every form keeps the others."""


class Session(Protocol):
    """One transaction of a store: all of it happens, durably, or none of it."""

    def size(self) -> int:
        """One more than the largest number; 0 in an empty log."""
        ...

    def find(self, ids: Sequence[bytes]) -> Mapping[bytes, tuple[int, bytes]]:
        """Number and bytes of the entries among ``ids``."""
        ...

    def add(self, rows: Sequence[Row], nodes: Sequence[NodeRow]) -> None:
        """Inserts entries and nodes; only while writing."""
        ...

    def rows(self, first: int, stop: int) -> Iterator[LooseRow]:
        """The stored entries numbered first … stop - 1, in order; gaps are the caller's to see."""
        ...

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Stored hashes of a level (0: leaves), in order; fewer where some are missing."""
        ...

    def nodes(self) -> Iterator[NodeRow]:
        """All stored nodes, by level and position."""
        ...

    def misfiled(self, ids: bytes) -> Iterator[tuple[int, int]]:
        """Ranges of entries that :meth:`find` would not find, given all ids in order, where that can happen."""
        ...

    def notes(self) -> list[tuple[int, bytes]]:
        """Size and bytes of the stored checkpoints, by size."""
        ...

    def add_note(self, size: int, note: bytes) -> None:
        """Stores a signed checkpoint; only while writing."""
        ...


class Store(Protocol):
    """A database of entries. ``writing`` holds every other writer out, in this process and in others."""

    place: str

    def writing(self) -> AbstractContextManager[Session]:
        """A transaction that commits durably when the block ends without an error, and changes nothing otherwise."""
        ...

    def reading(self) -> AbstractContextManager[Session]:
        """One unchanging state of the log, whatever writers do meanwhile."""
        ...

    def close(self) -> None:
        """Lets go of the database."""
        ...
