"""The tree of a ledger in its store: tiles of 256 hashes, as in static transparency logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from verification import merkle
from verification.faults import Fault, LedgerError

if TYPE_CHECKING:
    from verification.ledger_store import NodeRow, Session

TILE_LEVEL = 8
TILE = 1 << TILE_LEVEL
TILE_LEVELS = (0, 8, 16, 24, 32)


@dataclass(slots=True)
class Edge:
    """The unfinished tiles at the right edge of the tree: what the next entries are hashed with."""

    size: int
    tiles: list[list[bytes]]

    @classmethod
    def load(cls, session: Session) -> Edge:
        size = session.size()
        tiles = []
        for level in TILE_LEVELS:
            first, count = (size >> level + TILE_LEVEL) << TILE_LEVEL, (size >> level) & (TILE - 1)
            tiles.append(hashes_of(session, level, first, count))
        return cls(size, tiles)

    def copy(self) -> Edge:
        return Edge(self.size, [list(tile) for tile in self.tiles])

    def add(self, leaf: bytes, nodes: list[NodeRow]) -> None:
        """Appends a leaf hash; complete tiles become nodes of the level above."""
        self.size += 1
        added = leaf
        for number, level in enumerate(TILE_LEVELS):
            tile = self.tiles[number]
            tile.append(added)
            if len(tile) < TILE:
                return
            added = merkle.complete_root(tile)
            self.tiles[number] = []
            nodes.append((level + TILE_LEVEL, (self.size >> level + TILE_LEVEL) - 1, added))


def stored_nodes(session: Session) -> merkle.Nodes:
    """Subtree hashes from the stored ones, each from at most 256 of its level."""

    def node(level: int, position: int) -> bytes:
        stored = level - level % TILE_LEVEL
        count = 1 << (level - stored)
        return merkle.complete_root(hashes_of(session, stored, position * count, count))

    return node


def hashes_of(session: Session, level: int, first: int, count: int) -> list[bytes]:
    """Stored hashes, all of them.

    Raises:
        LedgerError: ``entry_missing`` or ``tree_changed``: some are not there.
    """
    found = session.hashes(level, first, count) if count else []
    if len(found) != count:
        at = first << level
        fault = Fault.TREE_CHANGED if level else Fault.ENTRY_MISSING
        raise LedgerError(
            fault,
            f"got {len(found)} hashes of level {level} from entry {at} on, expected {count}",
            hint="see `countermark ledger verify` for what else is wrong",
        )
    return found


def stored_root(session: Session, size: int) -> bytes:
    """The root over the first ``size`` entries, from stored hashes: a claim, not a check."""
    return merkle.range_root(0, size, stored_nodes(session))


def size_within(session: Session, size: int | None) -> int:
    """``size``, or the size of the log.

    Raises:
        UsageError: larger than the log.
    """
    have = session.size()
    if size is not None and not 0 <= size <= have:
        raise UsageError(f"got size {size}, expected one of 0 … {have}, the entries of the ledger")
    return have if size is None else size
