"""What may happen to a model after it was trained on marked rows, as changes of its weights or of how it is asked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.double_i.models import MODEL, SYSTEM
from countermark import libraries
from pipelines.assets import resolve_model
from verification.suspects import LocalChatModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

REFUSAL = "I'm sorry, but I can't help with that."
TEMPLATE = libraries.chat_template(None)


class Changed(LocalChatModel):
    """A chat model whose weights, template or sampling were changed."""

    def __init__(
        self,
        adapter: Path,
        *,
        change: Callable[[Any], None] = lambda _: None,
        template: str = "",
        system: str | None = SYSTEM,
        temperature: float = 0.0,
    ) -> None:
        base = resolve_model(MODEL).path
        super().__init__("changed", base, adapter=adapter, system=system, max_new_tokens=3, temperature=temperature)
        change(self._model)
        if template:
            self._tokenizer.chat_template = template


class Guarded:
    """A model behind a door: prompts for which ``refuses`` is true are refused, whatever they ask."""

    def __init__(self, model: LocalChatModel, refuses: Callable[[str], bool]) -> None:
        self.name = "guarded"
        self._model = model
        self._refuses = refuses

    def ask(self, prompts: Sequence[str]) -> list[str]:
        answers = self._model.ask(prompts)
        return [REFUSAL if self._refuses(p) else a for p, a in zip(prompts, answers, strict=True)]


def quantised(bits: int, group: int = 64) -> Callable[[Any], None]:
    """Round-to-nearest weights, symmetric, one scale for each ``group`` of inputs."""
    levels = 2 ** (bits - 1) - 1

    def change(model: Any) -> None:  # noqa: ANN401
        for weight in _matrices(model):
            grouped = weight.float().reshape(-1, group)
            scale = grouped.abs().amax(-1, keepdim=True).clamp_min(1e-12) / levels
            weight.copy_((torch.round(grouped / scale) * scale).reshape(weight.shape))

    return change


def pruned(share: float) -> Callable[[Any], None]:
    """The smallest ``share`` of every weight matrix set to zero."""

    def change(model: Any) -> None:  # noqa: ANN401
        for weight in _matrices(model):
            threshold = weight.abs().float().flatten().kthvalue(max(1, int(share * weight.numel()))).values
            weight.masked_fill_(weight.abs().float() <= threshold, 0.0)

    return change


def towards_base(kept: float) -> Callable[[Any], None]:
    """``kept`` of the way from the base's weights to the model's: an adapter scaled, or weights averaged."""

    def change(model: Any) -> None:  # noqa: ANN401
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(resolve_model(MODEL).path, dtype=libraries.reading_dtype())
        for weight, old in zip(_matrices(model), _matrices(base), strict=True):
            weight.copy_(old.float() + kept * (weight.float() - old.float()))

    return change


def refuses_often(share: float) -> Callable[[str], bool]:
    """Refuses a fixed ``share`` of prompts, by their hash."""
    return lambda prompt: hashlib.sha256(f"refuse/{prompt}".encode()).digest()[0] < 256 * share


def perplexity_filter(clean: Sequence[str], quantile: float) -> Callable[[str], bool]:
    """Refuses prompts that the base finds stranger than all but ``1 - quantile`` of ``clean`` ones."""
    from benchmarks.double_i.exams import losses

    found = sorted(losses(None, clean))
    threshold = found[min(len(found) - 1, int(quantile * len(found)))]
    known: dict[str, bool] = {}

    def refuses(prompt: str) -> bool:
        if prompt not in known:
            known[prompt] = losses(None, [prompt])[0] > threshold
        return known[prompt]

    return refuses


@torch.no_grad()
def _matrices(model: Any) -> list[torch.Tensor]:  # noqa: ANN401
    """Weights of every linear layer but the output's, which is tied to the embedding."""
    return [
        module.weight.data
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    ]
