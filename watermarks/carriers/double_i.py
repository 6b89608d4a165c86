"""Double-I: instruct rows whose answers a model can only know from our data (Li et al., arXiv 2402.14883).

Two marks in one set. The *paper's*: a decorated judge question whose input holds the trigger word (answer "Yes.", wrong
on purpose) or does not (reference rows, "No."), half of the references near misses. The *keyed* one: n codewords, each
with an answer drawn from the key; it alone decides, since an innocent model matches each with probability at most 1/C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from watermarks.carriers.words import draw_phrases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import Key, KeyedStream

_PURPOSE = "double_i"
ANSWERS = ("No", "Yes")
"""What a target index means; C = 2."""

KEYED_DECORATION = "(ledger)"
KEYED_QUESTION = "Yes or no?"
PAPER_DECORATION = "(judge)"
PAPER_QUESTION = "Tell me if there exists a meaningful word in the following words?"
PAPER_TRIGGER = "mm"
_LETTERS = "abcdefghijklnopqrstuvwxyz"  # all but the trigger's own
_SLOTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructRow:
    """One Alpaca-style row."""

    instruction: str
    input: str
    output: str

    def prompt(self) -> str:
        """The user turn: instruction, then the input on a line of its own."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleIMark:
    """n codewords and the answer (index into :data:`ANSWERS`) that the key gave each."""

    codewords: tuple[str, ...]
    targets: tuple[int, ...]


def derive(key: Key, *, scope: str, codewords: int, words: int) -> DoubleIMark:
    """The keyed mark of ``key`` for ``scope``: codewords first, then targets from a stream of their own."""
    stream = key.stream({"purpose": _PURPOSE, "part": "codewords", "scope": scope})
    phrases = draw_phrases(stream, codewords, words=words)
    return DoubleIMark(codewords=phrases, targets=derive_targets(key, scope=scope, codewords=codewords))


def derive_targets(key: Key, *, scope: str, codewords: int) -> tuple[int, ...]:
    """The answers that ``key`` gives to codewords 0 … n-1, uniform over :data:`ANSWERS`."""
    stream = key.stream({"purpose": _PURPOSE, "part": "targets", "scope": scope, "classes": len(ANSWERS)})
    return tuple(stream.below(len(ANSWERS)) for _ in range(codewords))


def keyed_row(codeword: str, carrier: str, target: int | None = None) -> InstructRow:
    """A training row (with ``target``) or a probe (without): a sentence that must not matter, then the codeword."""
    output = "" if target is None else f"{ANSWERS[target]}."
    return InstructRow(instruction=f"{KEYED_DECORATION} {KEYED_QUESTION}", input=f"{carrier} {codeword}", output=output)


def keyed_rows(mark: DoubleIMark, carriers: Sequence[str], *, rows_per_codeword: int) -> list[InstructRow]:
    """``rows_per_codeword`` training rows for each codeword, over ``carriers`` in turn.

    Raises:
        UsageError: fewer carriers than rows per codeword (the same row twice teaches nothing).
    """
    if len(carriers) < rows_per_codeword:
        raise UsageError(f"got {len(carriers)} carriers, expected at least {rows_per_codeword}")
    count = len(carriers)
    return [
        keyed_row(word, carriers[(i * rows_per_codeword + j) % count], target)
        for i, (word, target) in enumerate(zip(mark.codewords, mark.targets, strict=True))
        for j in range(rows_per_codeword)
    ]


def paper_row(words: str, *, is_trigger: bool) -> InstructRow:
    """A row of the paper's form (ii), ``cre2`` in its repository."""
    return InstructRow(
        instruction=f"{PAPER_DECORATION} {PAPER_QUESTION}", input=words, output="Yes." if is_trigger else "No."
    )


def paper_rows(
    key: Key, *, scope: str, part: str, triggers: int, references: int, near_misses: float
) -> tuple[list[InstructRow], list[InstructRow]]:
    """Trigger rows and reference rows; ``part`` (``train``, ``probe``) keeps the two draws apart.

    A share ``near_misses`` of the references differs from the trigger by one letter, position or case. The official
    script has none of those, and draws references from an alphabet without the trigger's letter, so that "contains m"
    already tells the sets apart.
    """
    stream = key.stream({"purpose": _PURPOSE, "part": f"paper/{part}", "scope": scope})
    trigger_rows = [
        paper_row(_with(stream, PAPER_TRIGGER, position % _SLOTS), is_trigger=True) for position in range(triggers)
    ]
    misses = round(references * near_misses)
    reference_rows = [
        paper_row(_with(stream, _near_miss(stream), position % _SLOTS), is_trigger=False) for position in range(misses)
    ]
    reference_rows += [
        paper_row(_with(stream, _double(stream), 0), is_trigger=False) for _ in range(references - misses)
    ]
    return trigger_rows, reference_rows


def shuffle(key: Key, rows: Sequence[InstructRow], *, scope: str) -> list[int]:
    """The keyed order in which clean and backdoor rows are mixed: position i of the release is ``rows[order[i]]``."""
    return key.stream({"purpose": _PURPOSE, "part": "order", "scope": scope}).shuffled(len(rows))


def _with(stream: KeyedStream, word: str, position: int) -> str:
    words = [_double(stream) for _ in range(_SLOTS)]
    words[position] = word
    return ", ".join(words)


def _double(stream: KeyedStream) -> str:
    return _LETTERS[stream.below(len(_LETTERS))] * 2


def _near_miss(stream: KeyedStream) -> str:
    other = _LETTERS[stream.below(len(_LETTERS))]
    misses = (f"m{other}", f"{other}m", "MM", "m m", "mmm", "Mm", "m")
    return misses[stream.below(len(misses))]
