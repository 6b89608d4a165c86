"""Durable events a second, alone and grouped, and how long a million takes to verify. The disk decides: it is shown."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.rows import row
from tests.verification.ledgers import SIGNER, sha
from verification.ledger import Ledger
from verification.ledger_check import check
from verification.ledger_proof import check_proof, prove_consistency, prove_inclusion, sign_checkpoint
from verification.ledger_sqlite import SqliteStore

if TYPE_CHECKING:
    from benchmarks.rows import Row

ALONE, THREADS, MILLION, GROUP = 3_000, 32, 1_000_000, 4_000
COMMAND = "python -m benchmarks.ledger speed"


def rows() -> list[Row]:
    """All rows of this part."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        return [*_disk(path), *_alone(path), *_threads(path), *_million(path)]


def _event(number: int) -> dict[str, Any]:
    """A generation, the event that comes in masses; no id, so that one has to be made."""
    return {
        "event": "generation", "at": "2026-01-31T12:00:00.123456Z", "key_id": "ck_0123456789abcdef", "scheme": "kgw",
        "prompt_sha256": sha(f"p{number}"), "output_sha256": sha(f"o{number}"), "tokens": number % 512,
    }  # fmt: skip


def _disk(folder: Path) -> list[Row]:
    """What the disk gives to anybody: fdatasync, and SQLite alone under the same settings."""
    started, times = time.monotonic(), []
    with (folder / "plain").open("wb", buffering=0) as stream:
        for _ in range(500):
            stream.write(bytes(4096))
            before = time.perf_counter()
            os.fdatasync(stream.fileno())
            times.append(1e3 * (time.perf_counter() - before))
    with closing(sqlite3.connect(folder / "plain.db", isolation_level=None)) as connection:
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE t (i, d)"):
            connection.execute(statement).fetchall()
        before = time.perf_counter()
        for number in range(1_000):
            connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes(350)))
        rate = 1_000 / (time.perf_counter() - before)
    p50, p99 = np.percentile(times, [50, 99])
    seconds = time.monotonic() - started
    name = "for comparison: SQLite alone, same settings, one row a commit, per second"
    return [
        row("for comparison: fdatasync of 4 KiB, ms (to p99)", p50, low=min(times), high=p99, trials=500,
            seconds=seconds, command=COMMAND),
        row(name, rate, trials=1_000, seconds=seconds, command=COMMAND),
    ]  # fmt: skip


def _alone(folder: Path) -> list[Row]:
    bodies = [_event(number) for number in range(ALONE)]
    with Ledger(SqliteStore(folder / "alone.db", create=True)) as ledger:
        started = time.perf_counter()
        for body in bodies:
            ledger.append([body])
        seconds = time.perf_counter() - started
    name = "durable events a second, one at a time"
    return [row(name, ALONE / seconds, bar=(">=", 2_000), trials=ALONE, seconds=seconds, command=COMMAND)]


def _threads(folder: Path) -> list[Row]:
    """Threads that each append one event and wait: what sharing commits is worth."""
    each = 200
    with Ledger(SqliteStore(folder / "threads.db", create=True)) as ledger:

        def work(first: int) -> None:
            for number in range(first, first + each):
                ledger.append([_event(number)])

        threads = [threading.Thread(target=work, args=(worker * each,)) for worker in range(THREADS)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
    name = f"durable events a second, {THREADS} threads with one event at a time"
    return [row(name, THREADS * each / seconds, trials=THREADS * each, seconds=seconds, command=COMMAND)]


def _million(folder: Path) -> list[Row]:
    with Ledger(SqliteStore(folder / "million.db", create=True)) as ledger:
        spent, rates = 0.0, []
        for first in range(0, MILLION, GROUP):
            bodies = [_event(number) for number in range(first, min(first + GROUP, MILLION))]
            before = time.perf_counter()
            ledger.append(bodies)
            taken = time.perf_counter() - before
            spent += taken
            rates.append(len(bodies) / taken)
        before = time.perf_counter()
        sign_checkpoint(ledger, SIGNER)
        signing = time.perf_counter() - before
        before = time.perf_counter()
        with ledger.snapshot() as session:
            report = check(session, [SIGNER.verifier]).require()
        verifying = time.perf_counter() - before
        assert report.signed == MILLION  # noqa: S101
        return [
            row(f"durable events a second, grouped by {GROUP}, over a million", MILLION / spent,
                low=float(np.percentile(rates, 5)), high=float(np.percentile(rates, 95)), bar=(">=", 50_000),
                trials=MILLION, seconds=spent, command=COMMAND),
            row("verifying 1,000,000 events, seconds", verifying, bar=("<=", 20), trials=1, seconds=verifying,
                command=COMMAND),
            row("first checkpoint of 1,000,000 events (all of them hashed again), seconds", signing, trials=1,
                seconds=signing, command=COMMAND),
            row("bytes on disk for an event", (folder / "million.db").stat().st_size / MILLION, trials=MILLION,
                seconds=spent, command=COMMAND),
            *_proving(ledger),
        ]  # fmt: skip


def _proving(ledger: Ledger) -> list[Row]:
    started, times = time.perf_counter(), []
    for number in range(200):
        before = time.perf_counter()
        body = (
            prove_inclusion(ledger, number * 4_999)
            if number % 2
            else prove_consistency(ledger, number * 4_999 + 1, new=MILLION)
        )
        times.append(1e3 * (time.perf_counter() - before))
        if body["kind"] == "inclusion":
            check_proof(body, [SIGNER.verifier])
    p50, p99 = np.percentile(times, [50, 99])
    seconds = time.perf_counter() - started
    name = "a proof out of 1,000,000 events, ms (to the 99th percentile)"
    return [row(name, p50, low=min(times), high=p99, trials=200, seconds=seconds, command=COMMAND)]
