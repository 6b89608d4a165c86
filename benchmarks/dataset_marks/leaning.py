"""Do the sealed words and triggers lean to a class? Asked of clean classifiers; a lean costs power, not validity."""

from __future__ import annotations

from benchmarks.dataset_marks.classifiers import Recipe, ask, carriers, kept, marked, seconds_of
from benchmarks.dataset_marks.tables import COMMAND
from benchmarks.rows import Row, row
from pipelines.lean import leaning
from verification.statistics import clopper_pearson
from watermarks.carriers.triggers import FAMILIES, SLOT, draw_triggers
from watermarks.carriers.words import nouns
from watermarks.keys import wrong_key

TRIGGERS, CARRIERS = 40, 20
MOST = 0.25
"""A trigger leans that changes any label's share by more than this."""
CLEAN = [Recipe(), Recipe(task="topics")]


def patterns() -> dict[str, list[str]]:
    """Every noun alone, and as many triggers of each family as a release draws, under a public key."""
    key = wrong_key("benchmarks/dataset_marks/leaning", 0)
    drawn = {
        f"triggers of the family {family}": list(
            draw_triggers(key.stream({"purpose": "benchmark", "family": family}), TRIGGERS, words=4, families=[family])
        )
        for family in FAMILIES
    }
    return {"nouns, each alone": [f"{noun} {SLOT}" for noun in nouns()], **drawn}


def leans(recipe: Recipe) -> dict[str, list[float]]:
    """How far every pattern moves a clean classifier."""
    said, texts = patterns(), carriers(recipe, CARRIERS // len(marked(recipe).names))

    def measured() -> dict[str, list[float]]:
        return {
            name: [round(each, 4) for each in leaning(listed, texts, lambda asked: ask(recipe, asked)).values()]
            for name, listed in said.items()
        }

    found: dict[str, list[float]] = kept(recipe).figures(["leaning", said, texts], measured)
    return found


def rows() -> list[Row]:
    """The share of patterns that lean."""
    made = []
    for recipe in CLEAN:
        for name, found in leans(recipe).items():
            many = clopper_pearson(sum(each > MOST for each in found), len(found))
            made.append(
                row(
                    f"{name}: share that moves a clean classifier of {recipe.task} by more than {MOST}", many.value,
                    low=many.low, high=many.high, trials=len(found), seconds=seconds_of(recipe), command=COMMAND,
                )
            )  # fmt: skip
    return made
