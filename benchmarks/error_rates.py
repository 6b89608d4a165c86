"""The known error rates that ship with the package, from the committed results of the benchmarks. Seconds.

Reports print them beside every verdict. Run as: python -m benchmarks.error_rates
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.rows import RESULTS
from countermark.files import atomic_write
from countermark.manifest import canonical_json

AREAS = ("audit", "double_i", "dataset_marks", "schemes")
STUDIED, LEFT_OUT = "false positives", ("not used", "Fisher")
"""Fisher's test decides nothing, and its rates say why: they stay in the benchmark's own file."""
HABIT = re.compile(r", \w+ suspect\b")
SHIPPED = Path(__file__).parents[1] / "verification" / "error_rates.json"


def main() -> None:
    """Writes ``verification/error_rates.json``; of several habits of a null suspect, the worst."""
    found: dict[str, list[dict[str, Any]]] = {}
    for area in AREAS:
        path = RESULTS / f"{area}.json"
        for each in json.loads(path.read_text("utf-8")) if path.exists() else []:
            if STUDIED in each["name"] and not any(word in each["name"] for word in LEFT_OUT) and each["high"]:
                found.setdefault(HABIT.sub("", each["name"]), []).append(each)
    rows = []
    for name, studies in found.items():
        worst = max(studies, key=lambda each: (each["high"], each["name"]))
        told = f"{name} (worst of {len(studies)} habits)" if len(studies) > 1 else name
        rows.append({**{field: worst[field] for field in ("value", "low", "high", "trials")}, "name": told})
    atomic_write(SHIPPED, canonical_json(rows) + b"\n")
    print(f"{len(rows)} rows in {SHIPPED.name}")


if __name__ == "__main__":
    main()
