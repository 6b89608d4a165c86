"""The Merkle tree of RFC 6962 (section 2.1 of RFC 9162): hashes, roots, and proofs of inclusion and of consistency.

Pure: bytes in, bytes out. A leaf is hashed with the prefix 0x00 and a node with 0x01, so that no leaf can pass for a
node. The tree over n leaves splits at the largest power of two below n; a subtree over 2^L leaves that starts at a
multiple of 2^L never changes again, which is why a log may store it: :data:`Nodes` is how the proofs ask for one.

The verifiers follow RFC 9162, 2.1.3.2 and 2.1.4.2, to the letter. They return whether a proof holds and raise nothing,
whatever the proof: it comes from somebody else.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Nodes = Callable[[int, int], bytes]
    """``nodes(level, position)``: the hash of the complete subtree over 2^level leaves from position · 2^level on."""

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
_LEAF = b"\x00"
_NODE = b"\x01"

Range = tuple[int, int]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf that holds ``data``."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over two subtrees."""
    return hashlib.sha256(_NODE + left + right).digest()


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of sibling hashes of one level: a whole subtree at once."""
    level, sha256 = hashes, hashlib.sha256
    if not level or len(level) & (len(level) - 1):
        raise UsageError(f"got {len(level)} hashes, expected a power of two of them")
    while len(level) > 1:
        level = [sha256(_NODE + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=True)]
    return level[0]


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first. O(log n) memory."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []

    @classmethod
    def at(cls, size: int, nodes: Nodes) -> Frontier:
        """The frontier of the first ``size`` leaves of a tree whose subtrees ``nodes`` knows."""
        found = cls()
        for level, position in _complete(0, size):
            found.add(nodes(level, position), level=level)
        return found

    def copy(self) -> Frontier:
        """An independent frontier at the same place."""
        other = Frontier()
        other.size, other._peaks = self.size, list(self._peaks)
        return other

    def add(self, subtree: bytes, *, level: int = 0) -> None:
        """Appends a leaf hash, or the root of a complete subtree over 2^level leaves.

        Raises:
            UsageError: the size is no multiple of 2^level.
        """
        if self.size & ((1 << level) - 1):
            raise UsageError(f"got a subtree of level {level} at leaf {self.size}, expected a multiple of {1 << level}")
        self.size += 1 << level
        while self._peaks and self._peaks[-1][0] == level:
            subtree = node_hash(self._peaks.pop()[1], subtree)
            level += 1
        self._peaks.append((level, subtree))

    def root(self) -> bytes:
        """The root over all leaves so far."""
        return _fold([subtree for _, subtree in self._peaks])


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf *hashes*."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


def nodes_of(leaves: Sequence[bytes]) -> Nodes:
    """Subtree hashes of leaf hashes in memory, each computed once."""
    levels: list[list[bytes]] = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[2 * i], below[2 * i + 1]) for i in range(len(below) // 2)])
    return lambda level, position: levels[level][position]


def range_root(first: int, stop: int, nodes: Nodes) -> bytes:
    """The root over the leaves first … stop - 1, where ``first`` is where a subtree of that many leaves may start."""
    return _fold([nodes(level, position) for level, position in _complete(first, stop)])


def inclusion_proof(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """PATH(index, D[size]): the siblings from the leaf up.

    Raises:
        UsageError: there is no leaf ``index`` in a tree of ``size`` leaves.
    """
    if not 0 <= index < size:
        raise UsageError(f"got entry {index} of {size}, expected one of 0 … {size - 1}")
    return [range_root(*each, nodes) for each in _path(index, 0, size)]


def consistency_proof(old: int, new: int, nodes: Nodes) -> list[bytes]:
    """PROOF(old, D[new]): what shows that the first ``old`` leaves of ``new`` are still the same.

    Raises:
        UsageError: not 1 ≤ old ≤ new. (An empty log is the beginning of every log, which proves nothing.)
    """
    if not 1 <= old <= new:
        raise UsageError(f"got sizes {old} and {new}, expected 1 ≤ the old size ≤ the new one")
    return [range_root(*each, nodes) for each in _subproof(old, 0, new, whole=True)]


def verify_inclusion(leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether ``proof`` shows that the leaf hash ``leaf`` is number ``index`` under ``root`` of ``size`` leaves."""
    if not 0 <= index < size or not _hashes(leaf, root, *proof):
        return False
    node, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            node, last = _skip(node, last)
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(*, old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` shows that the tree of ``old`` leaves is the beginning of the tree of ``new`` leaves."""
    if not 1 <= old <= new or not _hashes(old_root, new_root, *proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not proof:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            node, last = _skip(node, last)
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


def _skip(node: int, last: int) -> tuple[int, int]:
    """Up to the level at which ``node`` is a right child, or to the top: levels without a sibling."""
    while node and not node & 1:
        node, last = node >> 1, last >> 1
    return node, last


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)


def _path(index: int, first: int, stop: int) -> Iterator[Range]:
    if stop - first == 1:
        return
    middle = first + _split(stop - first)
    if index < middle:
        yield from _path(index, first, middle)
        yield middle, stop
    else:
        yield from _path(index, middle, stop)
        yield first, middle


def _subproof(old: int, first: int, stop: int, *, whole: bool) -> Iterator[Range]:
    """SUBPROOF of the RFC; ``whole`` says that the subtree is the old tree itself, whose root the verifier has."""
    if old == stop:
        if not whole:
            yield first, stop
        return
    middle = first + _split(stop - first)
    if old <= middle:
        yield from _subproof(old, first, middle, whole=whole)
        yield middle, stop
    else:
        yield from _subproof(old, middle, stop, whole=False)
        yield first, middle


def _complete(first: int, stop: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees of a range, largest first, as (level, position)."""
    while first < stop:
        level = (stop - first).bit_length() - 1
        yield level, first >> level
        first += 1 << level


def _fold(subtrees: Sequence[bytes]) -> bytes:
    if not subtrees:
        return EMPTY_ROOT
    found = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        found = node_hash(left, found)
    return found


def _hashes(*values: object) -> bool:
    return all(isinstance(value, bytes) and len(value) == HASH_BYTES for value in values)
