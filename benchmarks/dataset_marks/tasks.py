"""The shipped configs, run as they are: marked, suspect and twin trained, measured, audited, reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import configs
from benchmarks.dataset_marks.classifiers import WORK
from benchmarks.dataset_marks.tables import COMMAND
from benchmarks.rows import Row, row
from countermark.manifest import digest, read_json
from pipelines.dataset.commands import run_dataset
from pipelines.dataset.config import load_dataset_config
from pipelines.dataset.measuring import METRICS_FILE
from verification.plan import Claim
from verification.statistics import clopper_pearson, zero_events_upper_bound
from verification.verdict import Decision

if TYPE_CHECKING:
    from pipelines.dataset.config import DatasetConfig

BARRED = {
    ("write-reviews", Claim.OUTPUT_WEAK), ("write-reviews", Claim.OUTPUT_STEGANOGRAPHIC),
    ("qa-generative", Claim.OUTPUT_ROBUST),
}  # fmt: skip
"""Where each output mark has to be found at 1e-6 within 500 answers; elsewhere it is reported as it is."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """A config of ``configs/``."""

    name: str

    @property
    def folder(self) -> Path:
        """Its run; complete, or to be resumed. Another config, word list or dataset is another run."""
        config = self.config()
        return WORK / "runs" / f"{self.name}-{digest([config.model_dump(), config.marking_digest()])[:8]}"

    def config(self) -> DatasetConfig:
        """As shipped."""
        return load_dataset_config(Path(configs.__file__).parent / f"{self.name}.yaml", [])


TASKS = tuple(
    Shipped(name)
    for name in ("classify-sentiment", "classify-topic", "qa-extractive", "qa-generative", "summarise", "write-reviews")
)


def report(task: Shipped) -> dict[str, Any]:
    """The run's report; a run that is complete is verified and not done again."""
    _, body, _ = run_dataset(task.config(), task.folder, fresh=False, dry_run=False, quiet=True)
    return dict(body)


def rows(task: Shipped) -> list[Row]:
    """Every claim on every suspect and control of a config, and every metric of suspects and twins."""
    said = report(task)
    seconds = said["seconds"]
    found: list[Row] = []
    for verdict in said["verdicts"]:
        barred = (task.name, verdict["claim"]) in BARRED and not verdict["control"]
        who = f"{verdict['suspect']} (control)" if verdict["control"] else verdict["suspect"]
        found.append(
            row(f"{task.name}: {verdict['claim']}, {who}, {verdict['queries']} queries, log10 p (Holm)",
                verdict["log10_p_holm"], bar=("<=", -6.0) if barred else None, trials=verdict["trials"],
                seconds=seconds, command=COMMAND)
        )  # fmt: skip
    controls = [v for v in said["verdicts"] if v["control"]]
    wrong = sum(v["decision"] == Decision.SUPPORTED for v in controls)
    high = clopper_pearson(wrong, len(controls)).high if wrong else zero_events_upper_bound(len(controls))
    found.append(
        row(f"{task.name}: controls supported", wrong / len(controls), low=0.0, high=high, bar=("==", 0.0),
            trials=len(controls), seconds=seconds, command=COMMAND)
    )  # fmt: skip
    measured = read_json(task.folder / "artifacts" / "measure" / METRICS_FILE)
    return [
        *found,
        *(
            row(f"{task.name}: {each['suspect']} {each['name']}", each["value"], low=each["low"], high=each["high"],
                trials=each["n"], seconds=seconds, command=COMMAND)
            for each in measured
        ),
    ]  # fmt: skip
