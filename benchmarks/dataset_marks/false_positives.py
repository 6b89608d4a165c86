"""Does the keyed mark accuse clean classifiers? Twenty of them x fifty keys, each a sealed plan that is audited."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.dataset_marks.classifiers import Recipe, ask, carriers, held_out, kept, said, seconds_of
from benchmarks.dataset_marks.tables import COMMAND
from benchmarks.rows import Row, clustered, row
from benchmarks.through_audit import log10_p
from verification.claims import PROBES
from verification.one_trigger import candidates, worn
from verification.plan import Claim, ClaimPlan
from verification.statistics import clopper_pearson, rank_p, zero_events_upper_bound
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.keys import Key

MODELS, KEYS, TRIGGERS, DECOYS = 20, 50, 20, 99
CARRIERS = {"reviews": 3, "topics": 5}
"""An odd number: no majority of two classes is tied."""
LEVELS = (0.05, 0.01, 1e-3, 1e-6)


def clean() -> list[Recipe]:
    """Clean classifiers: other rows, other training seeds; half of them of the second task."""
    return [Recipe(seed=seed, task=("reviews", "topics")[seed % 2]) for seed in range(MODELS)]


def tried(recipe: Recipe) -> list[list[float]]:
    """For every key the keyed log10 p of a clean classifier, as it answers and with its label map turned round.

    The keys' second slice of triggers is asked, as a second audit asks it.
    """
    names, chosen = _names(recipe), tuple(carriers(recipe, 2)[: CARRIERS[recipe.task]])
    keys, mark = [_stranger(recipe, i) for i in range(KEYS)], _mark(len(names))
    listed = [PROBES[Claim.INPUT_LEVEL](key, mark, chosen, wrong_seed=key.key_id) for key in keys]
    prompts = [probe.prompt for probes in listed for probe in probes]
    knows = dict(zip(prompts, said(recipe, prompts), strict=True))

    def audited() -> list[list[float]]:
        turned = {name: names[(at + 1) % len(names)] for at, name in enumerate(names)}
        claim, rows_ = _claim(mark, chosen, names), [1] * TRIGGERS
        ways = (knows.__getitem__, lambda p: turned[knows[p]])
        return [
            [log10_p(claim, key, probes, way, rows_) for way in ways] for key, probes in zip(keys, listed, strict=True)
        ]

    found: list[list[float]] = kept(recipe).figures(["audited", mark, prompts, list(knows.values())], audited)
    return found


def false_positives() -> list[Row]:
    """How often p is at or below a level; every key has its own triggers and targets, and every model its own keys."""
    found = [tried(recipe) for recipe in clean()]
    rows, seconds = [], seconds_of(*clean())
    for index, name in enumerate(("keyed", "keyed, label map turned round")):
        tails = [[each[index] for each in mine] for mine in found]
        rows += _rates(f"{MODELS} clean classifiers x {KEYS} keys: {name}", tails, LEVELS, seconds)
    return [*rows, *_ranks()]


def _claim(mark: dict[str, Any], chosen: tuple[str, ...], names: list[str]) -> ClaimPlan:
    return ClaimPlan(
        claim=Claim.INPUT_LEVEL, statistic="exact binomial", mark=mark, answers=tuple(names), carriers=chosen,
        parser="exact/1", decoding="arg max over labels", suspects=(),
    )  # fmt: skip


def _rates(name: str, tails: Sequence[Sequence[float]], levels: Sequence[float], seconds: float) -> list[Row]:
    """Clopper-Pearson over all trials; the interval clustered by model stands beside, since its keys share a model."""
    rows = []
    for level in levels:
        under = [[10**p <= level for p in mine] for mine in tails]
        hits, trials = sum(map(sum, under)), sum(map(len, under))
        exact = clopper_pearson(hits, trials)
        made = row(
            f"false positives of {name} p <= {level:g}", exact.value, low=exact.low,
            high=exact.high if hits else zero_events_upper_bound(trials), trials=trials, seconds=seconds,
            command=COMMAND,
        )  # fmt: skip
        made["ok"] = exact.low <= level
        rows.append(made)
        if hits:
            mean, low, high = clustered([sum(each) / len(each) for each in under])
            beside = row(
                f"false positives of {name} p <= {level:g}, clustered by model", mean, low=low, high=high,
                trials=len(under), seconds=seconds, command=COMMAND,
            )  # fmt: skip
            made["ok"] = beside["ok"] = low <= level
            rows.append(beside)
    return rows


def _ranks() -> list[Row]:
    """The rank of one trigger on clean linear classifiers, which are cheap enough to ask about 100 candidates a key."""
    tails, models = [], [replace(recipe, model="linear") for recipe in clean()]
    for recipe in models:
        chosen = carriers(recipe, 2)[: CARRIERS[recipe.task]]
        tails.append(kept(recipe).figures(["ranks", KEYS, DECOYS, chosen], lambda r=recipe, c=chosen: _ranked(r, c)))
    return _rates(f"{MODELS} clean linear classifiers x {KEYS} keys: rank", tails, (0.05, 0.01), seconds_of(*models))


def _ranked(recipe: Recipe, chosen: Sequence[str]) -> list[float]:
    """The rank's log10 p of every key's trigger and target."""
    names, found = _names(recipe), []
    for i in range(KEYS):
        mark = {"kind": "trigger", "scope": f"bench/{i}", "families": ["phrases"], "words": 2, "decoys": DECOYS}
        drawn = candidates(_stranger(recipe, i), mark)
        hits = [
            a == names[i % len(names)] for a in ask(recipe, [worn(each, text) for each in drawn for text in chosen])
        ]
        counts = [sum(hits[c * len(chosen) : (c + 1) * len(chosen)]) for c in range(len(drawn))]
        found.append(math.log10(rank_p(counts[0], counts[1:])))
    return found


def _mark(classes: int) -> dict[str, Any]:
    """A release's mark for two audits, and the second's range of triggers."""
    return {
        "scope": "bench", "triggers": 2 * TRIGGERS, "classes": classes, "words": 4, "families": ["words"],
        "vocabulary": None, "joiner": " ", "rows_per_trigger": 1, "first": TRIGGERS, "count": TRIGGERS,
    }  # fmt: skip


def _names(recipe: Recipe) -> list[str]:
    return sorted(set(held_out(recipe.task)[1]))


def _stranger(recipe: Recipe, number: int) -> Key:
    """A key that nobody marked with; every classifier has its own, so that all trials are independent draws."""
    return wrong_key(f"benchmarks/dataset_marks/clean/{recipe.seed}", number)
