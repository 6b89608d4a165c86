"""Full fine-tuning of (user, assistant) turns: a model folder out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.manifest import digest, file_table
from training.lora import dialogues_of
from training.sft import TrainingJob, train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from training.job import Dtype


def train_full(
    base: Path,
    turns: Sequence[tuple[str, str]],
    *,
    system_prompt: str,
    seed: int,
    arguments: Mapping[str, Any],
    out: Path,
    scratch: Path,
    on_start: Callable[[int], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
    dtype: Dtype = "float32",
    save_dtype: Dtype = "bfloat16",
    base_name: str = "",
    base_digest: str = "",
) -> dict[str, Any]:
    """Trains every weight on ``turns`` and writes model, tokenizer and card to ``out``; returns the manifest.

    Weights train in ``dtype`` (bfloat16 would lose updates smaller than a 256th of a weight) and are published in
    ``save_dtype``. Otherwise as :func:`training.lora.train_lora`.
    """
    job = TrainingJob(
        method="full",
        base=base,
        base_name=base_name or base.name,
        base_digest=base_digest or digest(file_table(base)),
        dialogues=dialogues_of(turns, system_prompt),
        seed=seed,
        arguments={"save_strategy": "no", **arguments},
        dtype=dtype,
        save_dtype=save_dtype,
    )
    return train(job, out=out, scratch=scratch, on_start=on_start, on_step=on_step)
