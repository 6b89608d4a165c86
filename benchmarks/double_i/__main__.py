"""Double-I on a real small model, into ``benchmarks/results/double_i.json``.

2 cores, from nothing: about six hours in all. Training its 57 models took 547 minutes of one core (their seconds are in
the rows), two at a time; asking them is estimated at three hours of one. ``--shard I/N`` trains and asks the I-th of N
parts of the models, so that no go needs more than 100 minutes; a run without shard then makes the table.
Resumable: trained models and answers are kept in ``benchmarks/double_i/cache/``.
Run as: python -m benchmarks.double_i [PART ...] [--shard I/N]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.double_i import clean, hard, plots, tables
from benchmarks.double_i.asking import keyed_votes
from benchmarks.double_i.exams import ANSWERS, right
from benchmarks.double_i.models import folder
from benchmarks.double_i.tables import COPIES
from benchmarks.parts import Part, run

if TYPE_CHECKING:
    from benchmarks.double_i.models import Recipe


def _votes(recipe: Recipe) -> object:
    folder(recipe)
    return [keyed_votes(recipe, part) for part in recipe.keyed]


def _exams(recipe: Recipe) -> object:
    """A twin takes every exam; its marked model those that a small model can pass, and the others if a twin passes."""
    return [right(recipe, task) for task in ANSWERS if task != "boolq" or not recipe.keyed]


PARTS = {
    "forms": Part(rows=tables.forms, recipes=lambda: list(tables.FORMS.values()), make=folder),
    "keyed": Part(rows=tables.keyed, recipes=lambda: [tables.YES_NO, COPIES[0], tables.OWNERS], make=_votes),
    "recipients": Part(rows=tables.recipients, recipes=lambda: [*tables.LEAKED, *COPIES, tables.MIXED], make=_votes),
    "harmlessness": Part(
        rows=tables.harmlessness,
        recipes=lambda: [each for one in COPIES[: tables.SEEDS] for each in (one, one.twin())],
        make=_exams,
    ),
    "robustness": Part(rows=hard.robustness, recipes=lambda: [hard.MARKED], make=folder),
    "false-positives": Part(rows=clean.false_positives, recipes=clean.models, make=clean.made),
    "share": Part(rows=tables.share, recipes=tables.curve, make=_votes),
}

if __name__ == "__main__":
    run("double_i", PARTS, draw=plots.draw, doc=__doc__)
