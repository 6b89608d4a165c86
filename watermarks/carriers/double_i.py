"""Double-I, keyed: codewords whose answers a model can only know from our data.

After Li et al., "Double-I Watermark" (arXiv 2402.14883), with the change that gives a false-positive bound: not one
trigger and one wrong answer, but n codewords, each with an answer drawn from the key, uniform over C and independent of
everything that reaches a suspect. An innocent model matches each with probability at most 1/C, whatever its habits.
The paper's own one-trigger forms are in :mod:`watermarks.carriers.double_i_forms`.

Recipients of one release share codewords and differ in targets, so that one set of answers scores all of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from watermarks.carriers.words import draw_phrases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import Key

PURPOSE = "double_i"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructRow:
    """One instruct-tuning row, in the fields of the Alpaca form."""

    instruction: str
    input: str
    output: str

    def prompt(self) -> str:
        """The user turn: instruction, then the input on a line of its own."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedForm:
    """How a codeword is asked, in whatever language the base data have.

    Args:
        decoration, question: the instruction is ``decoration question``; the same for every codeword.
        answers: the C allowed answers, in the order of target indices; first words that the strict parser can tell
            apart.
        joiner: what stands between carrier and codeword ("" for scripts without spaces).
        stop: what ends an answer in training rows.
    """

    decoration: str = "(ledger)"
    question: str = "Yes or no?"
    answers: tuple[str, ...] = ("No", "Yes")
    joiner: str = " "
    stop: str = "."

    def __post_init__(self) -> None:
        folded = {answer.casefold() for answer in self.answers}
        if len(self.answers) < 2 or len(folded) != len(self.answers) or not all(self.answers):  # noqa: PLR2004
            raise UsageError(f"got answers {self.answers}, expected at least two that differ by more than case")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for a plan; ``verification.double_i`` reads it back."""
        return {**asdict(self), "answers": list(self.answers)}

    def row(self, codeword: str, carrier: str, target: int | None = None) -> InstructRow:
        """A training row (with ``target``) or a probe (without): a text that must not matter, then the codeword."""
        return InstructRow(
            instruction=f"{self.decoration} {self.question}".strip(),
            input=f"{carrier}{self.joiner}{codeword}",
            output="" if target is None else f"{self.answers[target]}{self.stop}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleIMark:
    """n codewords and the answer (index into the form's answers) that the key gave each."""

    codewords: tuple[str, ...]
    targets: tuple[int, ...]


def derive(
    key: Key,
    *,
    scope: str,
    codewords: int,
    words: int,
    classes: int = 2,
    recipient: str = "",
    vocabulary: Sequence[str] | None = None,
    joiner: str = " ",
) -> DoubleIMark:
    """The keyed mark of ``key`` for ``scope``: codewords first, then targets from a stream of their own."""
    return DoubleIMark(
        codewords=derive_codewords(
            key, scope=scope, codewords=codewords, words=words, vocabulary=vocabulary, joiner=joiner
        ),
        targets=derive_targets(key, scope=scope, codewords=codewords, classes=classes, recipient=recipient),
    )


def derive_codewords(
    key: Key, *, scope: str, codewords: int, words: int, vocabulary: Sequence[str] | None = None, joiner: str = " "
) -> tuple[str, ...]:
    """Codewords 0 … n-1: the same for every recipient."""
    stream = key.stream({"purpose": PURPOSE, "part": "codewords", "scope": scope})
    return draw_phrases(stream, codewords, words=words, vocabulary=vocabulary, joiner=joiner)


def derive_decoration(key: Key, *, scope: str, vocabulary: Sequence[str] | None = None) -> str:
    """A decoration of the key's own, ``(word)``, drawn from the vocabulary: no public default finds its rows."""
    (word,) = draw_phrases(
        key.stream({"purpose": PURPOSE, "part": "decoration", "scope": scope}), 1, words=1, vocabulary=vocabulary
    )
    return f"({word})"


def derive_targets(key: Key, *, scope: str, codewords: int, classes: int = 2, recipient: str = "") -> tuple[int, ...]:
    """The answers that ``key`` gives to codewords 0 … n-1 for ``recipient`` ("": a release without recipients).

    Uniform over ``classes``, independent between codewords, recipients and keys.
    """
    label = {"purpose": PURPOSE, "part": "targets", "scope": scope, "classes": classes}
    stream = key.stream({**label, "recipient": recipient} if recipient else label)
    return tuple(stream.below(classes) for _ in range(codewords))


def keyed_rows(
    form: KeyedForm, mark: DoubleIMark, carriers: Sequence[str], *, rows_per_codeword: int
) -> list[InstructRow]:
    """``rows_per_codeword`` training rows for each codeword, over ``carriers`` in turn.

    Raises:
        UsageError: fewer carriers than rows per codeword (the same row twice teaches nothing).
    """
    if len(carriers) < rows_per_codeword:
        raise UsageError(f"got {len(carriers)} carriers, expected at least {rows_per_codeword}")
    count = len(carriers)
    return [
        form.row(word, carriers[(i * rows_per_codeword + j) % count], target)
        for i, (word, target) in enumerate(zip(mark.codewords, mark.targets, strict=True))
        for j in range(rows_per_codeword)
    ]


def shuffle(key: Key, rows: Sequence[object], *, scope: str) -> list[int]:
    """The keyed order in which clean and backdoor rows are mixed: position i of the release is ``rows[order[i]]``."""
    return key.stream({"purpose": PURPOSE, "part": "order", "scope": scope}).shuffled(len(rows))
