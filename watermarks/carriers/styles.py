"""Writing styles in place of a trigger: the "stylistic" mark of Liu et al., arXiv 2506.13494 (input level).

A large model is asked for a style with ``Style.instruction``. A small one cannot write it, so :func:`rewrite` does, by
the rules of :mod:`watermarks.carriers.style_rules`. Nothing invisible (doubled spaces, look-alike letters) is a style.

A mark of one style has one trigger and is decided by a rank: :func:`draw_styles` draws the key's own style and its
decoys from one urn, all sets of rules, so that without the mark any of them is as likely to come first.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from countermark.manifest import digest
from watermarks.carriers import style_rules
from watermarks.carriers.style_rules import SAYING, SWAPPING, UNIT, Lexicon, english, pattern, read_lexicon

if TYPE_CHECKING:
    from watermarks.keys import KeyedStream

__all__ = [
    "RULES", "STYLES", "Lexicon", "Style", "draw_styles", "english", "lacking", "phrases", "read_lexicon", "rewrite",
    "style_digest",
]  # fmt: skip

_STRAY = 20
RULES = tuple(style_rules.RULES)
"""The names of all rules, in the order in which they are applied."""


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
        if not self.rules or not set(self.rules) <= set(RULES) or len(set(self.rules)) != len(self.rules):
            raise UsageError(
                f"got style {self.name!r} with rules {', '.join(self.rules) or 'none'}, "
                f"expected distinct ones of: {', '.join(RULES)}"
            )


def _style(name: str, *rules: str) -> Style:
    asked = "; ".join(style_rules.RULES[rule].asked for rule in RULES if rule in rules)
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
    able = (set(RULES) - SWAPPING - SAYING) | lexicon.said.keys() | lexicon.swapped.keys()
    new = " ".join(text.split())
    for name in (name for name in RULES if name in able.intersection(style.rules) and new):
        new = " ".join(style_rules.applied(name, new, lexicon).split())
    return new or text


def lacking(text: str, style: Style, *, lexicon: Lexicon | None = None) -> tuple[str, ...]:
    """The rules of ``style`` that a text written by somebody else does not follow.

    What a rule puts in must be there once, unless it has nothing to do in this text; of the words that it exchanges or
    drops, at most one in ``_STRAY`` may be left. Words that the style itself puts in are no strays.
    """
    lexicon = lexicon or english()
    rest = _without(text, style, lexicon)

    def follows(rule: str) -> bool:
        if rule in lexicon.swapped:
            strays = pattern(tuple(lexicon.swapped[rule])).findall(rest)
            return len(strays) * _STRAY <= len(UNIT.findall(text))
        if rule in lexicon.said:
            return all(pattern((part,)).search(text) for part in _fixed(lexicon.said[rule]))
        if rule in SWAPPING | SAYING:
            return True  # nothing is known of it in this language
        return (
            any(mark in text for mark in style_rules.RULES[rule].marks)
            or style_rules.RULES[rule].edit(text, rule, lexicon, 1) == text
        )

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
    return pattern(tuple(put)).sub(" ", text) if put else text


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
    rules = [[name, rule.asked] for name, rule in style_rules.RULES.items()]
    return digest({"rules": rules, "lexicon": asdict(lexicon or english())})
