"""Whether a log is what it says: every entry hashed again, in order, up to every checkpoint anybody has kept.

In this order: 1. the numbers have no gap; 2. every entry is the one spelling of an event, under its own number and id,
and no id occurs twice; 3. its bytes have the hash stored beside them; 4. the stored nodes of the tree are the hashes of
what is below them; 5. every checkpoint carries the log's signature, is no longer than the log, and its root is that of
the entries below it.

What the database says about itself (2 to 4) finds damage and clumsy hands, and says where. Only 5 finds somebody who
rewrites the whole database, and only up to the largest checkpoint that is signed, or kept elsewhere. The place is then
the range between the last checkpoint that still fits and the first that does not.
"""

from __future__ import annotations

from array import array
from itertools import islice
from typing import TYPE_CHECKING

from verification.checkpoint import Checkpoint, open_checkpoint, parse_note
from verification.faults import Fault, LedgerError
from verification.ledger_events import parse
from verification.ledger_report import MAX_PROBLEMS, Problem, Report
from verification.ledger_tree import TILE, TILE_LEVEL, TILE_LEVELS
from verification.merkle import EMPTY_ROOT, Frontier, complete_root, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from verification.checkpoint import Verifier
    from verification.ledger_store import LooseRow, Session


def check(session: Session, verifiers: Sequence[Verifier], known: Sequence[bytes] = ()) -> Report:
    """Verifies a database, against its own checkpoints and those that others have kept (``known``, as files).

    ``verifiers`` are keys of the log: today's, and those of its past. One pass; about 50 bytes of memory an entry.
    """
    notes = [note for _, note in session.notes()]
    nodes = {(level, position): node for level, position, node in session.nodes()}
    checking = _Checking(verifiers, nodes=nodes)
    checking.heads([*notes, *known])
    try:
        checking.entries(session.rows(0, session.size()))
        for first, stop in session.misfiled(checking.ids()):
            checking.problem(Fault.ID_CHANGED, first, stop, "the look-up of ids does not hold theirs")
    except LedgerError as error:  # the database broke off
        checking.problem(error.fault, checking.next, checking.next + 1, error.message)
    return checking.report()


def check_rows(
    rows: Iterable[LooseRow], verifiers: Sequence[Verifier], notes: Sequence[bytes], *, size: int | None = None
) -> Report:
    """Verifies entries without a database; ``size`` is how many there should be, where that was said."""
    checking = _Checking(verifiers, nodes=None)
    checking.heads(notes)
    checking.entries(rows)
    if size is not None and size != checking.next:
        fewer, more = sorted((checking.next, size))
        checking.problem(Fault.TRUNCATED, fewer, more, f"{size} were announced, and {checking.next} are there")
    return checking.report()


