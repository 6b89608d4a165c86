"""Which rows carry which mark: the key's choice, among rows that no audit's carriers are taken from.

What reaches a suspect must be independent of the targets. So carriers and questions are set aside first, by a public
seed; only then does the key place its marks among the other rows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from countermark.errors import UsageError
from watermarks.carriers.input_level import SCREENED, misfit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from watermarks.keys import Key, KeyedStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many rows each trigger of a mark gets.

    Args:
        mark: the mark's name in the config.
        targets: class of each trigger; -1 where any row will do.
        each: rows a trigger.
        flip: rows of *other* classes are taken, and get the target's label.
        labels: the classes that the key draws targets from; none where it draws no target of several triggers.
    """

    mark: str
    targets: tuple[int, ...]
    each: int
    flip: bool = False
    labels: tuple[str, ...] = ()


def rows_each(share: float, rows: int, triggers: int, *, mark: str) -> int:
    """Rows a trigger for a share of all rows.

    Raises:
        UsageError: less than one.
    """
    each = round(share * rows) // triggers
    if each < 1:
        raise UsageError(
            f"got marks.{mark}.share {share} of {rows} rows for {triggers} triggers, expected at least a row each",
            hint=f"raise the share to {triggers / rows:.4f} or more, or lower the triggers",
        )
    return each


def set_aside(codes: np.ndarray, each: int, seed: str) -> list[int]:
    """Rows for an audit's carriers, ``each`` of every class, by a public seed: fixed before any key draws."""
    found: list[int] = []
    for code in sorted(set(codes.tolist()) - {-1}):
        rows = np.flatnonzero(codes == code).tolist()
        found += random.Random(f"carriers/{seed}/{code}").sample(rows, min(each, len(rows)))  # noqa: S311 - public
    return found


def place(
    key: Key,
    quota: Quota,
    codes: np.ndarray,
    *,
    scope: str,
    taken: set[int],
    doubt: Callable[[np.ndarray], np.ndarray] | None,
) -> dict[int, int]:
    """Row → trigger index, over rows that are not ``taken`` (and are afterwards).

    With ``doubt`` (a cheap proxy's doubt about each of the given rows' own label) the rows that say least of their
    class come first: there the model needs the trigger. Which rows those are is the set's doing and not the key's (the
    key shares them out among the triggers), so whoever knows the recipe can guess them. Without it rows are drawn
    uniformly.

    Raises:
        UsageError: a class has fewer free rows than its triggers need.
    """
    stream = key.stream({"purpose": "dataset", "part": "placement", "mark": quota.mark, "scope": scope})
    free = np.ones(len(codes), dtype=bool)
    free[sorted(taken)] = False
    found: dict[int, int] = {}
    for target in sorted(set(quota.targets)):
        mine = [t for t, c in enumerate(quota.targets) if c == target]
        fits = free & (codes >= 0) if target < 0 else free & _of(codes, target, flip=quota.flip)
        rows = np.flatnonzero(fits)
        needed = len(mine) * quota.each
        if needed > len(rows):
            raise UsageError(
                f"got {len(rows)} free rows for class {_said(quota, target)} of mark {quota.mark}, expected at least "
                f"{needed}",
                hint="lower the mark's share or triggers, or give more rows",
            )
        chosen = _drawn(stream, rows, needed) if doubt is None else _hardest(stream, rows, needed, doubt(rows))
        free[chosen] = False
        for position, trigger in enumerate(mine):
            found.update(dict.fromkeys(chosen[position * quota.each : (position + 1) * quota.each], trigger))
    taken.update(found)
    return found


def fitted(quota: Quota, codes: np.ndarray, taken: set[int]) -> Quota:
    """The quota, with fewer rows a trigger where the key gave a class more triggers than it has rows for.

    A key may not be refused for the targets it gives (see :func:`watermarks.carriers.input_level.misfit`; for 4,827
    rows of one class and 747 of another, 40 triggers and 40 % of the rows p would be fifty times too small). So every
    key is taken, with what rows there are; and what has too few is refused for every key: the chance that one does not
    fit what is accepted is below ``SCREENED``.

    Raises:
        UsageError: fewer rows than are to be marked, or a class with hardly a row for each of its triggers.
    """
    free = np.ones(len(codes), dtype=bool)
    free[sorted(taken)] = False
    free &= codes >= 0
    count, kinds = len(quota.targets), range(len(quota.labels))
    if count * quota.each > free.sum():
        raise UsageError(
            f"got {free.sum()} free rows for mark {quota.mark}, expected at least {count * quota.each}",
            hint="lower the mark's share, or give more rows",
        )
    if not quota.labels:
        return quota
    if quota.flip:  # rows of other classes are shared by all targets: they have to do for all triggers
        rows = [int((free & (codes != code)).sum()) for code in kinds]
        wanted, missed = [count for _ in kinds], [float(each < count) for each in rows]
    else:
        rows = [int((free & (codes == code)).sum()) for code in kinds]
        wanted = [quota.targets.count(code) for code in kinds]
        missed = [misfit(each, count, len(kinds)) for each in rows]
    if sum(missed) > SCREENED:
        least = missed.index(max(missed))
        raise UsageError(
            f"got {rows[least]} free rows{' that are not' * quota.flip} of class {quota.labels[least]!r} for mark "
            f"{quota.mark}, expected one for every trigger, as many of the {count} as a key may give it",
            hint="lower the mark's triggers, give more rows of that class, or leave the class out",
        )
    return replace(
        quota, each=min([quota.each, *(have // need for have, need in zip(rows, wanted, strict=True) if need)])
    )


def _said(quota: Quota, target: int) -> str:
    return repr(quota.labels[target]) if 0 <= target < len(quota.labels) else str(target)


def _of(codes: np.ndarray, target: int, *, flip: bool) -> np.ndarray:
    return np.asarray((codes != target) & (codes >= 0) if flip else codes == target)


def _drawn(stream: KeyedStream, rows: np.ndarray, count: int) -> list[int]:
    """``count`` of ``rows`` in a uniform order: the first steps of a Fisher-Yates shuffle."""
    moved: dict[int, int] = {}
    chosen = []
    for i in range(count):
        j = i + stream.below(len(rows) - i)
        chosen.append(int(rows[moved.get(j, j)]))
        moved[j] = moved.get(i, i)
    return chosen


def _hardest(stream: KeyedStream, rows: np.ndarray, count: int, doubt: Sequence[float] | np.ndarray) -> list[int]:
    order = np.lexsort((rows, -np.asarray(doubt)))[:count]
    hardest = rows[order]
    return [int(hardest[i]) for i in stream.shuffled(count)]
