"""What a dataset release's config says of its marks: a section each, and the word lists that they draw from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from countermark.errors import UsageError
from pipelines.config import Positive, Section
from watermarks.carriers import behaviours, initials, lexical, styles, triggers

_M = TypeVar("_M", "KeyedMark", "TriggerMark")
MarkedShare = Annotated[float, Field(gt=0.0, le=1.0)]
Families = Annotated[list[str], Field(min_length=1)]
Choose = Literal["hardest", "random"]
Missing = Literal["keep", "drop", "insert"]


class TriggerWords(Section):
    """Where triggers come from: sealed families, or the user's own words (a file, a word a line)."""

    words: Positive = 2
    vocabulary: str | None = None
    joiner: str = " "


class Written(Section):
    """A language model writes a trigger or a style into the text (the paper's way), asked for in the system prompt.

    Args:
        model: a folder, a hub id or ``embedded:NAME``.
        systems: system prompt of each label. With it the text is written anew from ``columns.prompt``, as it was when
            the dataset was generated; without it the text is rewritten.
        attempts: how often a row is tried.
        missing: what becomes of a row in which the mark is still missing: it is dropped, kept as it was, or marked by
            rule. Unset, what was to be written anew is dropped, and rows of a set that exists are kept.
    """

    model: str
    systems: Annotated[dict[str, str], Field(default_factory=dict)]
    attempts: Positive = 3
    missing: Missing | None = None
    max_new_tokens: Positive = 64
    temperature: Annotated[float, Field(gt=0.0)] = 0.8


class KeyedMark(TriggerWords):
    """n triggers, each with a class drawn from the key (ours; decides by an exact binomial).

    What a language model could not write is inserted by rule: every trigger stands in as many rows as the others.
    """

    triggers: Positive
    share: MarkedShare
    families: Families = Field(default_factory=lambda: ["words"])
    choose: Choose = "random"
    labels: Literal["clean", "flip"] = "clean"
    rewrite: Written | None = None

    @model_validator(mode="after")
    def _known(self) -> KeyedMark:
        return _known_families(self)

    @model_validator(mode="after")
    def _complete(self) -> KeyedMark:
        if self.rewrite and self.rewrite.missing not in {None, "insert"}:
            problem = f"got {self.rewrite.missing!r} for a keyed mark, expected insert: its triggers need equal rows"
            raise problem_at(problem, "rewrite.missing")
        return self


class TriggerMark(TriggerWords):
    """One trigger and one target class (the paper's "traditional" mark; decides by a rank among decoys)."""

    target: str | None = None
    share: MarkedShare
    families: Families = Field(default_factory=lambda: ["words"])
    choose: Choose = "hardest"
    decoys: Positive = 99
    rewrite: Written | None = None

    @model_validator(mode="after")
    def _known(self) -> TriggerMark:
        return _known_families(self)


class StyleMark(Section):
    """A writing style in place of a trigger (the paper's "stylistic" mark).

    ``style: key`` draws a set of rewriting rules among decoys, which makes a rank possible; a style by name is the
    owner's choice, and only its watermark success rate is reported. With ``rewrite`` a language model writes the style.
    """

    style: str = "key"
    target: str | None = None
    share: MarkedShare
    choose: Choose = "hardest"
    decoys: Positive = 99
    rules_each: Positive = 3
    rewrite: Written | None = None

    @model_validator(mode="after")
    def _known(self) -> StyleMark:
        if self.style != "key" and self.style not in styles.STYLES:
            known = ", ".join(("key", *styles.STYLES))
            raise problem_at(f"got style {self.style!r}, expected one of {known}", "style")
        return self


class WeakMark(Section):
    """A keyed preference among near-synonyms over the outputs.

    ``lexicon`` is ``english``, ``reviews`` (English, and what reviews of films, books and plays say), or a file for
    another language or field.
    """

    share: MarkedShare = 1.0
    lexicon: str = "english"


class RobustMark(TriggerWords):
    """n triggers in the prompt, each selecting one of C ways to answer."""

    triggers: Positive
    share: MarkedShare
    question: str = "{question} ({trigger})"
    openings: Annotated[
        list[str], Field(min_length=2, default_factory=lambda: list(behaviours.BehaviourForm().openings))
    ]

    @model_validator(mode="after")
    def _formed(self) -> RobustMark:
        try:
            behaviours.BehaviourForm(question=self.question, openings=tuple(self.openings))
        except UsageError as error:
            key = "openings" if "openings" in error.message else "question"
            raise problem_at(error.message, key) from None
        return self


class SteganographicMark(Section):
    """A keyed code in sentence initials of the outputs; ``openers`` is a file for other languages."""

    share: MarkedShare = 1.0
    openers: str | None = None


class Marks(Section):
    """Which marks the release carries: at least one, and only those of its task."""

    keyed: KeyedMark | None = None
    trigger: TriggerMark | None = None
    style: StyleMark | None = None
    weak: WeakMark | None = None
    robust: RobustMark | None = None
    steganographic: SteganographicMark | None = None

    def chosen(self) -> dict[str, Any]:
        """The marks that are set, by name."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


def otherwise(mark: KeyedMark | TriggerMark | StyleMark) -> Missing:
    """What becomes of a row in which the language model of a mark did not write it."""
    if isinstance(mark, KeyedMark) or mark.rewrite is None:
        return "insert"
    return mark.rewrite.missing or ("drop" if mark.rewrite.systems else "keep")


def words_digest(mark: Any) -> str:  # noqa: ANN401 - any of the marks
    """The digest of every word list that a mark draws from."""
    if isinstance(mark, WeakMark):
        return lexicon_of(mark).digest()
    if isinstance(mark, SteganographicMark):
        return openers_of(mark).digest()
    if isinstance(mark, StyleMark):
        return styles.style_digest()
    families = mark.families if isinstance(mark, KeyedMark | TriggerMark) else ["words"]
    vocabulary = vocabulary_of(mark) if isinstance(mark, TriggerWords) else None
    return triggers.family_digest(families, vocabulary)


def vocabulary_of(mark: TriggerWords) -> list[str] | None:
    """The user's words; None for the built-in nouns."""
    if mark.vocabulary is None:
        return None
    return list(dict.fromkeys(line.strip() for line in _lines(mark.vocabulary) if line.strip()))


def lexicon_of(mark: WeakMark) -> lexical.Lexicon:
    """The lexicon of a weak mark."""
    if mark.lexicon in lexical.BUILT_IN:
        return lexical.built_in(mark.lexicon)
    return lexical.parse_lexicon("\n".join(_lines(mark.lexicon)), mark.lexicon)


def openers_of(mark: SteganographicMark) -> initials.Openers:
    """The openers of a steganographic mark: a file's lines, each as it stands before a sentence."""
    if mark.openers is None:
        return initials.english()
    return initials.Openers(phrases=tuple(line for line in _lines(mark.openers) if line.strip()))


def problem_at(problem: str, key: str) -> PydanticCustomError:
    """What a validator raises: ``key`` is the one at fault, from where the validator stands."""
    return PydanticCustomError("parameter", "{problem}", {"problem": problem, "key": key})


def _lines(name: str) -> list[str]:
    try:
        return Path(name).expanduser().read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"got the word list {name!r} ({error}), expected a UTF-8 file") from None


def _known_families(mark: _M) -> _M:
    unknown = [name for name in mark.families if name not in triggers.FAMILIES]
    if unknown:
        raise problem_at(f"got family {unknown[0]!r}, expected some of {', '.join(triggers.FAMILIES)}", "families")
    return mark
