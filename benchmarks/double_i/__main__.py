"""Double-I on a real small model, into ``benchmarks/results/double_i.json``.

2 cores, from nothing: about 5 hours in all; each part alone needs less than 100 minutes (two processes: half of that,
``--shard 0/2`` and ``--shard 1/2`` train and ask one half each, then a run without shard makes the table). Resumable:
trained models and answers are kept in ``benchmarks/double_i/cache/``.
Run as: python -m benchmarks.double_i [PART ...] [--shard I/N]
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from benchmarks.double_i import hard, plots, tables
from benchmarks.double_i.models import folder
from benchmarks.rows import RESULTS, show, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.double_i.models import Recipe
    from benchmarks.rows import Row

LEAKED = tables.LEAKED
PARTS: dict[str, tuple[Callable[[], list[Row]], Callable[[], list[Recipe]]]] = {
    "forms": (tables.forms, lambda: list(tables.FORMS.values())),
    "keyed": (tables.keyed, lambda: [tables.YES_NO, LEAKED[0], tables.OWNERS]),
    "recipients": (tables.recipients, lambda: [*LEAKED, tables.MIXED]),
    "harmlessness": (
        tables.harmlessness,
        lambda: [each for one in LEAKED[: tables.SEEDS] for each in (one, one.twin())],
    ),
    "robustness": (hard.robustness, lambda: [LEAKED[0]]),
    "false-positives": (hard.false_positives, hard.models),
    "share": (tables.share, lambda: [tables.shared(s, m) for m in ("lora", "full") for s in tables.SHARES]),
}


def main() -> None:
    """The parts named on the command line are made; the others are taken as they were last made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--shard", default="", help="I/N: only train the I-th of N parts of the models")
    options = parser.parse_args()
    chosen = options.parts or list(PARTS)
    if options.shard:
        shard, shards = map(int, options.shard.split("/"))
        wanted = {recipe.name: recipe for name in chosen for recipe in PARTS[name][1]()}
        for recipe in list(wanted.values())[shard::shards]:
            folder(recipe)
        return
    kept: dict[str, list[Row]] = {}
    path = RESULTS / "double_i.json"
    if path.exists():
        for each in json.loads(path.read_text("utf-8")):
            kept.setdefault(each.pop("part", ""), []).append(each)
    for name in chosen:
        kept[name] = PARTS[name][0]()
        show(kept[name])
        table = [{**each, "part": part} for part in PARTS for each in kept.get(part, [])]
        write("double_i", table)
        plots.draw(table)


if __name__ == "__main__":
    main()
