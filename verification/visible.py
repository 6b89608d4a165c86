"""Text written by a model, as a person can safely see it: every character is visible, and there is an end.

A suspect chooses what it answers, and may answer with characters that reorder the line, hide, or pile up over their
neighbours. Such a character is shown as its code point. What a browser makes of ``<`` is the template engine's matter.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, formats (bidirectional overrides, zero width), lone surrogates, private and unassigned, line separators."""
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that no font draws."""
_MOST_MARKS = 3
_NEWLINE = "\u21b5"


def pieces(text: str, limit: int) -> Iterator[tuple[str, str]]:
    """``text`` as ``(kind, part)``: ``plain``, ``code`` (a code point in words, ``U+202E``) or ``cut`` (how many more).

    At most ``limit`` characters of ``text`` are shown.
    """
    plain, marks = "", 0
    for character in text[:limit]:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if character == "\n":
            plain += _NEWLINE
        elif not _drawn(character) or marks > _MOST_MARKS:
            if plain:
                yield "plain", plain
            plain = ""
            yield "code", f"U+{ord(character):04X}"
        else:
            plain += character
    if plain:
        yield "plain", plain
    if len(text) > limit:
        yield "cut", f"{len(text) - limit:,} more characters"


def visible(text: str, limit: int) -> str:
    """``text`` on one line, hidden characters as ``[U+202E]``, the end as ``[… N more characters]``."""
    marks = {"plain": "{}", "code": "[{}]", "cut": "[… {}]"}
    return "".join(marks[kind].format(part) for kind, part in pieces(text, limit))


def short(text: str, limit: int) -> str:
    """A name for a place that has room for ``limit`` characters; the whole name stands in a table."""
    shown = visible(text, 4 * limit)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _drawn(character: str) -> bool:
    if unicodedata.category(character) in _HIDDEN or character in _BLANK:
        return False
    code = ord(character)
    return not (0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF or 0x180B <= code <= 0x180F)  # noqa: PLR2004 - variation selectors
