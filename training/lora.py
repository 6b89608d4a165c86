"""LoRA fine-tuning of (user, assistant) turns: an adapter folder out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.manifest import digest, file_table
from training.sft import TrainingJob, train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from training.job import Quantization


def train_lora(
    base: Path,
    turns: Sequence[tuple[str, str]],
    *,
    system_prompt: str,
    seed: int,
    lora: Mapping[str, Any],
    arguments: Mapping[str, Any],
    out: Path,
    scratch: Path,
    on_start: Callable[[int], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
    base_name: str = "",
    base_digest: str = "",
    quantization: Quantization = "none",
) -> dict[str, Any]:
    """Trains on ``turns`` of (user, assistant) and writes the adapter to ``out``; it loads in plain peft.

    The loss counts completions only. ``lora`` are ``peft.LoraConfig``'s names, ``arguments`` ``trl.SFTConfig``'s; with
    ``save_strategy`` among them, it resumes from ``scratch``. ``base_name`` and ``base_digest`` go on the card; without
    them the folder's name and the digest of its files do. Returns the training's manifest.
    Deterministic on CPU for one seed and thread count.
    """
    job = TrainingJob(
        method="lora",
        base=base,
        base_name=base_name or base.name,
        base_digest=base_digest or digest(file_table(base)),
        dialogues=dialogues_of(turns, system_prompt),
        seed=seed,
        arguments={"save_strategy": "no", **arguments},
        lora=lora,
        quantization=quantization,
    )
    return train(job, out=out, scratch=scratch, on_start=on_start, on_step=on_step)


def dialogues_of(turns: Sequence[tuple[str, str]], system_prompt: str) -> list[list[dict[str, str]]]:
    """Each turn as a chat of its own, under the system prompt if there is one."""
    head = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [
        [*head, {"role": "user", "content": user}, {"role": "assistant", "content": answer}] for user, answer in turns
    ]
