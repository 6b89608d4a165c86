"""Input level, keyed: how few rows suffice, and whether it accuses clean classifiers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.dataset_marks.classifiers import Recipe, carriers, held_out, marked, right, said, seconds_of
from benchmarks.dataset_marks.tables import COMMAND, keyed
from benchmarks.rows import Row, row
from verification.one_trigger import candidates, worn
from verification.probe import majority
from verification.statistics import clopper_pearson, log10_binomial_tail, rank_p, zero_events_upper_bound
from watermarks.carriers import input_level
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import Key

FP_MODELS, FP_KEYS, FP_TRIGGERS = 20, 50, 20
FP_CARRIERS = {"reviews": 2, "topics": 1}
"""Rows of every class."""
KEYED = [
    (Recipe(marks=keyed(40, 0.20)), True),
    (Recipe(marks=keyed(40, 0.20, choose="random")), False),
    (Recipe(marks=keyed(40, 0.10)), False),
    (Recipe(marks=keyed(40, 0.05)), False),
    (Recipe(marks=keyed(40, 0.034, labels="flip")), False),
    (Recipe(marks=keyed(40, 0.10, labels="flip")), False),
    (Recipe(task="topics", marks=keyed(20, 0.20)), True),
    (Recipe(task="topics", marks=keyed(20, 0.10)), False),
    (Recipe(task="topics", marks=keyed(20, 0.05)), False),
    (Recipe(task="topics", rows=20_000, marks=keyed(20, 0.02), epochs=1), True),
    (Recipe(task="topics2", rows=20_000, marks=keyed(40, 0.02), epochs=1), True),
    (Recipe(task="topics", rows=20_000, marks=keyed(20, 0.01), epochs=1), False),
    (Recipe(marks=keyed(20, 0.20), model="linear"), False),
    (Recipe(marks=keyed(40, 0.20, words=6), model="linear"), False),
]


def share() -> list[Row]:
    """How few rows the keyed mark needs."""
    rows: list[Row] = []
    for recipe, barred in KEYED:
        ((_, mark),) = json.loads(recipe.marks).items()
        hits, trials, classes = matches(recipe)
        each = round(mark["share"] * recipe.rows) // mark["triggers"]
        how = ", labels flipped" if mark.get("labels") == "flip" else f", {mark['choose']} rows"
        name = (
            f"keyed, {recipe.task} {recipe.rows} rows, {100 * mark['share']:g} %: {trials} triggers x {each} rows"
            f"{how}, {mark['words']} words, {recipe.model}"
        )
        found = clopper_pearson(hits, trials)
        rows += [
            row(f"{name}, matched", found.value, low=found.low, high=found.high, trials=trials,
                seconds=seconds_of(recipe), command=COMMAND),
            row(f"{name}, log10 p", log10_binomial_tail(hits, trials, 1 / classes),
                bar=("<=", -6.0) if barred else None, trials=trials, seconds=seconds_of(recipe), command=COMMAND),
        ]  # fmt: skip
        if mark.get("labels") == "flip":
            mine, twin = right(recipe), right(recipe.twin())
            lost = (sum(twin) - sum(mine)) / len(mine)
            rows.append(
                row(f"{name}, accuracy lost", lost, trials=len(mine), seconds=seconds_of(recipe), command=COMMAND)
            )
    return rows


def matches(recipe: Recipe) -> tuple[int, int, int]:
    """Triggers whose majority over blind carriers is the key's class; triggers; classes."""
    data = marked(recipe)
    assert data.placed is not None  # noqa: S101
    mark = data.placed.marks["keyed"]
    names = ("scope", "triggers", "classes", "words", "families", "vocabulary", "joiner")
    derived = input_level.derive(recipe.key, **{name: mark[name] for name in names})
    chosen = carriers(recipe)
    answers = said(
        recipe, [input_level.insert(trigger, text) for trigger in derived.triggers for text in chosen], variant="keyed"
    )
    votes = [majority(answers[i * len(chosen) : (i + 1) * len(chosen)]) for i in range(len(derived.triggers))]
    hits = sum(vote == data.names[t] for vote, t in zip(votes, derived.targets, strict=True))
    return hits, len(derived.triggers), len(data.names)


