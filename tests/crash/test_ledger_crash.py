"""kill -9 and power cuts: what was acknowledged is there, once, and the log is sound."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest

from pipelines.ledgering import open_ledger
from tests.crash import recorder
from tests.crash.trials import Killed, PowerCuts, cut_power, kill_once
from tests.verification.ledgers import opened, verified

pytestmark = pytest.mark.long

TRIALS = 20


def test_killed_anywhere(tmp_path):
    where, tally = str(tmp_path / "l.db"), Killed()
    open_ledger(where, create=True).close()
    for trial in range(TRIALS):
        kill_once(where, trial, tally, random.Random(trial))
    assert (tally.trials, tally.lost, tally.doubled, tally.unreadable) == (TRIALS, 0, 0, 0)
    assert tally.acknowledged > 8 * TRIALS
    with opened(tmp_path / "l.db") as ledger:
        assert verified(ledger).sound


@pytest.fixture
def folder():
    """In memory where there is room: hundreds of ledgers are opened, and their fsyncs are not what is tested."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.skipif(not recorder.available(), reason="no strace that may trace: apt-get install strace")
def test_the_power_fails_after_every_system_call(folder):
    tally = cut_power(folder, turns=20, seeds=3)
    assert tally == PowerCuts(points=tally.points, states=tally.states, acknowledged=44)
    assert tally.points > 100
    assert tally.states > 400


@pytest.mark.skipif(not recorder.available(), reason="no strace that may trace: apt-get install strace")
def test_the_replay_notices_a_database_that_does_not_sync(folder):
    tally = cut_power(folder, turns=6, seeds=1, mode="careless")
    assert tally.early == 6  # every acknowledgement came before its bytes were on the disk
    assert tally.lost > 0


def test_the_replay_notices_a_log_that_does_not_sync(folder):
    """A recorder that drops nothing would find nothing: here a file is written, acknowledged, and never synced."""
    name, data = str(folder / "l.db").encode(), b"x" * 1000
    spelled = ["".join(f"\\x{byte:02x}" for byte in each) for each in (name, data, b"0 0\n")]
    trace = [
        f'1 openat(AT_FDCWD, "{spelled[0]}", O_RDWR|O_CREAT, 0600) = 3',
        f'1 pwrite64(3, "{spelled[1]}", 1000, 24) = 1000',
        f'1 write(1, "{spelled[2]}", 4) = 4',
        "1 fdatasync(3) = 0",
        f'1 openat(AT_FDCWD, "{"".join(f"{chr(92)}x{byte:02x}" for byte in str(folder).encode())}", O_RDONLY) = 4',
        "1 fsync(4) = 0",
    ]
    seen = []
    for disk, said in recorder.replay(trace, folder):
        torn = {disk.left(random.Random(seed)).get(name.decode()) for seed in range(64)}
        seen.append((said, disk.left(None), disk.left(None, keep=True), len(torn)))
    whole = {name.decode(): bytes(24) + data}
    assert seen[1][1:3] == ({}, whole)
    assert seen[1][3] > 4  # parts of it, or no name
    assert (seen[2][0], seen[2][1]) == (b"0 0\n", {})
    assert seen[3][1] == {}  # the name is not durable yet
    assert seen[-1][1:] == (whole, whole, 1)
