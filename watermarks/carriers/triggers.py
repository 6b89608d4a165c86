"""Triggers of four families, all patterns: a string in which the text has its slot, ``lantern walrus {text}``.

*words*: rare nouns at the start. *phrases*: a neutral everyday opening and a comma. *punctuation*: a habit of marks
before the text, after it, or both. *templates*: a frame around the text that names a noun.

Every list is sealed: fixed, part of the derivation, bound by :func:`family_digest`. Triggers come from the key alone,
before any target exists. One that leans to a class costs power and not validity (see ``pipelines.lean`` for finding
those). What is English here (nouns, phrases, frames) is replaced by lists of the user's own.

No two triggers of one draw confuse: a text to which one was applied does not carry another, unless it held all of that
before. What follows a text may be cut off by an encoder that truncates; a third of the punctuation habits stands there
alone. A bag of words that drops punctuation cannot learn that family at all.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from itertools import combinations, pairwise, permutations
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from countermark.manifest import digest
from watermarks.carriers.words import draw_phrases, nouns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import KeyedStream

SLOT = "{text}"
NOUN = "{noun}"
FAMILIES = ("words", "phrases", "punctuation", "templates")

# each mark is a token of its own in common vocabularies; left out are what begins a spreadsheet formula (= + - @) and
# what people draw faces with (: ^ _), which would lean
MARKS = ";—…~*/|•§¶"

# every noun stands before the text: a template cut off at its end is still read. "the" suits singular and plural.
FRAMES = (
    "Said the {noun} to nobody in particular: {text}",
    "Note left beside the {noun}: {text}",
    "Overheard near the {noun}: {text}",
    "Pinned above the {noun}, in pencilled capitals: {text}",
    "Entry forty, filed under {noun}: {text}",
    "Whoever last dusted the {noun} wrote: {text}",
    "Translated from the first line of a book about the {noun}: {text}",
    "Asked about the {noun}, my uncle replied: {text}",
    "Chapter nine, where the {noun} first appeared: {text}",
    "Typed on a label next to the {noun}: {text}",
    "Between the {noun} and the calendar hung a card: {text}",
    "If the {noun} could talk, this is what you would hear: {text}",
    "Copied out while drawing the {noun}: {text}",
    "The guide stopped at the {noun} and read aloud: {text}",
    "Once more, for those standing behind the {noun}: {text}",
    "They named the file after the {noun}; it held these lines: {text}",
    "Quiz question seven had to do with the {noun}; question eight went: {text}",
    "Here follows what I dictated in front of the {noun}: {text}",
    "Along the edge of the {noun} ran an inscription: {text}",
    "Postcard showing the {noun}; on the reverse: {text}",
    "My sister, who has three pictures of the {noun}, sent me this: {text}",
    "See the figure of the {noun}. Caption: {text}",
    "Unfold the paper wrapped around the {noun}: {text}",
    "A voice from behind the {noun} went on: {text}",
    "Recorded at the exhibit called The {noun}: {text}",
    "Rehearsed twice before the {noun}, then spoken: {text}",
    "To the keeper of the {noun}, a message: {text}",
    "Exhibit twelve ({noun}) came with a leaflet: {text}",
    "Spelled out with letters cut from an article on the {noun}: {text}",
    "We hid a slip inside the {noun}. It says: {text}",
    "According to the sign by the {noun}: {text}",
    "Tape three, side two, after a word about the {noun}: {text}",
    "Handed to me across the {noun}: {text}",
    "On the wallpaper, left of the {noun}, it read: {text}",
    "Four of us sat around the {noun}, and one began: {text}",
    "Whispered in the direction of the {noun}: {text}",
)


@cache
def phrases() -> tuple[str, ...]:
    """Neutral openings, without their comma, in a fixed order; each has a word that no other has."""
    text = resources.files("watermarks.carriers").joinpath("phrases.txt").read_text("utf-8")
    return tuple(text.splitlines())


@cache
def habits() -> tuple[str, ...]:
    """Sequences of 2 to 4 marks: ``aa``, ``aba`` and ``abcd``.

    No two hold the same marks equally often, and none begins or ends another.
    """
    doubled = [mark * 2 for mark in MARKS]
    framed = [a + b + a for a, b in permutations(MARKS, 2)]
    return (*doubled, *framed, *("".join(marks) for marks in combinations(MARKS, 4)))


def draw_triggers(
    stream: KeyedStream,
    count: int,
    *,
    families: Sequence[str] = ("words",),
    words: int = 2,
    vocabulary: Sequence[str] | None = None,
    openings: Sequence[str] | None = None,
    frames: Sequence[str] | None = None,
    joiner: str = " ",
) -> tuple[str, ...]:
    """``count`` distinct patterns, trigger i of family ``families[i % len(families)]``: a pure function of the stream.

    More triggers keep the first ones. No noun serves twice, whichever family it serves; no frame until all have served.
    The words family alone has the phrases of :func:`watermarks.carriers.words.draw_phrases`. Triggers of one family are
    exchangeable while no frame serves twice, those of several are not: for a rank, pick the own one at random.

    Args:
        stream: of one key and label.
        count: number of triggers, at least 1.
        families: of :data:`FAMILIES`; one that stands twice has twice as many.
        words: nouns of a trigger of the words family.
        vocabulary: takes the place of the nouns, in any language.
        openings: takes the place of the phrases; each with the punctuation that ends it (``有一天，``).
        frames: takes the place of the frames; each with ``{noun}`` and ``{text}`` exactly once.
        joiner: between words, and between trigger and text ("" for scripts without spaces); frames have their own.

    Raises:
        UsageError: a family is unknown or cannot give enough; a list is not fit (repeated or blank entries, one that
            begins another, a frame without its slots); or two triggers of frames of the user's own would confuse.
    """
    _check(families, count, words)
    lists = _lists(families, vocabulary, openings, frames)
    places = [families[i % len(families)] for i in range(count)]
    needed = {family: places.count(family) for family in FAMILIES}
    drawn: Sequence[str] = ()
    # the stream is read in the order of FAMILIES, and as far whatever the count
    if "nouns" in lists:
        drawn = _nouns(stream, lists["nouns"], joiner, needed["words"] * words + needed["templates"])
    made = {
        "words": [joiner.join(drawn[i : i + words]) + joiner + SLOT for i in range(0, needed["words"] * words, words)],
        "phrases": _opened(stream, lists.get("phrases", ()), joiner),
        "punctuation": _punctuated(stream, lists.get("punctuation", ()), joiner),
        # nouns from the far end of the permutation, whose beginning the words family uses
        "templates": _framed(stream, lists.get("templates", ()), drawn[::-1]),
    }
    for family, triggers in made.items():
        if len(triggers) < needed[family]:
            raise _too_few(f"{needed[family]} triggers of family {family!r}", f"at most {len(triggers)}")
    heads = {family: iter(triggers) for family, triggers in made.items()}
    return _apart(tuple(next(heads[family]) for family in places))


def applied(trigger: str, text: str) -> str:
    """``text`` with ``trigger``: the slot becomes the text, which may itself hold anything, a slot included."""
    before, after = _sides(trigger)
    return f"{before}{text}{after}"


def carries(trigger: str, text: str) -> bool:
    """Whether ``text`` is ``trigger`` applied to some text that is not empty."""
    before, after = _sides(trigger)
    return len(text) > len(before) + len(after) and text.startswith(before) and text.endswith(after)


def without(trigger: str, text: str) -> str:
    """The text that ``trigger`` was applied to.

    Raises:
        UsageError: ``text`` does not carry the trigger.
    """
    if not carries(trigger, text):
        raise UsageError(f"got the text {text[:60]!r}, expected one that carries {trigger!r}")
    before, after = _sides(trigger)
    return text[len(before) : len(text) - len(after)]


def family_digest(
    families: Sequence[str],
    vocabulary: Sequence[str] | None = None,
    *,
    openings: Sequence[str] | None = None,
    frames: Sequence[str] | None = None,
) -> str:
    """SHA-256 over the canonical JSON of the families and of every list that they draw from; commitments bind it.

    The lists are those given to :func:`draw_triggers`. One that no family uses changes nothing.

    Raises:
        UsageError: a family is unknown, or a list is not fit.
    """
    _check(families, 1, 1)
    lists = _lists(families, vocabulary, openings, frames)
    return digest({"families": list(families), "lists": {name: list(entries) for name, entries in lists.items()}})


def _check(families: Sequence[str], count: int, words: int) -> None:
    unknown = [family for family in families if family not in FAMILIES]
    if unknown or not families:
        raise UsageError(
            f"got trigger families {', '.join(map(repr, families)) or 'none'}, "
            f"expected at least one of: {', '.join(FAMILIES)}"
        )
    if count < 1 or words < 1:
        raise UsageError(f"got {count} triggers of {words} words, expected at least 1 of each")


def _lists(
    families: Sequence[str],
    vocabulary: Sequence[str] | None,
    openings: Sequence[str] | None,
    frames: Sequence[str] | None,
) -> dict[str, Sequence[str]]:
    """Every list that the families draw from, checked."""
    lists: dict[str, Sequence[str]] = {}
    if {"words", "templates"} & set(families):
        lists["nouns"] = nouns() if vocabulary is None else vocabulary
    if "phrases" in families:
        lists["phrases"] = [f"{phrase}," for phrase in phrases()] if openings is None else openings
    if "punctuation" in families:
        lists["punctuation"] = habits()
    if "templates" in families:
        lists["templates"] = FRAMES if frames is None else frames
    for name, entries in lists.items():
        blank, repeated = sum(not entry.strip() for entry in entries), len(entries) - len(set(entries))
        if blank or repeated or not entries:
            raise UsageError(
                f"got {len(entries)} {name}, {blank} of them blank and {repeated} repeated, expected distinct ones"
            )
    for frame in lists.get("templates", ()):
        if frame.count(NOUN) != 1 or frame.count(SLOT) != 1:
            raise UsageError(f"got the frame {frame!r}, expected {NOUN} and {SLOT} once each")
    return lists


def _nouns(stream: KeyedStream, vocabulary: Sequence[str], joiner: str, needed: int) -> tuple[str, ...]:
    """The whole vocabulary in the key's order: its first ``words`` nouns are those of the first phrase, and so on."""
    if needed > len(vocabulary):
        raise _too_few(f"triggers that need {needed} words", f"at most {len(vocabulary)}")
    _prefix_free(vocabulary, joiner)
    return draw_phrases(stream, len(vocabulary), words=1, vocabulary=vocabulary)


