"""Does the keyed mark survive what a buyer does to the set, or to the model of it?"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.dataset_marks.classifiers import HELD_OUT, Recipe, right, seconds_of
from benchmarks.dataset_marks.defences import CHANGES
from benchmarks.dataset_marks.keyed import matches
from benchmarks.dataset_marks.tables import COMMAND, keyed
from benchmarks.rows import Row, row
from verification.statistics import clopper_pearson, log10_binomial_tail

SEEDS = 2
LONG = {"outlier words filtered (ONION-like, 10 %)", "paraphrased by the language model"}
"""Half an hour of a language model each: one seed."""
DEFAULT = Recipe(marks=keyed(40, 0.20))


def survivors() -> list[Recipe]:
    """The default keyed mark after every defence, two seeds each."""
    return [
        replace(DEFAULT, seed=seed, change=change, then=then)
        for change, then in [*((name, 0) for name in CHANGES), ("", DEFAULT.rows)]
        for seed in range(1 if change in LONG else SEEDS)
    ]


def defences() -> list[Row]:
    """What survives, at what p; and what the defence costs its user."""
    found: dict[str, list[tuple[int, int, int, float]]] = {}
    seconds: dict[str, float] = {}
    for recipe in [replace(DEFAULT, seed=seed) for seed in range(SEEDS)] + survivors():
        name = recipe.change or ("fine-tuned on as many clean rows afterwards" if recipe.then else "nothing")
        hits, trials, classes = matches(recipe)
        found.setdefault(name, []).append((hits, trials, classes, sum(right(recipe)) / HELD_OUT))
        seconds[name] = seconds.get(name, 0.0) + seconds_of(recipe)
    rows: list[Row] = []
    for name, each in found.items():
        tails = [log10_binomial_tail(hits, trials, 1 / classes) for hits, trials, classes, _ in each]
        accuracies = [accuracy for *_, accuracy in each]
        accuracy = sum(accuracies) / len(each)
        texts = clopper_pearson(round(accuracy * HELD_OUT), HELD_OUT)  # every model is asked the same
        rows += [
            row(f"defence: {name}, log10 p (weakest of {len(each)})", max(tails), trials=each[0][1],
                seconds=seconds[name], command=COMMAND),
            row(f"defence: {name}, accuracy", accuracy, low=texts.low, high=texts.high, trials=HELD_OUT,
                seconds=seconds[name], command=COMMAND),
        ]  # fmt: skip
    return rows
