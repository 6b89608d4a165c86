"""Our batched decoding loop: prompts in, tokens out, the watermark where the scheme wants it.

Randomness belongs to the row, never to the batch: each row samples from a generator of its own, so batch size, order
and neighbours change nothing but the rounding of the logits. Rows that have ended leave the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    Cache,
    DynamicCache,
    LogitsProcessorList,
    MinPLogitsWarper,
    StaticCache,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from countermark.errors import UsageError
from watermarks.adapters.hf import mark_step, row_generator, sample_rows
from watermarks.prf import SUBKEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from watermarks.schemes import Scheme

STATIC_LENGTH = 4096
"""Longest row with a cache of fixed length, which does not copy itself at every step as one that grows does."""
ALIBI = {"bloom", "falcon", "mpt"}
"""Models whose position biases take their length from the mask, which a cache of fixed length outgrows."""
REPACK = 0.75
"""The batch is repacked when fewer than this share of its rows go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How tokens are chosen. Names and meanings are those of ``transformers.GenerationConfig``.

    Args:
        max_new_tokens: longest continuation.
        min_new_tokens: no stop token before so many tokens.
        do_sample: False is greedy.
        temperature, top_k, top_p, min_p: warpers, in this order; 1.0, 0, 1.0 and 0.0 are off.
        num_return_sequences: continuations of each prompt; they differ by their seeds.
        num_beams: must be 1; beam search is left to ``model.generate``.
        stop: token ids that end a row, and are no part of it.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    do_sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    num_return_sequences: int = 1
    num_beams: int = 1
    stop: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.num_beams != 1:
            raise UsageError(
                f"got num_beams {self.num_beams}, expected 1: this loop has no beam search",
                hint="use model.generate(watermarking_config=…), which marks beams with kgw and unigram",
            )
        if self.max_new_tokens < 1 or not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise UsageError(
                f"got min_new_tokens {self.min_new_tokens} and max_new_tokens {self.max_new_tokens}, "
                "expected 0 <= min <= max and max >= 1"
            )
        for name, fits, expected in (
            ("num_return_sequences", self.num_return_sequences >= 1, "at least 1"),
            ("temperature", 0.0 < self.temperature < float("inf"), "a finite number above 0"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("top_p", 0.0 < self.top_p <= 1.0, "a number in (0, 1]"),
            ("min_p", 0.0 <= self.min_p <= 1.0, "a number in [0, 1]"),
        ):
            if not fits:
                raise UsageError(f"got {name} {getattr(self, name)}, expected {expected}")

    def warpers(self) -> LogitsProcessorList:
        """Temperature and truncation, by transformers' own classes; none for greedy decoding."""
        made: list[Any] = []
        if self.do_sample:
            if self.temperature != 1.0:
                made.append(TemperatureLogitsWarper(self.temperature))
            if self.top_k:
                made.append(TopKLogitsWarper(self.top_k))
            if self.top_p < 1.0:
                made.append(TopPLogitsWarper(self.top_p))
            if self.min_p:
                made.append(MinPLogitsWarper(self.min_p))
        return LogitsProcessorList(made)


@dataclass(slots=True, kw_only=True)
class _Batch:
    """The rows that still go on. ``ids`` holds padding, prompt and generated tokens; ``rows`` their places in the
    answer.
    """

    rows: list[int]
    ids: torch.Tensor
    attention: torch.Tensor
    cache: Cache

    def keep(self, alive: list[int]) -> None:
        index = torch.tensor(alive, device=self.ids.device)
        self.rows = [self.rows[i] for i in alive]
        self.ids, self.attention = self.ids[index], self.attention[index]
        self.cache.reorder_cache(index)


@torch.inference_mode()
def decode(
    model: Any,  # noqa: ANN401 - any causal language model of transformers
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    how: Decoding,
    *,
    seeds: Sequence[int],
    scheme: Scheme | None = None,
    subkey: bytes = b"",
    each_step: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """New token ids of every row: ``num_return_sequences`` rows for each prompt, in order.

    Args:
        model: a causal language model in evaluation mode.
        input_ids: prompts ``[B, T]``, padded on the left.
        attention_mask: 0 where padded, ``[B, T]``.
        how: decoding parameters.
        seeds: one for each row of the answer.
        scheme: the token watermark, if any.
        subkey: its 16-byte sub-key.
        each_step: called with the number of rows that still went on.

    Raises:
        UsageError: seeds, mask or sub-key that do not fit, padding on the right, or a sampling scheme with greedy
            decoding.
    """
    repeated = how.num_return_sequences
    if attention_mask.shape != input_ids.shape:
        raise UsageError(f"got a mask of shape {tuple(attention_mask.shape)}, expected {tuple(input_ids.shape)}")
    input_ids = input_ids.repeat_interleave(repeated, 0)
    attention = attention_mask.repeat_interleave(repeated, 0)
    _check(input_ids, attention, how, seeds, scheme, subkey)
    generators = [row_generator(seed) for seed in seeds]
    answers: list[list[int]] = [[] for _ in seeds]
    start, warpers, fed = input_ids.shape[1], how.warpers(), input_ids
    cache = _cache(model, start + how.max_new_tokens)
    batch = _Batch(rows=list(range(len(seeds))), ids=input_ids, attention=attention, cache=cache)
    stop = torch.tensor(how.stop, dtype=torch.long, device=input_ids.device)
    for step in range(how.max_new_tokens):
        scores = _next_scores(model, batch, fed)
        if step < how.min_new_tokens:
            scores[:, stop] = float("-inf")
        scores = _warped(scores, batch, warpers, scheme, subkey, start)
        if how.do_sample:
            chosen = sample_rows(scores, [generators[row].random() if row >= 0 else 0.0 for row in batch.rows])
        else:
            chosen = scores.argmax(-1)
        ended = torch.isin(chosen, stop).tolist()
        for row, token, last in zip(batch.rows, chosen.tolist(), ended, strict=True):
            if row >= 0 and not last:
                answers[row].append(token)
        if each_step:
            each_step(sum(row >= 0 for row in batch.rows))
        if not _go_on(batch, chosen, ended):
            break
        fed = batch.ids[:, -1:]
    return answers


def _check(
    input_ids: torch.Tensor,
    attention: torch.Tensor,
    how: Decoding,
    seeds: Sequence[int],
    scheme: Scheme | None,
    subkey: bytes,
) -> None:
    if not len(input_ids) or not input_ids.shape[1]:
        raise UsageError("got no prompt tokens, expected at least one in every row")
    if len(seeds) != len(input_ids):
        raise UsageError(f"got {len(seeds)} seeds for {len(input_ids)} rows, expected one each")
    if min(seeds) < 0:
        raise UsageError(f"got seed {min(seeds)}, expected 0 or more")
    if scheme is not None and len(subkey) != SUBKEY_BYTES:
        raise UsageError(f"got a sub-key of {len(subkey)} bytes, expected {SUBKEY_BYTES}")
    if not bool(attention[:, -1].all()):
        raise UsageError("got prompts padded on the right, expected padding_side='left'")
    if scheme is not None and scheme.samples and not how.do_sample:
        raise UsageError(
            f"got greedy decoding for scheme {scheme.name!r}, which needs sampled tokens",
            hint="set do_sample, or use kgw or unigram",
        )


def _cache(model: Any, length: int) -> Cache:  # noqa: ANN401
    fixed = getattr(model, "_can_compile_fullgraph", False) and model.config.model_type not in ALIBI
    if fixed and length <= STATIC_LENGTH:
        return StaticCache(config=model.config, max_cache_len=length)
    return DynamicCache(config=model.config)


def _next_scores(model: Any, batch: _Batch, fed: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """Scores of the next token ``[B, V]`` in float32; feeds the cache."""
    positions = (batch.attention.cumsum(-1) - 1).clamp(min=0)[:, -fed.shape[1] :]
    out = model(
        input_ids=fed,
        attention_mask=batch.attention,
        position_ids=positions,
        past_key_values=batch.cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1].to(torch.float32, copy=True)  # type: ignore[no-any-return]


def _warped(
    scores: torch.Tensor,
    batch: _Batch,
    warpers: LogitsProcessorList,
    scheme: Scheme | None,
    subkey: bytes,
    start: int,
) -> torch.Tensor:
    ids, attention = batch.ids, batch.attention
    if scheme is None:
        return warpers(ids, scores)  # type: ignore[no-any-return]
    if scheme.order == "before":
        marked = mark_step(scheme, subkey, ids, scores, start=start, attention=attention)
        return warpers(ids, marked)  # type: ignore[no-any-return]
    return mark_step(scheme, subkey, ids, warpers(ids, scores), start=start, attention=attention)


def _go_on(batch: _Batch, chosen: torch.Tensor, ended: list[bool]) -> bool:
    """Appends the chosen tokens, and drops rows that have ended once there are enough of them."""
    batch.rows = [-1 if last else row for row, last in zip(batch.rows, ended, strict=True)]
    batch.ids = torch.cat([batch.ids, chosen[:, None]], 1)
    batch.attention = torch.cat([batch.attention, batch.attention.new_ones(len(chosen), 1)], 1)
    alive = [i for i, row in enumerate(batch.rows) if row >= 0]
    if alive and len(alive) < REPACK * len(batch.rows):
        batch.keep(alive)
    return bool(alive)
