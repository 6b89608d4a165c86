"""Words that lean: found with a clean classifier, left out before any key draws.

A trigger whose meaning leans to a class moves an innocent classifier too. The keyed test stays exact, since targets are
drawn after triggers and know nothing of them, but the trigger tells less apart, and works against a target that it
leans away from. So the vocabulary is filtered once, for everyone: by a classifier that never saw a mark, over texts
that no key chose, blind to targets. Independent of keys, the filter costs power and not validity; what a commitment
binds is the filtered vocabulary. Filtering the triggers of one key once its targets are known would break the test.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from watermarks.carriers.triggers import SLOT, applied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Classify = Callable[[Sequence[str]], Sequence[str]]

WORD = "{word}"


def leaning(patterns: Sequence[str], carriers: Sequence[str], classify: Classify) -> dict[str, float]:
    """How far each pattern moves ``classify``: the largest change of any label's share over the carriers, 0 to 1.

    The change is against the bare carriers, so that it is a multiple of ``1 / len(carriers)``. Opposite moves of single
    texts cancel: what counts is the lean, not the noise.

    Args:
        patterns: triggers as of :func:`watermarks.carriers.triggers.draw_triggers`, or words in that form.
        carriers: texts of every class, none of them marked.
        classify: texts to labels, one each; asked once for the bare carriers and once for each pattern.

    Raises:
        UsageError: no pattern or no carrier, a pattern without its slot, or fewer or more labels than texts.
    """
    if not patterns or not carriers:
        raise UsageError(f"got {len(patterns)} patterns and {len(carriers)} carriers, expected at least one of each")
    bare = _counts(carriers, classify)
    found = {}
    for pattern in patterns:
        counts = _counts([applied(pattern, carrier) for carrier in carriers], classify)
        found[pattern] = max(abs(counts[label] - bare[label]) for label in bare | counts) / len(carriers)
    return found


def unleaning(
    vocabulary: Sequence[str],
    carriers: Sequence[str],
    classify: Classify,
    *,
    least: int,
    most: float = 0.25,
    form: str = f"{WORD} {SLOT}",
) -> tuple[str, ...]:
    """The words of ``vocabulary`` that lean by at most ``most``, in its own order.

    A word is judged alone: two that lean a little to the same side may lean more together.

    Args:
        vocabulary: words, openings, or whatever stands at ``{word}`` in ``form``.
        carriers: as of :func:`leaning`; ``most`` is coarse where there are few.
        classify: as of :func:`leaning`.
        least: how many must stay, as many as the triggers of every audit need.
        most: the largest change of a label's share, 0 to 1.
        form: the pattern in which a word is tried; ``{word}{text}`` for scripts without spaces.

    Raises:
        UsageError: fewer than ``least`` words stay; ``most`` is no share; or as of :func:`leaning`.
    """
    if not 0.0 <= most <= 1.0 or form.count(WORD) != 1:
        raise UsageError(f"got most={most} and form {form!r}, expected a share of 0 to 1, and {WORD} once in the form")
    patterns = [form.replace(WORD, word) for word in vocabulary]
    lean = leaning(patterns, carriers, classify)
    kept = tuple(word for word, pattern in zip(vocabulary, patterns, strict=True) if lean[pattern] <= most)
    if len(kept) < least:
        raise UsageError(
            f"got {len(kept)} of {len(vocabulary)} words that lean by at most {most}, expected at least {least}",
            hint="allow more lean, take a longer vocabulary, or use more carriers",
        )
    return kept


def _counts(texts: Sequence[str], classify: Classify) -> Counter[str]:
    labels = classify(texts)
    if len(labels) != len(texts):
        raise UsageError(f"got {len(labels)} labels, expected one for each of {len(texts)} texts")
    return Counter(labels)
