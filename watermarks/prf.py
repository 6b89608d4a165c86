"""The one pseudorandom function: ``u(key, context, token)``.

Two layers (``docs/formats.md``, *Token PRF*):

* ``seed = SipHash-2-4(128-bit sub-key, the PRF input as little-endian u32)``: a real PRF for short inputs (Aumasson and
  Bernstein, 2012), and the only layer that sees the key.
* ``h(token) = mix32(mix32(token * 0x9E3779B1 ^ lo32(seed)) ^ hi32(seed))``: the expansion over the vocabulary. That it
  behaves like independent draws is a documented assumption, tested, not a theorem.

The functions use operators alone, on signed 64-bit integers that wrap, so one body serves NumPy arrays and torch
tensors on any device and gives the same bits everywhere. Inputs are arrays of ``int64`` whose values fit 32 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Ints = Any
"""A NumPy ``int64`` array or a torch ``int64`` tensor."""

MASK32 = 0xFFFFFFFF
SUBKEY_BYTES = 16
_GOLDEN = 0x9E3779B1
_MIX_A = 0x21F0AAAD
_MIX_B = 0x735A2D97


def mix32(x: Ints) -> Ints:
    """The 32-bit finaliser of the expansion; a bijection of 0 … 2³²-1."""
    x = x ^ (x >> 16)
    x = (x * _MIX_A) & MASK32
    x = x ^ (x >> 15)
    x = (x * _MIX_B) & MASK32
    return x ^ (x >> 15)


def expand(lo: Ints, hi: Ints, token: Ints) -> Ints:
    """``h(token)`` in 0 … 2³²-1 for seeds split in 32-bit halves; the three arguments broadcast."""
    return mix32(mix32(((token * _GOLDEN) & MASK32) ^ lo) ^ hi)


def split(seed: Ints) -> tuple[Ints, Ints]:
    """Low and high 32 bits of a 64-bit seed held in a signed integer."""
    return seed & MASK32, (seed >> 32) & MASK32


def siphash_words(subkey: bytes | Sequence[bytes], words: Ints, stream: int = 0) -> Ints:
    """SipHash-2-4 of each row of ``words`` (shape ``[..., h]``, values < 2³², read as little-endian u32).

    Args:
        subkey: 16 bytes, or K such keys, which put an axis of length K before all others.
        words: PRF inputs; ``h`` may be 0 (the empty message).
        stream: where a scheme needs more than one independent seed an input, the streams after the first append their
            number as one more word. The hash covers the length, so no stream meets an input of ``h`` words.

    Returns:
        64-bit hashes as signed integers of shape ``[...]`` (``[K, ...]`` for several keys).

    Raises:
        ValueError: a sub-key is not 16 bytes.
    """
    columns = [words[..., i] for i in range(words.shape[-1])] + ([stream] if stream else [])
    zero = words.sum(-1) * 0  # an array of the right shape, library and device
    k0, k1 = _halves(subkey, zero)
    v = (
        zero + (k0 ^ 0x736F6D6570736575),
        zero + (k1 ^ 0x646F72616E646F6D),
        zero + (k0 ^ 0x6C7967656E657261),
        zero + (k1 ^ 0x7465646279746573),
    )
    for low, high in zip(columns[0::2], columns[1::2], strict=False):
        v = _absorb(v, low | (high << 32))
    last = zero + _signed(((4 * len(columns)) & 0xFF) << 56)
    if len(columns) % 2:
        last = last | columns[-1]
    v = _absorb(v, last)
    v = (v[0], v[1], v[2] ^ 0xFF, v[3])
    for _ in range(4):
        v = _round(*v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def key_words(subkeys: Sequence[bytes]) -> NDArray[np.int64]:
    """Sub-keys as ``[K, 2]`` signed little-endian halves.

    Raises:
        ValueError: a sub-key is not 16 bytes.
    """
    for subkey in subkeys:
        if len(subkey) != SUBKEY_BYTES:
            raise ValueError(f"got a sub-key of {len(subkey)} bytes, expected {SUBKEY_BYTES}")
    return np.frombuffer(b"".join(subkeys), "<i8").reshape(-1, 2).astype(np.int64)


def siphash_bytes(key: bytes, message: bytes) -> int:
    """SipHash-2-4 of any byte string, unsigned; the plain reference that the published vectors are checked against."""
    words = np.frombuffer(message[: len(message) // 8 * 8], "<u8").astype(np.int64)
    tail = message[len(message) // 8 * 8 :].ljust(7, b"\0") + bytes([len(message) & 0xFF])
    k0, k1 = (_signed(int.from_bytes(key[i : i + 8], "little")) for i in (0, 8))
    zero = np.zeros(1, np.int64)
    v = (
        zero + (k0 ^ 0x736F6D6570736575),
        zero + (k1 ^ 0x646F72616E646F6D),
        zero + (k0 ^ 0x6C7967656E657261),
        zero + (k1 ^ 0x7465646279746573),
    )
    for word in [*words, np.int64(_signed(int.from_bytes(tail, "little")))]:
        v = _absorb(v, zero + word)
    v = (v[0], v[1], v[2] ^ 0xFF, v[3])
    for _ in range(4):
        v = _round(*v)
    return int((v[0] ^ v[1] ^ v[2] ^ v[3])[0]) & 0xFFFFFFFFFFFFFFFF


def draws(subkey: bytes | Sequence[bytes], contexts: Ints, tokens: Ints, stream: int = 0) -> Ints:
    """``h(token)`` under each context: ``contexts [..., h]`` and ``tokens [...]`` broadcast to integers below 2³².

    ``contexts [N, h]`` with ``tokens [N]`` scores observed tokens; ``[B, 1, h]`` with ``[1, V]`` spans a vocabulary.
    """
    lo, hi = split(siphash_words(subkey, contexts, stream))
    return expand(lo, hi, tokens)


def list_draws(subkey: bytes | Sequence[bytes], tokens: Ints) -> Ints:
    """The draw of each token of a fixed list: the low half of SipHash of the token itself, with no expansion."""
    return siphash_words(subkey, tokens[..., None]) & MASK32


def _halves(subkey: bytes | Sequence[bytes], like: Ints) -> tuple[Any, Any]:
    """The two key words, as integers, or for several keys as arrays that broadcast before the axes of ``like``."""
    if isinstance(subkey, bytes):
        k0, k1 = key_words([subkey])[0].tolist()
        return k0, k1
    words = key_words(subkey).reshape(-1, *([1] * like.ndim), 2)
    if not isinstance(like, np.ndarray):
        words = like.new_tensor(words.tolist())
    return words[..., 0], words[..., 1]


def _absorb(v: tuple[Ints, Ints, Ints, Ints], word: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    v = _round(v[0], v[1], v[2], v[3] ^ word)
    v = _round(*v)
    return v[0] ^ word, v[1], v[2], v[3]


def _round(v0: Ints, v1: Ints, v2: Ints, v3: Ints) -> tuple[Ints, Ints, Ints, Ints]:
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


def _rotl(x: Ints, bits: int) -> Ints:
    return (x << bits) | ((x >> (64 - bits)) & ((1 << bits) - 1))


def _signed(value: int) -> int:
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >= 1 << 63 else value
