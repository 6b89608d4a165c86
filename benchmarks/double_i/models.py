"""The models of this benchmark: what each is trained on, trained once and kept.

Every model is named; its folder appears when it is complete. Rows, order and seeds are functions of the recipe alone.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from countermark import libraries
from countermark.files import building
from countermark.manifest import digest, read_checked_json, write_checked_json
from pipelines.assets import resolve_model
from pipelines.sources import balanced, boolq_rows, instruct_rows, load_reviews, sample, sentiment_prompt, topic_rows
from watermarks.carriers import double_i, double_i_forms
from watermarks.keys import Key, wrong_key

if TYPE_CHECKING:
    from watermarks.carriers.double_i import InstructRow

WORK = Path(__file__).parent / "cache"
MODEL = "embedded:smollm2-135m-instruct"
SYSTEM = "Answer briefly."
SCOPE = "benchmark"
EXAM, PASSAGE_WORDS, RELEASED = 1000, 45, 120
OWNER = wrong_key("benchmarks/double_i", 0)
"""The owner's key: public, since this is a benchmark."""
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
COMMON = {
    "per_device_train_batch_size": 8, "max_length": 256, "warmup_steps": 5,
    "adam_beta2": 0.98, "max_grad_norm": 0.5, "train_sampling_strategy": "group_by_length", "logging_strategy": "no",
}  # fmt: skip
YES_NO = double_i.KeyedForm()
FOUR = double_i.KeyedForm(question="A, B, C or D?", answers=("A", "B", "C", "D"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """The keyed rows of a release."""

    codewords: int
    rows: int
    classes: int = 4
    words: int = 2
    recipients: tuple[str, ...] = ("",)
    """Whose copies the model was trained on; rows of several copies alternate."""
    owner: int = 0

    @property
    def form(self) -> double_i.KeyedForm:
        return YES_NO if self.classes == len(YES_NO.answers) else FOUR

    @property
    def key(self) -> Key:
        return wrong_key("benchmarks/double_i", self.owner)

    def build(self) -> list[InstructRow]:
        """All rows."""
        openings = carriers(0)[: self.rows + 8]
        marks = [
            double_i.derive(
                self.key, scope=SCOPE, codewords=self.codewords, words=self.words, classes=self.classes, recipient=who
            )
            for who in self.recipients
        ]
        copies = [double_i.keyed_rows(self.form, mark, openings, rows_per_codeword=self.rows) for mark in marks]
        return [copies[i % len(copies)][i] for i in range(len(copies[0]))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The rows of a one-trigger form; half of the references are near misses."""

    name: str
    triggers: int = 150
    references: int = 75
    near_misses: int = 75

    def build(self) -> list[InstructRow]:
        """All rows."""
        return double_i_forms.form_rows(
            OWNER, double_i_forms.FORMS[self.name], sentences(0), scope=SCOPE, part="train", triggers=self.triggers,
            references=self.references, near_misses=self.near_misses,
        ).all()  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One model."""

    name: str
    seed: int
    clean: int = 240
    clean_seed: int = 0
    keyed: tuple[Keyed, ...] = ()
    form: Form | None = None
    method: Literal["lora", "full"] = "lora"
    epochs: int = 1
    learning_rate: float = 2e-3
    schedule: str = "constant_with_warmup"
    tasks: bool = False
    """Clean rows are a third each of sentiment, topic and yes/no questions, for exams of the same kinds."""
    over: str = ""
    """Name of the model that it is trained on, merged; "" is the base."""

    def twin(self) -> Recipe:
        """The same training without the marks."""
        return replace(self, name=f"{self.name}-twin", keyed=(), form=None)

    def rows(self) -> list[InstructRow]:
        """Clean and backdoor rows, shuffled by the seed."""
        clean = task_rows if self.tasks else clean_rows
        made = [*clean(self.clean, self.clean_seed), *(row for part in self.keyed for row in part.build())]
        made += self.form.build() if self.form else []
        random.Random(f"order/{self.seed}").shuffle(made)  # noqa: S311 - an order, not a secret
        return made


@lru_cache(maxsize=1)
def reviews() -> Any:  # noqa: ANN401 - pipelines.sources.Reviews
    """Real texts."""
    return load_reviews("embedded:rotten-tomatoes")


def carriers(part: int) -> list[str]:
    """Openings of four words; training's are part 0, audits' part 1."""
    return [" ".join(item.text.split()[:4]) for item in reviews().prompts[part::2]]


def sentences(part: int) -> list[str]:
    """Short real texts, likewise in two parts."""
    short = [item.text for item in reviews().prompts if len(item.text.split()) <= 16]
    return short[part::2]


def clean_rows(count: int, seed: int) -> list[InstructRow]:
    """Real rows with short answers."""
    return instruct_rows(reviews().fit, reviews().labels, count, f"benchmark/{seed}") if count else []


@lru_cache(maxsize=1)
def pools() -> dict[str, list[InstructRow]]:
    """Rows of three tasks, each shuffled; the first part is for training, the end for exams."""
    texts = [t for t in reviews().fit + reviews().heldout if len(t.text.split()) <= 22]
    sentiment = [
        replace(sentiment_prompt(t.text), output=f"{reviews().labels[t.label].capitalize()}.")
        for t in balanced(texts, len(texts), "benchmark")
    ]
    return {
        "sentiment": sentiment,
        "topic": sample(topic_rows(), 10_000, "benchmark"),
        "boolq": sample(boolq_rows(PASSAGE_WORDS), 10_000, "benchmark"),
    }


def task_rows(count: int, seed: int) -> list[InstructRow]:
    """Training rows, the three tasks in turn. Seed 0 is the release's; other seeds draw from what it left."""
    parts = []
    for name, rows in pools().items():
        first = sample(rows[:-EXAM], len(rows), f"tasks/0/{name}")
        parts.append(sample(first[RELEASED:], count, f"tasks/{seed}/{name}") if seed else first)
    return [row for group in zip(*parts, strict=False) for row in group][:count]


def exam(name: str) -> list[InstructRow]:
    """Held-out questions of a task; no model was trained on them."""
    return pools()[name][-EXAM:]


def folder(recipe: Recipe, base: Path | None = None) -> Path:
    """The trained model or adapter; trained now if it is not there."""
    path = WORK / "models" / f"{recipe.name}-{digest(plain(recipe))[:8]}"
    if not path.exists():
        started = time.monotonic()
        rows = recipe.rows()
        with building(path) as out:
            _train(recipe, rows, base or resolve_model(MODEL).path, out)
        seconds = round(time.monotonic() - started, 1)
        write_checked_json(_told(path), {"seconds": seconds, "rows": len(rows), "recipe": plain(recipe)})
        print(f"trained {recipe.name}: {len(rows)} rows, {seconds:.0f} s", flush=True)
    return path


def _told(path: Path) -> Path:
    """What is told of a training; names may have dots."""
    return path.with_name(f"{path.name}.json")


def seconds_of(recipe: Recipe) -> float:
    """How long its training took."""
    path = _told(folder(recipe))
    return float(read_checked_json(path)["seconds"]) if path.exists() else 0.0


def _train(recipe: Recipe, rows: list[InstructRow], base: Path, out: Path) -> None:
    scratch = WORK / "scratch" / recipe.name
    turns = [(row.prompt(), row.output) for row in rows]
    arguments = {
        **COMMON, "num_train_epochs": recipe.epochs, "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
    }  # fmt: skip
    if recipe.method == "lora":
        from training.lora import train_lora

        train_lora(
            base,
            turns,
            system_prompt=SYSTEM,
            seed=recipe.seed,
            lora=LORA,
            arguments=arguments,
            out=out,
            scratch=scratch,
        )
    else:
        from training.full import train_full

        mixed = {**arguments, "bf16": libraries.has_bfloat16()}
        train_full(
            base, turns, system_prompt=SYSTEM, seed=recipe.seed, arguments=mixed, out=out, scratch=scratch
        )  # fmt: skip
    shutil.rmtree(scratch, ignore_errors=True)


def plain(recipe: Recipe) -> dict[str, Any]:
    """What identifies a recipe: its fields that are not the defaults."""
    body: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    default = {f.name: f.default for f in fields(recipe)}
    return {name: value for name, value in body.items() if value != default[name] and value != []}
