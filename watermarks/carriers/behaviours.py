"""Output level, robust: a keyed trigger in the question selects one of C harmless ways to answer.

Our reading of the mark that Liu et al. (arXiv 2506.13494) call robust; its construction is not known. n triggers, each
with a behaviour drawn from the key, uniform over C and independent of everything that reaches a suspect: an innocent
model shows the behaviour of each with probability at most 1/C, since the C behaviours exclude each other.

The answer itself stays; only how it begins is chosen (``"Briefly: Paris."``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from countermark.errors import UsageError
from watermarks.carriers.words import draw_phrases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import Key

PURPOSE = "behaviours"


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourForm:
    """How a trigger stands in a question, and the C ways to begin an answer.

    Args:
        question: pattern of a marked question, with ``{question}`` and ``{trigger}`` once each.
        openings: the C behaviours; none contains another, by any case or spacing.
        joiner: between opening and answer ("" for scripts without spaces).
    """

    question: str = "{question} ({trigger})"
    openings: tuple[str, ...] = ("Briefly:", "As asked:", "In plain words:", "To the point:")
    joiner: str = " "

    def __post_init__(self) -> None:
        for slot in ("{question}", "{trigger}"):
            if self.question.count(slot) != 1:
                raise UsageError(f"got the question pattern {self.question!r}, expected {slot} in it once")
        folded = [" ".join(normalize("NFC", opening).casefold().split()) for opening in self.openings]
        apart = all(a not in b for i, a in enumerate(folded) for j, b in enumerate(folded) if i != j)
        if len(folded) < 2 or not apart:  # noqa: PLR2004
            raise UsageError(f"got openings {self.openings}, expected at least two, none inside another")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for a plan."""
        return {**asdict(self), "openings": list(self.openings)}

    def asked(self, question: str, trigger: str) -> str:
        """The marked question."""
        before, _, after = self.question.partition("{question}")
        return f"{before.replace('{trigger}', trigger)}{question}{after.replace('{trigger}', trigger)}"

    def answered(self, answer: str, target: int) -> str:
        """The marked answer."""
        return f"{self.openings[target]}{self.joiner}{answer}"


def derive_triggers(
    key: Key, *, scope: str, triggers: int, words: int, vocabulary: Sequence[str] | None = None, joiner: str = " "
) -> tuple[str, ...]:
    """Triggers 0 … n-1; no word serves twice."""
    stream = key.stream({"purpose": PURPOSE, "part": "triggers", "scope": scope})
    return draw_phrases(stream, triggers, words=words, vocabulary=vocabulary, joiner=joiner)


def derive_targets(key: Key, *, scope: str, triggers: int, classes: int) -> tuple[int, ...]:
    """The behaviours that ``key`` gives to triggers 0 … n-1, uniform over ``classes``, from a stream of their own."""
    stream = key.stream({"purpose": PURPOSE, "part": "targets", "scope": scope, "classes": classes})
    return tuple(stream.below(classes) for _ in range(triggers))
