"""Generation kernels for CUDA in Triton: logits are read once, draws are made in registers, nothing V-sized is stored
but the marked scores.

Colours and draws are the bits of :mod:`watermarks.prf`. The seeds of the few context tokens are hashed by the plain
torch path, on the device. See README for what has been run on a GPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from watermarks import prf
from watermarks.schemes import Gumbel, Kgw, Tournament
from watermarks.schemes.base import threshold
from watermarks.schemes.gumbel import SECOND
from watermarks.schemes.kgw import COLOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from watermarks.schemes import Scheme

BLOCK = 1024
SMALL = tl.constexpr(1e-3)


@triton.jit
def _mix32(x):
    x = x ^ (x >> 16)
    x = x * 0x21F0AAAD
    x = x ^ (x >> 15)
    x = x * 0x735A2D97
    return x ^ (x >> 15)


@triton.jit
def _draw(token, lo, hi):
    """``h(token)`` as an unsigned 32-bit integer."""
    return _mix32(_mix32((token.to(tl.uint32) * 0x9E3779B1) ^ lo) ^ hi)


@triton.jit
def _bias(scores, out, lo, hi, limit, delta, width, stride, BLOCK: tl.constexpr):
    row, token = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = token < width
    low, high = tl.load(lo + row).to(tl.uint32), tl.load(hi + row).to(tl.uint32)
    score = tl.load(scores + row * stride + token, mask=inside, other=float("-inf"))
    green = _draw(token, low, high).to(tl.int64) < limit
    tl.store(out + row * stride + token, (score + tl.where(green, delta, 0.0)).to(score.dtype), mask=inside)


@triton.jit
def _anchored(
    scores, out, lo, hi, colour_lo, colour_hi, limit, delta, width, stride, H: tl.constexpr, BLOCK: tl.constexpr
):
    row, token = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = token < width
    score = tl.load(scores + row * stride + token, mask=inside, other=float("-inf"))
    best = _draw(token, tl.load(lo + row * H).to(tl.uint32), tl.load(hi + row * H).to(tl.uint32))
    low = tl.zeros([BLOCK], tl.uint32) + tl.load(colour_lo + row * H).to(tl.uint32)
    high = tl.zeros([BLOCK], tl.uint32) + tl.load(colour_hi + row * H).to(tl.uint32)
    for i in tl.static_range(1, H):
        value = _draw(token, tl.load(lo + row * H + i).to(tl.uint32), tl.load(hi + row * H + i).to(tl.uint32))
        better = value < best
        best = tl.where(better, value, best)
        low = tl.where(better, tl.load(colour_lo + row * H + i).to(tl.uint32), low)
        high = tl.where(better, tl.load(colour_hi + row * H + i).to(tl.uint32), high)
    green = _draw(token, low, high).to(tl.int64) < limit
    tl.store(out + row * stride + token, (score + tl.where(green, delta, 0.0)).to(score.dtype), mask=inside)


@triton.jit
def _block_best(scores, best, where, lo, hi, width, stride, blocks, BLOCK: tl.constexpr):
    """The best token of each block; a second, small reduction over blocks is left to torch."""
    row, block = tl.program_id(0), tl.program_id(1)
    token = block * BLOCK + tl.arange(0, BLOCK)
    inside = token < width
    score = tl.load(scores + row * stride + token, mask=inside, other=float("-inf")).to(tl.float64)
    draw = _draw(token, tl.load(lo + row).to(tl.uint32), tl.load(hi + row).to(tl.uint32))
    w = (draw.to(tl.float64) + 0.5) * 2.3283064365386963e-10
    # -log1p(-w) without a log1p: the series where w is small and log(1 - w) loses digits
    series = w * (1.0 + w * (0.5 + w * (1.0 / 3.0 + w * (0.25 + w * 0.2))))
    e = tl.where(w < SMALL, series, -tl.log(1.0 - w))
    value = tl.where(inside, score - tl.log(e), float("-inf"))
    top = tl.max(value, 0)
    tl.store(best + row * blocks + block, top)
    tl.store(where + row * blocks + block, tl.min(tl.where(value == top, token, width), 0))


def kernel_of(scheme: Scheme) -> Callable[..., torch.Tensor] | None:
    """The kernel of a scheme, or None where plain torch serves (a hard list, a fixed list)."""
    return None if getattr(scheme, "hard", False) else _KERNELS.get(type(scheme))


def _seeds(subkey: bytes, contexts: torch.Tensor, stream: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    lo, hi = prf.split(prf.siphash_words(subkey, contexts.long(), stream))
    return lo.contiguous(), hi.contiguous()


def _kgw(scheme: Kgw, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    source = scores.contiguous()
    out = torch.empty_like(source)
    rows, width = source.shape
    grid, limit = (rows, triton.cdiv(width, BLOCK)), threshold(scheme.gamma)
    if scheme.self_salt:
        (lo, hi), (clo, chi) = (_seeds(subkey, contexts[:, :, None], stream) for stream in (0, COLOUR))
        h = scheme.context_width
        _anchored[grid](source, out, lo, hi, clo, chi, limit, scheme.delta, width, source.stride(0), H=h, BLOCK=BLOCK)
    else:
        lo, hi = _seeds(subkey, contexts)
        _bias[grid](source, out, lo, hi, limit, scheme.delta, width, source.stride(0), BLOCK=BLOCK)
    return out


def _choose(subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor, stream: int) -> torch.Tensor:
    rows, width = scores.shape
    blocks = triton.cdiv(width, BLOCK)
    best = torch.empty(rows, blocks, dtype=torch.float64, device=scores.device)
    where = torch.empty(rows, blocks, dtype=torch.int64, device=scores.device)
    lo, hi = _seeds(subkey, contexts, stream)
    _block_best[(rows, blocks)](scores, best, where, lo, hi, width, scores.stride(0), blocks, BLOCK=BLOCK)
    return where.gather(1, best.argmax(-1, keepdim=True))


def _gumbel(scheme: Gumbel, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    source = scores.contiguous()
    out = torch.full_like(source, float("-inf"))
    first = _choose(subkey, contexts, source, 0)
    if not scheme.alpha:
        return out.scatter_(1, first, 0.0)
    second = _choose(subkey, contexts, source, SECOND)
    out.scatter_(1, second, math.log(scheme.alpha))
    one = torch.where(first == second, 0.0, math.log1p(-scheme.alpha)).to(out.dtype)
    return out.scatter_(1, first, one)


def _tournament(scheme: Tournament, subkey: bytes, contexts: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Ten layers at a time on the masses of their bit patterns, as on the CPU; torch scatters and gathers."""
    lo, hi = _seeds(subkey, contexts)
    tokens = torch.arange(scores.shape[1], device=scores.device)
    draws = prf.expand(lo[:, None], hi[:, None], tokens[None, :])
    mass, gain = scores.float().softmax(-1), torch.zeros_like(scores, dtype=torch.float32)
    for begin in range(0, scheme.layers, 10):
        pattern = (draws >> begin) & 1023
        held = torch.zeros(len(scores), 1024, device=scores.device).scatter_add_(1, pattern, mass)
        factor = _layers(held, min(10, scheme.layers - begin)).gather(1, pattern)
        mass, gain = mass * factor, gain + factor.log()
    return (scores.float() + gain).to(scores.dtype)


def _layers(held: torch.Tensor, layers: int) -> torch.Tensor:
    """The factor of every pattern after so many layers."""
    bits = torch.arange(held.shape[1], device=held.device)
    factor = torch.ones_like(held)
    for layer in range(layers):
        g = ((bits >> layer) & 1).to(held.dtype)
        step = (1.0 - (held * g).sum(-1, keepdim=True) + g).clamp(min=0.0)
        held, factor = held * step, factor * step
    return factor


_KERNELS: dict[type, Callable[..., Any]] = {Kgw: _kgw, Gumbel: _gumbel, Tournament: _tournament}
