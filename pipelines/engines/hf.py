"""Batched generation with transformers; randomness belongs to the row, and batches change logits by rounding alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from countermark import libraries
from pipelines.engines.decoding import Decoding, decode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipelines.config import GenerateConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A continuation as text, and the token ids that were drawn; the text may tokenise otherwise."""

    text: str
    tokens: tuple[int, ...]


class HFEngine:
    """A causal LM that continues prompts under a token watermark."""

    def __init__(self, folder: Path, config: GenerateConfig, subkey: bytes) -> None:
        libraries.quiet()
        libraries.keep_freed_memory()
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
        self._device = libraries.reading_device()
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=libraries.reading_dtype(self._device),
        )
        self._model = model.to(self._device).eval()
        self._scheme, self._subkey = config.watermark.build(), subkey
        self._how = Decoding(
            max_new_tokens=config.max_new_tokens,
            min_new_tokens=config.min_new_tokens,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
            min_p=config.min_p,
            stop=tuple(_stop_tokens(self._tokenizer, model.config.vocab_size)),
        )

    def continue_batch(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Continuation]:
        """One continuation a prompt, which ends before the first line break; the prompt itself is not repeated."""
        encoded = self._tokenizer(list(prompts), padding=True, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            answers = decode(
                self._model,
                encoded["input_ids"],
                encoded["attention_mask"],
                self._how,
                seeds=seeds,
                scheme=self._scheme,
                subkey=self._subkey,
            )
        texts = self._tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [
            Continuation(text=" ".join(text.split("\n", 1)[0].split()), tokens=tuple(tokens))
            for text, tokens in zip(texts, answers, strict=True)
        ]


def special_ids(folder: Path) -> tuple[int, ...]:
    """Ids that are no text."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return tuple(tokenizer.all_special_ids)


def token_ids(folder: Path, texts: Sequence[str]) -> tuple[list[list[int]], list[list[bool]]]:
    """Ids of texts without special tokens, and masks that exclude any special id a text may spell out."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    return ids, [[token not in special for token in row] for row in ids]


def decoded(folder: Path, ids: Sequence[Sequence[int]]) -> list[str]:
    """The texts that token ids spell, as they stand."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return tokenizer.batch_decode([list(row) for row in ids], clean_up_tokenization_spaces=False)  # type: ignore[no-any-return]


def _stop_tokens(tokenizer: Any, vocab_size: int) -> list[int]:  # noqa: ANN401
    """End-of-text and every token with a line break: generation ends there, and never before ``min_new_tokens``."""
    pieces = tokenizer.batch_decode([[token] for token in range(min(vocab_size, len(tokenizer)))])
    breaks = [token for token, piece in enumerate(pieces) if "\n" in piece]
    return [tokenizer.eos_token_id, *(token for token in breaks if token != tokenizer.eos_token_id)]
