"""Triggers that each test needs, by strength, into ``docs/results/audit-power.svg``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countermark.files import atomic_write
from verification.power import power_plot, power_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rows import Row

PLACE = Path(__file__).parents[2] / "docs" / "results" / "audit-power.svg"


def draw(_: Sequence[Row]) -> None:
    """From the exact laws, which the rows of ``economy`` are simulations of."""
    atomic_write(PLACE, power_plot(power_table(alpha=1e-6, classes=2)).encode())
