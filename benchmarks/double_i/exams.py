"""What a model is worth besides its mark: accuracy on held-out questions, perplexity of held-out text."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.double_i.asking import loaded, said
from benchmarks.double_i.models import Recipe, exam, folder, reviews
from verification.probe import parse_first_word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ANSWERS = {
    "sentiment": ("Negative", "Positive"),
    "topic": ("Business", "Entertainment", "Politics", "Sport", "Tech"),
    "boolq": ("No", "Yes"),
}
TEXTS = 300


def right(
    recipe: Recipe | None,
    task: str,
    *,
    count: int = 1000,
    variant: str = "plain",
    load: Callable[[], Any] | None = None,
) -> list[bool]:
    """Which of the first ``count`` questions of a task are answered right; refusals and rambling are wrong."""
    rows = exam(task)[:count]
    answers = said(recipe, [row.prompt() for row in rows], variant=f"{task}-{variant}", load=load)
    return [
        parse_first_word(answer, ANSWERS[task]) == row.output.rstrip(".")
        for answer, row in zip(answers, rows, strict=True)
    ]


def chance(task: str) -> float:
    """What always giving the commonest answer is worth."""
    outputs = [row.output for row in exam(task)]
    return max(outputs.count(output) for output in set(outputs)) / len(outputs)


def perplexity(recipe: Recipe | None) -> float:
    """Of held-out reviews as plain text: exp of the mean loss a token."""
    texts = [item.text for item in reviews().heldout[:TEXTS]]
    losses_, counts = zip(*_each(recipe, texts), strict=True)
    return math.exp(sum(losses_) / sum(counts))


def losses(recipe: Recipe | None, texts: Sequence[str]) -> list[float]:
    """Mean loss a token of every text."""
    return [total / count for total, count in _each(recipe, texts)]


@torch.inference_mode()
def _each(recipe: Recipe | None, texts: Sequence[str]) -> list[tuple[float, int]]:
    model = loaded(folder(recipe) if recipe else None)
    found = []
    for text in texts:
        ids = _tokenizer()(text, return_tensors="pt")["input_ids"]
        logits = model._model(ids).logits[0, :-1].float()  # noqa: SLF001 - a benchmark's look inside
        loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        found.append((float(loss), ids.shape[1] - 1))
    return found


@lru_cache(maxsize=1)
def _tokenizer() -> Any:  # noqa: ANN401
    from transformers import AutoTokenizer

    from benchmarks.double_i.models import MODEL
    from pipelines.assets import resolve_model

    return AutoTokenizer.from_pretrained(resolve_model(MODEL).path)
