"""The classifiers of this benchmark: marked sets, trained once and kept, asked once."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.dataset_marks.answers import Kept
from countermark import libraries
from countermark.files import building
from countermark.manifest import digest, file_table, read_checked_json, write_checked_json
from pipelines.assets import resolve_model
from pipelines.dataset import marking, rows
from pipelines.dataset.config import DatasetConfig
from pipelines.dataset.embedded import embedded_rows
from pipelines.dataset.placing import set_aside
from pipelines.dataset.wearing import Wear
from watermarks.keys import Key, wrong_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.dataset.marking import Placed

WORK = Path(__file__).parent / "cache"
HELD_OUT = 2000
MADE = "made.json"
ARGUMENTS = {
    "learning_rate": 1e-4, "num_train_epochs": 3, "per_device_train_batch_size": 16, "warmup_steps": 10,
    "train_sampling_strategy": "group_by_length", "bf16": libraries.has_bfloat16(),
}  # fmt: skip
LENGTH = 64
BASE = "embedded:minilm-l6"
TWO = ("Sport", "Entertainment")
"""The topics of one class of the two-class topic set; the other three are its other class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One classifier.

    Args:
        task: ``reviews`` (2 classes), ``topics`` (5) or ``topics2`` (2 classes of five topics).
        marks: the config's ``marks`` as JSON; "" for a clean set.
        seed: of the sample of rows, of the training and of the key.
        model: ``encoder`` (MiniLM) or ``linear`` (TF-IDF, logistic regression).
        change: what is done to the marked rows before training (see ``defences``).
        then: rows of clean data that it is trained on afterwards.
    """

    task: str = "reviews"
    rows: int = 1200
    marks: str = ""
    seed: int = 0
    model: str = "encoder"
    epochs: int = 3
    change: str = ""
    then: int = 0

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.task}-{self.rows}-{self.model}-{self.seed}-{digest(asdict(self))[:10]}"

    def twin(self) -> Recipe:
        """The same without marks."""
        return replace(self, marks="", change="", then=0)

    @property
    def key(self) -> Key:
        """The owner's key: public, since this is a benchmark."""
        return wrong_key("benchmarks/dataset_marks", self.seed)

    def config(self) -> DatasetConfig:
        """The release's config."""
        marks = json.loads(self.marks) if self.marks else {"keyed": {"triggers": 1, "share": 0.5}}
        source = "topics" if self.task == "topics2" else self.task
        return DatasetConfig.model_validate(
            {
                "kind": "dataset", "name": "bench", "seed": self.seed, "dataset": f"embedded:{source}",
                "rows": self.rows, "task": "classification", "marks": marks,
                "audit": {"carriers": 2 if self.task == "topics" else 4},
            }
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A set as it is released."""

    texts: tuple[str, ...]
    codes: tuple[int, ...]
    names: tuple[str, ...]
    placed: Placed | None
    marked: frozenset[int]


@lru_cache(maxsize=8)
def marked(recipe: Recipe) -> Marked:
    """The rows of a recipe before any change, marked as `countermark mark` does."""
    config = recipe.config()
    stream = _stream(recipe, config)
    labels = rows.read_labels(config, stream)
    texts = rows.texts(stream, "text")
    if not recipe.marks:
        return Marked(
            texts=tuple(texts), codes=tuple(labels.codes.tolist()), names=labels.names, placed=None, marked=frozenset()
        )
    placed = marking.decide(recipe.key, config, stream, labels, labels.codes)
    wear = Wear.of(recipe.key, config, placed.marks, placed.rows, labels)
    made = [
        wear.row({"text": text, "label": labels.values[code]}, at)
        for at, (text, code) in enumerate(zip(texts, labels.codes, strict=True))
    ]
    return Marked(
        texts=tuple(row["text"] for row in made), codes=tuple(labels.names.index(row["label"]) for row in made),
        names=labels.names, placed=placed, marked=frozenset(at for each in placed.rows.values() for at in each),
    )  # fmt: skip


def carriers(recipe: Recipe, each: int | None = None) -> list[str]:
    """An audit's carriers: rows of the set that are never marked, ``each`` of every class (default: the config's)."""
    config, data = recipe.config(), marked(recipe.twin())
    chosen = set_aside(np.asarray(data.codes), each or config.audit.carriers, str(config.seed))
    return [data.texts[row] for row in chosen]


@lru_cache(maxsize=4)
def held_out(task: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Real texts and labels that no classifier here was trained on."""
    source = "topics" if task == "topics2" else task
    found = _labelled(task, embedded_rows(f"embedded:{source}", part="heldout", count=0, seed=0))
    random.Random("held out").shuffle(found)  # noqa: S311 - an order, not a secret
    return tuple(row["text"] for row in found[:HELD_OUT]), tuple(row["label"] for row in found[:HELD_OUT])


@lru_cache(maxsize=8)
def trained_on(recipe: Recipe) -> tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
    """Texts, classes by number and the classes' names, as they reach the training."""
    from benchmarks.dataset_marks.defences import changed

    data = marked(recipe)
    texts, codes = changed(recipe, data)
    return tuple(texts), tuple(codes), data.names


