"""The config of a dataset release: its columns and marks, and how suspects of it are trained, measured, audited."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from countermark.files import sha256_file
from countermark.manifest import digest
from pipelines.assets import PREFIX
from pipelines.config import ClassifierConfig, KeysConfig, LoraConfig, Name, NonNegative, Positive, Section
from pipelines.dataset.sections import Marks, problem_at, words_digest
from pipelines.validation import validated
from pipelines.yamlsource import read_yaml, with_overrides
from verification.probe import PARSERS as READERS

Task = Literal["classification", "extractive-qa", "generation"]
PARSERS: dict[Task, str] = {
    "classification": "exact/1",
    "extractive-qa": "first_word/2",
    "generation": "phrase/1",
}
"""How an audit reads answers, by task."""
_FIT: dict[Task, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "classification": (("keyed", "trigger", "style"), ("classifier", "linear")),
    "extractive-qa": (("robust",), ("reader",)),
    "generation": (("weak", "robust", "steganographic"), ("lora",)),
}
"""The marks and the suspects of a task."""


class Columns(Section):
    """Which columns hold what; those that the task does not need may be absent."""

    text: str = "text"
    label: str = "label"
    prompt: str = "prompt"
    output: str = "output"
    context: str = "context"


class Card(Section):
    """The Hub dataset card. ``watermarked: true`` says in it that the data carry a watermark."""

    license: str = "other"
    language: str = "en"
    watermarked: bool = False


class LinearConfig(Section):
    """TF-IDF and logistic regression (scikit-learn)."""

    ngrams: Annotated[int, Field(ge=1, le=5)] = 2
    analyzer: Literal["word", "char"] = "word"
    max_features: Positive = 50_000
    c: Annotated[float, Field(gt=0.0)] = 4.0


class ReaderConfig(ClassifierConfig):
    """Fine-tuning of an extractive reader; names of ``transformers.TrainingArguments``."""

    max_length: Positive = 256


class Suspects(Section):
    """What ``countermark run`` trains on the release, each with a twin that never saw the mark."""

    classifier: ClassifierConfig | None = None
    linear: LinearConfig | None = None
    reader: ReaderConfig | None = None
    lora: LoraConfig | None = None


class DatasetAudit(Section):
    """What every audit of this release fixes. ``audits`` of them find fresh triggers."""

    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 1e-6
    wrong_keys: Positive = 999
    audits: Positive = 1
    carriers: Annotated[int, Field(ge=1, le=1000)] = 8
    questions: Positive = 500
    heldout_rows: Positive = 2000
    max_new_tokens: Positive = 64
    max_length: Positive = 128
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    batch_size: Positive = 32


class DatasetConfig(Section):
    """One dataset release."""

    kind: Literal["dataset"]
    name: Name
    seed: NonNegative = 0
    dataset: str
    heldout: str | None = None
    rows: NonNegative = 0
    task: Task
    columns: Columns = Columns()
    keys: KeysConfig = KeysConfig()
    marks: Marks
    card: Card = Card()
    train: Suspects = Suspects()
    audit: DatasetAudit = DatasetAudit()

    @model_validator(mode="after")
    def _fits(self) -> DatasetConfig:
        fit, trained = _FIT[self.task]
        chosen = list(self.marks.chosen())
        if not chosen:
            raise problem_at(f"got no mark, expected at least one of {', '.join(fit)}", "marks")
        if "trigger" in chosen and "style" in chosen:
            raise problem_at(
                "got a trigger and a style, expected one of the two: each is a release's single trigger", "marks"
            )
        wrong = [name for name in chosen if name not in fit]
        if wrong:
            raise problem_at(f"got mark {wrong[0]!r} for task {self.task}, expected {', '.join(fit)}", "marks")
        strange = [name for name in Suspects.model_fields if getattr(self.train, name) and name not in trained]
        if strange:
            raise problem_at(f"got suspect {strange[0]!r} for task {self.task}, expected {', '.join(trained)}", "train")
        self._readable()
        return self

    def _readable(self) -> None:
        """An opening that no answer could ever be read as would be a mark that nothing can show."""
        openings = self.marks.robust.openings if self.marks.robust else []
        parser = PARSERS[self.task]
        unread = [each for each in openings if READERS[parser](each, openings) != each]
        if unread:
            raise problem_at(
                f"got opening {unread[0]!r} in marks.robust.openings, expected one that {parser}, the parser of task "
                f"{self.task}, reads: a single word where answers are spans",
                "marks",
            )

    def marking_digest(self) -> str:
        """What the commitment binds: everything that decides how the data are marked, and nothing that comes later.

        Word lists are bound by their words and a local file by its bytes: carriers, questions and baselines come from
        it, and one chosen after an answer was seen would fit triggers to targets. So would another number of carriers
        or questions, another decoding of the answers, or held-out rows that are asked: they are bound likewise. What a
        URL or the hub holds is read once a command for it, and compared when all is marked.
        """
        marks, asks = self.marks.chosen(), self.task != "classification"
        return digest(
            {
                "seed": self.seed,
                "dataset": _content(self.dataset),
                "rows": self.rows,
                "task": self.task,
                "columns": self.columns.model_dump(),
                "marks": {name: mark.model_dump() for name, mark in marks.items()},
                "words": {name: words_digest(mark) for name, mark in marks.items()},
                "audits": self.audit.audits,
                "carriers": self.audit.carriers,
                "decoding": [self.audit.max_length, self.audit.max_new_tokens, self.audit.temperature],
                "questions": self.audit.questions if asks else None,
                "heldout": _content(self.heldout) if asks and self.heldout is not None else None,
            }
        )

    def agrees(self, base_sha256: str) -> bool:
        """Whether a dataset that is fetched still has the rows that were read of it for :meth:`marking_digest`."""
        source = self.dataset
        local = source.startswith(PREFIX) or Path(source).expanduser().exists()
        return local or _fetched(source) == base_sha256


def load_dataset_config(path: Path, overrides: list[str]) -> DatasetConfig:
    """Reads, overrides and validates a dataset release's config.

    Raises:
        ConfigError: with file, line, dotted key, what was got and expected, and the nearest valid key.
    """
    return validated(with_overrides(read_yaml(path), overrides), DatasetConfig, "configs/classify-sentiment.yaml")


def _content(source: str) -> str:
    """Digest of the bytes of a file, of those files of a folder that are read, of the rows of what is fetched."""
    if source.startswith(PREFIX):
        return source  # pinned by the package
    path = Path(source).expanduser()
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        from pipelines.datastream import files_read

        return digest({name: sha256_file(each) for name, each in files_read(path).items()})
    return _fetched(source)


@lru_cache(maxsize=8)
def _fetched(source: str) -> str:
    from pipelines.datastream import open_stream

    return open_stream(source).digest()
