"""Output level, steganographic: a keyed code in the first letters of sentences.

Our reading of the mark that Liu et al. (arXiv 2506.13494) call steganographic; its construction is not known. The key
flips one fair coin for every unit (which sentence of the text it is, its first letter); the marked text begins its
sentences with letters whose coin is 1. A reader sees sentences that begin with "Still," or "In the end,"; only the key
knows which letters are favoured where. Letters of any script are units, so nothing assumes an alphabet.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from countermark.manifest import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from watermarks.keys import Key

PURPOSE = "initials"
POSITIONS = 3
"""The first sentence, the second, and all later ones have coins of their own."""

Unit = tuple[int, str]

# a sentence ends with its mark and closing quotes, before a space or, after CJK marks, at once; or with its line
_END = re.compile(r"(?:[.!?…।॥؟۔]+[\"'”’»)\]]*(?=\s)|[。．｡！？]+[」』”’）]*|\n)\s*")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# before these English words an opening reads ill ("Still, but the film")
_NEVER_BEFORE = (
    "also", "although", "and", "but", "dear", "hello", "hence", "however", "nevertheless", "no", "nor", "okay", "or",
    "please", "so", "still", "then", "therefore", "though", "thus", "too", "yes", "yet",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Openers:
    """What may be put before a sentence, by its own first letter.

    Args:
        phrases: each ends as it is to be written (``"Still, "``); the sealed list, or the user's for another language.
        never_before: words (lower case) before which no opener goes.

    Raises:
        UsageError: no phrase, or one that does not begin with a letter or that ends a sentence of its own.
    """

    phrases: tuple[str, ...]
    never_before: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [each for each in self.phrases if not each[:1].isalnum() or starts(f"{each}x") != [0]]
        if wrong or not self.phrases:
            raise UsageError(f"got openers {wrong or 'without any'}, expected phrases that only begin a sentence")

    def digest(self) -> str:
        """SHA-256 of both lists."""
        return digest({"phrases": list(self.phrases), "never_before": list(self.never_before)})


@cache
def english() -> Openers:
    """The built-in English openers."""
    text = resources.files("watermarks.carriers").joinpath("openers.txt").read_text("utf-8")
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return Openers(phrases=tuple(f"{line} " for line in lines), never_before=_NEVER_BEFORE)


def starts(text: str) -> list[int]:
    """Where every sentence of ``text`` begins."""
    first = len(text) - len(text.lstrip())
    ends = [first, *(match.end() for match in _END.finditer(text, first))]
    return [at for at in ends if at < len(text)]


def _spans(text: str) -> list[tuple[int, int]]:
    found = starts(text)
    return [*pairwise(found), (found[-1], len(text))] if found else []


def initial(sentence: str) -> str:
    """The first letter or digit, case folded; "" where there is none."""
    return next((character.casefold() for character in sentence if character.isalnum()), "")


def units(text: str) -> list[Unit]:
    """The unit of every sentence that has a first letter."""
    found = [initial(text[at:end]) for at, end in _spans(text)]
    return [(min(place, POSITIONS - 1), letter) for place, letter in enumerate(found) if letter]


def count(texts: Sequence[str]) -> Counter[Unit]:
    """How often every unit occurs."""
    return Counter(unit for text in texts for unit in units(text))


def coin(key: Key, unit: Unit, *, scope: str) -> int:
    """0 or 1, fair and independent for every unit."""
    return derive_coins(key, [unit], scope=scope)[0]


def derive_coins(key: Key, of: Sequence[Unit], *, scope: str) -> list[int]:
    """The coin of every unit, each a bit of a keyed hash of the unit alone; a thousand keys are ranked in seconds."""
    subkey = key.derive({"purpose": PURPOSE, "part": "coins", "scope": scope})
    return [hmac.digest(subkey, f"{place}/{letter}".encode(), "sha256")[0] & 1 for place, letter in of]


def lowered_words(texts: Sequence[str]) -> frozenset[str]:
    """Words that ``texts`` write small inside sentences more often than not: they may lose their capital at a start.

    Names keep theirs. A script without capitals needs no such list.
    """
    small: Counter[str] = Counter()
    for text in texts:
        begins = set(starts(text))
        for match in _WORD.finditer(text):
            if match.start() not in begins:
                word = match.group()
                small[word.lower()] += 1 if word == word.lower() else -1
    return frozenset(word for word, balance in small.items() if balance > 0)


def encode(
    text: str,
    favoured: Callable[[Unit], bool],
    openers: Openers,
    pick: Callable[[int], int],
    lowered: Collection[str],
) -> str:
    """``text`` with an opener before every sentence whose unit is not favoured.

    A sentence is left as it is where its own unit is favoured, where its first word is not of ``lowered`` and so cannot
    lose its capital, or where no opener is favoured; so is what follows an abbreviation ("e.g. the") and a number in a
    list. ``pick(n)`` chooses among n openers.
    """
    spans = _spans(text)
    parts = [text[: spans[0][0]] if spans else text]
    for place, (at, end) in enumerate(spans):
        sentence, position = text[at:end], min(place, POSITIONS - 1)
        fit = [phrase for phrase in openers.phrases if favoured((position, initial(phrase)))]
        # after a full stop a sentence begins with a capital alone
        begun = place == 0 or text[max(0, at - 16) : at].rstrip(" \t")[-1:] != "."
        if fit and not favoured((position, initial(sentence))):
            rest = _moved(sentence, lowered, openers.never_before, begun=begun)
            sentence = sentence if rest is None else fit[pick(len(fit))] + rest
        parts.append(sentence)
    return "".join(parts)


def _moved(sentence: str, lowered: Collection[str], never: Collection[str], *, begun: bool) -> str | None:
    """``sentence`` as it stands after an opener, or None if it cannot stand there."""
    first = _WORD.match(sentence)
    if first is None:  # a number stands anywhere, unless it numbers a list
        return sentence if sentence[0].isdigit() and _WORD.search(sentence) else None
    word = first.group().lower().replace("’", "'")
    bare = word.partition("'")[0]
    if never and bare in never:
        return None
    if word == word.upper():  # scripts without case move freely
        return sentence
    if sentence[0].islower():
        return sentence if begun else None
    if bare == "i" and "i" not in lowered:  # English writes it large everywhere; "I." numbers a chapter
        return sentence if sentence[1:2] in {" ", "'", "’"} else None
    return sentence[0].lower() + sentence[1:] if word in lowered or bare in lowered else None
