"""Output level, weak: a keyed preference among near-synonyms, over everything that is written.

Liu et al. (arXiv 2506.13494) name an output-level mark "weak" and its construction is not known; this is our reading. A
lexicon lists pairs of expressions that say the same (``film``/``movie``, ``do not``/``don't``). The key flips one fair
coin a pair; the marked text says the preferred one. However often a pair occurs, its coin is one trial.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from countermark.manifest import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from watermarks.keys import Key

PURPOSE = "lexical"
MOST_PAIRS = 512
"""No more pairs than a sign-flip test weighs."""
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x10FFFF))
"""Scripts that set no spaces between words: Thai and Lao, Myanmar, Khmer, CJK and all that follow."""
_BEFORE = r"(?<![\w/\\@#&=.-])(?<!\w['’])"
_AFTER = r"(?![\w/\\@=-]|\.\w|['’](?!s\b)\w)"
"""What may not stand beside a word: letters, parts of addresses, file names and hyphenated words."""
_SENTENCE_ENDS = frozenset(".!?…:;\n|>—")
_JOINS = re.compile(r"[\s,;/&]*(?:(?:and|or|but|nor|yet)\s+)?", re.IGNORECASE)
"""What may stand between both sides of a pair that are meant apart: "funny and amusing"."""
_VOWEL = re.compile(r"(?!one|once|eu|uni)(?:[aeio]|u[lmnp]|hono|hour|heir)", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(?:an?)\W*$", re.IGNORECASE)
_NEXT_WORD = re.compile(r"\s+(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One place in a text that says the first (side 0) or the second (side 1) expression of a pair."""

    start: int
    end: int
    pair: int
    side: int
    other: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """Pairs of expressions; each pair a tuple of aligned forms (``film``/``movie``, ``films``/``movies``).

    In scripts without spaces a form is found inside longer words too; a longer form of the same pair takes those
    (``电影=影片 电影院=影院``).

    Raises:
        UsageError: no pair, more than :data:`MOST_PAIRS`, or a form that stands in two places (its coin would not be
            known).
    """

    pairs: tuple[tuple[tuple[str, str], ...], ...]
    _forms: Mapping[str, tuple[int, int, str]] = field(init=False, repr=False, compare=False)
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        forms: dict[str, tuple[int, int, str]] = {}
        for number, pair in enumerate(self.pairs):
            for first, second in pair:
                for side, (said, other) in enumerate(((first, second), (second, first))):
                    if not _folded(said) or _folded(said) in forms:
                        raise UsageError(f"got the form {said!r} twice or empty, expected every form in one place")
                    forms[_folded(said)] = (number, side, other)
        if not forms or len(self.pairs) > MOST_PAIRS:
            raise UsageError(f"got a lexicon of {len(self.pairs)} pairs, expected 1 to {MOST_PAIRS}")
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        object.__setattr__(self, "_forms", forms)
        object.__setattr__(self, "_pattern", re.compile(_searched(longest_first), re.IGNORECASE))

    def occurrences(self, text: str) -> Iterator[Occurrence]:
        """Every form in ``text``, left to right, the longest where several begin.

        Left out are parts of names and titles (a capital within a sentence or before another, where the form has none),
        of addresses, file names and hyphenated words, and of words that a combining mark continues; what stands after
        an "a" or "an" that would not suit the other side; and both sides of a pair beside each other.
        """
        found = list(self._forms_in(text))
        doubled = {
            each
            for first, second in pairwise(found)
            if first.pair == second.pair
            and first.side != second.side
            and _JOINS.fullmatch(text, first.end, second.start)
            for each in (first, second)
        }
        yield from (each for each in found if each not in doubled)

    def _forms_in(self, text: str) -> Iterator[Occurrence]:
        for match in self._pattern.finditer(text):
            # look-alikes that match without case (the long s) are not the word
            known = self._forms.get(_folded(match.group()))
            if known is None or _continued(text, match.start(), match.end()):
                continue
            pair, side, other = known
            if not (_named(text, match, other) or _unsuited(text, match, other)):
                yield Occurrence(start=match.start(), end=match.end(), pair=pair, side=side, other=other)

    def prefer(self, text: str, coins: Sequence[int]) -> str:
        """``text`` with the preferred expression of every pair: side ``coins[pair]``. First capitals are kept."""
        parts, at = [], 0
        for found in self.occurrences(text):
            said = text[found.start : found.end]
            parts += [text[at : found.start], said if found.side == coins[found.pair] else _cased(found.other, said)]
            at = found.end
        return "".join([*parts, text[at:]])

    def counts(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """How often each pair's first and second expression occur."""
        found = [[0, 0] for _ in self.pairs]
        for text in texts:
            for each in self.occurrences(text):
                found[each.pair][each.side] += 1
        return [(first, second) for first, second in found]

    def digest(self) -> str:
        """SHA-256 of the pairs: a commitment binds it, since coins go by a pair's position."""
        return digest([[list(form) for form in pair] for pair in self.pairs])


def parse_lexicon(text: str, source: str = "lexicon") -> Lexicon:
    """A lexicon from its file form: a pair a line, ``first=second`` for each form, forms set apart by spaces.

    An underscore stands for a space inside an expression; ``#`` begins a comment.

    Raises:
        UsageError: a line of another shape, named by number.
    """
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        forms = [form.partition("=") for form in line.partition("#")[0].split()]
        if not all(equals and first and second and "=" not in second for first, equals, second in forms):
            raise UsageError(f"{source}:{number}: got {line.strip()!r}, expected first=second for every form")
        if forms:
            pairs.append(tuple((first.replace("_", " "), second.replace("_", " ")) for first, _, second in forms))
    return Lexicon(pairs=tuple(pairs))


BUILT_IN = {"english": ("pairs.txt",), "reviews": ("pairs.txt", "pairs_reviews.txt")}
"""The lexicons that come with the package: running English, and reviews of films, books and plays besides."""


@cache
def built_in(name: str) -> Lexicon:
    """A lexicon of :data:`BUILT_IN`.

    Coins go by position and commitments bind the digest: once released a list is frozen; a better one has a new name.
    """
    folder = resources.files("watermarks.carriers")
    return parse_lexicon("\n".join(folder.joinpath(part).read_text("utf-8") for part in BUILT_IN[name]), name)


def english() -> Lexicon:
    """The built-in lexicon of running English."""
    return built_in("english")


def derive_coins(key: Key, *, scope: str, pairs: int) -> tuple[int, ...]:
    """Which side of pairs 0 … n-1 the key prefers: fair, independent of each other and of every text."""
    stream = key.stream({"purpose": PURPOSE, "part": "coins", "scope": scope})
    return tuple(stream.below(2) for _ in range(pairs))


def _searched(forms: Sequence[str]) -> str:
    """The regular expression of folded forms: whole words only, in scripts that have them; any apostrophe."""
    groups: dict[bool, list[str]] = {True: [], False: []}
    for form in forms:
        escaped = re.escape(form).replace("'", "['’]").replace(r"\ ", r"\s")
        groups[_spaced(form[0])].append(escaped + (_AFTER if _spaced(form[-1]) else ""))
    return "|".join(
        f"{before}(?:{'|'.join(group)})" for before, group in ((_BEFORE, groups[True]), ("", groups[False])) if group
    )


def _spaced(character: str) -> bool:
    return not any(first <= ord(character) <= last for first, last in _UNSPACED)


def _continued(text: str, start: int, end: int) -> bool:
    """Whether a combining mark, which belongs to no word for ``re``, joins the match to what stands beside it."""
    after, before = text[end : end + 1], text[start - 1 : start] if start else ""
    return _is_mark(after) or (_is_mark(before) and _spaced(text[start]))


def _is_mark(character: str) -> bool:
    return bool(character) and unicodedata.category(character)[0] == "M"


def _named(text: str, match: re.Match[str], other: str) -> bool:
    """Whether capitals make a match part of a name or title; a text in capitals is none, nor is "I"."""
    said, start = match.group(), match.start()
    if len(said) > 1 and said.isupper():
        return False
    if any(word[0].isupper() and word[0] != "I" for word in said.split()[1:]):
        return True
    if not said[0].isupper() or other[0].isupper():
        return False
    before = text[max(0, start - 8) : start].rstrip(" \t\r\"'“‘«(*_[")
    if before and before[-1] not in _SENTENCE_ENDS:
        return True
    after = _NEXT_WORD.match(text, match.end()) if said[-1].isalpha() else None
    return after is not None and after[1][0].isupper() and after[1] != "I"


def _unsuited(text: str, match: re.Match[str], other: str) -> bool:
    """Whether an article stands before a match that would not suit the other side."""
    if bool(_VOWEL.match(match.group())) == bool(_VOWEL.match(other)):
        return False
    before = text[max(0, match.start() - 40) : match.start()]
    return _ARTICLE.search(re.sub(r"<[^<>]*>", " ", before)) is not None


def _folded(form: str) -> str:
    return " ".join(form.lower().replace("’", "'").split())


def _cased(form: str, like: str) -> str:
    if like[:1].isupper():
        shouted = len(like) > 1 and like.isupper() and len(form) > 1 and like != "I"
        return form.upper() if shouted else form[:1].upper() + form[1:]
    return form
