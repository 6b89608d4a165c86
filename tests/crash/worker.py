"""A process that appends and says so, to be killed or traced: ``python -m tests.crash.worker MODE LEDGER FIRST``."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from pipelines.ledgering import open_ledger
from tests.verification.ledgers import SIGNER, events
from verification.ledger_proof import sign_checkpoint

STRIDE = 1_000_000
THREADS = 3
GROUP = 8


def say(first: int, indices: list[int]) -> None:
    """The acknowledgement: one write, so that a kill cannot tear it."""
    os.write(1, f"{first} {' '.join(map(str, indices))}\n".encode())


def work(where: str, first: int) -> None:
    """Three threads, groups of events, until killed."""
    ledger = open_ledger(where)

    def appender(number: int) -> None:
        at = first + number * STRIDE
        while True:
            say(at, ledger.append(events(GROUP, first=at)))
            at += GROUP

    threads = [threading.Thread(target=appender, args=(number,), daemon=True) for number in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def traced(where: str, count: int, *, careless: bool = False) -> None:
    """From an empty folder: single events and groups, checkpoints of the database and of the log.

    ``careless`` takes away what makes commits durable, so that it can be seen to matter.
    """
    ledger = open_ledger(Path(where), create=True)
    if careless:
        ledger._store._writer.execute("PRAGMA synchronous = OFF")
    ledger._store._writer.execute("PRAGMA wal_autocheckpoint = 6")
    at = 0
    for turn in range(count):
        group = (1, 1, 5)[turn % 3]
        say(at, ledger.append(events(group, first=at)))
        at += group
        if turn % 8 == 7:
            sign_checkpoint(ledger, SIGNER)
    ledger.close()


if __name__ == "__main__":
    mode, where, number = sys.argv[1:]
    if mode == "work":
        work(where, int(number))
    else:
        traced(where, int(number), careless=mode == "careless")
