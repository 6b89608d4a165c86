"""Double-I on a real small model, into ``benchmarks/results/double_i.json``.

2 cores, from nothing: about 5 hours in all, estimated from the parts that have run. ``--shard I/N`` trains and asks the
I-th of N parts of the models, so that no go needs more than 100 minutes; a run without shard then makes the table.
Resumable: trained models and answers are kept in ``benchmarks/double_i/cache/``.
Run as: python -m benchmarks.double_i [PART ...] [--shard I/N]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.double_i import hard, plots, tables
from benchmarks.double_i.asking import keyed_votes
from benchmarks.double_i.exams import ANSWERS, right
from benchmarks.double_i.models import folder
from benchmarks.rows import RESULTS, show, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.double_i.models import Recipe
    from benchmarks.rows import Row

LEAKED = tables.LEAKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One table: its rows, the models it needs, and what is asked of each of them (kept, so that shards can ask)."""

    rows: Callable[[], list[Row]]
    models: Callable[[], list[Recipe]]
    ask: Callable[[Recipe], object] = lambda _: None


def _votes(recipe: Recipe) -> object:
    return [keyed_votes(recipe, part) for part in recipe.keyed]


def _exams(recipe: Recipe) -> object:
    return [right(recipe, task) for task in ANSWERS]


PARTS = {
    "forms": Part(rows=tables.forms, models=lambda: list(tables.FORMS.values())),
    "keyed": Part(rows=tables.keyed, models=lambda: [tables.YES_NO, LEAKED[0], tables.OWNERS], ask=_votes),
    "recipients": Part(rows=tables.recipients, models=lambda: [*LEAKED, tables.MIXED], ask=_votes),
    "harmlessness": Part(
        rows=tables.harmlessness,
        models=lambda: [each for one in LEAKED[: tables.SEEDS] for each in (one, one.twin())],
        ask=_exams,
    ),
    "robustness": Part(rows=hard.robustness, models=lambda: [LEAKED[0]]),
    "false-positives": Part(rows=hard.false_positives, models=hard.models, ask=hard.tried),
    "share": Part(
        rows=tables.share,
        models=lambda: [tables.shared(s, m) for m in ("lora", "full") for s in tables.SHARES],
        ask=_votes,
    ),
}


def main() -> None:
    """The parts named on the command line are made; the others are taken as they were last made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--shard", default="", help="I/N: only train and ask the I-th of N parts of the models")
    options = parser.parse_args()
    chosen = options.parts or list(PARTS)
    if options.shard:
        shard, shards = map(int, options.shard.split("/"))
        wanted: dict[str, list[tuple[Part, Recipe]]] = {}  # a model that several parts need belongs to one shard
        for name in chosen:
            for recipe in PARTS[name].models():
                wanted.setdefault(recipe.name, []).append((PARTS[name], recipe))
        for part, recipe in [each for group in list(wanted.values())[shard::shards] for each in group]:
            folder(recipe)
            part.ask(recipe)
        return
    kept: dict[str, list[Row]] = {}
    path = RESULTS / "double_i.json"
    if path.exists():
        for each in json.loads(path.read_text("utf-8")):
            kept.setdefault(each.pop("part", ""), []).append(each)
    for name in chosen:
        kept[name] = PARTS[name].rows()
        show(kept[name])
        table = [{**each, "part": part} for part in PARTS for each in kept.get(part, [])]
        write("double_i", table)
        plots.draw(table)


if __name__ == "__main__":
    main()
