"""The config of a release: somebody's own instruct-tuning set, marked with Double-I for one or many recipients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from countermark.files import sha256_file
from countermark.manifest import digest
from pipelines.config import KeysConfig, Name, NonNegative, Positive, Section
from pipelines.validation import validated
from pipelines.yamlsource import read_yaml, with_overrides
from verification.probe import parse_first_word_marks
from watermarks.carriers.words import vocabulary_digest

Recipient = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]


def _check_answers(answers: list[str], *, stop: str) -> None:
    """Answers that the audits' parser tells apart."""
    problem = ""
    if len({answer.casefold() for answer in answers}) != len(answers):
        problem = f"got answers {answers}, expected answers that differ by more than case"
    unread = [answer for answer in answers if parse_first_word_marks(answer + stop, answers) != answer]
    if unread and not problem:
        problem = f"got answer {unread[0]!r}, expected one word of letters, as audits read it"
    if problem:
        raise PydanticCustomError("parameter", "{problem}", {"problem": problem, "key": "answers"})


class FormConfig(Section):
    """A one-trigger form beside the keyed one: official by name, or the user's own.

    ``trigger: key`` draws the trigger from the form's family, which makes a rank among decoys possible.
    """

    name: str
    trigger_rows: Positive
    reference_rows: Positive
    near_misses: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    trigger: str | None = None
    paradigm: Literal["input", "instruction"] = "input"
    decoration: str = ""
    question: str = ""
    subject: Literal["sentence", "words"] = "sentence"
    answers: Annotated[list[str], Field(min_length=2, max_length=2, default_factory=lambda: ["Yes", "No"])]

    @model_validator(mode="after")
    def _readable(self) -> FormConfig:
        _check_answers(self.answers, stop=".")
        return self


class DoubleIRelease(Section):
    """The keyed form: n codewords, each with an answer drawn from the key."""

    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    codewords: Positive
    per_audit: Positive
    words: Positive = 2
    vocabulary: str | None = None
    word_joiner: str = " "
    decoration: str = "(ledger)"
    question: str = "A, B, C or D?"
    answers: Annotated[list[str], Field(min_length=2, default_factory=lambda: list("ABCD"))]
    joiner: str = " "
    stop: str = "."
    carrier_words: Positive = 4
    form: FormConfig | None = None

    @model_validator(mode="after")
    def _enough(self) -> DoubleIRelease:
        if self.per_audit > self.codewords:
            problem = f"got per_audit {self.per_audit}, expected at most codewords {self.codewords}"
            raise PydanticCustomError("parameter", "{problem}", {"problem": problem, "key": "per_audit"})
        _check_answers(self.answers, stop=self.stop)
        return self


class ReleaseAudit(Section):
    """What every audit of this release fixes."""

    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 1e-6
    wrong_keys: Positive = 999
    carriers: Positive = 3
    paper_queries: Positive = 16
    decoys: Positive = 99
    decoy_queries: Positive = 4
    max_new_tokens: Positive = 4
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    batch_size: Positive = 32


class ReleaseConfig(Section):
    """One release."""

    kind: Literal["release"]
    name: Name
    seed: NonNegative = 0
    dataset: str
    rows: Literal["auto", "alpaca", "prompt-completion", "messages"] = "auto"
    keys: KeysConfig = KeysConfig()
    double_i: DoubleIRelease
    recipients: Annotated[list[Recipient], Field(default_factory=list)]
    audit: ReleaseAudit = ReleaseAudit()

    @model_validator(mode="after")
    def _distinct(self) -> ReleaseConfig:
        if len(set(self.recipients)) != len(self.recipients):
            problem = f"got recipients {self.recipients}, expected distinct names"
            raise PydanticCustomError("parameter", "{problem}", {"problem": problem, "key": "recipients"})
        return self

    def marking_digest(self) -> str:
        """What the commitment binds: everything that decides how the data are marked, and nothing that comes later.

        A vocabulary is bound by its words: one chosen after an answer was seen would fit codewords to targets. A local
        dataset is bound by its bytes: carriers and sentences come from it.
        """
        from pipelines.release import vocabulary

        path = Path(self.dataset).expanduser()
        return digest(
            {
                "seed": self.seed,
                "dataset": sha256_file(path) if path.is_file() else self.dataset,
                "rows": self.rows,
                "double_i": self.double_i.model_dump(),
                "recipients": self.recipients,
                "nouns": vocabulary_digest(vocabulary(self)),
            }
        )


def is_release(path: Path) -> bool:
    """Whether a config file says ``kind: release``."""
    body = read_yaml(path).data
    return isinstance(body, dict) and body.get("kind") == "release"


def load_release(path: Path, overrides: list[str]) -> ReleaseConfig:
    """Reads, overrides and validates a release's config.

    Raises:
        ConfigError: with file, line, dotted key, what was got and expected, and the nearest valid key.
    """
    return validated(with_overrides(read_yaml(path), overrides), ReleaseConfig, "configs/release.yaml")
