"""What a verification of a ledger says: problems with their places, and how far signatures reach."""

from __future__ import annotations

from dataclasses import dataclass

from verification.faults import Fault, LedgerError

MAX_PROBLEMS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: entries first … stop - 1 are concerned."""

    fault: Fault
    first: int
    stop: int
    detail: str

    def line(self) -> str:
        """For people."""
        span = self.stop - self.first
        where = f"entry {self.first}" if span == 1 else f"entries {self.first} to {self.stop - 1}"
        where = where if span else f"checkpoint of {self.first} entries"
        return f"{self.fault}: {where}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification found.

    Args:
        size: entries that were hashed.
        root: their root, from their bytes.
        problems: at most ``MAX_PROBLEMS``; ``count`` says how many there were.
        signed: entries that a valid checkpoint covers; what comes after may have been rewritten by whoever can write.
        checkpoints: checkpoints that were verified.
    """

    size: int
    root: bytes
    problems: tuple[Problem, ...]
    count: int
    signed: int
    checkpoints: int

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong. An empty log, or one that no signature covers, proves nothing all the same."""
        return not self.count

    def require(self) -> Report:
        """This report.

        Raises:
            LedgerError: something is wrong; the first of it.
        """
        if self.problems:
            more = f" (and {self.count - 1} more)" if self.count > 1 else ""
            first = self.problems[0]
            raise LedgerError(first.fault, first.line().removeprefix(f"{first.fault}: ") + more)
        return self
