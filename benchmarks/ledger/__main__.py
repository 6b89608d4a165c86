"""The ledger's durability, tamper evidence, proofs and speed, into ``benchmarks/results/ledger.json``.

2 cores, from nothing: 52 minutes on busy cores (24 of them key lives, 20 kill trials); speed wants a quiet machine.
Each part is written when it is done, and one that is not named is kept as it was. Kill trials on SQLite are resumable
within their part: the tally is kept in ``benchmarks/ledger/cache/``. PostgreSQL's parts need a server's binaries
(Debian: postgresql), the power cuts strace.
Run as: python -m benchmarks.ledger [PART ...]
"""

from __future__ import annotations

from benchmarks.ledger import durability, keys, proofs, speed, tampering
from benchmarks.parts import Part, run

PARTS = {
    "kill-sqlite": Part(rows=durability.kill_sqlite),
    "kill-postgres": Part(rows=durability.kill_postgres),
    "power-cuts": Part(rows=durability.power_cuts),
    "tampering": Part(rows=tampering.rows),
    "proofs": Part(rows=proofs.rows),
    "speed": Part(rows=speed.rows),
    "keys": Part(rows=keys.rows),
}

if __name__ == "__main__":
    run("ledger", PARTS, draw=lambda _: None, doc=__doc__)
