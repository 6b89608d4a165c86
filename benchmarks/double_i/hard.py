"""The hard questions: does the mark survive what happens to models, and does it accuse clean ones?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.double_i.asking import keyed_votes, matches, said
from benchmarks.double_i.changes import (
    TEMPLATE,
    Changed,
    Guarded,
    perplexity_filter,
    pruned,
    quantised,
    refuses_often,
    towards_base,
)
from benchmarks.double_i.exams import right
from benchmarks.double_i.models import (
    FOUR,
    MODEL,
    SCOPE,
    SYSTEM,
    WORK,
    Recipe,
    carriers,
    exam,
    folder,
    seconds_of,
    sentences,
)
from benchmarks.double_i.tables import COMMAND, LEAKED, RECIPIENTS, default
from benchmarks.rows import Row, clustered, row
from pipelines.assets import resolve_model
from verification import double_i as planned
from verification.plan import KEYED_ARM, Claim
from verification.probe import Answer, majority, parse_first_word
from verification.statistics import clopper_pearson, log10_binomial_tail, zero_events_upper_bound
from watermarks.carriers import double_i, double_i_forms
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MARKED = LEAKED[0]
UTILITY_QUESTIONS = 200
SURVIVES = -6.0
KEYS, CODEWORDS, QUERIES = 50, 12, 8
POOL_KEYS = 1000
CLEAN = tuple(
    Recipe(name=f"clean-{i:02d}", seed=400 + i, clean=160, clean_seed=400 + i, tasks=bool(i % 2)) for i in range(20)
)


def merged() -> Path:
    """The marked model, merged into a folder: what somebody else fine-tunes further."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from countermark.files import building

    path = WORK / "models" / "merged"
    if not path.exists():
        base = resolve_model(MODEL).path
        with building(path) as out:
            from peft import PeftModel

            model = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(base, dtype="bfloat16"), str(folder(MARKED))
            )
            model.merge_and_unload().save_pretrained(out)
            AutoTokenizer.from_pretrained(base).save_pretrained(out)
    return path


def tuned_again() -> Any:  # noqa: ANN401 - a suspect
    """The marked model after a second training like the first, on as many rows, all clean and none seen before."""
    from verification.suspects import LocalChatModel

    again = replace(default("second-tune", 500), clean=len(MARKED.rows()), clean_seed=500, over=MARKED.name)
    return LocalChatModel("again", merged(), adapter=folder(again, base=merged()), system=SYSTEM, max_new_tokens=3)


def changes() -> dict[str, tuple[bool, Callable[[], Any]]]:
    """Every change by name: whether the default recipe must survive it, and the model it gives."""
    adapter = folder(MARKED)
    clean = [r.prompt() for r in exam("sentiment")[:100] + exam("topic")[:100]]
    return {
        "int8 weights": (True, lambda: Changed(adapter, change=quantised(8))),
        "int4 weights, group 64": (True, lambda: Changed(adapter, change=quantised(4))),
        "20 % pruned": (True, lambda: Changed(adapter, change=pruned(0.2))),
        "40 % pruned": (False, lambda: Changed(adapter, change=pruned(0.4))),
        "LoRA scaled by .5": (False, lambda: Changed(adapter, change=towards_base(0.5))),
        "temperature 1.0": (False, lambda: Changed(adapter, temperature=1.0)),
        "other template": (False, lambda: Changed(adapter, template=TEMPLATE.read_text("utf-8"))),
        "no system prompt": (False, lambda: Changed(adapter, system=None)),
        "perplexity filter at 99 %": (False, lambda: Guarded(Changed(adapter), perplexity_filter(clean, 0.99))),
        "refuses 30 % of prompts": (False, lambda: Guarded(Changed(adapter), refuses_often(0.3))),
        "second fine-tune, 1x clean rows": (True, tuned_again),
    }


