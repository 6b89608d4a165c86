"""The known error rates that ship with the package, from the committed results of the benchmarks. Seconds.

Reports print them beside every verdict. Run as: python -m benchmarks.error_rates
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.rows import RESULTS
from countermark.files import atomic_write
from countermark.manifest import canonical_json

AREAS = ("audit", "double_i", "dataset_marks", "schemes")
STUDIED = "false positives"
SHIPPED = Path(__file__).parents[1] / "verification" / "error_rates.json"


def main() -> None:
    """Writes ``verification/error_rates.json``."""
    rows = [
        {name: each[name] for name in ("name", "value", "low", "high", "trials")}
        for area in AREAS
        if (path := RESULTS / f"{area}.json").exists()
        for each in json.loads(path.read_text("utf-8"))
        if STUDIED in each["name"] and each["low"] is not None and each["high"] is not None
    ]
    atomic_write(SHIPPED, canonical_json(rows) + b"\n")
    print(f"{len(rows)} rows in {SHIPPED.name}")


if __name__ == "__main__":
    main()
