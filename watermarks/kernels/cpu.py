"""Generation kernels for the CPU: scores in, marked scores out, one pass each, vectorised by LLVM through numba.

Each gives what the scheme's own ``bend`` gives on the draws of :mod:`watermarks.prf`: the same colours, bits and chosen
tokens. They release the GIL, so rows are shared out over threads; no OpenMP of their own to quarrel with torch's.
"""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from watermarks.prf import MASK32

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BLOCK = 1024
"""Tokens handled together: their scratch space stays in the first-level cache."""
TOGETHER = 10
"""Tournament layers that are played at once on a table of bit patterns."""
_LN2 = np.float32(math.log(2.0))
_EXPONENT = np.float32(2.0**-23)
_MARGIN = np.float32(1e-3)
_INVERSE = 2.0**-32


# numba widens uint32 arithmetic to 64 bits: every product is cut back before it is used.
@njit(inline="always", cache=True)
def mix32(x):
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x21F0AAAD))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x735A2D97))
    return np.uint32(x ^ (x >> np.uint32(15)))


@njit(nogil=True, cache=True)
def _expand_rows(lo, hi, spread, out):
    for index in range(out.shape[0]):
        low, high, row = lo[index], hi[index], out[index]
        for token in range(row.shape[0]):
            row[token] = mix32(np.uint32(mix32(np.uint32(spread[token] ^ low)) ^ high))


@njit(nogil=True, cache=True)
def _bias_rows(lo, hi, spread, limit, delta, scores, out):
    nothing = np.float32(0.0)
    for index in range(out.shape[0]):
        low, high, row, source = lo[index], hi[index], out[index], scores[index]
        for token in range(row.shape[0]):
            draw = mix32(np.uint32(mix32(np.uint32(spread[token] ^ low)) ^ high))
            row[token] = source[token] + (delta if draw < limit else nothing)


@njit(nogil=True, cache=True)
def _anchored_rows(lo, hi, colour_lo, colour_hi, spread, limit, delta, scores, out):
    """Block by block: the running minimum over anchors keeps the colour seed of the best, then one colour a token."""
    best = np.empty(BLOCK, np.uint32)
    low = np.empty(BLOCK, np.uint32)
    high = np.empty(BLOCK, np.uint32)
    nothing = np.float32(0.0)
    for index in range(out.shape[0]):
        for start in range(0, out.shape[1], BLOCK):
            size = min(BLOCK, out.shape[1] - start)
            tokens, row, source = spread[start:], out[index, start:], scores[index, start:]
            for i in range(size):
                best[i] = mix32(np.uint32(mix32(np.uint32(tokens[i] ^ lo[index, 0])) ^ hi[index, 0]))
                low[i] = colour_lo[index, 0]
                high[i] = colour_hi[index, 0]
            for anchor in range(1, lo.shape[1]):
                a, b, c, d = lo[index, anchor], hi[index, anchor], colour_lo[index, anchor], colour_hi[index, anchor]
                for i in range(size):
                    value = mix32(np.uint32(mix32(np.uint32(tokens[i] ^ a)) ^ b))
                    better = value < best[i]
                    best[i] = value if better else best[i]
                    low[i] = c if better else low[i]
                    high[i] = d if better else high[i]
            for i in range(size):
                draw = mix32(np.uint32(mix32(np.uint32(tokens[i] ^ low[i])) ^ high[i]))
                row[i] = source[i] + (delta if draw < limit else nothing)


@njit(nogil=True, cache=True)
def _choose_rows(lo, hi, spread, scores, chosen):
    """Argmax of log p - log E. Few tokens pay for logarithms: an upper bound in cheap arithmetic rules out the rest.

    E >= w, and the float whose bits are read as a line between powers of two lies below log2, so
    log p - ln2 · (bits · 2^-23 - 127 - 32) is never below the value it stands for (but for float32 rounding: margin).
    """
    draws = np.empty(BLOCK, np.uint32)
    near = np.empty(BLOCK, np.float32)
    bits = near.view(np.int32)
    bound = np.empty(BLOCK, np.float32)
    for index in range(scores.shape[0]):
        low, high = lo[index], hi[index]
        best, winner = -np.inf, 0
        for start in range(0, scores.shape[1], BLOCK):
            size = min(BLOCK, scores.shape[1] - start)
            tokens, row = spread[start:], scores[index, start:]
            for i in range(size):
                draw = mix32(np.uint32(mix32(np.uint32(tokens[i] ^ low)) ^ high))
                draws[i] = draw
                near[i] = np.float32(draw) + np.float32(0.5)
            highest = np.float32(-np.inf)
            for i in range(size):
                value = row[i] - _LN2 * (np.float32(bits[i]) * _EXPONENT - np.float32(159.0))
                bound[i] = value
                highest = max(highest, value)
            if highest + _MARGIN < best:
                continue
            for i in range(size):
                if bound[i] + _MARGIN >= best and row[i] > -np.inf:
                    e = -math.log1p(-(np.float64(draws[i]) + 0.5) * _INVERSE)
                    value = np.float64(row[i]) - math.log(e)
                    if value > best:
                        best, winner = value, start + i
        chosen[index] = winner


