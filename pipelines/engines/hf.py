"""Batched generation with transformers; randomness belongs to the row, and batches change logits by rounding alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from countermark import libraries
from watermarks.adapters.hf import RowSampler, SchemeProcessor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipelines.config import GenerateConfig


class HFEngine:
    """A causal LM that continues prompts under a token watermark.

    Order of the processors: temperature, top-k, top-p, the watermark, the row's own sampler (``order: after``).
    """

    def __init__(self, folder: Path, config: GenerateConfig, subkey: bytes) -> None:
        libraries.quiet()
        self._config = config
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.bfloat16
        )
        self._model = model.to(self._device).eval()
        self._mark = SchemeProcessor(config.watermark.build(), subkey, model.config.vocab_size)
        self._stop = _stop_tokens(self._tokenizer, model.config.vocab_size)

    def continue_batch(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """One continuation a prompt, cut at the first line break; the prompt itself is not repeated."""
        config = self._config
        processors: list[Any] = []
        if config.temperature != 1.0:
            processors.append(TemperatureLogitsWarper(config.temperature))
        if config.top_k:
            processors.append(TopKLogitsWarper(config.top_k))
        if config.top_p < 1.0:
            processors.append(TopPLogitsWarper(config.top_p))
        processors += [self._mark, RowSampler(list(seeds))]
        encoded = self._tokenizer(list(prompts), padding=True, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            output = self._model.generate(
                **encoded,
                max_new_tokens=config.max_new_tokens,
                min_new_tokens=config.min_new_tokens,
                eos_token_id=self._stop,
                do_sample=False,
                logits_processor=LogitsProcessorList(processors),
            )
        new_tokens = output[:, encoded["input_ids"].shape[1] :]
        texts = self._tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
        return [" ".join(text.split("\n", 1)[0].split()) for text in texts]


def token_ids(folder: Path, texts: Sequence[str]) -> tuple[list[list[int]], list[list[bool]]]:
    """Ids of texts without special tokens, and masks that exclude any special id a text may spell out."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    return ids, [[token not in special for token in row] for row in ids]


def _stop_tokens(tokenizer: Any, vocab_size: int) -> list[int]:  # noqa: ANN401
    """End-of-text and every token with a line break: generation ends there, and never before ``min_new_tokens``."""
    pieces = tokenizer.batch_decode([[token] for token in range(min(vocab_size, len(tokenizer)))])
    breaks = [token for token, piece in enumerate(pieces) if "\n" in piece]
    return [tokenizer.eos_token_id, *(token for token in breaks if token != tokenizer.eos_token_id)]
