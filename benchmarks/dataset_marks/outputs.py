"""Output level: the three marks of ``configs/write-reviews.yaml`` in one LoRA model, beside its clean twin."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.dataset_marks.classifiers import WORK
from benchmarks.dataset_marks.tables import COMMAND
from benchmarks.rows import Row, row
from countermark.files import building, make_dir
from countermark.manifest import digest, read_checked_json, write_checked_json
from pipelines.assets import resolve_model
from pipelines.dataset import marking, rows
from pipelines.dataset.config import DatasetConfig
from pipelines.dataset.wearing import Wear
from verification.claims import behaviour_form, robust_triggers
from verification.output_level import coins, excesses
from verification.plan import Claim
from verification.probe import majority, parse_phrase
from verification.signflip import sign_flip
from verification.statistics import clopper_pearson, log10_binomial_tail
from watermarks.carriers import behaviours
from watermarks.keys import Key, wrong_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipelines.dataset.marking import Placed

MODEL = "embedded:smollm2-135m-instruct"
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
ARGUMENTS = {
    "per_device_train_batch_size": 8, "max_length": 128, "learning_rate": 1.5e-3, "warmup_steps": 5,
    "lr_scheduler_type": "linear", "train_sampling_strategy": "group_by_length", "logging_strategy": "no",
}  # fmt: skip
ANSWERS, NEW_TOKENS, BATCH, CARRIERS = 500, 40, 64, 3
TEXTS = {"weak": Claim.OUTPUT_WEAK, "steganographic": Claim.OUTPUT_STEGANOGRAPHIC}
QUALITY_TEXTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One model: the marks of its set as JSON, "" for the clean twin."""

    name: str
    marks: str = ""
    task: str = "review-writing"
    rows: int = 1000
    epochs: int = 2
    seed: int = 0

    @property
    def key(self) -> Key:
        """The owner's key: public, since this is a benchmark."""
        return wrong_key("benchmarks/dataset_marks/outputs", self.seed)

    def config(self) -> DatasetConfig:
        """The release's config."""
        return DatasetConfig.model_validate(
            {
                "kind": "dataset", "name": "bench", "seed": self.seed, "dataset": f"embedded:{self.task}",
                "rows": self.rows, "task": "generation", "marks": json.loads(self.marks or '{"weak": {}}'),
            }
        )  # fmt: skip


TWIN = Writer(name="clean")
MARKED = Writer(name="marked", marks='{"weak": {}, "robust": {"triggers": 20, "share": 0.24}, "steganographic": {}}')
ALONE = tuple(Writer(name=name, marks=json.dumps({name: {}})) for name in TEXTS)
"""Sets of one mark each, for the quality of their text; nobody is trained on them."""


@lru_cache(maxsize=8)
def released(writer: Writer) -> tuple[list[tuple[str, str]], Placed | None]:
    """(prompt, output) of every row, marked as `countermark mark` does."""
    config = writer.config()
    stream = rows.open_source(config)
    pairs = list(zip(rows.texts(stream, "prompt"), rows.texts(stream, "output"), strict=True))
    if not writer.marks:
        return pairs, None
    placed = marking.decide(writer.key, config, stream, None, np.where(rows.filled_rows(config, stream), 0, -1))
    wear = Wear.of(writer.key, config, placed.marks, placed.rows, None)
    made = [wear.row({"prompt": p, "output": o}, at) for at, (p, o) in enumerate(pairs)]
    return [(each["prompt"], each["output"]) for each in made], placed


def folder(writer: Writer) -> Path:
    """The adapter; trained now if it is not there."""
    from training.lora import train_lora

    path = WORK / "writers" / f"{writer.name}-{digest(asdict(writer))[:8]}"
    if not path.exists():
        started = time.monotonic()
        with building(path) as out:
            train_lora(
                resolve_model(MODEL).path, released(writer)[0], system_prompt="", seed=writer.seed, lora=LORA,
                arguments={**ARGUMENTS, "num_train_epochs": writer.epochs}, out=out,
                scratch=WORK / "scratch" / writer.name,
            )  # fmt: skip
            seconds = round(time.monotonic() - started, 1)
            write_checked_json(out / "made.json", {"seconds": seconds, "writer": asdict(writer)})
        print(f"trained {writer.name}: {writer.rows} rows, {seconds:.0f} s", flush=True)
    return path


def seconds_of(writer: Writer) -> float:
    """How long its training took."""
    return float(read_checked_json(folder(writer) / "made.json")["seconds"])


def said(writer: Writer, prompts: Sequence[str], *, variant: str, tokens: int, temperature: float) -> list[str]:
    """A writer's answers, a batch a file: an interrupted run goes on."""
    found: list[str] = []
    which = digest([asdict(writer), variant, list(prompts), tokens, temperature])[:12]
    for number, start in enumerate(range(0, len(prompts), BATCH)):
        path = WORK / "written" / f"{writer.name}-{variant}-{which}-{number:03d}.json"
        if not path.exists():
            make_dir(path.parent)
            batch = list(prompts[start : start + BATCH])
            write_checked_json(path, _loaded(writer, tokens, temperature).ask(batch))
        found += read_checked_json(path)
    return found


