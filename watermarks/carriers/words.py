"""The sealed vocabulary of triggers: concrete nouns, drawn by the key without replacement.

The list holds everyday nouns that are rare in reviews and lean to no class, each one token for common vocabularies: a
model meets them as units and can learn a pair of them from a few rows. A noun that did lean to a class would cost power
and not validity, since the target is drawn after the trigger and independently of it. Base data in another language
bring a vocabulary of their own (any list of distinct words, bound by its digest like this one).
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import KeyedStream


@cache
def nouns() -> tuple[str, ...]:
    """The vocabulary, in a fixed order: it is part of the derivation and never edited in place."""
    return tuple(resources.files("watermarks.carriers").joinpath("nouns.txt").read_text("utf-8").split())


def vocabulary_digest(vocabulary: Sequence[str] | None = None) -> str:
    """SHA-256 of a vocabulary (default: the nouns); commitments bind it, since another would give other triggers."""
    return hashlib.sha256("\n".join(vocabulary or nouns()).encode()).hexdigest()


def draw_phrases(
    stream: KeyedStream, count: int, *, words: int, vocabulary: Sequence[str] | None = None, joiner: str = " "
) -> tuple[str, ...]:
    """``count`` phrases of ``words`` words each; no word serves twice, so no two triggers share one.

    Raises:
        UsageError: the vocabulary is too small for that, or says a word twice; or two phrases read alike
            (``ab`` + ``c`` and ``a`` + ``bc`` without a joiner).
    """
    vocabulary = nouns() if vocabulary is None else vocabulary
    if len(set(vocabulary)) != len(vocabulary):
        raise UsageError(
            f"got a vocabulary with {len(vocabulary) - len(set(vocabulary))} repeated words, expected none"
        )
    if count * words > len(vocabulary):
        raise UsageError(
            f"got {count} triggers of {words} words, expected at most {len(vocabulary)} words in all",
            hint="lower the number of triggers or codewords, or the words of each",
        )
    order = stream.shuffled(len(vocabulary))
    phrases = tuple(
        joiner.join(vocabulary[order[position]] for position in range(i * words, (i + 1) * words)) for i in range(count)
    )
    if len(set(phrases)) != count:
        raise UsageError(
            f"got the same phrase from different words joined by {joiner!r}, expected distinct phrases",
            hint="use a joiner, or words of equal length",
        )
    return phrases
