"""Supervised fine-tuning of causal language models: TRL's ``SFTTrainer`` under durable checkpoints.

The steps of :func:`train`: 1. refuse what cannot be done; 2. tokenizer and template; 3. describe the job; 4. model;
5. train, from the newest checkpoint of the same job if there is one; 6. the main process publishes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
from trl import SFTConfig, SFTTrainer

from countermark import libraries
from countermark.errors import UsageError
from countermark.manifest import digest
from training.card import describe, write_card
from training.checkpoints import DurableCheckpoints, refuse_sharding
from training.hooks import StepProgress, publish
from training.job import TrainingJob, check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["TrainingJob", "train"]

_LOCAL = {"local_files_only": True, "trust_remote_code": False}


class _Trainer(DurableCheckpoints, SFTTrainer):  # type: ignore[misc, unused-ignore]
    pass


def train(
    job: TrainingJob,
    *,
    out: Path,
    scratch: Path,
    on_start: Callable[[int], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Trains ``job``, fills the existing folder ``out`` and returns the training's manifest.

    Checkpoints go to ``scratch``; called again with the same job and scratch, it goes on from the newest one, and
    on CPU ends with the same bytes as without the interruption (same thread count). ``on_start`` gets the number of
    optimizer steps, ``on_step`` the steps done since the last call. Under ``accelerate launch`` every process calls it,
    and only the main one writes ``out``.

    Raises:
        UsageError: the job cannot be done. MissingAssetError: base, CUDA or bitsandbytes is missing.
        IntegrityError: the checkpoint in ``scratch`` is damaged, or another job's.
    """
    check(job)  # 1
    refuse_sharding()
    libraries.quiet()
    libraries.keep_freed_memory()
    arguments = _arguments(job, scratch)
    if job.dtype == "auto":
        job = replace(job, dtype="bfloat16" if libraries.has_bfloat16(arguments.device.type) else "float32")
    set_seed(job.seed)
    tokenizer = _tokenizer(job)  # 2
    computed = f"{arguments.device.type}, mixed precision {arguments.mixed_precision}"
    manifest = describe(  # 3
        job, chat_template=tokenizer.chat_template, processes=arguments.world_size, computed=computed
    )
    trainer = _Trainer(  # 4
        model=_model(job, arguments),
        processing_class=tokenizer,
        train_dataset=_rows(job),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **job.lora) if job.method == "lora" else None,
        args=arguments,
        callbacks=[StepProgress(on_start, on_step)],
    )
    if not len(trainer.train_dataset):
        raise UsageError(
            "got no dialogue whose answer begins within max_length, expected at least one", hint="raise max_length"
        )
    trainer.remove_callback(PrinterCallback)
    trainer.train_durably(digest(manifest))  # 5
    if not trainer.args.packing:  # TRL leaves out dialogues whose answer lies beyond max_length, and does not say so
        manifest["rows_within_max_length"] = len(trainer.train_dataset)
    if trainer.args.process_index == 0:  # 6
        _publish(job, trainer, tokenizer, out, manifest)
    trainer.accelerator.wait_for_everyone()
    return manifest


def _arguments(job: TrainingJob, scratch: Path) -> Any:  # noqa: ANN401
    defaults = {
        "report_to": "none", "save_strategy": "steps", "save_total_limit": 1, "logging_strategy": "no",
        "disable_tqdm": True, "gradient_checkpointing": False, "bf16": False, "dataloader_pin_memory": False,
        "use_cpu": not torch.accelerator.is_available(),
    }  # fmt: skip
    try:
        return SFTConfig(
            output_dir=str(scratch),
            seed=job.seed,
            data_seed=job.seed,
            completion_only_loss=True,
            **(defaults | dict(job.arguments)),
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"got arguments that trl.SFTConfig refuses ({error}), expected valid ones", hint="change the arguments"
        ) from None


def _tokenizer(job: TrainingJob) -> Any:  # noqa: ANN401
    tokenizer = AutoTokenizer.from_pretrained(job.base, **_LOCAL)
    if job.chat_template is not None:
        tokenizer.chat_template = job.chat_template
    tokenizer.chat_template = libraries.chat_template(tokenizer.chat_template)
    if tokenizer.eos_token is None:
        raise UsageError(
            f"got a tokenizer without an end-of-sequence token in {job.base}, expected one",
            hint="set eos_token in tokenizer_config.json: without it the model never learns to stop",
        )
    return tokenizer


def _model(job: TrainingJob, arguments: Any) -> Any:  # noqa: ANN401
    how: dict[str, Any] = {"dtype": getattr(torch, job.dtype)}
    if job.quantization != "none":
        from transformers import BitsAndBytesConfig

        nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
        how["quantization_config"] = BitsAndBytesConfig(
            **(nf4 if job.quantization == "nf4" else {"load_in_8bit": True})
        )
        how["device_map"] = {"": arguments.device}
    return AutoModelForCausalLM.from_pretrained(job.base, use_safetensors=True, **_LOCAL, **how)


def _rows(job: TrainingJob) -> Any:  # noqa: ANN401
    dialogues = [[dict(message) for message in dialogue] for dialogue in job.dialogues]
    return Dataset.from_list([{"prompt": d[:-1], "completion": d[-1:]} for d in dialogues])


def _publish(job: TrainingJob, trainer: Any, tokenizer: Any, out: Path, manifest: dict[str, Any]) -> None:  # noqa: ANN401
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    if job.method == "full":
        model = model.to(getattr(torch, job.save_dtype))
    model.save_pretrained(out)
    # an adapter goes with its base's tokenizer, unless it was trained under another template
    if job.method == "full" or _changed_template(job, tokenizer):
        tokenizer.save_pretrained(out)
    publish(out)
    write_card(out, manifest)


def _changed_template(job: TrainingJob, tokenizer: Any) -> bool:  # noqa: ANN401
    own = AutoTokenizer.from_pretrained(job.base, **_LOCAL).chat_template
    return bool(own != tokenizer.chat_template)