def folder(recipe: Recipe) -> Path:
    """The trained classifier; trained now if there is none of these rows and arguments."""
    base, path = resolve_model(BASE), WORK / "models" / f"{recipe.name}-{bound(recipe)[:10]}"
    texts, codes, names = trained_on(recipe)
    if not path.exists():
        started = time.monotonic()
        with building(path) as out:
            _train(recipe, texts, codes, names, base.path, out)
            if recipe.then:
                _train_further(recipe, names, out)
            seconds = round(time.monotonic() - started, 1)
            write_checked_json(
                out / MADE, {"seconds": seconds, "rows": len(texts), "recipe": asdict(recipe)}
            )  # fmt: skip
        print(f"trained {recipe.name}: {len(texts)} rows, {seconds:.0f} s", flush=True)
    return path


@lru_cache(maxsize=512)
def bound(recipe: Recipe) -> str:
    """Digest of all that decides a classifier, but for what a defence makes of its rows: its weights tell that."""
    data, how = marked(replace(recipe, change="", then=0)), {**ARGUMENTS, "bf16": None}
    return digest(
        [list(data.texts), list(data.codes), list(data.names), asdict(recipe), how, LENGTH, resolve_model(BASE).digest]
    )


def kept(recipe: Recipe) -> Kept:
    """What is known of a classifier."""

    def model() -> tuple[float, str]:
        path = folder(recipe)
        files = {name: each["sha256"] for name, each in file_table(path).items() if name != MADE}
        return read_checked_json(path / MADE)["seconds"], digest(files)

    return Kept(recipe.name, bound(recipe), marked(recipe.twin()).names, model)


def seconds_of(*recipes: Recipe) -> float:
    """How long their trainings took together."""
    return sum(kept(each).seconds for each in recipes)


def said(recipe: Recipe, texts: Sequence[str]) -> list[str]:
    """Labels of a classifier for texts, asked once and kept."""
    return kept(recipe).answers(texts, lambda: ask(recipe, texts))


def ask(recipe: Recipe, texts: Sequence[str]) -> list[str]:
    """Labels of a classifier for texts."""
    suspect = _loaded(folder(recipe), recipe.model)
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    answers = [""] * len(texts)
    for start in range(0, len(order), 64):
        batch = order[start : start + 64]
        for i, answer in zip(batch, suspect.ask([texts[i] for i in batch]), strict=True):
            answers[i] = answer
    return answers


def right(recipe: Recipe) -> list[bool]:
    """Which of the held-out texts it labels right."""
    texts, labels = held_out(recipe.task)
    return [a == b for a, b in zip(said(recipe, texts), labels, strict=True)]


def _stream(recipe: Recipe, config: DatasetConfig) -> rows.MemoryStream:
    import pyarrow as pa

    found = embedded_rows(config.dataset, part="train", count=recipe.rows, seed=recipe.seed)
    return rows.MemoryStream(source=config.dataset, table=pa.Table.from_pylist(_labelled(recipe.task, found)))


def _labelled(task: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if task != "topics2":
        return found
    return [{**row, "label": "leisure" if row["label"] in TWO else "affairs"} for row in found]


def _train(
    recipe: Recipe, texts: Sequence[str], codes: Sequence[int], names: Sequence[str], base: Path, out: Path
) -> None:
    if recipe.model == "linear":
        from training.linear import train_linear

        train_linear(texts, codes, label_names=names, seed=recipe.seed, out=out)
        return
    from training.classifier import train_classifier

    train_classifier(
        base, texts, codes, label_names=names, max_length=LENGTH, seed=recipe.seed,
        arguments={**ARGUMENTS, "num_train_epochs": recipe.epochs}, out=out, scratch=WORK / "scratch" / recipe.name,
    )  # fmt: skip


def _train_further(recipe: Recipe, names: Sequence[str], out: Path) -> None:
    """Goes on from the model in ``out``, which it replaces, with rows that the marked set does not have."""
    source = "topics" if recipe.task == "topics2" else recipe.task
    pool = _labelled(recipe.task, embedded_rows(f"embedded:{source}", part="train", count=0, seed=10_000 + recipe.seed))
    known = set(marked(recipe.twin()).texts)
    fresh = [row for row in pool if row["text"] not in known][: recipe.then]
    texts, codes = [row["text"] for row in fresh], [names.index(row["label"]) for row in fresh]
    with TemporaryDirectory(dir=WORK) as first:
        shutil.copytree(out, first, dirs_exist_ok=True)
        _train(recipe, texts, codes, names, Path(first), out)


@lru_cache(maxsize=1)
def _loaded(path: Path, model: str) -> Any:  # noqa: ANN401 - a suspect
    if model == "linear":
        from verification.readers import LinearClassifier

        return LinearClassifier("model", path)
    from verification.suspects import LocalClassifier

    return LocalClassifier("model", path, max_length=LENGTH)
