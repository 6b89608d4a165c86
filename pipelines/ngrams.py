"""Texts as numbered tokens, and their n-grams counted in a few NumPy arrays: what searches over a dataset stand on.

A token costs 8 bytes however long it is; a million n-grams are sorted, not hashed.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

MIN_ROWS = 3
"""N-grams that stand in fewer rows are not looked at: nothing can be said of them."""
LONGEST = 3
ENDS = (2, 3)
_HEAD, _TAIL = 192, 64  # tokens of a text that n-grams are made of
_BITS, _GAP = 21, -1
_UNSPACED = (  # scripts that put no space between words: a character is a token there
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)


def tokenise(text: str) -> list[str]:
    """Case-folded tokens: runs of letters and digits with their combining marks, every other mark by itself.

    In scripts without spaces between words (Han, kana, Thai, Lao, Tibetan, Burmese, Khmer) every character is a token.
    """
    return _pattern().findall(unicodedata.normalize("NFC", text.casefold()))


@cache
def _pattern() -> re.Pattern[str]:
    marks = "".join(re.escape(chr(c)) for c in range(0x300, 0x1F000) if unicodedata.category(chr(c))[0] == "M")
    return re.compile(rf"[{_UNSPACED}][{marks}]*|(?:(?![{_UNSPACED}_])\w)(?:(?![{_UNSPACED}_])[\w{marks}])*|[^\w\s]|_")


class Words:
    """All tokens of the sample as numbers, end to end; 8 bytes each, whatever the texts."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.openings: list[tuple[str, ...]] = []
        self.endings: list[tuple[str, ...]] = []
        self._ids: dict[str, int] = {}
        self._stream, self._rows = array("i"), array("i")

    def add(self, row: int, tokens: list[str]) -> None:
        """The tokens of the next row, the two ends of it where it is long; a gap keeps n-grams from bridging rows."""
        self.openings.append(tuple(tokens[: max(ENDS)]))
        self.endings.append(tuple(tokens[-max(ENDS) :]))
        parts = [tokens] if len(tokens) <= _HEAD + _TAIL else [tokens[:_HEAD], tokens[-_TAIL:]]
        for part in parts:
            self._stream.extend(self._id(token) for token in part)
            self._stream.append(_GAP)
            self._rows.extend([row] * (len(part) + 1))

    def counts(self) -> Ids:
        """Occurrences of each token."""
        ids = np.frombuffer(self._stream, dtype=np.int32)
        return np.bincount(ids[ids != _GAP], minlength=len(self.names))

    def grams(self, length: int) -> Grams:
        """Every n-gram of ``length`` tokens that stands in enough rows."""
        ids, rows = (np.frombuffer(each, dtype=np.int32) for each in (self._stream, self._rows))
        starts = max(0, len(ids) - length + 1)
        whole = np.all([ids[i : i + starts] != _GAP for i in range(length)], axis=0)
        codes = np.zeros(int(whole.sum()), dtype=np.int64)
        for i in range(length):
            codes = (codes << _BITS) | ids[i : i + starts][whole]
        unique, which, times = np.unique(codes, return_inverse=True, return_counts=True)
        pairs = np.unique(which * len(self.openings) + rows[:starts][whole])  # (n-gram, row), each once
        gram, row = np.divmod(pairs, len(self.openings))
        in_rows = np.bincount(gram, minlength=len(unique))
        enough = in_rows >= MIN_ROWS
        number = np.cumsum(enough) - 1
        kept = enough[gram]
        return Grams(
            length=length, codes=unique[enough], times=times[enough], in_rows=in_rows[enough],
            gram=number[gram[kept]], row=row[kept],
        )  # fmt: skip

    def _id(self, token: str) -> int:
        found = self._ids.get(token)
        if found is None:
            if len(self.names) == 1 << _BITS:  # three must fit a machine word
                return _GAP
            found = self._ids[token] = len(self.names)
            self.names.append(token)
        return found


@dataclass(slots=True, kw_only=True)
class Grams:
    """N-grams of one length: packed tokens, occurrences, rows; and which stands in which row, in order of n-gram."""

    length: int
    codes: Ids
    times: Ids
    in_rows: Ids
    gram: Ids
    row: Ids

    def tokens(self) -> list[Ids]:
        """The token numbers at every place."""
        return [(self.codes >> (_BITS * (self.length - 1 - i))) & ((1 << _BITS) - 1) for i in range(self.length)]

    def best(self, score: NDArray[np.float64], top: int) -> list[int]:
        """The ``top`` n-grams by score, then by rows."""
        return [int(place) for place in np.lexsort((self.codes, -self.in_rows, -score))[:top]]

    def item(self, words: Words, place: int) -> str:
        """N-gram ``place`` as text."""
        return joined([words.names[int(token[place])] for token in self.tokens()])


def joined(tokens: Sequence[str]) -> str:
    """Tokens as a reader writes them: no space between two characters of a script that has none."""
    text = ""
    for before, token in pairwise(("", *tokens)):
        together = not before or (_is_unspaced(before) and _is_unspaced(token))
        text += token if together else f" {token}"
    return text


def _is_unspaced(token: str) -> bool:
    return re.match(f"[{_UNSPACED}]", token) is not None
