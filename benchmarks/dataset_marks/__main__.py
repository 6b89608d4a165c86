"""Dataset marks on real text, into ``benchmarks/results/dataset_marks.json``.

2 cores, from nothing, estimated: five hours in all, and twice as long on a CPU without bfloat16. ``--shard I/N`` trains
and asks the I-th of N parts of the models, so that no go needs more than 100 minutes; a run without shard then makes
the table. Resumable: trained models are kept in ``benchmarks/dataset_marks/cache/``, classifiers' answers in
``benchmarks/results/dataset_marks/``.
Run as: python -m benchmarks.dataset_marks [PART ...] [--shard I/N]
"""

from __future__ import annotations

import json
from functools import partial

from benchmarks.dataset_marks import false_positives, keyed, leaning, plots, quality, speed, survival, tables, tasks
from benchmarks.dataset_marks.classifiers import Recipe, right
from benchmarks.parts import Part, run


def _twins(recipes: list[Recipe]) -> list[Recipe]:
    return list({each.name: each for recipe in recipes for each in (recipe, recipe.twin())}.values())


def _twin(recipe: Recipe) -> str:
    return recipe.twin().name


def _tried(recipe: Recipe) -> object:
    if not recipe.marks:
        return right(recipe)
    return tables.rates(recipe)


def _matches(recipe: Recipe) -> object:
    right(recipe)
    return keyed.matches(recipe) if "keyed" in json.loads(recipe.marks or "{}") else None


PARTS = {
    "wsr": Part(rows=tables.wsr, recipes=lambda: _twins(tables.WSR), make=_tried, group=_twin),
    "cost": Part(rows=tables.cost, recipes=lambda: _twins(tables.costs()), make=right, group=_twin),
    "share": Part(rows=keyed.share, recipes=lambda: [recipe for recipe, _ in keyed.KEYED], make=_matches, group=_twin),
    "false-positives": Part(
        rows=false_positives.false_positives, recipes=false_positives.clean, make=false_positives.tried, group=_twin
    ),
    "defences": Part(rows=survival.defences, recipes=survival.survivors, make=_matches, group=_twin),
    **{
        task.name: Part(rows=partial(tasks.rows, task), recipes=partial(tuple, [task]), make=tasks.report)
        for task in tasks.TASKS
    },
    "leaning": Part(rows=leaning.rows, recipes=lambda: leaning.CLEAN, make=leaning.leans, group=_twin),
    "quality": Part(rows=quality.quality),
    "speed": Part(rows=speed.rows),
}

if __name__ == "__main__":
    run("dataset_marks", PARTS, draw=plots.draw, doc=__doc__)
