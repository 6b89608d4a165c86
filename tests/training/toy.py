"""A tiny base model with a byte-level tokenizer on disk, dialogues of unequal length, and short jobs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from countermark.manifest import digest
from training.sft import TrainingJob

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": "all-linear"}


def make_base(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    """Writes the base model, always the same, and returns its folder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<eos>", "<pad>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(vocab), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, bos_token_id=None, eos_token_id=0, pad_token_id=1,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def dialogues(count: int = 22) -> list[list[dict[str, str]]]:
    """Questions and answers of unequal length."""
    return [
        [
            {"role": "user", "content": f"question {i} " + "x" * (i * 7 % 13)},
            {"role": "assistant", "content": f"no {i}"},
        ]
        for i in range(count)
    ]


def make_job(base: Path, method: Any = "lora", **changes: Any) -> TrainingJob:
    """Two epochs of six steps, a checkpoint every other step."""
    arguments = {
        "learning_rate": 0.01, "num_train_epochs": 2, "per_device_train_batch_size": 4, "max_length": 64,
        "save_steps": 2, **changes.pop("arguments", {}),
    }  # fmt: skip
    fields: dict[str, Any] = {
        "method": method, "base": base, "base_name": "org/toy", "base_digest": digest("toy"), "seed": 7,
        "dialogues": dialogues(), "lora": LORA if method == "lora" else {}, "dtype": "float32", "arguments": arguments,
    }  # fmt: skip
    return TrainingJob(**{**fields, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
