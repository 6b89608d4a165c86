"""Token watermarks in text: token ids in, counted PRF inputs and an exact tail out.

Each distinct PRF input counts once: in a text for the text's own p-value, in the corpus for the corpus's. Neither
depends on order or batch. Masked positions (padding, prompts, special tokens) are never scored, nor serve as context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from countermark.errors import UsageError
from verification.statistics import log10_binomial_tail
from watermarks import prf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermarks.schemes import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvidence:
    """What one text, or a corpus, says about one key.

    Args:
        scored: distinct PRF inputs that were counted.
        total: their worth (green inputs, for ``kgw``).
        log10_p: exact tail of ``total``; None where nothing could be scored (never a pass).
    """

    scored: int
    total: int
    log10_p: float | None


def inputs_of(tokens: Sequence[int], *, context_width: int, mask: Sequence[bool] | None = None) -> NDArray[np.int64]:
    """PRF inputs ``[N, h + 1]`` of a token sequence: every window of h + 1 unmasked, adjacent tokens."""
    width = context_width + 1
    array = np.asarray(tokens, np.int64)
    if mask is not None and len(mask) != len(array):
        raise UsageError(f"got a mask of {len(mask)} for {len(array)} tokens, expected equal lengths")
    if len(array) < width:
        return np.empty((0, width), np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(array, width)
    if mask is not None:
        keep = np.lib.stride_tricks.sliding_window_view(np.asarray(mask, bool), width).all(-1)
        windows = windows[keep]
    return np.ascontiguousarray(windows)


def distinct(inputs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct rows of ``inputs``: a repeat is not new evidence."""
    return np.unique(inputs, axis=0) if len(inputs) else inputs


def score(inputs: NDArray[np.int64], scheme: Scheme, subkey: bytes) -> TokenEvidence:
    """Scores *distinct* PRF inputs under one sub-key."""
    if not len(inputs):
        return TokenEvidence(scored=0, total=0, log10_p=None)
    total = int(scheme.worth(prf.draws(subkey, inputs[:, :-1], inputs[:, -1])).sum())
    return TokenEvidence(
        scored=len(inputs), total=total, log10_p=log10_binomial_tail(total, len(inputs), scheme.law().p)
    )


def detect(
    texts: Sequence[Sequence[int]], scheme: Scheme, subkey: bytes, *, masks: Sequence[Sequence[bool]] | None = None
) -> tuple[list[TokenEvidence], TokenEvidence]:
    """Evidence of every text, and of the corpus (each distinct PRF input of all texts once).

    Raises:
        UsageError: no texts at all.
    """
    if not len(texts):
        raise UsageError("got no texts, expected at least one", hint="an empty corpus is evidence of nothing")
    inputs = corpus_inputs(texts, scheme, masks=masks)
    per_text = [score(distinct(rows), scheme, subkey) for rows in inputs]
    return per_text, score(distinct(np.concatenate(inputs)), scheme, subkey)


def corpus_inputs(
    texts: Sequence[Sequence[int]], scheme: Scheme, *, masks: Sequence[Sequence[bool]] | None = None
) -> list[NDArray[np.int64]]:
    """The PRF inputs of every text, repeats included."""
    all_masks = masks if masks is not None else [None] * len(texts)
    return [
        inputs_of(tokens, context_width=scheme.context_width, mask=mask)
        for tokens, mask in zip(texts, all_masks, strict=True)
    ]
