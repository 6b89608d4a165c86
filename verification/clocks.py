"""Time as asking sees it: the machine's, or one that jumps, so that an hour of retries takes a test no time."""

from __future__ import annotations

import queue
import time
from typing import Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    """Tells seconds, and waits for results."""

    def now(self) -> float:
        """Seconds since some beginning."""

    def receive(self, results: queue.SimpleQueue[T], *, until: float | None, busy: bool) -> T | None:
        """The next result, or None when it is ``until``. ``busy``: whether anybody works on one."""


class WallClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    def receive(self, results: queue.SimpleQueue[T], *, until: float | None, busy: bool) -> T | None:
        del busy
        try:
            return results.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None


class VirtualClock:
    """Stands still while somebody works, and jumps to the next appointment when nobody does.

    For endpoints that take no time of their own, such as simulated ones; they may :meth:`sleep` on it.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        """Lets ``seconds`` pass."""
        self._now += seconds

    def receive(self, results: queue.SimpleQueue[T], *, until: float | None, busy: bool) -> T | None:
        if busy:
            return results.get()
        if until is not None:
            self._now = max(self._now, until)
        return None