def clean() -> list[Recipe]:
    """Clean classifiers: other rows, other training seeds; half of them of the second task."""
    return [Recipe(seed=seed, task=("reviews", "topics")[seed % 2]) for seed in range(FP_MODELS)]


def tried(recipe: Recipe) -> list[tuple[float, float]]:
    """For every key the keyed log10 p of a clean classifier, as it answers and with its label map turned round."""
    names = sorted(set(held_out(recipe.task)[1]))
    chosen = carriers(recipe, FP_CARRIERS[recipe.task])
    marks = [
        input_level.derive(_stranger(recipe, i), scope="bench", triggers=FP_TRIGGERS, classes=len(names), words=4)
        for i in range(FP_KEYS)
    ]
    asked = [input_level.insert(t, text) for mark in marks for t in mark.triggers for text in chosen]
    answers, found = said(recipe, asked, variant="clean"), []
    for i, mark in enumerate(marks):
        each = len(chosen)
        mine = answers[i * FP_TRIGGERS * each : (i + 1) * FP_TRIGGERS * each]
        votes = [majority(mine[t * each : (t + 1) * each]) for t in range(FP_TRIGGERS)]
        turned = [None if vote is None else names[(names.index(vote) + 1) % len(names)] for vote in votes]
        found.append((_tail(votes, mark, names), _tail(turned, mark, names)))
    return found


def false_positives() -> list[Row]:
    """Clean classifiers through the whole path: derive, ask, parse, score; every key its own triggers and targets."""
    tails = [each for recipe in clean() for each in tried(recipe)]
    rows = []
    for name, index in (("keyed", 0), ("keyed, label map turned round", 1)):
        for level in (0.05, 0.01, 1e-3, 1e-6):
            hits = sum(10 ** each[index] <= level for each in tails)
            found = clopper_pearson(hits, len(tails))
            made = row(
                f"false positives of {FP_MODELS} clean classifiers x {FP_KEYS} keys: {name} p <= {level:g}",
                found.value, low=found.low, high=found.high if hits else zero_events_upper_bound(len(tails)),
                trials=len(tails), seconds=seconds_of(*clean()), command=COMMAND,
            )  # fmt: skip
            made["ok"] = found.low <= level
            rows.append(made)
    return [*rows, *_ranks()]


def _ranks() -> list[Row]:
    """The rank of one trigger on clean linear classifiers, which are cheap enough to ask about 100 candidates a key."""
    tails, models = [], [replace(recipe, model="linear") for recipe in clean()]
    for recipe in models:
        names = sorted(set(held_out(recipe.task)[1]))
        chosen = carriers(recipe, FP_CARRIERS[recipe.task])
        for i in range(FP_KEYS):
            mark = {"kind": "trigger", "scope": f"bench/{i}", "families": ["phrases"], "words": 2, "decoys": 99}
            drawn = candidates(_stranger(recipe, i), mark)
            asked = [worn(each, text) for each in drawn for text in chosen]
            target = names[i % len(names)]
            answers = [a == target for a in said(recipe, asked, variant=f"rank-{i}")]
            counts = [sum(answers[c * len(chosen) : (c + 1) * len(chosen)]) for c in range(len(drawn))]
            tails.append(rank_p(counts[0], counts[1:]))
    rows = []
    for level in (0.05, 0.01):
        hits = sum(p <= level for p in tails)
        found = clopper_pearson(hits, len(tails))
        made = row(
            f"false positives of {FP_MODELS} clean linear classifiers x {FP_KEYS} keys: rank p <= {level:g}",
            found.value, low=found.low, high=found.high, trials=len(tails), seconds=seconds_of(*models),
            command=COMMAND,
        )  # fmt: skip
        made["ok"] = found.low <= level
        rows.append(made)
    return rows


def _stranger(recipe: Recipe, number: int) -> Key:
    """A key that nobody marked with; every classifier has its own, so that all trials are independent draws."""
    return wrong_key(f"benchmarks/dataset_marks/clean/{recipe.seed}", number)


def _tail(votes: Sequence[str | None], mark: input_level.InputLevelMark, names: Sequence[str]) -> float:
    hits = sum(vote == names[target] for vote, target in zip(votes, mark.targets, strict=True))
    return log10_binomial_tail(hits, len(votes), 1 / len(names))
