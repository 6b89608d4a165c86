"""A process that changes a key file, killed again and again; and one that adds keys beside others.

``python -m tests.watermarks.keytrials kill FOLDER TRIALS SEED`` prints what was found, as JSON.
``python -m tests.watermarks.keytrials add FILE COUNT`` adds keys and prints their ids.
"""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.support import key_of
from watermarks import keystore
from watermarks.keyfile import KeyFile
from watermarks.keylife import add, commit, distribute, new_ring
from watermarks.keys import new_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PASSPHRASE = b"trial"
CHEAP = {"name": "argon2id", "iterations": 1, "lanes": 1, "memory_kib": 8}


def kill_trials(folder: Path, trials: int, seed: int, keys: int = 40) -> dict[str, int]:
    """Kills a rewriting child ``trials`` times; every acknowledged change must be there, and at most one more."""
    keystore._KDF = CHEAP
    rng = random.Random(seed)
    path, ledger = folder / "ring" / "keys.json", folder / "ledger.jsonl"
    ring = new_ring(now=NOW, key=key_of("first"), ring_id="ring_t")
    for i in range(keys):  # a file large enough that its writing takes a while
        ring = add(ring, key_of(f"more {i}"), now=NOW)[0]
    KeyFile(path).create(ring, PASSPHRASE, record=_appending(ledger))
    found = {"trials": trials, "acknowledged": 0, "mid_write": 0, "unreadable": 0, "lost": 0, "too_many": 0, "open": 0}
    known = len(ring.history)
    for trial in range(trials):
        acknowledged = _killed(path, ledger, trial, rng.uniform(0, 0.05))
        found["acknowledged"] += acknowledged
        found["mid_write"] += bool(list(path.parent.glob(".partial-*")))
        found["open"] += any(stat.S_IMODE(each.stat().st_mode) & 0o077 for each in path.parent.iterdir())
        try:
            ring = KeyFile(path).read(PASSPHRASE)
        except Exception:
            found["unreadable"] += 1
            raise
        length = len(ring.history)
        found["lost"] += length < known + acknowledged
        found["too_many"] += length > known + acknowledged + 1
        known = length
    KeyFile(path).sync(PASSPHRASE, _appending(ledger))
    told = list(dict.fromkeys(json.loads(line)["id"] for line in ledger.read_text().splitlines()))
    found["events"] = known
    found["ledger_differs"] = int(told != [event.event_id for event in ring.history])
    found["left_over"] = len(list(path.parent.glob(".partial-*")))
    return found


def _killed(path: Path, ledger: Path, trial: int, seconds: float) -> int:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _rewrite(path, ledger, trial, writing)
        finally:
            os._exit(1)
    os.close(writing)
    first = os.read(reading, 1)  # begins with the first acknowledgement, not with the start of the process
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = len(first)
    while data := os.read(reading, 65536):
        acknowledged += len(data)
    os.close(reading)
    return acknowledged


def _rewrite(path: Path, ledger: Path, trial: int, writing: int) -> None:
    for turn in range(10**9):
        if turn % 2:
            KeyFile(path).change(PASSPHRASE, lambda r: distribute(r, "ck_first", now=NOW), record=_appending(ledger))
        else:
            made = f"{trial}/{turn}"
            KeyFile(path).change(
                PASSPHRASE, lambda r, d=made: commit(r, "ck_first", d, now=NOW), record=_appending(ledger)
            )
        os.write(writing, b".")


def _appending(ledger: Path):
    """A file of lines, as ledgers go: it may hold an id twice, and its reader takes the first."""

    def record(event: dict[str, object]) -> None:
        descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, json.dumps(event).encode() + b"\n")
        os.close(descriptor)

    return record


def add_keys(path: Path, count: int) -> list[str]:
    """Adds ``count`` fresh keys, each by a change of its own."""
    keystore._KDF = CHEAP
    ids = []
    for _ in range(count):
        key = new_key()
        KeyFile(path).change(PASSPHRASE, lambda ring, key=key: add(ring, key, now=NOW))
        ids.append(key.key_id)
    return ids


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        sys.stdout.write(json.dumps(kill_trials(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
    else:
        sys.stdout.write(json.dumps(add_keys(Path(sys.argv[2]), int(sys.argv[3]))))
