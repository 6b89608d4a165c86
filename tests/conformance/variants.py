"""Which schemes the conformance suite runs on: every registered one, under the parameters listed here.

A scheme that is registered and not listed is tested with its defaults; nothing else has to be written for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from verification.detect import detect
from watermarks.adapters.hf import mark_step, row_generator, sample_rows
from watermarks.schemes import make_scheme, scheme_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from verification.detect import TokenEvidence
    from watermarks.schemes import Scheme

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "gumbel": [{"context_width": 2}, {}, {"alpha": 0.1}],
    "kgw": [{}, {"context_width": 1}, {"context_width": 4, "self_salt": True}, {"hard": True}, {"order": "before"}],
    "tournament": [{}, {"layers": 7}, {"layers": 1}],
    "unigram": [{}],
}


def variants() -> list[Scheme]:
    """Every registered scheme under each of its parameter sets."""
    return [make_scheme(name, params) for name in scheme_names() for params in VARIANTS.get(name, [{}])]


def label(scheme: Scheme) -> str:
    """The name and the parameters that are not defaults, for test ids."""
    usual = make_scheme(scheme.name, {}).params()
    return "-".join([scheme.name, *(f"{k}={v}" for k, v in scheme.params().items() if v != usual[k])])


SCHEMES = variants()
SAMPLING = [scheme for scheme in SCHEMES if scheme.samples]
BIASING = [scheme for scheme in SCHEMES if not scheme.samples]
SEEDED = [scheme for scheme in SCHEMES if scheme.inputs.width]
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=label)
sampling_schemes = pytest.mark.parametrize("scheme", SAMPLING, ids=label)
biasing_schemes = pytest.mark.parametrize("scheme", BIASING, ids=label)
seeded_schemes = pytest.mark.parametrize("scheme", SEEDED, ids=label)
every_statistic = pytest.mark.parametrize(
    ("scheme", "statistic"),
    [pytest.param(s, name, id=f"{label(s)}-{name}") for s in SCHEMES for name in s.statistics],
)


def fixed_texts() -> dict[str, list[int]]:
    """Texts like real ones: random, Zipf-distributed, built of repeated phrases; and one of few words in many orders,
    whose windows differ where their pairs of tokens do not.
    """
    rng = np.random.default_rng(7)
    phrases = [rng.integers(0, 30, 6).tolist() for _ in range(6)]
    return {
        "uniform": rng.integers(0, 50_000, 70).tolist(),
        "zipf": np.minimum(rng.zipf(1.3, 150), 400).tolist(),
        "phrases": [t for i in rng.integers(0, 6, 30) for t in phrases[i]],
        "few words": rng.integers(0, 8, 150).tolist(),
    }


def flat_scores(rows: int, width: int, seed: int) -> torch.Tensor:
    """Scores of a model that knows many ways to go on."""
    return 0.7 * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def written(scheme: Scheme, subkey: bytes, *, rows: int = 3, length: int = 120, width: int = 500) -> list[list[int]]:
    """Texts sampled under the mark, ``length`` tokens after a prompt of six that is left out."""
    ids = torch.from_numpy(np.random.default_rng(3).integers(0, width, (rows, 6)))
    draws = [row_generator(row) for row in range(rows)]
    for step in range(length):
        scores = mark_step(scheme, subkey, ids, flat_scores(rows, width, step), start=6)
        ids = torch.cat([ids, sample_rows(scores, [draw.random() for draw in draws])[:, None]], 1)
    return ids[:, 6:].tolist()


def evidence(texts: Sequence[Sequence[int]], scheme: Scheme, subkey: bytes, **how: Any) -> list[list[TokenEvidence]]:
    """Everything that detection says, under every statistic: that of each text, then that of the corpus."""
    found = (detect(texts, scheme, subkey, statistic=statistic, **how) for statistic in scheme.statistics)
    return [[*each, corpus] for each, corpus in found]


def same(scheme: Scheme, got: torch.Tensor, wanted: torch.Tensor, *, atol: float = 1e-5) -> bool:
    """Biased scores agree bit by bit; those to sample from agree in what they give each token."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if not scheme.samples:
        return torch.equal(got, wanted)
    return torch.allclose(got.double().softmax(-1), wanted.double().softmax(-1), rtol=0.0, atol=atol)


def flipped(words: Iterable[int], place: int, bit: int) -> list[int]:
    """Words of which one has one bit flipped."""
    return [word ^ (1 << bit if i == place else 0) for i, word in enumerate(words)]
