"""Detection kernels for the CPU: which PRF inputs count, and their draws under many keys. Linear, one pass each.

A hash table finds repeats by 128-bit codes, salted anew in every process, so that no text can be written to slow it
down or to collide; a collision by chance (2⁻¹²⁸ a pair) would lose one input and leave the law exact.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from watermarks.kernels.cpu import mix32

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUCKET = 1 << 12
"""Windows whose table is searched together in one long text."""
_SALT = np.array([secrets.randbits(64), secrets.randbits(64)], np.uint64)


@njit(inline="always", cache=True)
def _rotl(x, bits):
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@njit(inline="always", cache=True)
def _round(v0, v1, v2, v3):
    v0 = v0 + v1
    v2 = v2 + v3
    v1 = _rotl(v1, 13) ^ v0
    v3 = _rotl(v3, 16) ^ v2
    v0 = _rotl(v0, 32)
    v2 = v2 + v1
    v0 = v0 + v3
    v1 = _rotl(v1, 17) ^ v2
    v3 = _rotl(v3, 21) ^ v0
    v2 = _rotl(v2, 32)
    return v0, v1, v2, v3


@njit(inline="always", cache=True)
def _siphash(k0, k1, tokens, end, width, stream):
    """SipHash-2-4 of ``tokens[end - width : end]`` as u32 words, and of ``stream`` after them if it is not 0."""
    v0 = k0 ^ np.uint64(0x736F6D6570736575)
    v1 = k1 ^ np.uint64(0x646F72616E646F6D)
    v2 = k0 ^ np.uint64(0x6C7967656E657261)
    v3 = k1 ^ np.uint64(0x7465646279746573)
    words = width + (1 if stream else 0)
    for pair in range((words + 2) // 2):  # the last one holds the length
        first, second = 2 * pair, 2 * pair + 1
        word = np.uint64(0)
        if first < width:
            word = np.uint64(tokens[end - width + first])
        elif first < words:
            word = np.uint64(stream)
        if second < width:
            word |= np.uint64(tokens[end - width + second]) << np.uint64(32)
        elif second < words:
            word |= np.uint64(stream) << np.uint64(32)
        if second >= words:
            word |= np.uint64((4 * words) & 0xFF) << np.uint64(56)
        v3 ^= word
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@njit(inline="always", cache=True)
def _expand(seed, token):
    spread = np.uint32(np.uint32(token) * np.uint32(0x9E3779B1))
    low, high = np.uint32(seed & np.uint64(0xFFFFFFFF)), np.uint32(seed >> np.uint64(32))
    return mix32(np.uint32(mix32(np.uint32(spread ^ low)) ^ high))


@njit(nogil=True, cache=True)
def _context_draws(keys, tokens, positions, width, stream, out):
    for k in range(keys.shape[0]):
        for i in range(positions.shape[0]):
            at = positions[i]
            out[k, i] = _expand(_siphash(keys[k, 0], keys[k, 1], tokens, at, width, stream), tokens[at])


@njit(nogil=True, cache=True)
def _seeds(key, contexts, stream, lo, hi):
    width = contexts.shape[1]
    tokens = contexts.ravel()
    for i in range(contexts.shape[0]):
        seed = _siphash(key[0], key[1], tokens, (i + 1) * width, width, stream)
        lo[i] = np.uint32(seed & np.uint64(0xFFFFFFFF))
        hi[i] = np.uint32(seed >> np.uint64(32))


@njit(nogil=True, cache=True)
def _list_draws(keys, tokens, positions, out):
    for k in range(keys.shape[0]):
        for i in range(positions.shape[0]):
            seed = _siphash(keys[k, 0], keys[k, 1], tokens, positions[i] + 1, 1, 0)
            out[k, i] = np.int64(seed & np.uint64(0xFFFFFFFF))


@njit(nogil=True, cache=True)
def _anchored_draws(keys, tokens, positions, width, stream, seeds, out, used):
    """The seed of every token of the stretch once; each position then compares its h anchors."""
    begin = positions[0] - width
    for k in range(keys.shape[0]):
        for i in range(seeds.shape[0]):
            seeds[i] = _siphash(keys[k, 0], keys[k, 1], tokens, begin + i + 1, 1, 0)
        for i in range(positions.shape[0]):
            at = positions[i]
            best, anchor = _expand(seeds[at - width - begin], tokens[at]), at - width
            for j in range(at - width + 1, at):
                value = _expand(seeds[j - begin], tokens[at])
                if value < best:
                    best, anchor = value, j
            out[k, i] = _expand(_siphash(keys[k, 0], keys[k, 1], tokens, anchor + 1, 1, stream), tokens[at])
            used[k, i] = (np.int64(tokens[anchor]) << 32) | np.int64(tokens[at])


@njit(inline="always", cache=True)
def _code(tokens, at, back, ahead, salt):
    code = salt
    for j in range(at - back, at + ahead):
        code = (code ^ np.uint64(tokens[j])) * np.uint64(0x9E3779B97F4A7C15)
        code ^= code >> np.uint64(32)
    return code


@njit(nogil=True, cache=True)
def _first_in_texts(tokens, positions, starts, back, ahead, salt, entry, known, first):
    """Text by text, one small table each; open addressing, 128-bit codes."""
    for text in range(starts.shape[0] - 1):
        low, high = starts[text], starts[text + 1]
        size = 1
        while size < 2 * (high - low):
            size *= 2
        mask = np.uint64(size - 1)
        entry[:size] = -1
        for i in range(low, high):
            one, two = salt[0], salt[1]  # as in _codes, written out: this is the innermost loop
            for j in range(positions[i] - back, positions[i] + ahead):
                token = np.uint64(tokens[j])
                one = (one ^ token) * np.uint64(0x9E3779B97F4A7C15)
                two = (two ^ token) * np.uint64(0xD6E8FEB86659FD93)
                one ^= one >> np.uint64(32)
                two ^= two >> np.uint64(29)
            slot = one & mask
            while entry[slot] >= 0 and (known[slot, 0] != one or known[slot, 1] != two):
                slot = (slot + np.uint64(1)) & mask
            if entry[slot] < 0:
                entry[slot] = i
                known[slot, 0] = one
                known[slot, 1] = two
            first[i] = entry[slot]


@njit(nogil=True, cache=True)
def _first_in_groups(order, dealt, ends, entry, known, first):
    """Open addressing, one table a group; codes and the table's copy of them are 128 bits."""
    for group in range(ends.shape[0] - 1):
        low, high = ends[group], ends[group + 1]
        size = 1
        while size < 2 * (high - low):
            size *= 2
        mask = np.uint64(size - 1)
        entry[:size] = -1
        for j in range(low, high):
            i = order[j]
            one, two = dealt[j, 0], dealt[j, 1]
            slot = one & mask
            while entry[slot] >= 0 and (known[slot, 0] != one or known[slot, 1] != two):
                slot = (slot + np.uint64(1)) & mask
            if entry[slot] < 0:
                entry[slot] = i
                known[slot, 0] = one
                known[slot, 1] = two
            first[i] = entry[slot]


