"""A tiny random Llama, prompts of unequal length, and every scheme: generation at a millisecond a token.

Its weights are wide enough that contexts matter, and its next token has some five nats of entropy.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.support import subkey_of
from watermarks.schemes import Gumbel, Kgw, Scheme, Tournament, Unigram

VOCAB = 300
SUBKEY, OTHER = subkey_of("tiny"), subkey_of("tiny/other")
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
BIASED: dict[str, Scheme] = {
    "kgw": Kgw(delta=3.0),
    "self-salted": Kgw(self_salt=True, delta=3.0, context_width=4),
    "hard": Kgw(hard=True),
    "unigram": Unigram(delta=3.0),
}
SAMPLED: dict[str, Scheme] = {"gumbel": Gumbel(), "dual-key": Gumbel(alpha=0.1), "tournament": Tournament()}
BEFORE: dict[str, Scheme] = {
    "kgw-before": Kgw(delta=3.0, order="before"),
    "unigram-before": Unigram(delta=3.0, order="before"),
}
AFTER = BIASED | SAMPLED
SCHEMES = AFTER | BEFORE


def tiny(config: Any = LlamaConfig, model: Any = LlamaForCausalLM, **shape: Any) -> Any:
    """The model, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model(config(**SHAPE, **shape)).eval()


def ragged(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts of these lengths, padded on the left, and their mask."""
    rng, width = torch.Generator().manual_seed(1), max(lengths)
    ids = torch.randint(3, VOCAB, (len(lengths), width), generator=rng)
    mask = torch.stack([(torch.arange(width) >= width - length).long() for length in lengths])
    return ids * mask, mask


def until(row: list[int], stop: tuple[int, ...]) -> list[int]:
    """What stands before the first stop token."""
    return row[: next((i for i, token in enumerate(row) if token in stop), len(row))]
