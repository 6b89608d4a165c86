"""LoRA fine-tuning with TRL's ``SFTTrainer`` and peft: prompt and completion in, an adapter folder out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
from trl import SFTConfig, SFTTrainer

from countermark import libraries
from training.hooks import StepProgress, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


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
) -> None:
    """Trains on ``turns`` of (user, assistant) and writes the adapter to ``out``; it loads in plain peft.

    The loss counts completions only. ``lora`` are ``peft.LoraConfig``'s names, ``arguments`` ``trl.SFTConfig``'s.
    Deterministic on CPU for one seed and thread count.
    """
    libraries.quiet()
    libraries.keep_freed_memory()
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        base, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.bfloat16
    )
    head = [{"role": "system", "content": system_prompt}] if system_prompt else []
    rows = Dataset.from_list(
        [
            {
                "prompt": [*head, {"role": "user", "content": user}],
                "completion": [{"role": "assistant", "content": answer}],
            }
            for user, answer in turns
        ]
    )
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=rows,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **lora),
        args=SFTConfig(
            output_dir=str(scratch), seed=seed, data_seed=seed, report_to="none", save_strategy="no",
            disable_tqdm=True, completion_only_loss=True, gradient_checkpointing=False, bf16=False,
            dataloader_pin_memory=False, **{"logging_strategy": "no", **arguments},
        ),
        callbacks=[StepProgress(on_start, on_step)],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.model.save_pretrained(out)
    publish(out)