@njit(nogil=True, cache=True)
def _codes(tokens, positions, back, ahead, salt, codes):
    for i in range(positions.shape[0]):
        one, two = salt[0], salt[1]
        for j in range(positions[i] - back, positions[i] + ahead):
            token = np.uint64(tokens[j])
            one = (one ^ token) * np.uint64(0x9E3779B97F4A7C15)
            two = (two ^ token) * np.uint64(0xD6E8FEB86659FD93)
            one ^= one >> np.uint64(32)
            two ^= two >> np.uint64(29)
        codes[i, 0] = one
        codes[i, 1] = two


@njit(nogil=True, cache=True)
def _deal(codes, buckets, ends, order, dealt):
    """A stable counting sort into buckets by the code's upper bits: each bucket's table then fits the cache."""
    for i in range(codes.shape[0]):
        ends[(np.int64(codes[i, 0] >> np.uint64(40)) & (buckets - 1)) + 1] += 1
    for bucket in range(buckets):
        ends[bucket + 1] += ends[bucket]
    place = ends.copy()
    for i in range(codes.shape[0]):
        bucket = np.int64(codes[i, 0] >> np.uint64(40)) & (buckets - 1)
        order[place[bucket]] = i
        dealt[place[bucket], 0] = codes[i, 0]
        dealt[place[bucket], 1] = codes[i, 1]
        place[bucket] += 1


