"""kill -9 of the writer (and of the PostgreSQL server), and a power cut after every system call."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import row
from countermark.files import atomic_write, make_dir
from pipelines.ledgering import open_ledger
from tests.crash import recorder
from tests.crash.trials import Killed, cut_power, kill_once
from tests.verification.ledgers import SIGNER, Postgres, find_postgres
from verification.ledger_check import check

if TYPE_CHECKING:
    from benchmarks.rows import Row

CACHE = Path(__file__).parent / "cache"
TRIALS = 500
ACKNOWLEDGED = 50_000
SERVER_KILLS = 25  # every so many trials the server is killed too
TURNS, SEEDS = 120, 10


def kill_sqlite() -> list[Row]:
    """500 kills of a process with three appending threads, all into one log."""
    make_dir(CACHE)
    path, started = CACHE / "kill.db", time.monotonic()
    tally = _resumed("kill-sqlite")
    if not tally.trials:
        for old in CACHE.glob("kill.db*"):
            old.unlink()
        open_ledger(path, create=True).close()
    while tally.trials < TRIALS:
        kill_once(str(path), tally.trials, tally, random.Random(tally.trials))  # noqa: S311
        _keep("kill-sqlite", tally)
    return _killed("SQLite", "kill-sqlite", tally, _problems(str(path)), started)


def kill_postgres() -> list[Row]:
    """The same against PostgreSQL; the server itself is killed every 25 trials. Not resumable: the server is ours."""
    binaries = find_postgres()
    if binaries is None:
        raise SystemExit("no PostgreSQL server: apt-get install postgresql")
    server, started, tally = Postgres(binaries), time.monotonic(), Killed()
    try:
        where = server.url("kills")
        open_ledger(where, create=True).close()
        while tally.trials < TRIALS:
            kill_once(where, tally.trials, tally, random.Random(tally.trials))  # noqa: S311
            if tally.trials % SERVER_KILLS == 0:
                server.kill()
        return _killed("PostgreSQL", "kill-postgres", tally, _problems(where), started)
    finally:
        server.remove()


def power_cuts() -> list[Row]:
    """The recorder of ``tests/crash``, longer and torn in more ways."""
    if not recorder.available():
        raise SystemExit("no strace that may trace: apt-get install strace")
    memory, started = Path("/dev/shm"), time.monotonic()  # noqa: S108 - thousands of ledgers, none of them kept
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        tally = cut_power(folder, turns=TURNS, seeds=SEEDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    common = {"trials": tally.states, "seconds": time.monotonic() - started}
    command = "python -m benchmarks.ledger power-cuts"
    return [
        row("power cuts: system calls after which the power fails", tally.points, **common, command=command),
        row("power cuts: states of the disk opened (dropped, kept, torn)", tally.states, **common, command=command),
        row("power cuts: acknowledged events lost", tally.lost, bar=("==", 0), **common, command=command),
        row("power cuts: logs that do not open or verify", tally.unsound, bar=("==", 0), **common, command=command),
        row("acknowledgements before the fsync returned", tally.early, bar=("==", 0), **common, command=command),
    ]


def _problems(where: str) -> int:
    with open_ledger(where) as ledger, ledger.snapshot() as session:
        return check(session, [SIGNER.verifier]).count


def _killed(name: str, part: str, tally: Killed, problems: int, started: float) -> list[Row]:
    common = {
        "trials": tally.trials,
        "seconds": time.monotonic() - started,
        "command": f"python -m benchmarks.ledger {part}",
    }
    enough = (">=", ACKNOWLEDGED)
    return [
        row(f"kill -9, {name}: trials", tally.trials, bar=(">=", TRIALS), **common),
        row(f"kill -9, {name}: acknowledged events", tally.acknowledged, bar=enough, **common),
        row(f"kill -9, {name}: lost", tally.lost, bar=("==", 0), **common),
        row(f"kill -9, {name}: doubled", tally.doubled, bar=("==", 0), **common),
        row(f"kill -9, {name}: logs that could not be opened", tally.unreadable, bar=("==", 0), **common),
        row(f"kill -9, {name}: problems that the last verification finds", problems, bar=("==", 0), **common),
    ]


def _resumed(name: str) -> Killed:
    path = CACHE / f"{name}.json"
    return Killed(**json.loads(path.read_text())) if path.exists() else Killed()


def _keep(name: str, tally: Killed) -> None:
    atomic_write(CACHE / f"{name}.json", json.dumps(asdict(tally)).encode())
