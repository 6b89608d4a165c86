"""A thousand bundles that were tampered with: all rejected, each with the class of what was done to it."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.audit import COMMAND
from benchmarks.rows import row
from tests.verification.bundles import AUDITOR, LOG_KEY, honest
from tests.verification.hermetic import verified_alone
from tests.verification.mutants import CASES, draw, failure_of
from tests.verification.sealed import content_of, put
from verification.bundle_check import verify_bundle
from verification.dsse import public_key

if TYPE_CHECKING:
    from benchmarks.rows import Row

MUTANTS = 1_000
NAMES = ("key", "leaves", "key and token text", "key, sequential", "key, time stamp")


def rows(mutants: int = MUTANTS) -> list[Row]:
    """All rows of this part."""
    with tempfile.TemporaryDirectory() as folder:
        return [*_mutated(Path(folder), mutants), *_honest(Path(folder))]


def _mutated(folder: Path, mutants: int) -> list[Row]:
    started, bases = time.monotonic(), [(case := honest(**kind), content_of(case)) for kind in CASES]
    said: Counter[str] = Counter()
    passed = misnamed = 0
    for number in range(mutants):
        case, content = bases[number % len(bases)]
        mutant = draw(random.Random(f"mutant/{number}"), content, case)  # noqa: S311 - which mutants, not a secret
        failure = failure_of(mutant, folder / str(number))
        passed += failure is None
        misnamed += failure is not None and failure not in mutant.failures
        said[str(failure)] += 1
    common = {"trials": mutants, "seconds": time.monotonic() - started, "command": COMMAND}
    return [
        row("mutated bundles that verify", passed, bar=("==", 0), **common),
        row("mutated bundles rejected with another class than theirs", misnamed, bar=("==", 0), **common),
        *(row(f"… rejected as {name}", count, **common) for name, count in sorted(said.items())),
    ]


def _honest(folder: Path) -> list[Row]:
    """They pass, and give the same bytes in a process without network and without what the base install lacks."""
    found = []
    for name, kind in zip(NAMES, CASES, strict=True):
        bundle = put(folder / f"honest {name}", content_of(honest(**kind)))
        started, seconds = time.monotonic(), []
        for _ in range(10):
            began = time.monotonic()
            here = verify_bundle(bundle, signers=[public_key(AUDITOR)], ledger_keys=[LOG_KEY])
            seconds.append(time.monotonic() - began)
        other = verified_alone(bundle) != here.encode()
        common = {"seconds": time.monotonic() - started, "command": COMMAND}
        found += [
            row(f"bundle ({name}): other bytes on the base install", other, bar=("==", 0), trials=1, **common),
            row(f"bundle ({name}): seconds of verification, median", statistics.median(seconds), low=min(seconds),
                high=max(seconds), trials=len(seconds), **common),
        ]  # fmt: skip
    return found
