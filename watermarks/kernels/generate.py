"""Which kernel marks the scores: numba on the CPU, Triton on CUDA, else the scheme's own functions."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from watermarks import prf
from watermarks.schemes import Gumbel, Kgw, Tournament, Unigram
from watermarks.schemes.base import threshold
from watermarks.schemes.gumbel import SECOND
from watermarks.schemes.kgw import COLOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from watermarks.schemes import Scheme


TRITON = find_spec("triton") is not None


def mark(scheme: Scheme, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Marked scores ``[B, V]`` from scores and contexts ``[B, h]`` of the same device; the input stays as it was."""
    kernel = _kernel(scheme, scores)
    return kernel(scheme, subkey, contexts, scores) if kernel else mark_plain(scheme, subkey, contexts, scores)


def mark_plain(scheme: Scheme, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """The reference: the scheme's own draws and bend, in plain torch, on any device."""
    tokens = torch.arange(scores.shape[-1], device=scores.device)
    draws = scheme.draws(subkey, contexts[:, None, :].long(), tokens[None, :])
    return scheme.bend(scores, draws)


def _kernel(scheme: Scheme, scores: torch.Tensor) -> Callable[..., torch.Tensor] | None:
    if scores.device.type == "cpu" and scores.dtype == torch.float32:
        return None if getattr(scheme, "hard", False) else _CPU.get(type(scheme))
    if scores.device.type == "cuda" and TRITON:
        from watermarks.kernels.triton import kernel_of

        return kernel_of(scheme)
    return None


def seeds_of(subkey: bytes, contexts: NDArray[np.int64], stream: int = 0) -> tuple[Any, Any]:
    """The expansion's seeds as unsigned 32-bit halves."""
    from watermarks.kernels import detect

    return detect.seeds(prf.key_words([subkey])[0], contexts, stream)


def _kgw(scheme: Kgw, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    from watermarks.kernels import cpu

    ids, source, out, threads = _arrays(contexts, scores)
    limit = threshold(scheme.gamma)
    if scheme.self_salt:
        anchors, colours = seeds_of(subkey, ids[:, :, None]), seeds_of(subkey, ids[:, :, None], COLOUR)
        cpu.add_anchored_bias(anchors, colours, limit, scheme.delta, source, out.numpy(), threads)
    else:
        cpu.add_bias(seeds_of(subkey, ids), limit, scheme.delta, source, out.numpy(), threads)
    return out


def _unigram(scheme: Unigram, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    del contexts
    return scores.detach() + _list_bias(scheme, subkey, scores.shape[1])


def _gumbel(scheme: Gumbel, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    from watermarks.kernels import cpu

    ids, source, out, threads = _arrays(contexts, scores)
    out.fill_(float("-inf"))
    rows, first = np.arange(len(ids)), cpu.choose(seeds_of(subkey, ids), source, threads)
    if not scheme.alpha:
        out.numpy()[rows, first] = 0.0
        return out
    second = cpu.choose(seeds_of(subkey, ids, SECOND), source, threads)
    out.numpy()[rows, first] = math.log1p(-scheme.alpha)
    out.numpy()[rows, second] = np.where(first == second, 0.0, math.log(scheme.alpha))
    return out


def _tournament(scheme: Tournament, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    from watermarks.kernels import cpu

    ids, source, out, threads = _arrays(contexts, scores)
    p = scores.softmax(-1).numpy()
    cpu.play(seeds_of(subkey, ids), scheme.layers, p, source, out.numpy(), threads)
    return out


_CPU: dict[type, Callable[..., torch.Tensor]] = {
    Kgw: _kgw,
    Unigram: _unigram,
    Gumbel: _gumbel,
    Tournament: _tournament,
}


def _arrays(contexts: torch.Tensor, scores: torch.Tensor) -> tuple[Any, Any, torch.Tensor, int]:
    source = scores.detach().contiguous()
    return contexts.long().numpy(), source.numpy(), torch.empty_like(source), torch.get_num_threads()


class _Lists:
    """Biases of the few fixed lists in use: hashing a vocabulary once a token would be a waste."""

    def __init__(self, size: int = 8) -> None:
        self._size = size
        self._known: dict[tuple[Unigram, bytes, int], torch.Tensor] = {}

    def __call__(self, scheme: Unigram, subkey: bytes, vocab_size: int) -> torch.Tensor:
        where = (scheme, subkey, vocab_size)
        if where not in self._known:
            drawn = prf.list_draws(subkey, np.arange(vocab_size))
            bias = torch.from_numpy((drawn < threshold(scheme.gamma)).astype(np.float32) * np.float32(scheme.delta))
            if len(self._known) >= self._size:
                self._known.pop(next(iter(self._known)))
            self._known[where] = bias
        return self._known[where]


_list_bias = _Lists()
