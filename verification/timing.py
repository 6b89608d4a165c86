"""When a commitment was made, as a plan states it, and what follows for the verdict.

A key that was drawn after its owner had seen the suspect could have been chosen to fit the suspect's habits. So an
audit is confirmatory only where evidence that others can check puts the commitment before the suspect's release; else
it is exploratory, and every verdict says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from countermark.errors import UsageError

if TYPE_CHECKING:
    from verification.plan import AuditPlan

NONE = "none"
EVIDENCE = ("ledger", "public_value", "timestamp", NONE)
"""What can show when a commitment was made."""

NO_TIMING = "no time evidence was planned: assumes that the commitment was made before the suspect was released"
UNKNOWN_RELEASE = (
    "assumes that the commitment was made before the suspect was released, a time that the plan leaves open"
)

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|\+00:00)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the plan knows of times, all in UTC: ``2026-03-01T12:00:00Z``, or a date alone.

    Args:
        evidence: what shows the commitment's time, one of :data:`EVIDENCE`.
        commitment_time: when the commitment existed at the latest; "" where nothing says so.
        suspect_released: when the suspect was first to be had, as far as the auditor knows; "" where nobody does.
    """

    evidence: str
    commitment_time: str = ""
    suspect_released: str = ""

    def __post_init__(self) -> None:
        if self.evidence not in EVIDENCE:
            raise UsageError(f"got time evidence {self.evidence!r}, expected one of: {', '.join(EVIDENCE)}")
        for text in (self.commitment_time, self.suspect_released):
            if text != "":
                _instant(text)


def exploratory_reasons(plan: AuditPlan) -> tuple[str, ...]:
    """Why an audit under ``plan`` can only be exploratory; empty where it is confirmatory.

    A plan without ``timing`` asked for no such evidence: it gets an assumption instead (:func:`timing_assumptions`).
    """
    timing = plan.timing
    if timing is None:
        return ()
    if timing.evidence == NONE or not timing.commitment_time:
        return ("nothing that others can check shows when the commitment was made",)
    if timing.suspect_released and not _came_first(timing.commitment_time, timing.suspect_released):
        shown, released = timing.commitment_time, timing.suspect_released
        return (
            f"the commitment is shown to have been made at {shown}, not before the suspect's release at {released}",
        )
    return ()


def timing_assumptions(plan: AuditPlan) -> tuple[str, ...]:
    """What is assumed of times where the plan leaves them open."""
    if plan.timing is None:
        return (NO_TIMING,)
    return () if plan.timing.suspect_released or exploratory_reasons(plan) else (UNKNOWN_RELEASE,)


def _came_first(committed: str, released: str) -> bool:
    """For certain: a date alone is its whole day."""
    latest = _instant(committed) + timedelta(days=1 if _DATE.fullmatch(committed) else 0)
    return latest < _instant(released)


def _instant(text: object) -> datetime:
    if type(text) is str and (_DATE.fullmatch(text) or _INSTANT.fullmatch(text)):
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            pass  # a month of 13 falls through to the message that says what is expected
    raise UsageError(f"got the time {text!r}, expected UTC like 2026-03-01T12:00:00Z, or a date")
