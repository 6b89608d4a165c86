"""A key file that several processes change: one at a time, old or new after a crash, every event told exactly once.

The event of a change is part of the ring, and so both reach the disk in one rename: a change that happened has its
event, one that did not has none. Only then is the event handed to ``record``. A crash between the two leaves an event
*pending* in the file, and every later change (or :meth:`KeyFile.sync`) hands pending events over first, in order.
``record`` therefore sees each event at least once, and must take the second telling of an ``id`` it knows for none.

A change tells the ring what the ledger holds at the *next* change, to save a second rewrite: the last event is told
twice as a rule. That telling is also how a ledger that is out of reach is found before anything is changed.
"""

from __future__ import annotations

import fcntl
import glob
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from countermark.errors import RunLockedError, StorageError, UsageError
from countermark.files import PRIVATE_DIR_MODE, PRIVATE_FILE_MODE, fsync_dir, make_dir, storage_errors
from watermarks.keycopy import merge
from watermarks.keylife import passphrase_changed
from watermarks.keystore import load_ring, no_key_file, save_ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from watermarks.keyevents import KeyEvent
    from watermarks.keyring import KeyRing

    Record = Callable[[dict[str, Any]], None]
    Transition = Callable[[KeyRing], tuple[KeyRing, KeyEvent | None]]

LOCK_SECONDS = 30.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The sealed ring at ``path``; a link is followed, and what it points to is replaced.

    Every method that writes holds the lock ``.NAME.lock`` beside the file from its reading to its last event, and waits
    up to ``LOCK_SECONDS`` for it. ``record`` takes an event as a JSON object; None keeps events pending.
    """

    path: Path

    def read(self, passphrase: bytes) -> KeyRing:
        """The ring as it is now. Needs no lock: the file is replaced whole."""
        return load_ring(self.path, passphrase)

    def create(self, ring: KeyRing, passphrase: bytes, *, record: Record | None = None) -> KeyRing:
        """Seals a new ring where there is no file.

        Raises:
            UsageError: there is one; it is never overwritten.
        """
        with self._held(new=True) as path:
            if path.exists():
                raise UsageError(
                    f"got {self.path}, which exists, expected a new file",
                    hint="choose another name; a ring is never overwritten",
                )
            save_ring(path, ring, passphrase)
            _tell(ring, record, done="the ring was made")
            return ring

    def change(self, passphrase: bytes, transition: Transition, *, record: Record | None = None) -> KeyRing:
        """Reads, applies ``transition``, replaces the file, tells the event; returns the ring that is now on the disk.

        A transition that gives no event changes nothing.

        Raises:
            StorageError: the ledger did not take an event. The message says whether the change was made.
        """
        with self._held() as path:
            ring = self._told(load_ring(path, passphrase), record)
            changed, event = transition(ring)
            if event is None:
                return ring
            save_ring(path, changed, passphrase)
            _tell(changed, record, done=f"{event.kind} is done")
            return changed

    def reseal(self, passphrase: bytes, new: bytes, *, now: datetime, record: Record | None = None) -> KeyRing:
        """Seals the ring under another passphrase (or the same), with a new salt and today's cost of guessing."""
        with self._held() as path:
            ring = self._told(load_ring(path, passphrase), record)
            changed, _ = passphrase_changed(ring, now=now)
            save_ring(path, changed, new)
            _tell(changed, record, done="the passphrase is changed")
            return changed

    def take(self, copy: KeyRing, passphrase: bytes, *, record: Record | None = None) -> KeyRing:
        """Brings in a copy of the same ring (:func:`watermarks.keycopy.merge`), or makes the file from it."""
        with self._held(new=True) as path:
            ring = merge(load_ring(path, passphrase), copy) if path.exists() else replace(copy, recorded=0)
            save_ring(path, ring, passphrase)
            _tell(ring, record, done="the copy was taken")
            return ring

    def sync(self, passphrase: bytes, record: Record) -> int:
        """Tells every pending event, and notes in the file that they were told; returns how many there were."""
        with self._held() as path:
            ring = load_ring(path, passphrase)
            told = self._told(ring, record)
            if told != ring:
                save_ring(path, told, passphrase)
            return len(ring.pending())

    @staticmethod
    def _told(ring: KeyRing, record: Record | None) -> KeyRing:
        if record is None:
            return ring
        _tell(ring, record, done="nothing was changed")
        return replace(ring, recorded=len(ring.history))

    @contextmanager
    def _held(self, *, new: bool = False) -> Iterator[Path]:
        """The real path, under the lock, without what a killed process left half-written beside it."""
        path = self.path.resolve()
        if new:
            make_dir(path.parent, mode=PRIVATE_DIR_MODE)
        elif not path.exists():
            raise no_key_file(self.path)
        with storage_errors(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path.with_name(f".{path.name}.lock"), flags, PRIVATE_FILE_MODE)
        try:
            _acquire(descriptor, path)
            with storage_errors(path):
                _sweep(path)
            yield path
        finally:
            os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RunLockedError(
                    f"got key file {path} held by another process for {LOCK_SECONDS:.0f} s, expected a free one",
                    hint="wait for it to end and run the same command again; nothing was changed",
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _sweep(path: Path) -> None:
    """A half-written neighbour may hold a key that was destroyed since: it goes before anything else is done."""
    left = list(path.parent.glob(f".partial-{glob.escape(path.name)}-*"))
    for each in left:
        each.unlink(missing_ok=True)
    if left:
        fsync_dir(path.parent)


def _tell(ring: KeyRing, record: Record | None, *, done: str) -> None:
    for event in ring.pending() if record is not None else ():
        try:
            record(event.to_json())  # type: ignore[misc]
        except Exception as error:
            raise StorageError(
                f"got no receipt from the ledger for key event {event.sequence} ({event.kind}): {error}; {done}",
                hint="mend the ledger, then run `countermark keys sync`: the event is kept in the key file",
            ) from error
