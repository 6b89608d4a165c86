"""Does it accuse clean models? Twenty of them x fifty keys, through the whole path; and where the paper's test does.

Fisher's test takes the answers to triggers and references as draws of one urn. A model that never saw a mark may still
lean to Yes when an instruction is decorated, whatever the decoration: then Fisher rejects, the surer the more it asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.double_i.asking import said
from benchmarks.double_i.models import FOUR, SCOPE, Recipe, carriers, seconds_of, sentences
from benchmarks.double_i.tables import COMMAND, COPIES
from benchmarks.rows import Row, clustered, row
from benchmarks.through_audit import log10_p
from verification import double_i as planned
from verification.claims import PROBES
from verification.plan import KEYED_ARM, Claim, ClaimPlan
from verification.probe import Answer, majority, parse_first_word
from verification.statistics import clopper_pearson, log10_binomial_tail, zero_events_upper_bound
from watermarks.carriers import double_i, double_i_forms
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.probe import Probe

KEYS, CODEWORDS, QUERIES = 50, 12, 8
WIDE_KEYS, WIDE_QUERIES = 2, 64
"""Fisher again with more queries and fewer keys: those of the form whose trigger is the instruction's decoration."""
POOL_KEYS = 1000
CLEAN = tuple(
    Recipe(name=f"clean-{i:02d}", seed=400 + i, clean=160, clean_seed=400 + i, tasks=bool(i % 2)) for i in range(20)
)


MARKED = COPIES
"""Clean to every key but their owner's."""


def false_positives() -> list[Row]:
    """Clean models through the whole path: derive, ask, parse, score; every key its own triggers and targets."""
    found = [tried(recipe) for recipe in CLEAN]
    keyed = _rates("keyed", [tails for _, tails, _ in found], bound=True)
    fisher = _rates("Fisher", [papers for _, _, papers in found], bound=False)
    wide = _rates(
        f"Fisher from {WIDE_QUERIES} + {WIDE_QUERIES} queries (cre3)", list(map(asked_wide, CLEAN)), bound=False
    )
    others = _rates("keyed, through the audit", list(map(audited, MARKED)), bound=True, models=MARKED)
    return [*keyed, *others, *fisher, *wide, *_worst(), *_habits(found), *_pooled([votes for votes, _, _ in found])]


def _worst() -> list[Row]:
    """The clean models that Fisher's test accuses most, each by its surest trial."""
    tails = sorted((min(asked_wide(recipe)), recipe.name) for recipe in CLEAN)
    return [
        row(
            f"Fisher from {WIDE_QUERIES} + {WIDE_QUERIES} queries (cre3), clean model {name}: log10 p", tail,
            trials=2 * WIDE_QUERIES, seconds=0.0, command=COMMAND,
        )
        for tail, name in tails[:2]
    ]  # fmt: skip


def _habits(found: list[tuple[list[str | None], list[float], list[float]]]) -> list[Row]:
    """How much the clean models say at all: who never gives one of the answers cannot match, marked or not."""
    votes = [[vote in FOUR.answers for vote in mine] for mine, _, _ in found]
    silent, trials = sum(not any(mine) for mine in votes), sum(map(len, votes))
    said = sum(map(sum, votes))
    return [
        row("clean models: share of votes that are one of the four answers", said / trials, trials=trials, seconds=0.0,
            command=COMMAND),
        row("clean models: that never give one of the four answers", silent, trials=len(votes), seconds=0.0,
            command=COMMAND),
    ]  # fmt: skip


def made(recipe: Recipe) -> object:
    """Everything that a model of this table is trained for and asked."""
    return audited(recipe) if recipe in MARKED else (tried(recipe), asked_wide(recipe))


def tried(recipe: Recipe) -> tuple[list[str | None], list[float], list[float]]:
    """All votes, then the keyed and the Fisher log10 p of every key."""
    marks = [_mark(i) for i in range(KEYS)]
    listed = [_probes(i, mark) for i, mark in enumerate(marks)]
    raw = iter(said(recipe, [probe.prompt for probes in listed for probe in probes]))
    votes: list[str | None] = []
    tails, papers = [], []
    for i, (mark, probes) in enumerate(zip(marks, listed, strict=True)):
        answers = [_answer(probe, next(raw)) for probe in probes]
        mine = [majority([a.parsed]) for a, p in zip(answers, probes, strict=True) if p.arm == KEYED_ARM]
        targets = planned.targets(wrong_key("clean", i), mark)
        hits = sum(vote == FOUR.answers[t] for vote, t in zip(mine, targets, strict=True))
        tails.append(log10_binomial_tail(hits, len(mine), 0.25))
        found = planned.paper(mark, probes, answers)
        papers.append(found["fisher_log10_p"] if found else 0.0)
        votes += mine
    return votes, tails, papers


def asked_wide(recipe: Recipe) -> list[float]:
    """Fisher's log10 p of the first decorating keys, from many queries."""
    tails = []
    for i in range(1, 2 * WIDE_KEYS, 2):
        mark = _mark(i, queries=WIDE_QUERIES)
        probes = [probe for probe in _probes(i, mark) if probe.arm != KEYED_ARM]
        raw = said(recipe, [probe.prompt for probe in probes])
        found = planned.paper(mark, probes, list(map(_answer, probes, raw)))
        tails.append(found["fisher_log10_p"] if found else 0.0)
    return tails