@njit(nogil=True, cache=True)
def _play_rows(lo, hi, spread, layers, p, scores, out):
    """All layers of each row. Tokens that masks left without mass are set aside first."""
    for index in range(p.shape[0]):
        low, high, row = lo[index], hi[index], p[index]
        alive = np.nonzero(row)[0]
        sparse = 2 * alive.shape[0] < row.shape[0]
        size = alive.shape[0] if sparse else row.shape[0]
        mass = row[alive] if sparse else row.copy()
        bits = np.empty(size, np.uint32)
        if sparse:
            for i in range(size):
                bits[i] = mix32(np.uint32(mix32(np.uint32(spread[alive[i]] ^ low)) ^ high))
        else:
            for i in range(size):
                bits[i] = mix32(np.uint32(mix32(np.uint32(spread[i] ^ low)) ^ high))
        gain = _play(mass, bits, layers)
        out[index] = scores[index]
        for i in range(size):
            token = alive[i] if sparse else i
            for part in range(gain.shape[0]):
                pattern = (bits[i] >> np.uint32(part * TOGETHER)) & np.uint32(gain.shape[1] - 1)
                out[index, token] += gain[part, pattern]


@njit(nogil=True, cache=True)
def _play(mass, bits, layers):
    """Log multiplier of each bit pattern, ten layers at a time.

    What a layer does to a token depends on the token's bit and on the total mass of set bits alone. So ten layers play
    on the masses of the 1,024 patterns of ten bits, and the tokens are visited once for ten layers.
    """
    patterns = np.uint32(1 << TOGETHER)
    parts = (layers + TOGETHER - 1) // TOGETHER
    gain = np.zeros((parts, patterns), np.float32)
    factor = np.ones(patterns, np.float32)
    held = np.empty((2, patterns), np.float32)
    for part in range(parts):
        held[:] = 0.0
        here, before = np.uint32(part * TOGETHER), np.uint32(max(part - 1, 0) * TOGETHER)
        for i in range(mass.shape[0]):
            new = mass[i] * factor[(bits[i] >> before) & (patterns - np.uint32(1))]
            mass[i] = new
            held[i & 1, (bits[i] >> here) & (patterns - np.uint32(1))] += new  # two lanes: repeats do not wait
        factor[:] = 1.0
        for layer in range(min(TOGETHER, layers - part * TOGETHER)):
            total = np.float32(0.0)
            for pattern in range(patterns):
                if (pattern >> layer) & 1:
                    total += held[0, pattern] + held[1, pattern]
            for pattern in range(patterns):
                step = max(np.float32(1.0) - total + np.float32((pattern >> layer) & 1), np.float32(0.0))
                held[0, pattern] *= step
                held[1, pattern] *= step
                factor[pattern] *= step
        gain[part] = np.log(factor)
    return gain


@lru_cache(maxsize=4)
def spread(vocab_size: int) -> NDArray[np.uint32]:
    """``token * 0x9E3779B1 mod 2³²``, the same for every seed."""
    return ((np.arange(vocab_size, dtype=np.int64) * 0x9E3779B1) & MASK32).astype(np.uint32)


def expand_vocabulary(lo: NDArray[np.int64], hi: NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
    """``h(token)`` for every token of the vocabulary: seeds ``[B]`` (32-bit halves) give ``[B, V]``."""
    out = np.empty((lo.shape[0], vocab_size), np.int64)
    _expand_rows(lo.astype(np.uint32), hi.astype(np.uint32), spread(vocab_size), out)
    return out


Seeds = tuple["NDArray[np.uint32]", "NDArray[np.uint32]"]


def add_bias(
    seeds: Seeds, limit: int, delta: float, scores: NDArray[np.float32], out: NDArray[np.float32], threads: int = 1
) -> None:
    """``kgw``: ``scores + delta`` where the draw is below ``limit``; seeds ``[B]``, scores and out ``[B, V]``."""
    tokens, bound, step = spread(scores.shape[1]), np.uint32(limit), np.float32(delta)
    _share(scores, threads, lambda r: _bias_rows(seeds[0][r], seeds[1][r], tokens, bound, step, scores[r], out[r]))


def add_anchored_bias(
    anchors: Seeds,
    colours: Seeds,
    limit: int,
    delta: float,
    scores: NDArray[np.float32],
    out: NDArray[np.float32],
    threads: int = 1,
) -> None:
    """Self-salted ``kgw``: seeds ``[B, h]`` of the anchors' values and of their colours."""
    tokens, bound, step = spread(scores.shape[1]), np.uint32(limit), np.float32(delta)

    def rows(r: slice) -> None:
        lo, hi, colour_lo, colour_hi = (part[r] for part in (*anchors, *colours))
        _anchored_rows(lo, hi, colour_lo, colour_hi, tokens, bound, step, scores[r], out[r])

    _share(scores, threads, rows)


def choose(seeds: Seeds, scores: NDArray[np.float32], threads: int = 1) -> NDArray[np.int64]:
    """``gumbel``: the chosen token of each row."""
    chosen, tokens = np.empty(scores.shape[0], np.int64), spread(scores.shape[1])
    _share(scores, threads, lambda r: _choose_rows(seeds[0][r], seeds[1][r], tokens, scores[r], chosen[r]))
    return chosen


def play(
    seeds: Seeds,
    layers: int,
    p: NDArray[np.float32],
    scores: NDArray[np.float32],
    out: NDArray[np.float32],
    threads: int = 1,
) -> None:
    """``tournament``: scores plus the log multipliers of all layers; ``p`` is the softmax of the scores."""
    tokens = spread(p.shape[1])
    _share(p, threads, lambda r: _play_rows(seeds[0][r], seeds[1][r], tokens, layers, p[r], scores[r], out[r]))


WORTH_A_THREAD = 1 << 17


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="countermark")


def _share(scores: NDArray[Any], threads: int, work: Callable[[slice], None]) -> None:
    """Runs ``work`` on slices of the rows, in threads where there is enough to do."""
    rows = scores.shape[0]
    threads = min(threads, rows, max(1, scores.size // WORTH_A_THREAD))
    if threads <= 1:
        work(slice(0, rows))
        return
    edges = [rows * i // threads for i in range(threads + 1)]
    slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
    for done in [_pool(threads).submit(work, each) for each in slices]:
        done.result()
