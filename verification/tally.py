"""The sums behind the evidence: what the counted inputs of a corpus are worth under many keys, in one pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from countermark.errors import UsageError
from verification.corpus import distinct_codes
from watermarks.kernels.observe import observe, observe_plain
from watermarks.schemes import CountLaw
from watermarks.schemes.base import check_statistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verification.corpus import Corpus, Counted
    from watermarks.schemes import Scheme

CHUNK = 1 << 16
"""Draws handled together; they stay in the second-level cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums for K keys and T texts: ``totals`` and ``scored`` are ``[K, T]``, the corpus's own are ``[K]``."""

    totals: NDArray[np.int64]
    scored: NDArray[np.int64]
    corpus_totals: NDArray[np.int64]
    corpus_scored: NDArray[np.int64]


def tally(
    corpus: Corpus,
    scheme: Scheme,
    subkeys: Sequence[bytes],
    *,
    statistic: str = "",
    device: str = "cpu",
    threads: int = 1,
    each_text: bool = True,
) -> Tally:
    """The sums under each sub-key. With ``each_text=False`` only the corpus is summed: less work for many keys."""
    statistic = statistic or scheme.statistics[0]
    check_statistic(scheme, statistic)
    counted, law = corpus.counted(scheme.inputs), scheme.law(statistic)
    positions = counted.positions if each_text else counted.positions[counted.corpus]
    per_chunk = max(1, CHUNK // max(1, len(positions)))
    batches = [subkeys[i : i + per_chunk] for i in range(0, len(subkeys), per_chunk)]

    def work(batch: Sequence[bytes]) -> Tally:
        worth, used = _worth(corpus, scheme, batch, positions, statistic, device)
        if isinstance(law, CountLaw):
            return _sum_weighted(worth, counted, law, each_text=each_text)
        return _sum(worth, used, counted, each_text=each_text)

    if threads > 1 and len(batches) > 1:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(work, batches))
    else:
        parts = [work(batch) for batch in batches]
    return Tally(
        totals=np.concatenate([p.totals for p in parts]),
        scored=np.concatenate([p.scored for p in parts]),
        corpus_totals=np.concatenate([p.corpus_totals for p in parts]),
        corpus_scored=np.concatenate([p.corpus_scored for p in parts]),
    )


def _worth(
    corpus: Corpus, scheme: Scheme, subkeys: Sequence[bytes], positions: NDArray[np.int64], statistic: str, device: str
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Worths ``[K, N]`` and, where the key chooses the input, its code."""
    if device != "cpu":
        return _worth_torch(corpus, scheme, subkeys, positions, statistic, device)
    worth = np.empty((len(subkeys), len(positions)), np.int64)
    codes: list[NDArray[np.int64]] = []
    for start in range(0, len(positions), CHUNK):
        draws, used = observe(scheme, subkeys, corpus.tokens, positions[start : start + CHUNK])
        worth[:, start : start + CHUNK] = scheme.worth(draws, statistic)
        if used is not None:
            codes.append(used)
    return worth, np.concatenate(codes, axis=1) if codes else None


def _worth_torch(
    corpus: Corpus, scheme: Scheme, subkeys: Sequence[bytes], positions: NDArray[np.int64], statistic: str, device: str
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    import torch

    try:
        tokens, where = (torch.from_numpy(array).to(device) for array in (corpus.tokens, positions))
    except RuntimeError as error:
        problem = str(error).splitlines()[0]
        raise UsageError(f"got device {device!r} ({problem}), expected one that torch has here") from None
    draws, used = observe_plain(scheme, subkeys, tokens, where)
    worth: NDArray[np.int64] = scheme.worth(draws, statistic).long().cpu().numpy()
    return worth, None if used is None else used.cpu().numpy()


def _sum(worth: NDArray[np.int64], used: NDArray[np.int64] | None, counted: Counted, *, each_text: bool) -> Tally:
    keys, texts = len(worth), len(counted.starts) - 1
    corpus = counted.corpus if each_text else np.arange(worth.shape[1])
    starts = counted.starts
    if used is None:
        totals = np.diff(_running(worth)[:, starts]) if each_text else np.zeros((keys, 0), np.int64)
        scored = np.broadcast_to(np.diff(starts), (keys, texts)) if each_text else totals
        return Tally(
            totals=totals,
            scored=scored,
            corpus_totals=worth[:, corpus].sum(-1),
            corpus_scored=np.full(keys, len(corpus)),
        )
    # every key is a text of its own to the search for repeats, so that all keys are one call
    length = worth.shape[1]
    bases = length * np.arange(keys)[:, None]
    fresh = distinct_codes(used.ravel(), np.append(bases.ravel(), used.size)).reshape(used.shape)
    once = np.zeros_like(fresh)
    if each_text:
        edges = np.append((bases + starts[:-1]).ravel(), used.size)
        once = distinct_codes(used.ravel(), edges).reshape(used.shape)
    return Tally(
        totals=np.diff(_running(worth * once)[:, starts]) if each_text else np.zeros((keys, 0), np.int64),
        scored=np.diff(_running(once)[:, starts]) if each_text else np.zeros((keys, 0), np.int64),
        corpus_totals=(worth * fresh).sum(-1),
        corpus_scored=fresh.sum(-1),
    )


def _sum_weighted(worth: NDArray[np.int64], counted: Counted, law: CountLaw, *, each_text: bool) -> Tally:
    """For laws that weigh an input by its count."""
    corpus = counted.corpus if each_text else np.arange(worth.shape[1])
    plain = _sum(worth * law.weight(counted.counts()) if each_text else worth, None, counted, each_text=each_text)
    return Tally(
        totals=plain.totals,
        scored=plain.scored,
        corpus_totals=(worth[:, corpus] * law.weight(counted.corpus_counts())).sum(-1),
        corpus_scored=plain.corpus_scored,
    )


def _running(values: NDArray[Any]) -> NDArray[np.int64]:
    """Running sums with a leading zero along the last axis."""
    total = np.zeros((*values.shape[:-1], values.shape[-1] + 1), np.int64)
    np.cumsum(values, axis=-1, out=total[..., 1:])
    return total
