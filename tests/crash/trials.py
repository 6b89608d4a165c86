"""Trials of a ledger's durability, for the suite and for ``benchmarks.ledger``: kills, and power cuts at every call."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.ledgering import open_ledger
from tests.crash.recorder import record, replay, write_out
from tests.crash.worker import GROUP, STRIDE, THREADS
from tests.verification.ledgers import events, opened, verified

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Killed:
    """What the trials found: all but ``trials`` and ``acknowledged`` must stay 0."""

    trials: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    unreadable: int = 0


def kill_once(where: str, trial: int, tally: Killed, chance: random.Random) -> None:
    """Starts a writer, kills it at a random moment after its first acknowledgement, and looks at what is left."""
    base = trial * THREADS * STRIDE
    command = [sys.executable, "-m", "tests.crash.worker", "work", where, str(base)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout
    said = [writer.stdout.readline()]
    time.sleep(chance.random() * 0.15)
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.readlines()
    assert writer.wait(60) == -signal.SIGKILL, said
    writer.stdout.close()
    tally.trials += 1
    acknowledged = [list(map(int, line.split())) for line in said]
    try:
        with open_ledger(where) as ledger:
            size = ledger.size()
            last: dict[int, int] = {}
            start = min(index for _, *indices in acknowledged for index in indices)
            for first, *indices in acknowledged:
                tally.acknowledged += len(indices)
                again = ledger.append(events(GROUP, first=first))
                tally.lost += sum(a != b for a, b in zip(again, indices, strict=True))
                last[(first - base) // STRIDE] = first + GROUP
            assert ledger.size() >= size  # a server may go on to commit what a killed client had sent
            stored = Counter(json.loads(entry.data)["id"] for entry in ledger.entries(start))
            tally.doubled += sum(count - 1 for count in stored.values())
            for at in last.values():  # what was under way: there or not, and once in the end
                ledger.append(events(GROUP, first=at))
    except Exception as error:  # noqa: BLE001 - the trial's result
        print(f"trial {trial}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        tally.unreadable += 1


@dataclass
class PowerCuts:
    """What the replay found: all but the first three must stay 0."""

    points: int = 0
    states: int = 0
    acknowledged: int = 0
    lost: int = 0
    unsound: int = 0
    early: int = 0


def cut_power(folder: Path, *, turns: int, seeds: int, mode: str = "traced") -> PowerCuts:
    """A crash after each recorded call, with what was not synced dropped, kept, and torn in ``seeds`` ways."""
    source, target = folder / "source", folder / "target"
    source.mkdir()
    tally, acknowledged = PowerCuts(), 0
    previous: dict[str, bytes] | None = None
    for disk, said in replay(record(source, turns, mode=mode), source):
        tally.points += 1
        if said is not None:
            tally.early += any(inode.pending for path, inode in disk.names.items() if path.endswith(("-wal", ".db")))
            acknowledged += len(said.split()) - 1
            tally.acknowledged = acknowledged
        states = [disk.left(None), disk.left(None, keep=True)]
        states += [disk.left(random.Random(f"{tally.points}/{seed}")) for seed in range(seeds)]
        for number, state in enumerate(states):
            if said is None and number == 0 and state == previous:
                continue
            tally.states += 1
            write_out(state, source, target)
            _look(target, acknowledged, tally)
        previous = states[0]
    return tally


def _look(target: Path, acknowledged: int, tally: PowerCuts) -> None:
    path = target / "l.db"
    if not path.exists():
        tally.lost += acknowledged
        return
    try:
        with opened(path) as ledger:
            size = ledger.size()
            report = verified(ledger)
            tally.unsound += not report.sound
            tally.lost += max(0, acknowledged - size)
            again = ledger.append(events(acknowledged))
            tally.lost += again != list(range(acknowledged)) or ledger.size() != size
    except Exception as error:  # noqa: BLE001 - the trial's result
        print(f"after {acknowledged} events: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        tally.unsound += 1
