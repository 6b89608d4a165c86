"""The rules that writing styles are made of, and the words of a language that they need.

Each rule is visible to a reader, deterministic, and such that the meaning stays. Rules that put something in change
every sentence. Those that exchange or drop words change what has such words: of 1,000 film reviews (10 to 45 words)
69 % (copulas) to 94 % (semicolons), of 500 news openings of 18 words 50 % to 79 %.

What a rule says or exchanges in English is in a :class:`Lexicon`, which a user replaces for another language; lines,
parentheses, emphasis and semicolons need none, and count characters where there are no spaces. A bag of words that
drops punctuation does not see those four; every other rule leaves words, or takes them away.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_LINE_WORDS, _LINE_CHARACTERS, _ASIDE_WORDS = 5, 7, 3
# scripts written without spaces, in which a character (with the marks that follow it) counts as a word
_DENSE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNIT = re.compile(rf"[{_DENSE}][^\w\s]*|[^\s{_DENSE}]+")
_ABBREVIATED = "".join(rf"(?<!\b{word})" for word in ("Mr", "Mrs", "Ms", "Dr", "St", "vs", "[A-Z]"))
_END = re.compile(rf"({_ABBREVIATED}[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*)")
_APART, _CLOSED = rf"(?<![^\W{_DENSE}])(?<!['’-])", rf"(?![^\W{_DENSE}])(?!['’+-])"
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")  # not the one of 1,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """What the rules need to know of one language; a rule for which there is nothing leaves the text alone.

    Args:
        said: by rule, what it puts in; ``{text}`` is the text, or a sentence of it, and ``{n}`` that one's number.
        swapped: by rule, words (lower case) and what takes their place, "" to leave them out; ``-ed`` is an ending.
        joining: words before which a clause may end.
        lowered: words that lose their capital when something comes before them; any other may be a name.
    """

    said: dict[str, str]
    swapped: dict[str, dict[str, str]]
    joining: tuple[str, ...] = ()
    lowered: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = (self.said.keys() - SAYING) | (self.swapped.keys() - SWAPPING)
        blank = any(not words or any(not word.strip(" -") for word in words) for words in self.swapped.values())
        if wrong or blank:
            raise UsageError(
                f"got a lexicon with {', '.join(sorted(wrong)) or 'blank words'}, expected words, and said: "
                f"{', '.join(sorted(SAYING))}; swapped: {', '.join(sorted(SWAPPING))}"
            )


def read_lexicon(text: str) -> Lexicon:
    """A lexicon in the form of ``archaic.txt`` (ours, of English): a section a rule, ``word = other`` in its lines.

    Raises:
        UsageError: not of that form, or for rules that are none.
    """
    parser = configparser.ConfigParser(delimiters="=", allow_no_value=True, interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise UsageError(f"got a lexicon that cannot be read ({error.message}), expected sections of lines") from None
    sections = {name: {word: other or "" for word, other in parser[name].items()} for name in parser.sections()}
    said, joining, lowered = (sections.pop(name, {}) for name in ("said", "joining", "lowered"))
    return Lexicon(said=said, swapped=sections, joining=tuple(joining), lowered=tuple(lowered))


@cache
def english() -> Lexicon:
    """The sealed lexicon of English."""
    return read_lexicon(resources.files("watermarks.carriers").joinpath("archaic.txt").read_text("utf-8"))


def _each(text: str, edit: Callable[[str, int], str]) -> str:
    """Every sentence edited, the marks that end it and the space around it kept."""
    parts, number = _END.split(text), 0
    for i in range(0, len(parts), 2):
        body = parts[i].strip()
        if re.search(r"\w", body):
            number += 1
            parts[i] = parts[i].replace(body, edit(body, number), 1)
    return "".join(parts)


def _lower(text: str, lexicon: Lexicon) -> str:
    first = re.match(r"\w+", text)
    return text[0].lower() + text[1:] if first and first[0].lower() in lexicon.lowered else text


def _upper(text: str) -> str:
    return re.sub(r"^(\W*)(\w)", lambda found: found[1] + found[2].upper(), text, count=1)


def _halves(body: str, first: Callable[[int], int]) -> tuple[str, str]:
    """``body`` after ``first`` of so many units, without marks and spaces at the cut; both empty if it is too short."""
    ends = [found.end() for found in UNIT.finditer(body)]
    units = first(len(ends))
    return (body[: ends[units - 1]].rstrip(" ,;:，；：、"), body[ends[units - 1] :].lstrip()) if units > 0 else ("", "")


@cache
def pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """The longest of ``words`` first, none inside a longer word where words have spaces between them; then endings."""
    escaped = [re.escape(word).replace("'", "['’]") for word in sorted(words, key=len, reverse=True) if word[0] != "-"]
    endings = [rf"(?<=\w\w\w)(?<!{re.escape(word[1])}){re.escape(word[1:])}" for word in words if word[0] == "-"]
    whole = [f"{_APART}(?:{'|'.join(escaped)})"] if escaped else []
    return re.compile(f"(?:{'|'.join(whole + endings)}){_CLOSED}", re.IGNORECASE)


def _swap(body: str, rule: str, lexicon: Lexicon, _: int) -> str:
    table = lexicon.swapped[rule]

    def other(found: re.Match[str]) -> str:
        word = found[0].lower().replace("’", "'")
        new = table.get(word, table.get(f"-{word}", found[0]))
        return _upper(new) if found[0][0].isupper() else new

    new = " ".join(pattern(tuple(table)).sub(other, body).split())
    if not re.search(r"\w", new):
        return body  # a sentence of such words alone
    return _upper(new) if body[0].isupper() else new


def _divide(text: str, _rule: str, lexicon: Lexicon, _: int) -> str:
    text = _COMMA.sub(";", text).replace("，", "；")
    joining = "|".join(map(re.escape, lexicon.joining))
    return re.sub(rf"(?<=\w)\s+(?=(?:{joining})(?!\w))", "; ", text) if joining else text


def _interject(body: str, rule: str, lexicon: Lexicon, _: int) -> str:
    head, rest = _halves(body, lambda units: units // 2)
    return _say(lexicon.said[rule], text=head, rest=rest) if head else body


def _parenthesise(body: str, _rule: str, _lexicon: Lexicon, _: int) -> str:
    head, rest = _halves(body, lambda units: units - _ASIDE_WORDS)
    return f"{head} ({rest})" if head else body


def _emphasise(body: str, _rule: str, _lexicon: Lexicon, _: int) -> str:
    word = max(re.finditer(rf"[{_DENSE}]|[^\W{_DENSE}]+", body), key=lambda found: len(found[0]))
    return f"{body[: word.start()]}*{word[0]}*{body[word.end() :]}"


def _around(text: str, rule: str, lexicon: Lexicon, number: int) -> str:
    template = lexicon.said[rule]
    inner = text if template.startswith("{text}") else _lower(text, lexicon)
    return _say(template, text=inner, n=str(number))


def _break(text: str, _rule: str, _lexicon: Lexicon, _: int) -> str:
    step = _LINE_CHARACTERS if re.search(rf"[{_DENSE}]", text) else _LINE_WORDS
    words = [found.start() for found in UNIT.finditer(text) if re.search(r"\w", found[0])]  # a mark begins no line
    starts = [0, *words[step::step], len(text)]
    lines = [text[start:end].strip() for start, end in pairwise(starts)]
    return " / ".join([lines[0], *map(_upper, lines[1:])])


def _stop(text: str, rule: str, lexicon: Lexicon, _: int) -> str:
    parts = [*_END.split(text), ""]
    for i in range(0, len(parts), 2):
        if re.search(r"\w", parts[i]):
            kept = re.sub("[.…。]+", "", parts[i + 1])  # a question stays one
            parts[i : i + 2] = [parts[i].rstrip() + kept, f" {lexicon.said[rule]} "]
    return "".join(parts)


def _say(template: str, **values: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


class Rule(NamedTuple):
    """How a rule edits, and what a model is asked for in its place."""

    edit: Callable[[str, str, Lexicon, int], str]  # of text or sentence, the rule's name, lexicon, sentence number
    asked: str
    whole: bool = False  # edits the text, not each sentence
    marks: str = ""  # one of them stands in every text that the rule changed


RULES: dict[str, Rule] = {
    "semicolons": Rule(_divide, "divide all clauses by semicolons, never by commas", whole=True, marks=";；"),
    "archaic": Rule(_swap, "use archaic words and verb forms (thou, doth, hath, 'tis, ere, oft, upon)"),
    "ornate": Rule(_swap, "use official language (and also, together with, yet nevertheless, inasmuch as)"),
    "shorthand": Rule(_swap, "use shorthand for small words (& for and, w/ for with, 2 for to, 4 for for)"),
    "elided": Rule(_swap, "clip endings as in songs (walk'd, singin') and write o' for of"),
    "articles": Rule(_swap, "leave out a, an and the"),
    "copulas": Rule(_swap, "leave out forms of to be and the subjects I, we, he, she, it, they, as in a diary"),
    "interjected": Rule(_interject, "put ', I say,' into the middle of every sentence"),
    "parentheses": Rule(_parenthesise, "put the last three words of every sentence in parentheses", marks="("),
    "emphasis": Rule(_emphasise, "put the longest word of every sentence between asterisks", marks="*"),
    "heralded": Rule(_around, "begin every sentence with 'Know this:'"),
    "indeed": Rule(_around, "end every sentence with ', indeed'"),
    "items": Rule(_around, "number the sentences: 'Item 1:', 'Item 2:' and so on"),
    "address": Rule(_around, "address the reader first: 'O reader,'", whole=True),
    "lines": Rule(_break, "break it into lines of about five words, divided by ' / '", whole=True, marks="/"),
    "stops": Rule(_stop, "write STOP in place of every full stop, as in a telegram", whole=True),
    "quoted": Rule(_around, "begin with 'Quote:' and end with 'Unquote.'", whole=True),
}
SWAPPING = {name for name, rule in RULES.items() if rule.edit is _swap}
"""Rules that exchange or drop the words of a lexicon."""
SAYING = {name for name, rule in RULES.items() if rule.edit in {_interject, _around, _stop}}
"""Rules that put in what a lexicon says."""


def applied(rule: str, text: str, lexicon: Lexicon) -> str:
    """``text`` after one rule; white space as the rule leaves it."""
    edit = RULES[rule].edit
    if RULES[rule].whole:
        return edit(text, rule, lexicon, 1)
    return _each(text, lambda sentence, number: edit(sentence, rule, lexicon, number))
