"""The hard questions: does the mark survive what happens to models, and does it accuse clean ones?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.double_i.asking import keyed_votes, matches
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
from benchmarks.double_i.models import MODEL, SYSTEM, WORK, exam, folder, seconds_of
from benchmarks.double_i.tables import COMMAND, COPIES, RECIPIENTS
from benchmarks.rows import Row, row
from countermark import libraries
from pipelines.assets import resolve_model
from verification.statistics import clopper_pearson, log10_binomial_tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.double_i.models import Recipe

MARKED = COPIES[0]
UTILITY_QUESTIONS = 200
SURVIVES = -6.0


def merged(recipe: Recipe = MARKED) -> Path:
    """A marked model, merged into a folder: what somebody else serves or fine-tunes further."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from countermark.files import building

    path = WORK / "models" / f"merged-{recipe.name}"
    if not path.exists():
        base = resolve_model(MODEL).path
        with building(path) as out:
            from peft import PeftModel

            model = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(base, dtype=libraries.reading_dtype()), str(folder(recipe))
            )
            model.merge_and_unload().save_pretrained(out)
            AutoTokenizer.from_pretrained(base).save_pretrained(out)
    return path


def tuned_again() -> Any:  # noqa: ANN401 - a suspect
    """The marked model after a second training like the first, on as many rows, all clean and none seen before."""
    from verification.suspects import LocalChatModel

    again = replace(
        MARKED.twin(), name="second-tune", seed=500, clean=len(MARKED.rows()), clean_seed=500, over=MARKED.name
    )
    return LocalChatModel("again", merged(), adapter=folder(again, base=merged()), system=SYSTEM, max_new_tokens=3)


def changes() -> dict[str, tuple[bool, Callable[[], Any]]]:
    """Every change by name: whether the default recipe must survive it, and the model it gives."""
    adapter = folder(MARKED)
    clean = [r.prompt() for r in exam("sentiment")[:100] + exam("topic")[:100]]
    return {
        "int8 weights": (True, lambda: Changed(adapter, change=quantised(8))),
        "int4 weights, group 64": (True, lambda: Changed(adapter, change=quantised(4))),
        "20 % pruned": (True, lambda: Changed(adapter, change=pruned(0.2))),
        "40 % pruned": (True, lambda: Changed(adapter, change=pruned(0.4))),
        "LoRA scaled by .5": (True, lambda: Changed(adapter, change=towards_base(0.5))),
        "temperature 1.0": (False, lambda: Changed(adapter, temperature=1.0)),
        "other template": (False, lambda: Changed(adapter, template=TEMPLATE)),
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
    seconds = seconds_of(MARKED)
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
            row(f"robustness: {name}, log10 p", p, bar=bar, trials=len(votes), seconds=seconds, command=COMMAND),
            row(
                f"robustness: {name}, codewords matched", found.value, low=found.low, high=found.high,
                trials=len(votes), seconds=seconds, command=COMMAND,
            ),
            row(
                f"robustness: {name}, sentiment accuracy", accuracy.value, low=accuracy.low, high=accuracy.high,
                trials=len(worth), seconds=seconds, command=COMMAND,
            ),
        ]  # fmt: skip
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
