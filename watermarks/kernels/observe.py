"""Draws of observed tokens under many keys: numba kernels where installed, else the scheme's own functions."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from watermarks import prf
from watermarks.schemes import Gumbel, Kgw, Tournament, Unigram
from watermarks.schemes.gumbel import SECOND
from watermarks.schemes.kgw import COLOUR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermarks.schemes import Scheme

KERNELS = find_spec("numba") is not None
"""The base installation verifies without numba, more slowly, with equal results."""


def whole_windows(allowed: NDArray[np.bool_], starts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Positions that stand, with the ``width`` tokens before them, unmasked in one text, ascending."""
    if KERNELS:
        from watermarks.kernels import detect

        return detect.whole_windows(allowed, starts, width)
    return whole_windows_plain(allowed, starts, width)


def whole_windows_plain(allowed: NDArray[np.bool_], starts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The same in NumPy: where the run of unmasked tokens of one text is longer than ``width``."""
    index = np.arange(len(allowed))
    broken = np.where(allowed, -1, index)
    begins = starts[:-1][np.diff(starts) > 0]
    broken[begins] = np.where(allowed[begins], begins - 1, begins)
    return np.flatnonzero(index - np.maximum.accumulate(broken) > width)


def first_windows(
    tokens: NDArray[np.int64], positions: NDArray[np.int64], starts: NDArray[np.int64], *, back: int, ahead: int
) -> NDArray[np.int64]:
    """For each position, the index of the first one of its text with the same ``back`` tokens before it and ``ahead``
    tokens from it on; text t is ``positions[starts[t] : starts[t + 1]]``.
    """
    if KERNELS:
        from watermarks.kernels import detect

        return detect.first_windows(tokens, positions, starts, back=back, ahead=ahead)
    return first_windows_plain(tokens, positions, starts, back=back, ahead=ahead)


def first_windows_plain(
    tokens: NDArray[np.int64], positions: NDArray[np.int64], starts: NDArray[np.int64], *, back: int, ahead: int
) -> NDArray[np.int64]:
    """The same in NumPy."""
    text = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    around = tokens[positions[:, None] + np.arange(-back, ahead)]
    _, index, inverse = np.unique(np.column_stack([text, around]), axis=0, return_index=True, return_inverse=True)
    return index[inverse.reshape(-1)]


def observe(
    scheme: Scheme, subkeys: Sequence[bytes], tokens: NDArray[np.int64], positions: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Draws ``[K, N]`` at each position under each sub-key, and the PRF inputs used where the key chooses them."""
    if KERNELS and type(scheme) in {Kgw, Unigram, Gumbel, Tournament}:  # a subclass may draw otherwise
        from watermarks.kernels import detect

        keys, width = prf.key_words(subkeys), scheme.inputs.width
        match scheme:
            case Kgw(self_salt=True):
                return detect.anchored_draws(keys, tokens, positions, width, COLOUR)
            case Kgw() | Tournament() | Gumbel(alpha=0.0):
                return detect.context_draws(keys, tokens, positions, width), None
            case Gumbel():
                first, second = (detect.context_draws(keys, tokens, positions, width, s) for s in (0, SECOND))
                return (first << 32) | second, None
            case Unigram():
                return detect.list_draws(keys, tokens, positions), None
            case _:
                pass
    return observe_plain(scheme, subkeys, tokens, positions)


def observe_plain(
    scheme: Scheme,
    subkeys: Sequence[bytes],
    tokens: Any,  # noqa: ANN401 - NumPy or torch
    positions: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """The reference: the scheme's own functions, on NumPy arrays or on torch tensors of any device."""
    width = scheme.inputs.width
    index = positions[:, None] + (positions.new_tensor if hasattr(positions, "new_tensor") else np.array)(
        list(range(-width, 1))
    )
    return scheme.observe(list(subkeys), tokens[index])
