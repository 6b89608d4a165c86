"""kill -9 anywhere, the same command again: the same digests as without the kill, from a copy of the same key ring."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import Finished, run, run_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

KILL_POINTS = (
    ("work/generate/batch-*.json", 2),
    ("work/lora/checkpoint-2", 1),  # of four steps; the classifiers are complete
    ("work/probe/double_i-lora/batch-*.json", 2),
)


def test_killed_three_times_ends_byte_identical(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "owner").mkdir(parents=True, mode=0o700)
    for name in ("keys.json", "passphrase"):
        shutil.copy2(finished.folder / "owner" / name, folder / "owner" / name)
    for pattern, count in KILL_POINTS:
        run_until(folder, pattern, count)
        assert not (folder / "report.json").exists()
    kept = {p.name: p.stat().st_mtime_ns for p in (folder / "work/probe/double_i-lora").glob("batch-*.json")}
    done = run(folder)
    report = json.loads(done.stdout)
    assert {s["name"]: s["digest"] for s in report["stages"]} == finished.digests()
    assert len(kept) >= 2
    assert report["verdicts"] == finished.report["verdicts"]
    starts = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert sum(e["event"] == "start" and e["stage"] == "classifier" for e in starts) == 1
    assert sum(e["event"] == "start" and e["stage"] == "generate" for e in starts) == 2
