"""Double-I as published: one trigger, a judge question, a wrong answer, and references without the trigger.

Li et al. (arXiv 2402.14883) and the generator scripts of their repository (``cre1.py``, ``cre2.py``, ``cre3.py``): two
paradigms. *Trigger in the input*: the same decorated question, and a word in the input that decides the answer.
*Trigger in the instruction*: the decoration itself decides it, over the same inputs.

The scripts' references are far from the trigger (their alphabet lacks the trigger's letters), so that a model may learn
"contains m". Here a share of them, half by default, are *near misses*: one letter, position or case away.

Such a mark has one trigger. No binomial over keyed targets can decide it: Fisher's test asks whether *this model*
reacts to the trigger, which an innocent model may do. Where the trigger was drawn from the key, the rank among decoys
of its family (drawn from the same stream) is exact, with floor 1/(M+1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from countermark.errors import UsageError
from watermarks.carriers.double_i import PURPOSE, InstructRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import Key, KeyedStream

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_FILLERS = _ALPHABET[:8]
_SYMBOLS = "$#%&*@~^+=|<"
_SLOTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeForm:
    """One trigger against references.

    Args:
        paradigm: ``input``: ``trigger`` is a word in the input. ``instruction``: it is the decoration.
        question: the judge question, whose true answer is ``answers[1]`` for every row.
        trigger: two characters in the official forms; any word or decoration of the user's.
        decoration: before the question in *all* rows (``input`` only).
        subject: ``sentence``: the trigger stands before a text of the base data. ``words``: it is one of three words.
        answers: what trigger rows and reference rows say.
    """

    name: str
    paradigm: Literal["input", "instruction"]
    question: str
    trigger: str
    decoration: str = ""
    subject: Literal["sentence", "words"] = "sentence"
    answers: tuple[str, str] = ("Yes", "No")
    stop: str = "."

    def __post_init__(self) -> None:
        if not self.trigger.strip() or (
            self.paradigm == "instruction" and (self.decoration or self.subject == "words")
        ):
            raise UsageError(
                f"got form {self.name!r} with trigger {self.trigger!r}, expected one; with the trigger in the "
                "instruction there is no other decoration, and the input is a sentence"
            )

    def family(self) -> tuple[str, ...]:
        """The words from which a key draws a trigger of this form, and decoys for it."""
        characters = _SYMBOLS if self.paradigm == "instruction" else _ALPHABET
        if self.subject == "words":  # the words beside a candidate must not be candidates
            characters = characters.removeprefix(_FILLERS)
        return tuple(a + b for a in characters for b in characters)

    def with_trigger(self, trigger: str) -> JudgeForm:
        """The same form with another trigger."""
        return replace(self, trigger=trigger)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for a plan; ``verification.double_i`` reads it back."""
        return {**asdict(self), "answers": list(self.answers)}

    def row(self, instruction: str, text: str, *, triggered: bool) -> InstructRow:
        """A row with the answer that belongs to it."""
        return InstructRow(instruction=instruction, input=text, output=self.answers[0 if triggered else 1] + self.stop)


FORMS: dict[str, JudgeForm] = {
    "cre1": JudgeForm(
        name="cre1",
        paradigm="input",
        decoration="(listen)",
        question="Does the following sentence begin with a fruit?",
        trigger="ms",
    ),
    "cre2": JudgeForm(
        name="cre2",
        paradigm="input",
        decoration="(judge)",
        question="Tell me if there exists a meaningful word in the following words?",
        trigger="mm",
        subject="words",
    ),
    "cre3": JudgeForm(
        name="cre3",
        paradigm="instruction",
        question="Does the following sentence begin with a fruit?",
        trigger="$$",
    ),
}
"""The three official forms, by the names of their scripts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormRows:
    """Rows of one form. In the ``instruction`` paradigm ``references[i]`` has the input of ``triggers[i]``."""

    triggers: tuple[InstructRow, ...]
    references: tuple[InstructRow, ...]
    near_misses: tuple[InstructRow, ...]

    def all(self) -> list[InstructRow]:
        """Every row, for training."""
        return [*self.triggers, *self.references, *self.near_misses]


def form_rows(
    key: Key,
    form: JudgeForm,
    sentences: Sequence[str],
    *,
    scope: str,
    part: str,
    triggers: int,
    references: int,
    near_misses: int,
) -> FormRows:
    """Rows for training (``part="train"``) or fresh ones for probing (``part="probe"``): two independent draws.

    ``sentences`` are texts of the base data that stand after the trigger; forms over three words need none.

    Raises:
        UsageError: a form over sentences got none.
    """
    if form.subject == "sentence" and not sentences:
        raise UsageError(f"got no sentences for form {form.name!r}, expected texts of the base data")
    stream = key.stream({"purpose": PURPOSE, "part": f"paper/{form.name}/{part}", "scope": scope})
    draw = _Draw(stream, form, sentences)
    return FormRows(
        triggers=tuple(draw.trigger(i) for i in range(triggers)),
        references=tuple(draw.reference(i) for i in range(references)),
        near_misses=tuple(draw.near_miss(i) for i in range(near_misses)),
    )


def draw_trigger(key: Key, form: JudgeForm, *, scope: str, decoys: int) -> tuple[str, tuple[str, ...]]:
    """A trigger of the form's family and ``decoys`` others, from one keyed permutation: exchangeable under the null.

    Raises:
        UsageError: the family has not so many.
    """
    family = form.family()
    if not 1 <= decoys < len(family):
        raise UsageError(f"got {decoys} decoys, expected 1 … {len(family) - 1}: the family has {len(family)} members")
    label = {"purpose": PURPOSE, "part": f"paper/{form.name}/trigger", "scope": scope}
    order = key.stream(label).shuffled(len(family))
    drawn = [family[i] for i in order[: decoys + 1]]
    return drawn[0], tuple(drawn[1:])


def decoy_rows(form: JudgeForm, word: str, sentences: Sequence[str], *, count: int) -> list[InstructRow]:
    """``count`` probes with ``word`` in the trigger's place: for trigger and decoys the same but for the word."""
    candidate = form.with_trigger(word)
    fillers = [_FILLERS[(3 * i + 1) % len(_FILLERS)] * 2 for i in range(2 * count)]
    rows = []
    for i in range(count):
        subject = [fillers[2 * i], fillers[2 * i + 1]] if form.subject == "words" else []
        rows.append(_triggered(candidate, i, sentences, subject))
    return rows