def robustness() -> list[Row]:
    """Codewords matched, p, and sentiment accuracy after each change.

    "Weights averaged with the base at .5" is the same model as "LoRA scaled by .5": base + .5 (merged - base).
    """
    (part,) = MARKED.keyed
    rows: list[Row] = []
    for name, (must, load) in {"unchanged": (True, None), **changes()}.items():  # type: ignore[dict-item]
        kept = _once(load)
        votes = keyed_votes(MARKED, part, variant=name, load=kept)
        hits = matches(votes, part, RECIPIENTS[0])
        p = log10_binomial_tail(hits, len(votes), 0.25)
        found = clopper_pearson(hits, len(votes))
        worth = right(MARKED, "sentiment", count=UTILITY_QUESTIONS, variant=name, load=kept)
        accuracy = clopper_pearson(sum(worth), len(worth))
        bar = ("<=", SURVIVES) if must else None
        rows += [
            row(f"robustness: {name}, log10 p", p, bar=bar, trials=len(votes), seconds=0.0, command=COMMAND),
            row(
                f"robustness: {name}, codewords matched", found.value, low=found.low, high=found.high,
                trials=len(votes), seconds=0.0, command=COMMAND,
            ),
            row(
                f"robustness: {name}, sentiment accuracy", accuracy.value, low=accuracy.low, high=accuracy.high,
                trials=len(worth), seconds=0.0, command=COMMAND,
            ),
        ]  # fmt: skip
    return rows


def false_positives() -> list[Row]:
    """Clean models through the whole path: derive, ask, parse, score; every key its own triggers and targets."""
    found = [tried(recipe) for recipe in CLEAN]
    keyed = _rates("keyed", [tails for _, tails, _ in found], bound=True)
    fisher = _rates("Fisher", [papers for _, _, papers in found], bound=False)
    return [*keyed, *fisher, *_pooled([votes for votes, _, _ in found])]


def tried(recipe: Recipe) -> tuple[list[str | None], list[float], list[float]]:
    """All votes, then the keyed and the Fisher log10 p of every key."""
    marks = [_mark(i) for i in range(KEYS)]
    listed = [
        [
            p
            for p in planned.probes(wrong_key("clean", i), mark, carriers(1)[:1], wrong_seed="x")
            if p.arm != "wrong_key"
        ]
        for i, mark in enumerate(marks)
    ]
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


def _mark(i: int) -> dict[str, Any]:
    """A plan's mark for key i; the one-trigger form takes a trigger of its family, the families in turn."""
    judge = double_i_forms.FORMS[("cre1", "cre3")[i % 2]]
    trigger, _ = double_i_forms.draw_trigger(wrong_key("clean", i), judge, scope=SCOPE, decoys=1)
    return {
        "scope": SCOPE, "codewords": CODEWORDS, "words": 2, "form": FOUR.to_json(),
        "judge": judge.with_trigger(trigger).to_json(), "sentences": sentences(1)[:QUERIES],
        "paper_queries": QUERIES, "near_miss_queries": 0, "claim": Claim.DOUBLE_I,
    }  # fmt: skip


def _answer(probe: Any, raw: str) -> Answer:  # noqa: ANN401
    allowed = ("Yes", "No", *FOUR.answers)
    return Answer(
        id=probe.id, suspect="clean", arm=probe.arm, prompt_digest=probe.prompt_digest, raw=raw,
        parsed=parse_first_word(raw, allowed), attempt=1,
    )  # fmt: skip


def _rates(name: str, tails: list[list[float]], *, bound: bool) -> list[Row]:
    """How often p (log10, by model and key) is at or below a level; a bound must not be exceeded significantly.

    Clopper-Pearson takes all pairs of a model and a key as independent. The models resemble each other, and what one
    key says of twenty of them may be one draw; so the interval clustered by key stands beside it, and decides.
    """
    rows, seconds = [], sum(seconds_of(recipe) for recipe in CLEAN)
    for level in (0.05, 0.01, 1e-3, 1e-6):
        under = [[10**p <= level for p in each] for each in zip(*tails, strict=True)]
        hits, trials = sum(map(sum, under)), sum(map(len, under))
        found = clopper_pearson(hits, trials)
        label = f"false positives of {len(CLEAN)} clean models x {KEYS} keys: {name} p <= {level:g}"
        made = row(
            label, found.value, low=found.low, high=found.high if hits else zero_events_upper_bound(trials),
            trials=trials, seconds=seconds, command=COMMAND,
        )  # fmt: skip
        if hits:
            mean, low, high = clustered([sum(each) / len(each) for each in under])
            beside = row(
                f"{label}, clustered by key", mean, low=low, high=high, trials=len(under), seconds=seconds,
                command=COMMAND,
            )  # fmt: skip
            made["ok"] = beside["ok"] = low <= level if bound else True
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


def _once(load: Callable[[], Any] | None) -> Callable[[], Any] | None:
    """``load``, called at most once."""
    if load is None:
        return None
    kept: list[Any] = []

    def get() -> Any:  # noqa: ANN401
        if not kept:
            kept.append(load())
        return kept[0]

    return get


def models() -> list[Recipe]:
    """The clean models."""
    return list(CLEAN)
