"""A benchmark in parts: each its rows, what it trains and what it asks; sharded, resumable, one JSON an area."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.rows import RESULTS, show, write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One table: its rows, the recipes it needs, and what is made and asked of each of them.

    What ``make`` does is kept, so that shards can do it in any order and the rows only look it up. Recipes of one
    ``group`` (by name: each its own) need the same models: they belong to one shard, or two processes would train them.
    """

    rows: Callable[[], list[Row]]
    recipes: Callable[[], Sequence[Any]] = tuple
    make: Callable[[Any], object] = lambda _: None
    group: Callable[[Any], str] = lambda recipe: recipe.name


def run(area: str, parts: Mapping[str, Part], *, draw: Callable[[list[Row]], object], doc: str | None) -> None:
    """The parts named on the command line are made; the others are taken as they were last made."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="default: all")
    parser.add_argument("--shard", type=shard_of, help="I/N: only make the I-th of N parts of the recipes")
    options = parser.parse_args()
    chosen = options.parts or list(parts)
    if options.shard:
        _make([parts[name] for name in chosen], *options.shard)
        return
    for name in chosen:
        made = parts[name].rows()
        show(made)
        rows = {**_made_before(area), name: made}
        table = [{**each, "part": part} for part in parts for each in rows.get(part, [])]
        write(area, table)
        draw(table)


def _made_before(area: str) -> dict[str, list[Row]]:
    """The table as it is now: another process may have made another part while this one was measured."""
    found: dict[str, list[Row]] = {}
    path = RESULTS / f"{area}.json"
    if path.exists():
        for each in json.loads(path.read_text("utf-8")):
            found.setdefault(each.pop("part", ""), []).append(each)
    return found


def shard_of(text: str) -> tuple[int, int]:
    """``1/3``, the first of three, as (0, 3). An empty shard would be made in no time, and nobody would notice."""
    first, _, of = text.partition("/")
    if not (first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected I/N with I from 1 to N")
    return int(first) - 1, int(of)


def _make(parts: Sequence[Part], shard: int, shards: int) -> None:
    """One shard, counted from 0."""
    wanted: dict[str, list[tuple[Part, Any]]] = {}
    for part in parts:
        for recipe in part.recipes():
            wanted.setdefault(part.group(recipe), []).append((part, recipe))
    for part, recipe in [each for group in list(wanted.values())[shard::shards] for each in group]:
        part.make(recipe)
