"""The vocabulary expansion as one numba kernel: one pass, no temporaries, vectorised by LLVM."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from watermarks.prf import MASK32

if TYPE_CHECKING:
    from numpy.typing import NDArray


# numba widens uint32 arithmetic to 64 bits: every product is cut back before it is used.
@njit(inline="always", cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mix32(x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x21F0AAAD))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x735A2D97))
    return np.uint32(x ^ (x >> np.uint32(15)))


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _expand_rows(lo, hi, spread, out):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    for index in range(out.shape[0]):
        low, high, row = lo[index], hi[index], out[index]
        for token in range(row.shape[0]):
            row[token] = _mix32(np.uint32(_mix32(np.uint32(spread[token] ^ low)) ^ high))


@lru_cache(maxsize=4)
def _spread(vocab_size: int) -> NDArray[np.uint32]:
    """``token * 0x9E3779B1 mod 2³²``, the same for every seed."""
    return ((np.arange(vocab_size, dtype=np.int64) * 0x9E3779B1) & MASK32).astype(np.uint32)


def expand_vocabulary(lo: NDArray[np.int64], hi: NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
    """``h(token)`` for every token of the vocabulary: seeds ``[B]`` (32-bit halves) give ``[B, V]``."""
    out = np.empty((lo.shape[0], vocab_size), np.int64)
    _expand_rows(lo.astype(np.uint32), hi.astype(np.uint32), _spread(vocab_size), out)
    return out