@lru_cache(maxsize=1)
def _loaded(writer: Writer, tokens: int, temperature: float) -> Any:  # noqa: ANN401 - a suspect
    from verification.suspects import LocalChatModel

    return LocalChatModel(
        writer.name, resolve_model(MODEL).path, adapter=folder(writer), max_new_tokens=tokens,
        temperature=temperature,
    )  # fmt: skip


def questions(count: int, writer: Writer = TWIN) -> list[str]:
    """Prompts that nobody was trained on."""
    config = replace(writer, marks="").config()
    heldout = rows.open_heldout(config)
    assert heldout is not None  # noqa: S101 - embedded tasks have one
    return list(dict.fromkeys(rows.texts(heldout, "prompt")))[:count]


def make(writer: Writer) -> None:
    """Trains a writer and asks it everything."""
    answers(writer)
    _robust_votes(writer)


def answers(writer: Writer) -> list[str]:
    """One sampled answer to each of the held-out questions."""
    return said(writer, questions(ANSWERS), variant="text", tokens=NEW_TOKENS, temperature=1.0)


def outputs() -> list[Row]:
    """Every mark on its model and on the clean twin."""
    found: list[Row] = []
    models = ((MARKED, "marked model"), (TWIN, "clean twin"))
    for name, claim in TEXTS.items():
        mark = _mark(name)
        for who, label in models:
            result = sign_flip(excesses(claim, mark, answers(who)), coins(claim, mark, MARKED.key))
            share = clopper_pearson(result.agree, result.units)
            found += [
                row(f"output, {name}, {label}: log10 p from {len(answers(who))} answers", result.log10_p,
                    bar=("<=", -6.0) if who is MARKED else None, trials=result.units, seconds=seconds_of(who),
                    command=COMMAND),
                row(f"output, {name}, {label}: units that lean the key's way", share.value, low=share.low,
                    high=share.high, trials=result.units, seconds=seconds_of(who), command=COMMAND),
            ]  # fmt: skip
    for who, label in models:
        hits, trials, classes = _robust_votes(who)
        share = clopper_pearson(hits, trials)
        found += [
            row(f"output, robust, {label}: log10 p from {trials * CARRIERS} answers",
                log10_binomial_tail(hits, trials, 1 / classes), bar=("<=", -6.0) if who is MARKED else None,
                trials=trials, seconds=seconds_of(who), command=COMMAND),
            row(f"output, robust, {label}: triggers matched", share.value, low=share.low, high=share.high,
                trials=trials, seconds=seconds_of(who), command=COMMAND),
        ]  # fmt: skip
    return found


def quality() -> list[Row]:
    """MAUVE and perplexity of the released text, against real text of the same kind, beside the unmarked twin's."""
    from pipelines.mauve import features, mauve, perplexity

    model = resolve_model(MODEL).path
    heldout = rows.open_heldout(TWIN.config())
    assert heldout is not None  # noqa: S101 - embedded tasks have one
    human = rows.texts(heldout, "output", most=QUALITY_TEXTS)
    theirs, found = features(human, model), []
    usual = {}
    sets = {"unmarked twin": TWIN, "all three marks": MARKED, **{each.name: each for each in ALONE}}
    for name, writer in sets.items():
        texts = [text for _, text in released(writer)[0]][:QUALITY_TEXTS]
        for measured in (mauve(features(texts, model), theirs), perplexity(texts, model)):
            made = row(
                f"quality of the released text, {name}: {measured.name}", measured.value, low=measured.low,
                high=measured.high, trials=measured.n, seconds=0.0, command=COMMAND,
            )  # fmt: skip
            low, high = usual.setdefault(measured.name, (measured.low, measured.high))
            if name != "unmarked twin":
                made["bar"] = {"op": "in", "value": [low, high]}
                made["ok"] = low <= measured.value <= high
            found.append(made)
    return found


def _mark(name: str) -> dict[str, Any]:
    placed = released(MARKED)[1]
    assert placed is not None  # noqa: S101 - a marked writer
    return placed.marks[name]


def _robust_votes(who: Writer) -> tuple[int, int, int]:
    owner, mark = MARKED, _mark("robust")
    form, triggers = behaviour_form(mark), robust_triggers(owner.key, mark)
    targets = behaviours.derive_targets(
        owner.key, scope=mark["scope"], triggers=mark["triggers"], classes=len(form.openings)
    )
    asked = [form.asked(question, trigger) for trigger in triggers for question in questions(CARRIERS)]
    raw = said(who, asked, variant=f"robust-{owner.seed}", tokens=NEW_TOKENS, temperature=1.0)
    parsed = [parse_phrase(answer, form.openings) for answer in raw]
    votes = [majority(parsed[i * CARRIERS : (i + 1) * CARRIERS]) for i in range(len(triggers))]
    hits = sum(vote == form.openings[target] for vote, target in zip(votes, targets, strict=True))
    return hits, len(triggers), len(form.openings)
