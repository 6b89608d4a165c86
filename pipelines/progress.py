"""Progress on stderr: bars with an estimate on a terminal, a line every few seconds elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_LINE_SECONDS = 15.0


class Progress(Protocol):
    """Opens one bar at a time. The bar's callable takes the number of units just done."""

    def bar(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]: ...

    def say(self, line: str) -> None: ...


class QuietProgress:
    """Says nothing; for tests and ``--quiet``."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        yield lambda _: None

    def say(self, line: str) -> None:
        del line


class LineProgress:
    """A line every few seconds, for logs: what, how far, how long still at the pace seen so far."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        started = last = time.monotonic()
        done = 0

        def advance(units: int) -> None:
            nonlocal done, last
            done += units
            now = time.monotonic()
            if now - last >= _LINE_SECONDS:
                last = now
                left = (now - started) / max(done, 1) * max(total - done, 0)
                self.say(f"  {what}: {done}/{total}, about {left:.0f} s left")

        yield advance

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - stderr is where progress goes


class RichProgress:
    """Bars with elapsed time and an estimate of what is left."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Bars(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(what, total=total)
            yield lambda units: bars.advance(task, units)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False)


def default_progress(*, quiet: bool = False) -> Progress:
    """Bars on a terminal, lines in a log, silence on request."""
    if quiet:
        return QuietProgress()
    return RichProgress() if sys.stderr.isatty() else LineProgress()
