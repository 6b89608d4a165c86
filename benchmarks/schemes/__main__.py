"""Everything about the token schemes, into ``benchmarks/results/schemes.json``.

2 cores, from nothing: about 75 minutes, of which 50 make texts. Resumable: finished texts and figures are kept in
``benchmarks/schemes/cache/``. Speed is measured last, alone.
Run as: python -m benchmarks.schemes [power calibration speed]
"""

from __future__ import annotations

import sys

from benchmarks.rows import show, write
from benchmarks.schemes import calibration, power, speed
from benchmarks.schemes.power import kept

PARTS = {"power": power.rows, "calibration": calibration.rows, "speed": speed.rows}


def main() -> None:
    """The parts named on the command line are made anew; the others are taken as they were last made."""
    anew = set(sys.argv[1:]) or set(PARTS)
    if unknown := anew - set(PARTS):
        raise SystemExit(f"error: got {', '.join(sorted(unknown))}, expected one of {', '.join(PARTS)}")
    table = []
    for name, make in PARTS.items():
        path = power.WORK / f"rows {name}.json"
        if name in anew:
            path.unlink(missing_ok=True)
        table += kept(f"rows {name}", make)
    write("schemes", table)
    show(table)


if __name__ == "__main__":
    main()