@njit(nogil=True, cache=True)
def _whole_windows(allowed, starts, width, positions):
    count = 0
    for text in range(starts.shape[0] - 1):
        run = 0
        for i in range(starts[text], starts[text + 1]):
            run = run + 1 if allowed[i] else 0
            if run > width:
                positions[count] = i
                count += 1
    return count


def whole_windows(allowed: NDArray[np.bool_], starts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Positions that stand, with the ``width`` tokens before them, unmasked in one text."""
    positions = np.empty(len(allowed), np.int64)
    return positions[: _whole_windows(allowed, starts, width, positions)]


def first_windows(
    tokens: NDArray[np.int64], positions: NDArray[np.int64], starts: NDArray[np.int64], *, back: int, ahead: int
) -> NDArray[np.int64]:
    """For each position, the index of the first one of its text with the same tokens.

    Compared are the ``back`` tokens before a position and ``ahead`` tokens from it on. Text t is
    ``positions[starts[t] : starts[t + 1]]``.
    """
    count = len(positions)
    first = np.empty(count, np.int64)
    if len(starts) != 2 or count <= BUCKET:  # noqa: PLR2004 - many texts, or a short one
        entry, known = _table(starts)
        _first_in_texts(tokens, positions, starts, back, ahead, _SALT, entry, known, first)
        return first
    codes, order = np.empty((count, 2), np.uint64), np.empty(count, np.int64)
    _codes(tokens, positions, back, ahead, _SALT, codes)
    buckets = 1 << (count // BUCKET).bit_length()
    ends = np.zeros(buckets + 1, np.int64)
    dealt = np.empty_like(codes)
    _deal(codes, buckets, ends, order, dealt)
    entry, known = _table(ends)
    _first_in_groups(order, dealt, ends, entry, known, first)
    return first


def _table(edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Slots and their codes for the largest group."""
    size = 2 << max(0, int(np.diff(edges).max(initial=0)) - 1).bit_length()
    return np.empty(size, np.int64), np.empty((size, 2), np.uint64)


def seeds(
    key: NDArray[np.int64], contexts: NDArray[np.int64], stream: int = 0
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The expansion's seeds of contexts ``[..., h]`` under one key ``[2]``, as 32-bit halves ``[...]``."""
    flat = np.ascontiguousarray(contexts).reshape(-1, contexts.shape[-1])
    lo, hi = np.empty(len(flat), np.uint32), np.empty(len(flat), np.uint32)
    _seeds(key.view(np.uint64), flat, stream, lo, hi)
    return lo.reshape(contexts.shape[:-1]), hi.reshape(contexts.shape[:-1])


def context_draws(
    keys: NDArray[np.int64], tokens: NDArray[np.int64], positions: NDArray[np.int64], width: int, stream: int = 0
) -> NDArray[np.int64]:
    """``h(token)`` at each position under its ``width`` tokens before: keys ``[K, 2]`` give ``[K, N]``."""
    out = np.empty((len(keys), len(positions)), np.int64)
    _context_draws(keys.view(np.uint64), tokens, positions, width, stream, out)
    return out


def list_draws(keys: NDArray[np.int64], tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fixed list's draw of the token at each position: ``[K, N]``."""
    out = np.empty((len(keys), len(positions)), np.int64)
    _list_draws(keys.view(np.uint64), tokens, positions, out)
    return out


def anchored_draws(
    keys: NDArray[np.int64], tokens: NDArray[np.int64], positions: NDArray[np.int64], width: int, stream: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Self-salting: colour draws and the chosen pairs (anchor · 2³² + token), both ``[K, N]``; positions ascend."""
    out = np.empty((len(keys), len(positions)), np.int64)
    used = np.empty_like(out)
    if len(positions):
        seeds = np.empty(int(positions.max() - positions.min()) + width + 1, np.uint64)
        _anchored_draws(keys.view(np.uint64), tokens, positions, width, stream, seeds, out, used)
    return out, used
