"""The journal of what one suspect was asked for one claim: append-only JSON lines, each on the disk before it counts.

A line is ``{"at", "body", "seq", "sha256"}`` in canonical JSON. Its checksum covers its body, number and time *and the
checksum of the line before*, so that a line that was changed, removed, doubled, moved or taken from another journal is
noticed. What a crash can leave is a torn last line, which was never acted upon: it is dropped. Lost *whole* last lines
cannot be told from lines that were never written; their queries are asked again under the same query ids.

``at`` is the only place of a clock. :func:`verification.transcripts.transcript` gives what evidence may digest.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from countermark.errors import IntegrityError, RunLockedError, StorageError
from countermark.files import fsync_dir, make_dir, storage_errors
from countermark.manifest import canonical_json, digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

JOURNAL_FORMAT = 1
SECTOR = 512
_FIRST = f"countermark.journal/{JOURNAL_FORMAT}"
_NEWLINE = b"\n"

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: what happened (``body``), and when (``at``, UTC), which nothing depends on."""

    body: Body
    at: str


class Journal:
    """An open journal, held against every other process. ``lines`` is what it held when it was opened."""

    def __init__(self, path: Path, descriptor: int, lines: Sequence[Line], last: str) -> None:
        self.lines = tuple(lines)
        self._path = path
        self._descriptor = descriptor
        self._last = last
        self._next = len(lines)
        self._broken = False

    @classmethod
    def open(cls, path: Path, header: Body) -> Journal:
        """The journal at ``path``, made if there is none; a torn last line is cut off.

        Args:
            path: the file; its folder is made.
            header: what the journal is about; it must be what the file was begun with.

        Raises:
            IntegrityError: damaged, or begun with another header. RunLockedError: another process writes it.
            StorageError: no room, or no right to write.
        """
        make_dir(path.parent)
        with storage_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = path.read_bytes()
            lines, last, good = _parse(data, path)
            journal = cls(path, descriptor, lines, last)
            journal._mend(data, good)
            journal._begin({"kind": "header", "format": JOURNAL_FORMAT, **header})
        except BlockingIOError:
            os.close(descriptor)
            raise RunLockedError(
                f"got a journal {path} that another process writes, expected a free one",
                hint="wait for the other audit, or give this one another --out",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    def append(self, body: Body) -> None:
        """Writes one line and returns when it is on the disk. After a failed write the journal refuses all others.

        Raises:
            StorageError: full disk, or an earlier line could not be written.
        """
        if self._broken:
            raise StorageError(f"got a journal {self._path} whose last write failed, expected a sound one")
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        checksum = _checksum(body, at, self._next, self._last)
        data = canonical_json({"at": at, "body": body, "seq": self._next, "sha256": checksum}) + _NEWLINE
        self._broken = True  # a failed fsync may have dropped the pages: never tried again
        self._write(data)
        self._broken = False
        self._last = checksum
        self._next += 1

    def close(self) -> None:
        """Lets go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        with storage_errors(self._path):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)

    def _mend(self, data: bytes, good: int) -> None:
        """Cuts off a torn tail, or gives a whole last line its line feed."""
        with storage_errors(self._path):
            if good < len(data):
                os.ftruncate(self._descriptor, good)
                os.fsync(self._descriptor)
        if good and not data[:good].endswith(_NEWLINE):
            self._write(_NEWLINE)

    def _begin(self, header: Body) -> None:
        if not self.lines:
            self.append(header)
            fsync_dir(self._path.parent)
            self.lines = (Line(body=header, at=""),)
            return
        found = self.lines[0].body
        if found != header:
            differ = sorted(k for k in {*found, *header} if found.get(k) != header.get(k))
            raise IntegrityError(
                f"got journal {self._path}, which was begun with another {', '.join(differ)}, "
                "expected the one of this plan and suspect",
                hint="the plan or the suspect changed after asking began; start over with --fresh",
            )


def read_journal(path: Path) -> list[Line]:
    """Every whole line of the journal at ``path``, checked; a torn last line is left out. The file is not touched.

    Raises:
        IntegrityError: missing, empty or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"got no readable journal {path} ({error.strerror}), expected one") from error
    lines, _, _ = _parse(data, path)
    if not lines:
        raise IntegrityError(f"got an empty journal {path}, expected at least its header")
    return lines


def _parse(data: bytes, path: Path) -> tuple[list[Line], str, int]:
    """All lines, the last checksum, and how many bytes are good."""
    lines: list[Line] = []
    last, start = _FIRST, 0
    while start < len(data):
        end = data.find(_NEWLINE, start)
        torn = end < 0
        raw = data[start:] if torn else data[start:end]
        found = _line(raw.rstrip(b"\0") if torn else raw, len(lines), last)
        if found is None:
            if torn and not _starts_whole(raw, len(lines), last):
                return lines, last, start  # begun and never finished
            if not torn and end + 1 == len(data) and _has_unwritten_sector(raw, start):
                return lines, last, start
            raise _damaged(path, len(lines))
        line, last = found
        lines.append(line)
        start = len(data) if torn else end + 1
        if torn:
            return lines, last, start - (len(raw) - len(raw.rstrip(b"\0")))
    return lines, last, start


def _line(raw: bytes, number: int, previous: str) -> tuple[Line, str] | None:
    """The line in ``raw`` and its checksum, or None if those are not the bytes that were written."""
    try:
        value = json.loads(raw)
        body, at, checksum = value["body"], value["at"], value["sha256"]
        whole = value["seq"] == number and checksum == _checksum(body, at, number, previous)
        if whole and canonical_json(value) == raw:  # not merely a text that means the same
            return Line(body=body, at=at), checksum
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None


def _starts_whole(raw: bytes, number: int, previous: str) -> bool:
    """Whether a tail begins with a whole line: its line feed was changed, which no crash does."""
    try:
        _, end = json.JSONDecoder().raw_decode(text := raw.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return False
    return _line(text[:end].encode("utf-8", "surrogateescape"), number, previous) is not None


def _checksum(body: Body, at: str, number: int, previous: str) -> str:
    return digest({"at": at, "body": body, "previous": previous, "seq": number})


def _has_unwritten_sector(raw: bytes, start: int) -> bool:
    """Whether a disk sector's part of the line is all zeros: a power cut between the sectors of one write."""
    edges = [0, *range(SECTOR - start % SECTOR, len(raw), SECTOR), len(raw)]
    return any(a < b and not raw[a:b].strip(b"\0") for a, b in pairwise(edges))


def _damaged(path: Path, number: int) -> IntegrityError:
    return IntegrityError(
        f"{path} is damaged: got line {number + 1} that is not the one that was written, expected its checksum to hold",
        hint="restore the journal from a copy, or start over with --fresh; do not use it as evidence",
    )
