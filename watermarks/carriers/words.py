"""Pronounceable pseudo-words from a key: no dictionary, no meaning that leans to a class, a space of 2³⁰ and more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countermark.errors import UsageError

if TYPE_CHECKING:
    from watermarks.keys import KeyedStream

_ONSETS = ("b", "br", "d", "dr", "f", "g", "gl", "k", "kr", "l", "m", "n", "p", "pl", "r", "s", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
_CODAS = ("", "l", "m", "n", "r", "s", "x", "th")
_TRIES_PER_WORD = 1000


def draw_words(stream: KeyedStream, count: int, *, syllables: int) -> tuple[str, ...]:
    """``count`` distinct pseudo-words of ``syllables`` syllables, in the order in which the key drew them.

    A repeat is drawn again. That looks at triggers alone, so the targets' law is untouched.
    """
    words: dict[str, None] = {}
    for _ in range(count * _TRIES_PER_WORD):
        if len(words) == count:
            return tuple(words)
        words["".join(_syllable(stream) for _ in range(syllables))] = None
    raise UsageError(
        f"got {count} words of {syllables} syllables to draw, expected fewer or longer ones",
        hint="raise the number of syllables",
    )


def _syllable(stream: KeyedStream) -> str:
    return "".join(part[stream.below(len(part))] for part in (_ONSETS, _VOWELS, _CODAS))
