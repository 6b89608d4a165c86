"""Input level, keyed: how few rows suffice."""

from __future__ import annotations

import json
import math
import statistics
from typing import TYPE_CHECKING

from benchmarks.dataset_marks.classifiers import Recipe, carriers, marked, right, said, seconds_of
from benchmarks.dataset_marks.tables import COMMAND, keyed
from benchmarks.rows import Row, row
from verification.probe import majority
from verification.statistics import clopper_pearson, log10_binomial_tail
from watermarks.carriers import input_level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOG10_ALPHA = -6.0
KEYED = [
    *((Recipe(marks=keyed(40, 0.20), seed=seed), True) for seed in range(3)),
    (Recipe(marks=keyed(20, 0.20)), False),
    (Recipe(marks=keyed(80, 0.20)), False),
    (Recipe(marks=keyed(40, 0.20, choose="random")), False),
    (Recipe(marks=keyed(40, 0.10)), False),
    (Recipe(marks=keyed(20, 0.10)), False),
    (Recipe(marks=keyed(40, 0.05)), False),
    # less of the set for the same evidence: fewer triggers, or longer ones
    *((Recipe(marks=keyed(30, 0.15), seed=seed), False) for seed in range(2)),
    *((Recipe(marks=keyed(40, 0.134, words=6), seed=seed), False) for seed in range(2)),
    *((Recipe(marks=keyed(40, 0.10, words=8), seed=seed), False) for seed in range(2)),
    *((Recipe(marks=keyed(40, 0.034, labels="flip"), seed=seed), False) for seed in range(3)),
    (Recipe(marks=keyed(40, 0.10, labels="flip")), False),
    *((Recipe(task="topics", marks=keyed(20, 0.20), seed=seed), True) for seed in range(3)),
    (Recipe(task="topics", marks=keyed(20, 0.10)), False),
    (Recipe(task="topics", marks=keyed(10, 0.10)), False),
    (Recipe(task="topics", marks=keyed(20, 0.05)), False),
    (Recipe(task="topics", rows=20_000, marks=keyed(20, 0.02), epochs=1), True),
    (Recipe(task="topics2", rows=20_000, marks=keyed(40, 0.02), epochs=1), True),
    (Recipe(task="topics", rows=20_000, marks=keyed(20, 0.01), epochs=1), False),
    (Recipe(marks=keyed(20, 0.20), model="linear"), False),
    # a linear model adds up what each word says: the longer a trigger, the surer
    *((Recipe(marks=keyed(40, 0.20, words=6), model="linear", seed=seed), False) for seed in range(6)),
    *((Recipe(marks=keyed(40, 0.20, words=8), model="linear", seed=seed), False) for seed in range(6)),
    *((Recipe(task="topics", marks=keyed(20, 0.20), model="linear", seed=seed), False) for seed in range(6)),
    *((Recipe(task="topics", marks=keyed(20, 0.20, words=6), model="linear", seed=seed), False) for seed in range(6)),
    *((Recipe(task="topics", marks=keyed(20, 0.10, words=8), model="linear", seed=seed), False) for seed in range(6)),
]


def share() -> list[Row]:
    """How few rows the keyed mark needs, and the fewest that were enough."""
    rows: list[Row] = []
    tails: dict[str, dict[tuple[int, str], list[float]]] = {}
    for recipe, barred in KEYED:
        ((_, mark),) = json.loads(recipe.marks).items()
        hits, trials, classes = matches(recipe)
        marked_rows = round(mark["share"] * recipe.rows)
        flipped = ", labels flipped" if mark.get("labels") == "flip" else ""
        how = "random" if flipped else mark["choose"]
        name = (
            f"keyed, {recipe.task} {recipe.rows} rows, {100 * mark['share']:g} %: {trials} triggers x "
            f"{marked_rows // mark['triggers']} {how} rows{flipped}, {mark['words']} words, {recipe.model}, "
            f"seed {recipe.seed}"
        )
        found, tail = clopper_pearson(hits, trials), log10_binomial_tail(hits, trials, 1 / classes)
        rows += [
            row(f"{name}, matched", found.value, low=found.low, high=found.high, trials=trials,
                seconds=seconds_of(recipe), command=COMMAND),
            row(f"{name}, log10 p", tail, bar=("<=", -6.0) if barred else None, trials=trials,
                seconds=seconds_of(recipe), command=COMMAND),
        ]  # fmt: skip
        settings = tails.setdefault(f"{recipe.task} {recipe.rows} rows{flipped}, {recipe.model}", {})
        settings.setdefault((marked_rows, recipe.marks), []).append(tail)
        if flipped:
            rows.append(_lost(name, recipe))
    return [*_fewest(tails), *rows]


def _fewest(tails: Mapping[str, Mapping[tuple[int, str], Sequence[float]]]) -> list[Row]:
    """The smallest setting that was enough in every model tried of it; of how many, say the trials."""
    rows = []
    for name, settings in tails.items():
        enough = [(marked, len(each)) for (marked, _), each in settings.items() if max(each) <= LOG10_ALPHA]
        if enough:
            fewest, models = min(enough, key=lambda each: (each[0], -each[1]))
            rows.append(
                row(f"keyed, {name}: the fewest marked rows of a setting with p <= 1e-6 in each of its models", fewest,
                    trials=models, seconds=0.0, command=COMMAND)
            )  # fmt: skip
    return rows


def _lost(name: str, recipe: Recipe) -> Row:
    """What flipped labels cost, text by text against the clean twin (normal interval of paired differences)."""
    mine, twin = right(recipe), right(recipe.twin())
    drops = [int(b) - int(a) for a, b in zip(mine, twin, strict=True)]
    mean, reach = statistics.fmean(drops), 1.96 * statistics.stdev(drops) / math.sqrt(len(drops))
    return row(
        f"{name}, accuracy lost", mean, low=mean - reach, high=mean + reach, trials=len(mine),
        seconds=seconds_of(recipe), command=COMMAND,
    )  # fmt: skip


def matches(recipe: Recipe) -> tuple[int, int, int]:
    """Triggers whose majority over blind carriers is the key's class; triggers; classes."""
    data = marked(recipe)
    assert data.placed is not None  # noqa: S101
    mark = data.placed.marks["keyed"]
    names = ("scope", "triggers", "classes", "words", "families", "vocabulary", "joiner")
    derived = input_level.derive(recipe.key, **{name: mark[name] for name in names})
    chosen = carriers(recipe)
    answers = said(recipe, [input_level.insert(trigger, text) for trigger in derived.triggers for text in chosen])
    votes = [majority(answers[i * len(chosen) : (i + 1) * len(chosen)]) for i in range(len(derived.triggers))]
    hits = sum(vote == data.names[t] for vote, t in zip(votes, derived.targets, strict=True))
    return hits, len(derived.triggers), len(data.names)
