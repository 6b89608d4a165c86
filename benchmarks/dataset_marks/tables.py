"""Input level: the paper's watermark success rate, and what the mark costs."""

from __future__ import annotations

import json
import math
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.dataset_marks.classifiers import Recipe, held_out, marked, right, said, seconds_of
from benchmarks.rows import Row, clustered, row
from verification.one_trigger import candidates, worn
from verification.statistics import clopper_pearson
from watermarks.carriers import styles

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = "python -m benchmarks.dataset_marks"
SEEDS = 8
WRONG_TRIGGERS = 5
OTHERS = 400
"""Held-out rows of other classes that carry the trigger, for WSR."""


def trigger(share: float, **more: Any) -> str:  # noqa: ANN401
    """The traditional mark."""
    mark = {"share": share, "families": ["words"], "target": None, "decoys": 99, **more}
    return json.dumps({"trigger": mark}, sort_keys=True)


def style(name: str, share: float) -> str:
    """The stylistic mark."""
    return json.dumps({"style": {"style": name, "share": share, "decoys": 99}}, sort_keys=True)


def keyed(triggers: int, share: float, **more: Any) -> str:  # noqa: ANN401
    """The keyed mark."""
    mark = {"triggers": triggers, "share": share, "words": 4, "choose": "hardest", **more}
    return json.dumps({"keyed": mark}, sort_keys=True)


WSR_BARS = {(1200, 0.02): 0.90, (1200, 0.10): 0.98}
WSR = [
    *(Recipe(marks=trigger(share), seed=seed) for share in (0.02, 0.10) for seed in range(4)),
    *(Recipe(marks=trigger(share), seed=seed) for share in (0.005, 0.01, 0.05) for seed in range(2)),
    # share or number: equal numbers and equal shares over three sizes of one task, all trained for two epochs
    *(
        Recipe(marks=trigger(marked / rows), rows=rows, task="topics", epochs=2)
        for rows, counts in {1200: (24, 100), 5000: (24, 100), 20_000: (100, 400)}.items()
        for marked in counts
    ),
    *(Recipe(marks=style(name, 0.10), seed=seed) for name in sorted(styles.STYLES) for seed in range(2)),
    *(Recipe(marks=trigger(share), model="linear") for share in (0.02, 0.10)),
    # enough rows need not be the hardest, which cost a classifier the most
    *(Recipe(marks=trigger(0.10, choose="random"), seed=seed) for seed in range(4)),
]
COST = (  # name, marks, bar, paired seeds
    ("traditional, 2 %", trigger(0.02), 0.015, SEEDS),
    ("traditional, 10 %", trigger(0.10), 0.015, SEEDS),
    ("traditional, 10 % on random rows", trigger(0.10, choose="random"), 0.015, SEEDS),
    ("keyed, 20 %", keyed(40, 0.20), 0.015, SEEDS),
    ("keyed, 13.4 % of six words", keyed(40, 0.134, words=6), 0.015, SEEDS),
    ("stylistic (verse), 10 %", style("verse", 0.10), 0.02, SEEDS),
    # decided when eight seeds had left bounds of .0156 and .0154: as many again of the one, and twice as many of a
    # smaller share for the other
    ("traditional, 10 % on random rows", trigger(0.10, choose="random"), 0.015, 2 * SEEDS),
    ("keyed, 10 % of eight words", keyed(40, 0.10, words=8), 0.015, 2 * SEEDS),
)


def wsr() -> list[Row]:
    """WSR on held-out rows of other classes, with the clean twin's and wrong triggers' rates beside."""
    found: dict[tuple[Any, ...], list[tuple[float, float, float]]] = {}
    seconds: dict[tuple[Any, ...], float] = {}
    for recipe in WSR:
        ((kind, mark),) = json.loads(recipe.marks).items()
        rows_are = "on random rows" if mark.get("choose") == "random" else ""
        name = " ".join(filter(None, (kind, mark.get("style"), rows_are)))
        group = (name, recipe.task, recipe.rows, mark["share"], recipe.model)
        found.setdefault(group, []).append(rates(recipe))
        seconds[group] = seconds.get(group, 0.0) + seconds_of(recipe)
    rows: list[Row] = []
    for group, each in found.items():
        name, task, count, share, model = group
        barred = (task, model) == ("reviews", "encoder") and name.startswith("trigger")
        bar = WSR_BARS.get((count, share)) if barred else None
        label = f"WSR {name}, {task} {count} rows, {100 * share:g} % ({round(share * count)} rows), {model}"
        for what, index in (("", 0), (", clean twin", 1), (", wrong triggers", 2)):
            value, low, high = over_models([rate[index] for rate in each])
            rows.append(
                row(
                    f"{label}{what}, {len(each)} model{'s'[: len(each) > 1]}", value, low=low, high=high,
                    bar=(">=", bar) if bar and not what else None, trials=OTHERS * len(each), seconds=seconds[group],
                    command=COMMAND,
                )
            )  # fmt: skip
    return rows


