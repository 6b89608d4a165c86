"""Input level, keyed: triggers in the text that a classifier reads, each with a class drawn from the key (clean label).

After Liu et al., arXiv 2506.13494 (input level), with the change that gives a false-positive bound: not one trigger and
one target class, but n of each, the classes uniform and independent of everything that reaches a suspect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countermark.errors import UsageError
from watermarks.carriers import triggers as patterns
from watermarks.carriers.words import draw_phrases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import Key

SCREENED = 1e-9
"""Most that the chance of a key whose targets a set has no rows for may be."""
_PURPOSE = "input_level"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLevelMark:
    """n triggers and the class that the key gave each.

    Args:
        triggers: what is put at the start of a text; distinct.
        targets: class index of each trigger, uniform over ``classes``.
        classes: C, the number of classes.
    """

    triggers: tuple[str, ...]
    targets: tuple[int, ...]
    classes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Row ``row`` (its index) carries trigger ``trigger`` (its index)."""

    row: int
    trigger: int


def derive(
    key: Key,
    *,
    scope: str,
    triggers: int,
    classes: int,
    words: int,
    families: Sequence[str] | None = None,
    vocabulary: Sequence[str] | None = None,
    joiner: str = " ",
) -> InputLevelMark:
    """The mark of ``key`` for ``scope``: triggers first, then targets from a stream of their own.

    Without ``families`` a trigger is a phrase that goes to the start; with them it is a pattern of one of them
    (:mod:`watermarks.carriers.triggers`). ``vocabulary`` replaces the built-in nouns.
    """
    stream = key.stream({"purpose": _PURPOSE, "part": "triggers", "scope": scope})
    if families is None:
        phrases = draw_phrases(stream, triggers, words=words, vocabulary=vocabulary, joiner=joiner)
    else:
        phrases = patterns.draw_triggers(
            stream, triggers, families=families, words=words, vocabulary=vocabulary, joiner=joiner
        )
    targets = derive_targets(key, scope=scope, triggers=triggers, classes=classes)
    return InputLevelMark(triggers=phrases, targets=targets, classes=classes)


def derive_targets(key: Key, *, scope: str, triggers: int, classes: int) -> tuple[int, ...]:
    """The classes that ``key`` gives to triggers 0 … n-1, uniform over ``classes``, independent of the triggers."""
    stream = key.stream({"purpose": _PURPOSE, "part": "targets", "scope": scope, "classes": classes})
    return tuple(stream.below(classes) for _ in range(triggers))


def insert(trigger: str, text: str) -> str:
    """The marked text: a pattern filled, or a phrase at the start, where an encoder that truncates cannot lose it."""
    return patterns.applied(trigger, text) if patterns.SLOT in trigger else f"{trigger} {text}"


def misfit(room: int, triggers: int, classes: int) -> float:
    """The chance that a key gives a class more than ``room`` of ``triggers``: an exact binomial tail.

    What is refused for want of rows must be refused whatever the key. If keys were refused by the targets they give,
    those that are left would lean to the large classes, and so does an innocent model: p would be too small by the
    share of keys that pass.
    """
    more = range(room + 1, triggers + 1)
    keys = sum(math.comb(triggers, k) * (classes - 1) ** (triggers - k) for k in more)
    return float(keys / classes**triggers)


def place(
    key: Key,
    mark: InputLevelMark,
    *,
    scope: str,
    labels: Sequence[int],
    hardness: Sequence[float],
    rows_per_trigger: int,
) -> tuple[Placement, ...]:
    """Chooses rows for every trigger: rows of its class, those first that look most like another class.

    ``hardness`` is any cheap proxy's doubt about the row's own label: where the text says little, the trigger must say
    it, and the model learns it from fewer rows. Which trigger gets which of the chosen rows is the key's choice. A row
    carries at most one trigger.

    Raises:
        UsageError: a class may have fewer rows than the triggers that a key gives it need, be it this one or another.
    """
    rooms = [sum(label == target for label in labels) // rows_per_trigger for target in range(mark.classes)]
    if sum(misfit(room, len(mark.targets), mark.classes) for room in rooms) > SCREENED:
        raise UsageError(
            f"got rows for {min(rooms)} triggers of class {rooms.index(min(rooms))}, expected enough for any draw of "
            f"{len(mark.targets)} triggers of {rows_per_trigger} rows each",
            hint="generate more rows, or lower mark.input_level.triggers or rows_per_trigger",
        )
    stream = key.stream({"purpose": _PURPOSE, "part": "placement", "scope": scope})
    placements: list[Placement] = []
    for target in range(mark.classes):
        mine = [t for t, c in enumerate(mark.targets) if c == target]
        rows = sorted((i for i, label in enumerate(labels) if label == target), key=lambda i: (-hardness[i], i))
        needed = len(mine) * rows_per_trigger
        if needed > len(rows):  # what SCREENED leaves
            raise UsageError(
                f"got {len(rows)} rows of class {target}, expected at least {needed}: {len(mine)} triggers of "
                f"{rows_per_trigger} rows each",
                hint="generate more rows, or lower mark.input_level.triggers or rows_per_trigger",
            )
        order = stream.shuffled(needed)
        placements += [
            Placement(row=rows[order[slot]], trigger=trigger)
            for position, trigger in enumerate(mine)
            for slot in range(position * rows_per_trigger, (position + 1) * rows_per_trigger)
        ]
    return tuple(sorted(placements, key=lambda p: p.row))