def audited(recipe: Recipe) -> list[float]:
    """For every key what an audit says of a model that was marked by somebody else: it always answers A, B, C or D."""
    mark = {name: value for name, value in _mark(0).items() if name not in ("judge", "sentences")}
    mark["rows_per_trigger"] = 1
    keys, chosen = [wrong_key("clean", i) for i in range(KEYS)], tuple(carriers(1)[:1])
    listed = [PROBES[Claim.DOUBLE_I](key, mark, chosen, wrong_seed=key.key_id) for key in keys]
    prompts = [probe.prompt for probes in listed for probe in probes]
    knows = dict(zip(prompts, said(recipe, prompts, variant="strangers"), strict=True))
    claim = ClaimPlan(
        claim=Claim.DOUBLE_I, statistic="keyed binomial", mark=mark, answers=FOUR.answers, carriers=chosen,
        parser="first_word/2", decoding="greedy", suspects=(),
    )  # fmt: skip
    return [
        log10_p(claim, key, probes, knows.__getitem__, [1] * CODEWORDS)
        for key, probes in zip(keys, listed, strict=True)
    ]  # fmt: skip


def _probes(i: int, mark: dict[str, Any]) -> list[Probe]:
    """What key i asks; the arm of wrong keys is every other key here."""
    found = planned.probes(wrong_key("clean", i), mark, carriers(1)[:1], wrong_seed="x")
    return [probe for probe in found if probe.arm != "wrong_key"]


def _mark(i: int, queries: int = QUERIES) -> dict[str, Any]:
    """A plan's mark for key i; the one-trigger form takes a trigger of its family, the families in turn."""
    judge = double_i_forms.FORMS[("cre1", "cre3")[i % 2]]
    trigger, _ = double_i_forms.draw_trigger(wrong_key("clean", i), judge, scope=SCOPE, decoys=1)
    return {
        "scope": SCOPE, "codewords": CODEWORDS, "words": 2, "form": FOUR.to_json(),
        "judge": judge.with_trigger(trigger).to_json(), "sentences": sentences(1)[:queries],
        "paper_queries": queries, "near_miss_queries": 0, "claim": Claim.DOUBLE_I,
    }  # fmt: skip


def _answer(probe: Probe, raw: str) -> Answer:
    allowed = ("Yes", "No", *FOUR.answers)
    return Answer(
        id=probe.id, suspect="clean", arm=probe.arm, prompt_digest=probe.prompt_digest, raw=raw,
        parsed=parse_first_word(raw, allowed), attempt=1,
    )  # fmt: skip


def _rates(name: str, tails: list[list[float]], *, bound: bool, models: Sequence[Recipe] = CLEAN) -> list[Row]:
    """How often p (log10, by model and key) is at or below a level; a bound must not be exceeded significantly.

    Clopper-Pearson takes all pairs of a model and a key as independent. The models resemble each other, and what one
    key says of twenty of them may be one draw; so the interval clustered by key stands beside it, and decides.
    """
    rows, seconds = [], sum(seconds_of(recipe) for recipe in models)
    kind = "clean models" if models is CLEAN else "models that others marked"
    for level in (0.05, 0.01, 1e-3, 1e-6):
        under = [[10**p <= level for p in each] for each in zip(*tails, strict=True)]
        hits, trials = sum(map(sum, under)), sum(map(len, under))
        found = clopper_pearson(hits, trials)
        label = f"false positives of {len(models)} {kind} x {len(under)} keys: {name} p <= {level:g}"
        made = row(
            label, found.value, low=found.low, high=found.high if hits else zero_events_upper_bound(trials),
            trials=trials, seconds=seconds, command=COMMAND,
        )  # fmt: skip
        if hits and bound:
            mean, low, high = clustered([sum(each) / len(each) for each in under])
            beside = row(
                f"{label}, clustered by key", mean, low=low, high=high, trials=len(under), seconds=seconds,
                command=COMMAND,
            )  # fmt: skip
            made["ok"] = beside["ok"] = low <= level
            rows += [made, beside]
        else:
            rows.append(made)
    return rows


def _pooled(pool: list[list[str | None]]) -> list[Row]:
    """A supplement over cached answers: targets redrawn, which tests the arithmetic and not the models."""
    tails = []
    for key in range(POOL_KEYS):
        targets = double_i.derive_targets(
            wrong_key("pool", key), scope=SCOPE, codewords=len(pool[0]), classes=len(FOUR.answers)
        )
        hits = [sum(v == FOUR.answers[t] for v, t in zip(votes, targets, strict=True)) for votes in pool]
        tails.append([log10_binomial_tail(each, len(targets), 0.25) for each in hits])
    rows = []
    for level in (0.05, 0.01, 1e-3):
        mean, low, high = clustered([sum(10**p <= level for p in each) / len(each) for each in tails])
        made = row(
            f"supplement over cached answers ({len(pool)} models x {len(pool[0])} triggers x {POOL_KEYS} keys): "
            f"keyed p <= {level:g}, clustered by key", mean, low=low, high=high, trials=POOL_KEYS * len(pool),
            seconds=0.0, command=COMMAND,
        )  # fmt: skip
        made["ok"] = low <= level
        rows.append(made)
    return rows


def models() -> list[Recipe]:
    """The clean models, and those that somebody else marked."""
    return [*CLEAN, *MARKED]