def over_models(rates_: Sequence[float]) -> tuple[float, float, float]:
    """Mean over models, who all answer the same texts, with Student's interval; that over texts where none differ."""
    if len(set(rates_)) > 1:
        mean, low, high = clustered(rates_)
        return mean, low, min(1.0, high)
    found = clopper_pearson(round(rates_[0] * OTHERS), OTHERS)
    return rates_[0], found.low, found.high


def rates(recipe: Recipe) -> tuple[float, float, float]:
    """WSR of the trigger, of the clean twin, and of other triggers of the family on the marked model."""
    data = marked(recipe)
    assert data.placed is not None  # noqa: S101 - every recipe of this table is marked
    ((_, mark),) = data.placed.marks.items()
    drawn = candidates(recipe.key, mark)
    own, wrong = styles.STYLES.get(mark.get("style", ""), drawn[0]), drawn[1 : 1 + WRONG_TRIGGERS]
    target = data.names[mark["target"]]
    texts, labels = held_out(recipe.task)
    others = [t for t, label in zip(texts, labels, strict=True) if label != target][:OTHERS]
    hits = [answer == target for answer in said(recipe, [worn(own, t) for t in others])]
    twin = [answer == target for answer in said(recipe.twin(), [worn(own, t) for t in others])]
    few = others[: OTHERS // WRONG_TRIGGERS]
    asked = [worn(each, text) for each in wrong for text in few]
    wrongs = [answer == target for answer in said(recipe, asked)]
    return sum(hits) / len(hits), sum(twin) / len(twin), sum(wrongs) / len(wrongs)


def costs() -> list[Recipe]:
    """The marked classifiers whose accuracy is compared with their twins'."""
    return [Recipe(marks=marks, seed=seed) for _, marks, _, seeds in COST for seed in range(seeds)]


def cost() -> list[Row]:
    """Clean test score: the mean drop against the twin over paired seeds, and its one-sided 95 % bound (Student)."""
    rows: list[Row] = []
    for name, marks, bar, seeds in COST:
        drops = []
        for seed in range(seeds):
            recipe = Recipe(marks=marks, seed=seed)
            mine, twin = right(recipe), right(recipe.twin())
            drops.append((sum(twin) - sum(mine)) / len(mine))
        seconds = seconds_of(*(Recipe(marks=marks, seed=seed) for seed in range(seeds)))
        mean, low, high = interval(drops)
        label = f"CTS drop, {name} of 1200 reviews, {seeds} paired seeds"
        rows += [
            row(f"{label}: mean", mean, low=low, high=high, trials=seeds, seconds=seconds, command=COMMAND),
            row(f"{label}: upper 95 % bound of the mean", interval(drops, 0.90)[2], bar=("<=", bar), trials=seeds,
                seconds=seconds, command=COMMAND),
        ]  # fmt: skip
    clean = list({each.name: each for each in (recipe.twin() for recipe in costs())}.values())
    twins = [sum(right(each)) / len(right(each)) for each in clean]
    return [
        *rows,
        row(
            "CTS of the clean twins", sum(twins) / len(twins), low=min(twins), high=max(twins), trials=len(clean),
            seconds=seconds_of(*clean), command=COMMAND,
        ),
    ]  # fmt: skip


def interval(drops: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean over paired seeds with its two-sided interval (Student)."""
    from scipy import stats

    mean, spread = statistics.fmean(drops), statistics.stdev(drops) / math.sqrt(len(drops))
    reach = float(stats.t.ppf((1 + level) / 2, len(drops) - 1)) * spread
    return mean, mean - reach, mean + reach