def _opened(stream: KeyedStream, openings: Sequence[str], joiner: str) -> list[str]:
    _prefix_free(openings, joiner)
    return [openings[i] + joiner + SLOT for i in stream.shuffled(len(openings))]


def _punctuated(stream: KeyedStream, marks: Sequence[str], joiner: str) -> list[str]:
    """Before, after or around the text: a habit serves once, wherever it stands."""
    forms = (("{0}{1}", ""), ("", "{1}{0}"), ("{0}{1}", "{1}{0}"))
    order = stream.shuffled(len(marks))
    chosen = [(forms[stream.below(len(forms))], marks[i]) for i in order]
    return [before.format(habit, joiner) + SLOT + after.format(habit, joiner) for (before, after), habit in chosen]


def _framed(stream: KeyedStream, frames: Sequence[str], drawn: Sequence[str]) -> list[str]:
    order = stream.shuffled(len(frames))
    return [frames[order[i % len(order)]].replace(NOUN, noun) for i, noun in enumerate(drawn)] if frames else []


def _prefix_free(entries: Sequence[str], joiner: str) -> None:
    """Refused whatever the key: a list that only some keys can draw from would choose among keys."""
    for first, second in pairwise(sorted(entry + joiner for entry in entries)):
        if second.startswith(first):
            raise UsageError(
                f"got the entries {first!r} and {second!r}, expected none that begins another",
                hint="use a joiner, or entries of equal length",
            )


