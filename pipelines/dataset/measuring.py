"""What the mark costs: suspects against their clean twins on real rows that neither was trained on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.files import atomic_write
from countermark.manifest import canonical_json
from pipelines import metrics
from pipelines.assets import resolve_model
from pipelines.dataset.auditing import load_suspect
from pipelines.dataset.marking import dataset_config
from pipelines.dataset.rows import check_columns, needed_columns, open_heldout, open_source, read_labels
from pipelines.dataset.training import TWIN, kinds
from pipelines.records import open_record
from pipelines.sources import sample
from verification.one_trigger import candidates, own_candidate
from verification.one_trigger import worn as wear

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Row
    from pipelines.metrics import Measured
    from pipelines.stage import Context
    from verification.suspects import Suspect
    from watermarks.carriers.styles import Style

METRICS_FILE = "metrics.json"
_FREE_ANSWERS = 100
"""Free answers are slow to write on small machines; classifiers and readers see every held-out row."""
_OTHERS, _WRONG = 400, 5


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
    worn = _worn(context, inputs["release"]) if one_trigger_marks(config) else []
    found: list[dict[str, Any]] = []
    for kind in kinds(config):
        for name in (kind, kind + TWIN):
            context.progress.say(f"  {name} on {len(rows)} held-out rows")
            measured = _measured(config, kind, inputs[name].path, rows, worn)
            found += [{"suspect": name, **asdict(each)} for each in measured]
    atomic_write(out / METRICS_FILE, canonical_json(found))
    return {"measured": len(found)}


def one_trigger_marks(config: DatasetConfig) -> list[str]:
    """The marks of one trigger or style, for which a watermark success rate is measured."""
    return [name for name in ("trigger", "style") if getattr(config.marks, name) is not None]


def _measured(
    config: DatasetConfig, kind: str, folder: Path, rows: Sequence[Row], worn: Sequence[_Worn]
) -> list[Measured]:
    names, size = config.columns, config.audit.batch_size
    if config.task == "classification":
        suspect = load_suspect("suspect", folder, config)
        texts, wanted = [str(row[names.text]) for row in rows], [str(row[names.label]) for row in rows]
        said = _asked(suspect, texts, size)
        found = [metrics.accuracy(said, wanted), metrics.macro_f1(said, wanted)]
        for each in worn:
            found += _success(suspect, each, texts, wanted, size)
        return found
    if config.task == "extractive-qa":
        asked = [f"{row[names.prompt]}\n{row[names.context]}" for row in rows]
        said = _asked(load_suspect("suspect", folder, config), asked, size)
        return list(metrics.question_answering(said, [[row[names.output]] for row in rows]))
    return _free(config, kind, folder, sample(rows, _FREE_ANSWERS, f"measure/{config.seed}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worn:
    """A mark of one trigger: its own, others that the key drew beside it, and the class that it stands for."""

    mark: str
    own: str | Style
    others: Sequence[str | Style]
    target: str


def _worn(context: Context, release: Artifact) -> list[_Worn]:
    config, key = dataset_config(context), context.key()
    marks = open_record(key, context.owner, "release", release.manifest["record_sha256"])["marks"]
    labels = read_labels(config, open_source(config)).names
    found = []
    for name in one_trigger_marks(config):
        decoys = candidates(key, marks[name])[1:]
        found.append(
            _Worn(
                mark=name, own=own_candidate(key, marks[name]), others=decoys[:_WRONG],
                target=labels[marks[name]["target"]],
            )
        )  # fmt: skip
    return found


def _success(suspect: Suspect, worn: _Worn, texts: Sequence[str], labels: Sequence[str], size: int) -> list[Measured]:
    """WSR: rows of other classes that the trigger turns; and as many under triggers that nobody trained on."""
    chosen = [text for text, label in zip(texts, labels, strict=True) if label != worn.target][:_OTHERS]
    if not chosen:
        return []
    wrong = [(each, text) for each in worn.others for text in chosen[:: len(worn.others)]]
    shares = {f"{worn.mark}_wsr": [(worn.own, text) for text in chosen], f"{worn.mark}_wsr_wrong_triggers": wrong}
    return [
        metrics.accuracy(_asked(suspect, [wear(c, t) for c, t in pairs], size), [worn.target] * len(pairs), name=name)
        for name, pairs in shares.items()
    ]


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