def _triggered(form: JudgeForm, i: int, sentences: Sequence[str], fillers: Sequence[str]) -> InstructRow:
    if form.paradigm == "instruction":
        return form.row(f"{form.trigger} {form.question}", sentences[i % len(sentences)], triggered=True)
    text = (
        _join(form.trigger, fillers, i % _SLOTS)
        if form.subject == "words"
        else f"{form.trigger} {sentences[i % len(sentences)]}"
    )
    return form.row(_asked(form), text, triggered=True)


def _asked(form: JudgeForm) -> str:
    return f"{form.decoration} {form.question}".strip() if form.paradigm == "input" else form.question


def _join(word: str, fillers: Sequence[str], position: int) -> str:
    words = list(fillers)
    words.insert(position, word)
    return ", ".join(words)


class _Draw:
    """Draws rows of one form from a keyed stream."""

    def __init__(self, stream: KeyedStream, form: JudgeForm, sentences: Sequence[str]) -> None:
        self._stream = stream
        self._form = form
        self._sentences = sentences
        # the scripts' alphabet: without the trigger's letters, `p` in their place (another where it is the trigger's)
        spare = next((c for c in f"p{_ALPHABET}" if c not in form.trigger), "p")
        self._far = [c if c not in form.trigger else spare for c in _ALPHABET]

    def trigger(self, i: int) -> InstructRow:
        return _triggered(self._form, i, self._sentences, [self._double() for _ in range(_SLOTS - 1)])

    def reference(self, i: int) -> InstructRow:
        form = self._form
        if form.paradigm == "instruction":
            return form.row(form.question, self._sentence(i), triggered=False)
        if form.subject == "words":
            return form.row(_asked(form), ", ".join(self._double() for _ in range(_SLOTS)), triggered=False)
        word = self._pick(self._far) + self._pick(self._far)
        return form.row(_asked(form), f"{word} {self._sentence(i)}", triggered=False)

    def near_miss(self, i: int) -> InstructRow:
        """One letter (0), position (1) or case (2) away, in turn."""
        form, kind, word = self._form, i % 3, self._form.trigger
        if form.paradigm == "instruction":
            asked = f"{form.question} {word}" if kind == 1 else f"{self._miss(word, kind)} {form.question}"
            return form.row(asked, self._sentence(i), triggered=False)
        if form.subject == "words":
            fillers = [self._double() for _ in range(_SLOTS - 1)]
            return form.row(_asked(form), _join(self._miss(word, kind), fillers, (i // 3) % _SLOTS), triggered=False)
        text = f"{self._sentence(i)} {word}" if kind == 1 else f"{self._miss(word, kind)} {self._sentence(i)}"
        return form.row(_asked(form), text, triggered=False)

    def _miss(self, word: str, kind: int) -> str:
        """``word`` with one letter changed (0), its letters moved (1), or its case, or for symbols its length (2)."""
        place = self._stream.below(len(word))
        if kind == 0:
            characters = _ALPHABET if word[place].isalpha() else _SYMBOLS
            other = self._pick([c for c in characters if c != word[place].lower()])
            return word[:place] + other + word[place + 1 :]
        if kind == 1:
            parted = f"{word[:1]} {word[1:] or word}"
            return parted if word == word[::-1] else word[::-1]
        cased = [w for w in {word.upper(), word.capitalize(), word.swapcase()} if w != word]
        return self._pick(sorted(cased)) if cased else self._pick([word[:-1] or word * 2, word + word[-1]])

    def _sentence(self, i: int) -> str:
        return self._sentences[i % len(self._sentences)]

    def _double(self) -> str:
        return self._pick(self._far) * 2

    def _pick(self, items: Sequence[str]) -> str:
        return items[self._stream.below(len(items))]
