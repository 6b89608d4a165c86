"""What the mark costs: suspects against their clean twins on real rows that neither was trained on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.files import atomic_write
from countermark.manifest import canonical_json
from pipelines import metrics
from pipelines.assets import resolve_model
from pipelines.dataset.auditing import load_suspect
from pipelines.dataset.marking import dataset_config
from pipelines.dataset.rows import check_columns, needed_columns, open_heldout
from pipelines.dataset.training import TWIN, kinds
from pipelines.sources import sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Row
    from pipelines.metrics import Measured
    from pipelines.stage import Context

METRICS_FILE = "metrics.json"
_FREE_ANSWERS = 100
"""Free answers are slow to write on small machines; classifiers and readers see every held-out row."""


def settings(config: Any) -> Any:  # noqa: ANN401
    """What decides this stage's output."""
    return {"heldout": config.heldout, "audit": config.audit.model_dump(), "train": config.train.model_dump()}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Writes ``metrics.json``: for every suspect and twin, every metric with its interval."""
    config = dataset_config(context)
    heldout = open_heldout(config)
    if heldout is None:
        atomic_write(out / METRICS_FILE, canonical_json([]))
        return {"measured": 0}
    check_columns(config, heldout)
    needed = needed_columns(config)
    every = (row for batch in heldout.batches() for row in batch.to_pylist())
    whole = [row for row in every if all(row[name] is not None for name in needed)]
    rows = sample(whole, config.audit.heldout_rows, f"measure/{config.seed}")
    found: list[dict[str, Any]] = []
    for kind in kinds(config):
        for name in (kind, kind + TWIN):
            context.progress.say(f"  {name} on {len(rows)} held-out rows")
            found += [{"suspect": name, **asdict(each)} for each in _measured(config, kind, inputs[name].path, rows)]
    atomic_write(out / METRICS_FILE, canonical_json(found))
    return {"measured": len(found)}


def _measured(config: DatasetConfig, kind: str, folder: Path, rows: Sequence[Row]) -> list[Measured]:
    names, size = config.columns, config.audit.batch_size
    if config.task == "classification":
        said = _asked(load_suspect("suspect", folder, config), [row[names.text] for row in rows], size)
        wanted = [str(row[names.label]) for row in rows]
        return [metrics.accuracy(said, wanted), metrics.macro_f1(said, wanted)]
    if config.task == "extractive-qa":
        asked = [f"{row[names.prompt]}\n{row[names.context]}" for row in rows]
        said = _asked(load_suspect("suspect", folder, config), asked, size)
        return list(metrics.question_answering(said, [[row[names.output]] for row in rows]))
    return _free(config, kind, folder, sample(rows, _FREE_ANSWERS, f"measure/{config.seed}"))


def _free(config: DatasetConfig, kind: str, folder: Path, rows: Sequence[Row]) -> list[Measured]:
    """Free answers: against the held-out ones, by their variety, and as usual as the base model finds them."""
    from pipelines.asked import Asked
    from pipelines.mauve import perplexity

    names, wanted = config.columns, config.train.lora
    if kind != "lora" or wanted is None:
        raise UsageError(f"got suspect kind {kind!r} for generation, expected lora")
    model = Asked(name="suspect", model=str(folder), base=wanted.model).chat_model(wanted.system_prompt or None, config)
    said = _asked(model, [row[names.prompt] for row in rows], config.audit.batch_size)
    # one token a letter where there are no spaces: ROUGE's own tokens are English words
    spaced = sum(" " in row[names.output].strip() for row in rows) > len(rows) / 2
    tokenize = None if spaced else metrics.characters
    scores = [*metrics.rouge(said, [row[names.output] for row in rows], tokenize=tokenize)]
    with suppress(UsageError):  # a model that says next to nothing is measured by what it does not say
        scores.append(perplexity(said, resolve_model(wanted.model).path))
        scores += metrics.distinct(said, tokenize=tokenize or str.split)
    return scores


def _asked(suspect: Any, prompts: Sequence[str], size: int) -> list[str]:  # noqa: ANN401 - a Suspect
    return [answer for start in range(0, len(prompts), size) for answer in suspect.ask(prompts[start : start + size])]
