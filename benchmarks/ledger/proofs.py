"""All proofs up to the bars' sizes, against the RFC's recursion and, where it is installed, pymerkle; bit by bit.

pymerkle is GPL and no dependency of ours: it runs as a program of its own, in the interpreter that
``COUNTERMARK_PYMERKLE`` names (default: this one), and is skipped where it is not installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.rows import row
from tests.verification.ledgers import flipped
from verification import merkle

if TYPE_CHECKING:
    from benchmarks.rows import Row

INCLUSION, CONSISTENCY = 512, 256
BITS = 64  # sizes of which every proof is changed in every bit
COMMAND = "python -m benchmarks.ledger proofs"
LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(INCLUSION)]
NODES = merkle.nodes_of(LEAVES)
_PYMERKLE = """
import json, sys
from pymerkle import InmemoryTree
most, consistent = map(int, sys.argv[1:])
tree = InmemoryTree(algorithm="sha256")
for number in range(most):
    tree.append_entry(b"%d" % number)
roots = [tree.get_state(size).hex() for size in range(1, most + 1)]
paths = [[[h.hex() for h in tree.prove_inclusion(i + 1, n).path] for i in range(n)] for n in range(1, most + 1)]
json.dump({"roots": roots, "inclusion": paths}, sys.stdout)
"""


@cache
def mth(first: int, stop: int) -> bytes:
    """MTH of the RFC over the leaves first … stop - 1."""
    if stop - first == 1:
        return LEAVES[first]
    k = 1
    while k * 2 < stop - first:
        k *= 2
    return hashlib.sha256(b"\x01" + mth(first, first + k) + mth(first + k, stop)).digest()


def path(m: int, first: int, stop: int) -> list[bytes]:
    """PATH of the RFC."""
    if stop - first == 1:
        return []
    k = 1
    while k * 2 < stop - first:
        k *= 2
    if m < k:
        return [*path(m, first, first + k), mth(first + k, stop)]
    return [*path(m - k, first + k, stop), mth(first, first + k)]


def subproof(m: int, first: int, stop: int, *, whole: bool) -> list[bytes]:
    """SUBPROOF of the RFC."""
    if m == stop - first:
        return [] if whole else [mth(first, stop)]
    k = 1
    while k * 2 < stop - first:
        k *= 2
    if m <= k:
        return [*subproof(m, first, first + k, whole=whole), mth(first + k, stop)]
    return [*subproof(m - k, first + k, stop, whole=False), mth(first, first + k)]


def rows() -> list[Row]:
    """All rows of this part."""
    return [*_inclusion(), *_consistency(), *_pymerkle(), *_changed()]


def _inclusion() -> list[Row]:
    started, wrong, count = time.monotonic(), 0, 0
    for size in range(1, INCLUSION + 1):
        root = mth(0, size)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, NODES)
            holds = merkle.verify_inclusion(LEAVES[index], index=index, size=size, proof=proof, root=root)
            wrong += proof != path(index, 0, size) or not holds
            count += 1
    name = f"inclusion proofs, all (i, n ≤ {INCLUSION}), that are not the RFC's or do not verify"
    seconds = time.monotonic() - started
    return [row(name, wrong, bar=("==", 0), trials=count, seconds=seconds, command=COMMAND)]


def _consistency() -> list[Row]:
    started, wrong, count = time.monotonic(), 0, 0
    for new in range(1, CONSISTENCY + 1):
        for old in range(1, new + 1):
            proof = merkle.consistency_proof(old, new, NODES)
            roots = {"old_root": mth(0, old), "new_root": mth(0, new)}
            holds = merkle.verify_consistency(old=old, new=new, proof=proof, **roots)
            wrong += proof != subproof(old, 0, new, whole=True) or not holds
            count += 1
    name = f"consistency proofs, all (m ≤ n ≤ {CONSISTENCY}), that are not the RFC's or do not verify"
    seconds = time.monotonic() - started
    return [row(name, wrong, bar=("==", 0), trials=count, seconds=seconds, command=COMMAND)]


def _pymerkle() -> list[Row]:
    started = time.monotonic()
    python = os.environ.get("COUNTERMARK_PYMERKLE", sys.executable)
    command = [python, "-c", _PYMERKLE, str(INCLUSION), str(CONSISTENCY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print("pymerkle is not installed: no comparison with it")
        return []
    theirs = json.loads(done.stdout)
    wrong = sum(merkle.range_root(0, n, NODES).hex() != theirs["roots"][n - 1] for n in range(1, INCLUSION + 1))
    count = INCLUSION
    for size in range(1, INCLUSION + 1):
        for index in range(size):
            ours = [LEAVES[index].hex(), *(each.hex() for each in merkle.inclusion_proof(index, size, NODES))]
            wrong += sorted(ours) != sorted(theirs["inclusion"][size - 1][index])
            count += 1
    name = f"roots and inclusion paths, n ≤ {INCLUSION}, unlike those of pymerkle"
    seconds = time.monotonic() - started
    return [row(name, wrong, bar=("==", 0), trials=count, seconds=seconds, command=COMMAND)]


def _changed() -> list[Row]:
    started, accepted, count = time.monotonic(), 0, 0
    for size in range(1, BITS + 1):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, NODES)
            for place, each in enumerate(proof):
                for bit in range(256):
                    bad = [*proof[:place], flipped(each, bit), *proof[place + 1 :]]
                    accepted += merkle.verify_inclusion(
                        LEAVES[index], index=index, size=size, proof=bad, root=mth(0, size)
                    )
                    count += 1
    for new in range(1, BITS // 2 + 1):
        for old in range(1, new + 1):
            proof = merkle.consistency_proof(old, new, NODES)
            roots = {"old_root": mth(0, old), "new_root": mth(0, new)}
            for place, each in enumerate(proof):
                for bit in range(256):
                    bad = [*proof[:place], flipped(each, bit), *proof[place + 1 :]]
                    accepted += merkle.verify_consistency(old=old, new=new, proof=bad, **roots)
                    count += 1
    name = f"proofs with one bit changed (inclusion n ≤ {BITS}, consistency n ≤ {BITS // 2}: every bit), accepted"
    seconds = time.monotonic() - started
    return [row(name, accepted, bar=("==", 0), trials=count, seconds=seconds, command=COMMAND)]