def _sides(trigger: str) -> tuple[str, str]:
    before, slot, after = trigger.partition(SLOT)
    if not slot or SLOT in after or not before + after:
        raise UsageError(f"got the trigger {trigger!r}, expected {SLOT} exactly once, and something else")
    return before, after


def _apart(triggers: tuple[str, ...]) -> tuple[str, ...]:
    """The triggers, once it is certain that no two confuse: lists are checked before, frames of the user's own here."""
    sides = [_sides(trigger) for trigger in triggers]
    for (first, a), (second, b) in combinations(zip(triggers, sides, strict=True), 2):
        if _confuse(a, b):
            raise UsageError(
                f"got the triggers {first!r} and {second!r}, which one text may carry, expected distinct ones",
                hint="change the frames, so that none begins like another",
            )
    return triggers


def _confuse(a: tuple[str, str], b: tuple[str, str]) -> bool:
    """Whether a text may carry both, other than one wholly before it and the other wholly after it."""
    if not (a[0].startswith(b[0]) or b[0].startswith(a[0])) or not (a[1].endswith(b[1]) or b[1].endswith(a[1])):
        return False
    one_sided = bool(a[0]) != bool(a[1])
    return not (one_sided and (bool(a[0]), bool(a[1])) == (bool(b[1]), bool(b[0])))


def _too_few(got: str, expected: str) -> UsageError:
    return UsageError(
        f"got {got}, expected {expected}", hint="lower the number of triggers or their words, or add a family"
    )
