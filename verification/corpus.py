"""Texts as token ids, packed once, and which of their PRF inputs count.

Each distinct PRF input counts once: in a text for the text's own p-value, in the corpus for the corpus's. Neither
depends on order or batch. Masked positions (padding, prompts, special tokens) are never scored, nor serve as context.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from countermark.errors import UsageError
from watermarks.kernels.observe import first_windows, whole_windows
from watermarks.prf import MASK32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermarks.schemes import Sliding


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The PRF inputs that count, named by the position of their last token.

    Args:
        positions: in every text, one position for each distinct input, ascending.
        starts: text t owns ``positions[starts[t] : starts[t + 1]]``.
        corpus: indices into ``positions``, one for each distinct input of the whole corpus.
        repeats: for each occurrence in the texts, the first occurrence of its input in the same text.
        corpus_repeats: for each of ``positions``, the first that has the same input.
    """

    positions: NDArray[np.int64]
    starts: NDArray[np.int64]
    corpus: NDArray[np.int64]
    repeats: NDArray[np.int64]
    corpus_repeats: NDArray[np.int64]

    def counts(self) -> NDArray[np.int64]:
        """How often the input of each position occurs in its text."""
        counts = np.bincount(self.repeats, minlength=1)
        return counts[counts > 0]

    def corpus_counts(self) -> NDArray[np.int64]:
        """How often each input of ``corpus`` occurs in all texts."""
        totals = np.zeros(len(self.positions), np.int64)
        np.add.at(totals, self.corpus_repeats, self.counts())
        return totals[self.corpus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Texts packed end to end; build it with :meth:`pack`.

    Args:
        tokens: all token ids, ``[M]``.
        starts: text t is ``tokens[starts[t] : starts[t + 1]]``.
        allowed: False where a token is masked, ``[M]``.
    """

    tokens: NDArray[np.int64]
    starts: NDArray[np.int64]
    allowed: NDArray[np.bool_]
    _counted: dict[Sliding, Counted] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def pack(cls, texts: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]] | None = None) -> Corpus:
        """Packs token ids with their masks (True is text; no masks: all is).

        Raises:
            UsageError: no texts, a mask of another length, or an id that is no unsigned 32-bit integer.
        """
        if not len(texts):
            raise UsageError("got no texts, expected at least one", hint="an empty corpus is evidence of nothing")
        if masks is not None and len(masks) != len(texts):
            raise UsageError(f"got {len(masks)} masks for {len(texts)} texts, expected one each")
        arrays = [_ids(text) for text in texts]
        tokens = np.concatenate(arrays)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() <= MASK32:
            raise UsageError(f"got token ids {tokens.min()} to {tokens.max()}, expected 0 to {MASK32}")
        for array, mask in zip(arrays, () if masks is None else masks, strict=False):
            if len(mask) != len(array):
                raise UsageError(f"got a mask of {len(mask)} for {len(array)} tokens, expected equal lengths")
        allowed = np.ones(len(tokens), bool) if masks is None else np.concatenate([np.asarray(m, bool) for m in masks])
        return cls(tokens=tokens, starts=_edges([len(array) for array in arrays]), allowed=allowed)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def counted(self, inputs: Sliding) -> Counted:
        """The inputs that count under a rule; found once, whatever the number of keys and schemes that use it."""
        if inputs not in self._counted:
            self._counted[inputs] = self._count(inputs)
        return self._counted[inputs]

    def _count(self, inputs: Sliding) -> Counted:
        positions = whole_windows(self.allowed, self.starts, inputs.width)
        starts = np.searchsorted(positions, self.starts)
        if inputs.once == "input":
            every = np.arange(len(positions))
            return Counted(positions=positions, starts=starts, corpus=every, repeats=every, corpus_repeats=every)
        ahead = 0 if inputs.once == "context" else 1
        repeats = first_windows(self.tokens, positions, starts, back=inputs.width, ahead=ahead)
        firsts = _firsts(repeats)
        positions, starts = positions[firsts], np.searchsorted(firsts, starts)
        everywhere = np.array([0, len(positions)])
        again = first_windows(self.tokens, positions, everywhere, back=inputs.width, ahead=1)
        return Counted(positions=positions, starts=starts, corpus=_firsts(again), repeats=repeats, corpus_repeats=again)


def _firsts(repeats: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places that are their own first occurrence."""
    return np.flatnonzero(repeats == np.arange(len(repeats)))


def _ids(text: Sequence[int]) -> NDArray[np.int64]:
    try:
        array = np.asarray(text)
        if array.size == 0:
            return np.empty(0, np.int64)
        if array.dtype.kind in "iu" and array.ndim == 1:
            return array.astype(np.int64)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"got a text that is no row of token ids from 0 to {MASK32}", hint="pass integers, text by text")


def distinct_codes(codes: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where a code is the first of its kind in its text."""
    index = np.arange(len(codes))
    fresh: NDArray[np.bool_] = first_windows(codes, index, starts, back=0, ahead=1) == index
    return fresh


def _edges(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))])
