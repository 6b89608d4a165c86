"""The audit: validity, economy, faults, owners, kills, mutations, endpoints; into ``benchmarks/results/audit.json``.

2 cores, from nothing: about 35 minutes on busy cores (owners 12, faults 7, kills 5, endpoints 4); ``endpoints`` needs a
model of ``benchmarks.double_i``, which it trains where there is none (15 minutes), and for vLLM
``COUNTERMARK_VLLM_PYTHON``. Each part is written when it is done; one that is not named is kept as it was.
Run as: python -m benchmarks.audit [PART ...]
"""

from __future__ import annotations

from benchmarks.audit import economy, endpoints, faults, kills, mutations, owners, plots, validity
from benchmarks.parts import Part, run

PARTS = {
    "validity": Part(rows=validity.rows),
    "economy": Part(rows=economy.rows),
    "faults": Part(rows=faults.rows),
    "owners": Part(rows=owners.rows),
    "kills": Part(rows=kills.rows),
    "mutations": Part(rows=mutations.rows),
    "endpoints": Part(rows=endpoints.rows),
}

if __name__ == "__main__":
    run("audit", PARTS, draw=plots.draw, doc=__doc__)
