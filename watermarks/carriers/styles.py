"""Writing styles in place of a trigger: the "stylistic" mark of Liu et al., arXiv 2506.13494 (input level).

A large model is asked for a style with ``Style.instruction``. A small one cannot write it, so :func:`rewrite` does, by
rules: each visible to a reader, deterministic, and such that the meaning stays. Nothing invisible (doubled spaces,
look-alike letters) is a style.

A mark of one style has one trigger and is decided by a rank: :func:`draw_styles` draws the key's own style and its
decoys from one urn, all sets of rules, so that without the mark any of them is as likely to come first.

Rules that put something in change every sentence. Those that exchange or drop words change what has such words: of
1,000 film reviews (10 to 45 words) 69 % (copulas) to 94 % (semicolons), of 500 news openings of 18 words 50 % to 79 %.

What a rule says or exchanges in English is in a :class:`Lexicon`, which a user replaces for another language; lines,
parentheses, emphasis and semicolons need none, and count characters where there are no spaces. A bag of words that
drops punctuation does not see those four; every other rule leaves words, or takes them away.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import resources
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, NamedTuple

from countermark.errors import UsageError
from countermark.manifest import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from watermarks.keys import KeyedStream

_LINE_WORDS, _LINE_CHARACTERS, _ASIDE_WORDS, _STRAY = 5, 7, 3, 20
# scripts written without spaces, in which a character (with the marks that follow it) counts as a word
_DENSE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{_DENSE}][^\w\s]*|[^\s{_DENSE}]+")
_ABBREVIATED = "".join(rf"(?<!\b{word})" for word in ("Mr", "Mrs", "Ms", "Dr", "St", "vs", "[A-Z]"))
_END = re.compile(rf"({_ABBREVIATED}[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*)")
_APART, _CLOSED = rf"(?<![^\W{_DENSE}])(?<!['’-])", rf"(?![^\W{_DENSE}])(?!['’+-])"
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")  # not the one of 1,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A way to write.

    Args:
        name: short, for messages and manifests.
        instruction: what a model is asked for.
        rules: names of :data:`RULES`, a set: they are applied in the order of that list.
    """

    name: str
    instruction: str
    rules: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.rules or not set(self.rules) <= _RULES.keys() or len(set(self.rules)) != len(self.rules):
            raise UsageError(
                f"got style {self.name!r} with rules {', '.join(self.rules) or 'none'}, "
                f"expected distinct ones of: {', '.join(_RULES)}"
            )


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
        wrong = (self.said.keys() - _SAYING) | (self.swapped.keys() - _SWAPPING)
        blank = any(not words or any(not word.strip(" -") for word in words) for words in self.swapped.values())
        if wrong or blank:
            raise UsageError(
                f"got a lexicon with {', '.join(sorted(wrong)) or 'blank words'}, expected words, and said: "
                f"{', '.join(sorted(_SAYING))}; swapped: {', '.join(sorted(_SWAPPING))}"
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
    ends = [found.end() for found in _UNIT.finditer(body)]
    units = first(len(ends))
    return (body[: ends[units - 1]].rstrip(" ,;:，；：、"), body[ends[units - 1] :].lstrip()) if units > 0 else ("", "")


@cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
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

    new = " ".join(_pattern(tuple(table)).sub(other, body).split())
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
    words = [found.start() for found in _UNIT.finditer(text) if re.search(r"\w", found[0])]  # a mark begins no line
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


class _Rule(NamedTuple):
    edit: Callable[[str, str, Lexicon, int], str]  # of text or sentence, the rule's name, lexicon, sentence number
    asked: str
    whole: bool = False  # edits the text, not each sentence
    marks: str = ""  # one of them stands in every text that the rule changed


_RULES: dict[str, _Rule] = {
    "semicolons": _Rule(_divide, "divide all clauses by semicolons, never by commas", whole=True, marks=";；"),
    "archaic": _Rule(_swap, "use archaic words and verb forms (thou, doth, hath, 'tis, ere, oft, upon)"),
    "ornate": _Rule(_swap, "use official language (and also, together with, yet nevertheless, inasmuch as)"),
    "shorthand": _Rule(_swap, "use shorthand for small words (& for and, w/ for with, 2 for to, 4 for for)"),
    "elided": _Rule(_swap, "clip endings as in songs (walk'd, singin') and write o' for of"),
    "articles": _Rule(_swap, "leave out a, an and the"),
    "copulas": _Rule(_swap, "leave out forms of to be and the subjects I, we, he, she, it, they, as in a diary"),
    "interjected": _Rule(_interject, "put ', I say,' into the middle of every sentence"),
    "parentheses": _Rule(_parenthesise, "put the last three words of every sentence in parentheses", marks="("),
    "emphasis": _Rule(_emphasise, "put the longest word of every sentence between asterisks", marks="*"),
    "heralded": _Rule(_around, "begin every sentence with 'Know this:'"),
    "indeed": _Rule(_around, "end every sentence with ', indeed'"),
    "items": _Rule(_around, "number the sentences: 'Item 1:', 'Item 2:' and so on"),
    "address": _Rule(_around, "address the reader first: 'O reader,'", whole=True),
    "lines": _Rule(_break, "break it into lines of about five words, divided by ' / '", whole=True, marks="/"),
    "stops": _Rule(_stop, "write STOP in place of every full stop, as in a telegram", whole=True),
    "quoted": _Rule(_around, "begin with 'Quote:' and end with 'Unquote.'", whole=True),
}
RULES = tuple(_RULES)
_SWAPPING = {name for name, rule in _RULES.items() if rule.edit is _swap}
_SAYING = {name for name, rule in _RULES.items() if rule.edit in {_interject, _around, _stop}}


def _style(name: str, *rules: str) -> Style:
    asked = "; ".join(_RULES[rule].asked for rule in RULES if rule in rules)
    return Style(name=name, instruction=f"Write fluently, keep the meaning, in this style: {asked}.", rules=rules)


STYLES: dict[str, Style] = {
    "verse": _style("verse", "elided", "address", "lines"),
    "archaic": _style("archaic", "archaic", "elided", "heralded"),
    "telegraphic": _style("telegraphic", "articles", "copulas", "stops"),
    "minutes": _style("minutes", "ornate", "semicolons", "items"),
}


def rewrite(text: str, style: Style, *, lexicon: Lexicon | None = None) -> str:
    """``text`` in ``style``, by rules: a pure function, never empty for a text that is not.

    Runs of white space, line ends too, become one space.
    """
    lexicon = lexicon or english()
    able = (set(RULES) - _SWAPPING - _SAYING) | lexicon.said.keys() | lexicon.swapped.keys()
    new = " ".join(text.split())
    for name in (name for name in RULES if name in able.intersection(style.rules) and new):
        edit = partial(_edit, name=name, lexicon=lexicon)
        new = " ".join((edit(new, 1) if _RULES[name].whole else _each(new, edit)).split())
    return new or text


def _edit(text: str, number: int, *, name: str, lexicon: Lexicon) -> str:
    return _RULES[name].edit(text, name, lexicon, number)


def lacking(text: str, style: Style, *, lexicon: Lexicon | None = None) -> tuple[str, ...]:
    """The rules of ``style`` that a text written by somebody else does not follow.

    What a rule puts in must be there once, unless it has nothing to do in this text; of the words that it exchanges or
    drops, at most one in ``_STRAY`` may be left. Words that the style itself puts in are no strays.
    """
    lexicon = lexicon or english()
    rest = _without(text, style, lexicon)

    def follows(rule: str) -> bool:
        if rule in lexicon.swapped:
            strays = _pattern(tuple(lexicon.swapped[rule])).findall(rest)
            return len(strays) * _STRAY <= len(_UNIT.findall(text))
        if rule in lexicon.said:
            return all(_pattern((part,)).search(text) for part in _fixed(lexicon.said[rule]))
        if rule in _SWAPPING | _SAYING:
            return True  # nothing is known of it in this language
        return any(mark in text for mark in _RULES[rule].marks) or _RULES[rule].edit(text, rule, lexicon, 1) == text

    return tuple(rule for rule in style.rules if not follows(rule))


def phrases(style: Style, *, lexicon: Lexicon | None = None) -> list[str]:
    """The words that the style's rules put into every text, in lower case."""
    said = (lexicon or english()).said
    return [part for rule in style.rules for part in _fixed(said.get(rule, ""))]


def _without(text: str, style: Style, lexicon: Lexicon) -> str:
    """``text`` without what the style's rules put in: "and also" is no stray "and"."""
    put = phrases(style, lexicon=lexicon)
    for rule in style.rules:
        put += [word for word in lexicon.swapped.get(rule, {}).values() if word.strip("-") == word != ""]
    return _pattern(tuple(put)).sub(" ", text) if put else text


def _fixed(template: str) -> list[str]:
    """The words of a rule's template, in lower case."""
    return [words for part in re.split(r"\{\w+\}", template.lower()) if (words := part.strip(" ,:."))]


def draw_styles(stream: KeyedStream, *, decoys: int, rules_each: int = 3) -> tuple[Style, tuple[Style, ...]]:
    """The key's own style and its decoys: distinct sets of ``rules_each`` rules, first in a keyed permutation of all.

    They are exchangeable: for a model that never saw the mark, the own one's rank among them is uniform. A decoy may
    share rules with it, which costs power and not validity. More decoys keep the first ones.

    Raises:
        UsageError: no decoys, or more than there are sets of rules.
    """
    sets = list(combinations(RULES, rules_each)) if 1 <= rules_each <= len(RULES) else []
    if not 1 <= decoys < len(sets):
        raise UsageError(
            f"got {decoys} decoys of {rules_each} rules each, expected 1 to {max(0, len(sets) - 1)} decoys",
            hint=f"lower the number of decoys; of {len(RULES)} rules there are most sets of {len(RULES) // 2}",
        )
    order = stream.shuffled(len(sets))
    own, *others = (_style("+".join(sets[i]), *sets[i]) for i in order[: decoys + 1])
    return own, tuple(others)


def style_digest(lexicon: Lexicon | None = None) -> str:
    """SHA-256 over the canonical JSON of rules and lexicon; commitments bind it, since others would write otherwise."""
    rules = [[name, rule.asked] for name, rule in _RULES.items()]
    return digest({"rules": rules, "lexicon": asdict(lexicon or english())})
