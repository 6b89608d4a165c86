"""The quickstart, N times with fresh keys and seeds: does every marked suspect come out supported, and no control?

    python benchmarks/quickstart.py --runs 5 [--workers 2]

About 11 minutes a run alone on 2 cores, or 20 for two side by side with one thread each (``--workers 2``; such runs
count for everything but the time of a run). Resumable: finished runs are verified and skipped, a killed one goes on
where it stopped. Writes ``benchmarks/results/quickstart.json`` and ``quickstart_runs.json`` (every verdict of every
run).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from countermark.files import atomic_write, make_dir
from verification.statistics import clopper_pearson

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
COMMAND = "python benchmarks/quickstart.py --runs {n}"
MAX_SECONDS = 720.0
MAX_SECOND_RUN_SECONDS = 5.0
MAX_ACCURACY_DIFFERENCE = 0.03


def main() -> None:
    """Runs, or resumes, then collects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    options = parser.parse_args()
    folders = [options.out / f"run-{number}" for number in range(1, options.runs + 1)]
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(lambda folder: run(folder, options.workers), folders))
    reports, second = [], []
    for folder in folders:
        started = time.monotonic()
        report = run(folder, options.workers)
        second.append(time.monotonic() - started)
        reports.append({**report, "workers": int((folder / "workers").read_text())})
        write(rows(reports, second), reports)


def run(folder: Path, workers: int) -> dict[str, Any]:
    """One quickstart in ``folder``, with a seed that was drawn when the folder was made."""
    seed_file = make_dir(folder) / "seed"
    if not seed_file.exists():
        atomic_write(seed_file, str(secrets.randbelow(2**31)).encode())
        atomic_write(folder / "workers", str(workers).encode())
    command = [
        sys.executable, "-m", "pipelines.cli", "run", str(ROOT / "configs" / "quickstart.yaml"),
        "--out", str(folder), "--json", "--set", f"seed={seed_file.read_text()}",
    ]  # fmt: skip
    alone = (folder / "workers").read_text() == "1"
    environment = os.environ if alone else {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def rows(reports: list[dict[str, Any]], second: list[float]) -> list[dict[str, Any]]:
    """One row a figure."""
    verdicts = [v for r in reports for v in r["verdicts"]]
    controls = [v for v in verdicts if v["control"]]
    seconds = [r["seconds"] for r in reports]
    alone = [r["seconds"] for r in reports if r["workers"] == 1]
    differences = [abs(u["value"] - u["twin"]) for r in reports for u in r["utility"] if u["suspect"] == "classifier"]
    total, n = round(sum(seconds)), len(reports)
    table = []
    for claim in ("token", "input_level", "double_i"):
        mine = [v for v in verdicts if v["claim"] == claim and not v["control"]]
        supported = sum(v["decision"] == "supported" for v in mine)
        share = clopper_pearson(supported, len(mine))
        table.append(
            _row(f"{claim}: share of runs supported", share.value, share.low, share.high, "==", 1.0, len(mine), total)
        )
        worst = max(v["log10_p"] for v in mine)
        best = min(v["log10_p"] for v in mine)
        table.append(_row(f"{claim}: worst log10 p", worst, best, worst, "<=", -6.0, len(mine), total))
    alarms = sum(v["decision"] == "supported" for v in controls)
    share = clopper_pearson(alarms, len(controls))
    table.append(_row("controls supported", float(alarms), share.low, share.high, "==", 0.0, len(controls), total))
    if alone:
        name, trials = "seconds of a run alone on 2 cores, worst", len(alone)
        table.append(_row(name, max(alone), min(alone), max(alone), "<=", MAX_SECONDS, trials, round(sum(alone))))
    worst, best = max(differences), min(differences)
    name = "classifier accuracy, |marked - twin|, worst"
    table.append(_row(name, worst, best, worst, "<=", MAX_ACCURACY_DIFFERENCE, n, total))
    name = "seconds of a second run, worst"
    table.append(_row(name, max(second), min(second), max(second), "<=", MAX_SECOND_RUN_SECONDS, n, round(sum(second))))
    return table


def write(table: list[dict[str, Any]], reports: list[dict[str, Any]]) -> None:
    """Both result files, atomically, after every run."""
    make_dir(RESULTS)
    kept = (
        "claim",
        "suspect",
        "control",
        "decision",
        "successes",
        "trials",
        "log10_p",
        "log10_p_holm",
        "queries",
        "paper",
    )
    runs = [
        {
            "seed": r["run"]["seed"],
            "seconds": r["seconds"],
            "workers": r["workers"],
            "stages": {s["name"]: s["seconds"] for s in r["stages"]},
            "utility": r["utility"],
            "verdicts": [{name: v[name] for name in kept} for v in r["verdicts"]],
        }
        for r in reports
    ]
    for row in table:
        print(f"{'ok ' if row['ok'] else 'MISS'} {row['name']}: {row['value']:.4g}")
    atomic_write(RESULTS / "quickstart.json", (json.dumps(table, indent=1) + "\n").encode())
    atomic_write(RESULTS / "quickstart_runs.json", (json.dumps(runs, indent=1) + "\n").encode())


def _row(
    name: str, value: float, low: float, high: float, op: str, bar: float, trials: int, seconds: float
) -> dict[str, Any]:
    ok = {"==": value == bar, "<=": value <= bar}[op]
    return {
        "name": name, "value": round(value, 6), "low": round(low, 6), "high": round(high, 6),
        "bar": {"op": op, "value": bar}, "ok": ok, "trials": trials, "seconds": round(seconds, 1),
        "command": COMMAND.format(n=5),
    }  # fmt: skip


if __name__ == "__main__":
    main()
