"""Which ids a SQLite ledger holds: eight bytes of each, in memory to search and in segments on disk.

A database index over random ids touches a page of its own for nearly every entry; a commit then writes several times
what it says. Here 65,536 entries make one segment of 512 KiB, written once; what is younger is read off the entries
when a log is opened for writing. Eight bytes only propose entries, the whole id decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

SEGMENT = 1 << 16
KEY_BYTES = 8


class IdIndex:
    """Eight-byte keys of the entries 0 … size - 1."""

    def __init__(self) -> None:
        self.size = 0
        self._runs: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
        self._young: dict[bytes, list[int]] = {}
        self._keys = bytearray()

    def add_segment(self, keys: bytes) -> None:
        """The next whole segment, as :meth:`add` made it."""
        import numpy as np

        found = np.frombuffer(keys, dtype=">u8").astype(np.uint64)
        order = np.argsort(found, kind="stable")
        self._merge((found[order], order + self.size))
        self.size += SEGMENT

    def add(self, ids: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """Adds the next entries; yields (number, keys) of every segment that becomes whole."""
        for id_ in ids:
            key = id_[:KEY_BYTES]
            self._young.setdefault(key, []).append(self.size)
            self._keys += key
            self.size += 1
            if self.size % SEGMENT == 0:
                whole = bytes(self._keys)
                self._young, self._keys = {}, bytearray()
                self.size -= SEGMENT
                self.add_segment(whole)
                yield self.size // SEGMENT - 1, whole

    def candidates(self, ids: Sequence[bytes]) -> list[int]:
        """Numbers of all entries whose keys are among those of ``ids``."""
        import numpy as np

        found = [seq for id_ in ids for seq in self._young.get(id_[:KEY_BYTES], ())]
        if self._runs:
            wanted = np.frombuffer(b"".join(id_[:KEY_BYTES] for id_ in ids), dtype=">u8").astype(np.uint64)
            for keys, seqs in self._runs:
                first, stop = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
                for place in np.flatnonzero(stop > first).tolist():
                    found += seqs[first[place] : stop[place]].tolist()
        return sorted(set(found))

    def _merge(self, run: tuple[NDArray[np.uint64], NDArray[np.int64]]) -> None:
        """Keeps the runs few: each is larger than the next."""
        import numpy as np

        while self._runs and len(self._runs[-1][0]) <= len(run[0]):
            older = self._runs.pop()
            keys, seqs = np.concatenate([older[0], run[0]]), np.concatenate([older[1], run[1]])
            order = np.argsort(keys, kind="stable")
            run = keys[order], seqs[order]
        self._runs.append(run)
