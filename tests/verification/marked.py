"""Marked texts without a model: of a handful of random tokens, each place takes the one that the mark likes best."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from watermarks.schemes import Gumbel, Kgw, Tournament, Unigram

if TYPE_CHECKING:
    from watermarks.schemes import Scheme

SCHEMES: dict[str, Scheme] = {
    "kgw": Kgw(),
    "self-salted": Kgw(self_salt=True, context_width=4),
    "unigram": Unigram(),
    "gumbel": Gumbel(),
    "dual-key": Gumbel(alpha=0.1),
    "tournament": Tournament(),
}
STATISTICS = [(name, statistic) for name, scheme in SCHEMES.items() for statistic in scheme.statistics]


def marked(
    scheme: Scheme,
    subkey: bytes,
    *,
    texts: int = 10,
    length: int = 40,
    seed: int = 0,
    vocabulary: int | tuple[int, ...] = 50_000,
    choices: int = 16,
) -> list[list[int]]:
    """Texts of ``length`` tokens, the scheme's first ones unmarked for want of context."""
    return [[*text] for text in _marked(scheme, subkey, texts, length, seed, vocabulary, choices)]


@cache
def _marked(
    scheme: Scheme, subkey: bytes, texts: int, length: int, seed: int, vocabulary: int | tuple[int, ...], choices: int
) -> list[list[int]]:
    rng, width = np.random.default_rng(seed), scheme.inputs.width
    tokens = rng.choice(vocabulary, (texts, width))
    while tokens.shape[1] < length:
        candidates = rng.choice(vocabulary, (texts, choices))
        contexts = np.repeat(tokens[:, None, tokens.shape[1] - width :], choices, axis=1)
        draws, _ = scheme.observe(subkey, np.concatenate([contexts, candidates[..., None]], axis=-1))
        best = scheme.worth(draws, scheme.statistics[0]).argmax(-1)
        tokens = np.concatenate([tokens, candidates[np.arange(texts), best][:, None]], axis=1)
    return tokens.tolist()


def unmarked(*, texts: int = 10, length: int = 40, seed: int = 1) -> list[list[int]]:
    """Texts that no key has to do with."""
    return np.random.default_rng(seed).integers(0, 50_000, (texts, length)).tolist()
