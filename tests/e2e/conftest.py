"""One real run of a reduced quickstart, shared by the tests of this folder: real models, real data, minutes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.ledgering import open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "quickstart.yaml"
LEDGER = Path(tempfile.mkdtemp(prefix="countermark-")) / "ledger.db"
"""The runs of this folder tell one ledger; a run folder is bound to its config, so all name the same file."""
REDUCED = {
    "keys.ledger": LEDGER,
    "generate.rows": 40,
    "generate.batch_size": 16,
    "generate.max_new_tokens": 24,
    "mark.input_level.triggers": 4,
    "mark.input_level.rows_per_trigger": 3,
    "mark.double_i.codewords": 4,
    "mark.double_i.rows_per_codeword": 2,
    "mark.double_i.clean_rows": 16,
    "mark.double_i.trigger_rows": 4,
    "mark.double_i.reference_rows": 4,
    "train.classifier.num_train_epochs": 1,
    "train.lora.save_steps": 1,
    "audit.wrong_keys": 49,
    "audit.classifier_carriers": 2,
    "audit.lora_carriers": 1,
    "audit.paper_queries": 4,
    "audit.heldout_reviews": 40,
    "audit.heldout_questions": 8,
    "audit.human_texts": 40,
    "audit.batch_size": 4,
}


def command(out: Path, *extra: str) -> list[str]:
    """The command line of the reduced run."""
    overrides = [f"--set={name}={value}" for name, value in REDUCED.items()]
    return [sys.executable, "-m", "pipelines.cli", "run", str(CONFIG), "--out", str(out), "--json", *overrides, *extra]


def environment() -> dict[str, str]:
    """Offline, and one OpenMP setting for every process of a test: sums may depend on the number of threads."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(out: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    """Runs to the end."""
    return subprocess.run(command(out, *extra), env=environment(), capture_output=True, text=True, check=False)


def run_until(out: Path, pattern: str, count: int) -> None:
    """Starts the run and kills it (SIGKILL) as soon as ``count`` paths match ``pattern`` below ``out``."""
    process = subprocess.Popen(
        command(out), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 600
    while len(list(out.glob(pattern))) < count:
        assert process.poll() is None, f"the run ended before {pattern} appeared {count} times"
        assert time.monotonic() < deadline, f"{pattern} did not appear {count} times"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class Finished:
    """A complete run folder and its report."""

    folder: Path
    report: dict[str, Any]
    exit_code: int
    stderr: str

    def digests(self) -> dict[str, str]:
        return {stage["name"]: stage["digest"] for stage in self.report["stages"]}


@pytest.fixture(scope="session", autouse=True)
def ledger() -> Iterator[None]:
    """The ledger, for as long as the tests of this folder take."""
    open_ledger(LEDGER, create=True).close()
    yield
    shutil.rmtree(LEDGER.parent)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("e2e") / "run"
    done = run(folder)
    assert done.stdout, done.stderr
    return Finished(folder, json.loads(done.stdout), done.returncode, done.stderr)


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished folder, to be damaged."""
    target = tmp_path / "run"
    shutil.copytree(finished.folder, target)
    return target