class _Checking:
    """The state of one pass.

    ``tree`` is over the entries' bytes. Where bytes and stored hash differ, one of the two was changed; ``kept`` is the
    tree over those hashes that the stored nodes bear out. If a checkpoint fits ``kept``, the entries that were reported
    are all that is wrong below it.
    """

    def __init__(self, verifiers: Sequence[Verifier], *, nodes: dict[tuple[int, int], bytes] | None) -> None:
        self.next = 0
        self._verifiers = verifiers
        self._nodes = nodes
        self._tree, self._kept = Frontier(), Frontier()
        self._parted = False
        self._gap = False
        self._above: list[list[bytes]] = [[] for _ in TILE_LEVELS]
        self._heads: dict[int, set[bytes]] = {}
        self._problems: list[Problem] = []
        self._count = self._verified = 0
        self._fitting = self._explained = 0
        self._ids, self._seqs = bytearray(), array("Q")

    def problem(self, fault: Fault, first: int, stop: int, detail: str) -> None:
        self._count += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(Problem(fault=fault, first=first, stop=stop, detail=detail))

    def heads(self, notes: Sequence[bytes]) -> None:
        """Opens the checkpoints; what they say is compared on the way."""
        for note in dict.fromkeys(notes):
            try:
                head = open_checkpoint(note, *self._verifiers)
            except LedgerError as error:
                at = _claimed_size(note)
                self.problem(error.fault, at, at, error.message.removeprefix(f"{error.fault}: "))
                continue
            self._verified += 1
            self._heads.setdefault(head.size, set()).add(head.root)

    def entries(self, rows: Iterable[LooseRow]) -> None:
        """Goes through the log, tile by tile."""
        self._judge(0, EMPTY_ROOT, EMPTY_ROOT)
        source = iter(rows)
        while tile := list(islice(source, TILE)):
            hashes, stored = self._leaves(tile)
            self._grow(hashes, stored)
        for size in sorted(size for size in self._heads if size > self.next):
            detail = f"a checkpoint of {size} entries was signed, and there are {self.next}"
            self.problem(Fault.TRUNCATED, self.next, size, detail)
        for level, position in sorted(self._nodes or {}) if not self._gap else ():
            first, stop = position << level, (position + 1) << level
            self.problem(Fault.TREE_CHANGED, first, stop, f"a node of level {level} that no entries make")
        self._find_doubled()

    def ids(self) -> bytes:
        """All ids in order, or nothing where entries are not what they were: their places would be wrong."""
        return b"" if self._count else bytes(self._ids)

    def report(self) -> Report:
        return Report(
            size=self.next,
            root=self._tree.root(),
            problems=tuple(sorted(self._problems, key=lambda each: (each.first, each.stop))),
            count=self._count,
            signed=self._fitting,
            checkpoints=self._verified,
        )

    def _leaves(self, rows: Sequence[LooseRow]) -> tuple[list[bytes], list[bytes]]:
        """Leaf hashes of the bytes and as stored, up to the first gap; every row is checked by itself."""
        hashes: list[bytes] = []
        stored: list[bytes] = []
        for seq, id_, data, leaf in rows:
            if seq != self.next and not self._in_order(seq):
                continue
            self.next = seq + 1
            found = leaf_hash(data)
            if not self._gap:
                hashes.append(found)
                stored.append(found if leaf is None else leaf)
            own = parse(data)
            if own is not None:
                self._ids += own[1]
                self._seqs.append(seq)
            if leaf is None or leaf == found:
                if own is None or own[0] != seq or (id_ is not None and own[1] != id_):
                    self._wrong_event(seq, own)
            else:
                self.problem(Fault.ENTRY_CHANGED, seq, seq + 1, "its bytes do not have the hash stored beside them")
        return hashes, stored

    def _in_order(self, seq: int) -> bool:
        if seq < self.next:
            self.problem(Fault.ENTRY_MISPLACED, seq, seq + 1, f"it comes after entry {self.next - 1}")
            return False
        self.problem(Fault.ENTRY_MISSING, self.next, seq, f"entry {seq} comes next")
        self._gap = True
        return True

    def _wrong_event(self, seq: int, own: tuple[int, bytes] | None) -> None:
        if own is None:
            self.problem(Fault.ENTRY_MALFORMED, seq, seq + 1, "it is not the canonical JSON of a known kind of event")
        elif own[0] != seq:
            self.problem(Fault.ENTRY_MISPLACED, seq, seq + 1, f"it says that it is entry {own[0]}")
        else:
            self.problem(Fault.ID_CHANGED, seq, seq + 1, "the id column does not hold its id")

    def _grow(self, hashes: list[bytes], stored: list[bytes]) -> None:
        """Adds a tile to both trees, compares its node, and every checkpoint on the way."""
        start = self._tree.size
        whole = complete_root(hashes) if len(hashes) == TILE else None
        kept, kept_whole = hashes, whole
        if hashes != stored:
            self._parted = True
            kept, kept_whole = stored, complete_root(stored) if whole else None
        if whole and kept_whole and self._nodes is not None:
            node = self._nodes.pop((TILE_LEVEL, start >> TILE_LEVEL), None)
            if node not in (whole, kept_whole):
                self._wrong_node(TILE_LEVEL, start, node)
            if node == whole:
                kept, kept_whole = hashes, whole
            self._climb(kept_whole, start)
        roots = self._add(self._tree, hashes, whole)
        others = self._add(self._kept, kept, kept_whole) if self._parted else roots
        if not self._parted:
            self._kept = self._tree.copy()
        for size, root in roots.items():
            self._judge(size, root, others[size])

    def _add(self, tree: Frontier, leaves: Sequence[bytes], whole: bytes | None) -> dict[int, bytes]:
        """Grows a tree by a tile; its roots at the sizes of checkpoints on the way."""
        start, stop = tree.size, tree.size + len(leaves)
        if whole and not any(start < size < stop for size in self._heads):
            tree.add(whole, level=TILE_LEVEL)
            return {stop: tree.root()} if stop in self._heads else {}
        roots = {}
        for leaf in leaves:
            tree.add(leaf)
            if tree.size in self._heads:
                roots[tree.size] = tree.root()
        return roots

    def _climb(self, below: bytes, start: int) -> None:
        """Compares the nodes above a tile that is now complete."""
        for number, level in enumerate(TILE_LEVELS[2:], 1):
            self._above[number].append(below)
            if len(self._above[number]) < TILE or self._nodes is None:
                return
            below = complete_root(self._above[number])
            self._above[number] = []
            first = (start >> level) << level
            node = self._nodes.pop((level, start >> level), None)
            if node != below:
                self._wrong_node(level, first, node)

    def _wrong_node(self, level: int, first: int, node: bytes | None) -> None:
        what = "is missing" if node is None else "is not that of what is below it"
        self.problem(Fault.TREE_CHANGED, first, first + (1 << level), f"the node of level {level} {what}")

    def _judge(self, size: int, root: bytes, kept: bytes) -> None:
        """Compares the checkpoints of one size, by ascending sizes."""
        for head in self._heads.get(size, ()):
            if head == root:
                self._fitting = self._explained = size
            elif head == kept:
                self._explained = size
            else:
                detail = f"not, or not all, those over which a checkpoint of {size} entries was signed"
                self.problem(Fault.REWRITTEN, self._explained, size, detail)

    def _find_doubled(self) -> None:
        """Entries with the id of an earlier one: by sorting, since a set of a million ids takes 100 MB."""
        import numpy as np

        ids = np.frombuffer(bytes(self._ids), dtype="S32")
        order = np.argsort(ids, kind="stable")
        same = np.flatnonzero(ids[order][1:] == ids[order][:-1])
        for place in same.tolist():
            seq, earlier = self._seqs[int(order[place + 1])], self._seqs[int(order[place])]
            self.problem(Fault.ID_DOUBLED, seq, seq + 1, f"it has the id of entry {earlier}")


def _claimed_size(note: bytes) -> int:
    """What a checkpoint that is not believed says of itself; 0 where it says nothing."""
    try:
        return Checkpoint.parse(parse_note(note).text).size
    except LedgerError:
        return 0
