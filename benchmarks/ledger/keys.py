"""The life of keys: ten thousand lives with crashes, 500 kills of a process that rewrites a key file, recipients' keys.

2 cores: 28 minutes in one process on busy cores, nearly all of it the lives. Not resumable.
"""

from __future__ import annotations

import collections
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from benchmarks.rows import Row, row
from tests.watermarks.keymachine import Lives
from tests.watermarks.keytrials import kill_trials
from watermarks.keys import new_key
from watermarks.keystore import load_ring

SEQUENCES = 10_000
KILLS = 500
RECIPIENTS = 1_000_000
COMMAND = "python -m benchmarks.ledger keys"


def rows(sequences: int = SEQUENCES, kills: int = KILLS, recipients: int = RECIPIENTS) -> list[Row]:
    """All figures of the key file and the key life cycle."""
    return [*lives(sequences), *killed(kills), *derived(recipients)]


def lives(sequences: int) -> list[Row]:
    """Random lives with a crash at any write; a broken promise stops the run with the shortest life that breaks it."""
    started, seen = time.monotonic(), collections.Counter[str]()

    class Counted(Lives):
        def teardown(self) -> None:
            if self.lives:
                ring = load_ring(self.file.path, self.passphrase)
                seen.update(str(event.kind) for event in ring.history)
                seen["sequences"] += 1
            super().teardown()

    plan = settings(
        max_examples=sequences,
        stateful_step_count=20,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Counted, settings=plan)  # type: ignore[no-untyped-call]
    common: dict[str, Any] = {"trials": seen["sequences"], "seconds": time.monotonic() - started, "command": COMMAND}
    transitions = sum(count for name, count in seen.items() if name != "sequences")
    return [
        row(
            "key lives with crashes: sequences without a broken promise",
            seen["sequences"],
            bar=(">=", sequences),
            **common,
        ),
        row("key lives with crashes: transitions, each in the ledger once", transitions, **common),
        row("key lives with crashes: keys destroyed", seen["destroy"], **common),
        row("key lives with crashes: promotions", seen["promote"], **common),
    ]


def killed(trials: int) -> list[Row]:
    """Kills (-9) at a random moment of a process that does nothing but rewrite the file."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_trials(Path(folder), trials, seed=6)
    common: dict[str, Any] = {"trials": trials, "seconds": time.monotonic() - started, "command": COMMAND}
    bad = ("unreadable", "lost", "too_many", "ledger_differs", "left_over", "open")
    names = {
        "unreadable": "neither the old state nor the new",
        "lost": "an acknowledged change lost",
        "too_many": "more changes than were asked for",
        "ledger_differs": "ledger and file differ after recovery",
        "left_over": "half-written files left after recovery",
        "open": "a file open to others than its owner",
    }
    return [
        *(row(f"key file killed while rewritten: {names[name]}", found[name], bar=("==", 0), **common) for name in bad),
        row("key file killed while rewritten: acknowledged changes", found["acknowledged"], **common),
        row("key file killed while rewritten: kills in the middle of a write", found["mid_write"], **common),
    ]


def derived(count: int) -> list[Row]:
    """Keys of recipients, derived and not stored."""
    started, key = time.monotonic(), new_key()
    distinct = len({key.recipient(f"recipient {i}").key_id for i in range(count)})
    seconds = time.monotonic() - started
    common: dict[str, Any] = {"trials": count, "seconds": seconds, "command": COMMAND}
    return [
        row("recipients' keys: distinct ids", distinct, bar=("==", count), **common),
        row("recipients' keys: derived a second", count / seconds, **common),
    ]
