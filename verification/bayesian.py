"""A Bayesian score for ``tournament`` (Dathathri et al., Nature 634, 2024, supplementary), for ranking only.

How often a layer's bit is 1 in marked text depends on how often two different tokens met there, which the layers before
tell something about. The likelihood is fitted on marked text; the score of a text is its log-likelihood ratio against
fair bits. It has no exact law: its p-value is the rank among keys that marked nothing, it can never be below
1 / (keys + 1), and it decides nothing in an audit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special

from countermark.errors import InconclusiveError
from verification.detect import as_corpus
from verification.statistics import rank_p
from watermarks.kernels.observe import observe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verification.corpus import Corpus
    from watermarks.schemes import Tournament

BETA_PRIOR = -2.5
"""Prior mean of the intercepts, and where the fit begins: different tokens seldom meet."""
RIDGE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """A score among the scores of wrong keys. ``rank_p`` is exact if the key is exchangeable with them."""

    score: float
    others: tuple[float, ...]
    rank_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BayesianScore:
    """P(bit l is 1 | marked, bits before) = 1/2 + 1/4 · sigmoid(``beta[l]`` + ``delta[l]`` · bits before).

    Args:
        beta: intercept of each layer, ``[m]``.
        delta: weight of each earlier layer's bit, ``[m, m]``, strictly lower triangular.
    """

    beta: tuple[float, ...]
    delta: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, texts: Corpus | Sequence[Sequence[int]], scheme: Tournament, subkey: bytes) -> BayesianScore:
        """Fits the likelihood to text marked under ``subkey``, each distinct input of a text once.

        Raises:
            InconclusiveError: nothing in the texts can be scored.
        """
        bits = _bits(texts, scheme, [subkey])[0].astype(float)
        if not len(bits):
            raise InconclusiveError("got texts without a counted input, expected marked text to fit to")
        fitted = [_fit_layer(bits[:, :layer], bits[:, layer]) for layer in range(scheme.layers)]
        delta = tuple(tuple(weights) + (0.0,) * (scheme.layers - layer) for layer, (_, weights) in enumerate(fitted))
        return cls(beta=tuple(beta for beta, _ in fitted), delta=delta)

    def log_odds(self, bits: NDArray[np.int64]) -> NDArray[np.float64]:
        """Ln of P(bits | marked) / P(bits | fair) of each token; bits ``[..., N, m]`` give ``[..., N]``."""
        one = 0.5 + 0.25 * special.expit(np.array(self.beta) + bits @ np.array(self.delta).T)
        ratios: NDArray[np.float64] = np.log(2.0 * np.where(bits == 1, one, 1.0 - one)).sum(-1)
        return ratios

    def rank(
        self, texts: Corpus | Sequence[Sequence[int]], scheme: Tournament, subkey: bytes, wrong: Sequence[bytes]
    ) -> Ranking:
        """The score of ``texts`` under ``subkey``, among the scores under ``wrong`` sub-keys.

        Raises:
            InconclusiveError: nothing can be scored, or there are no wrong keys.
        """
        bits = _bits(texts, scheme, [subkey, *wrong])
        if not bits.shape[1]:
            raise InconclusiveError("got texts without a counted input, expected at least one")
        mine, *others = (float(self.log_odds(row).sum()) for row in bits)
        return Ranking(score=mine, others=tuple(others), rank_p=rank_p(mine, others))

    def to_json(self) -> dict[str, Any]:
        return {"beta": list(self.beta), "delta": [list(row) for row in self.delta]}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> BayesianScore:
        """The score of :meth:`to_json`."""
        return cls(beta=tuple(body["beta"]), delta=tuple(tuple(row) for row in body["delta"]))


def _bits(texts: Corpus | Sequence[Sequence[int]], scheme: Tournament, subkeys: Sequence[bytes]) -> NDArray[np.int64]:
    """The layer bits of the corpus's distinct inputs: ``[K, N, m]``."""
    corpus = as_corpus(texts)
    counted = corpus.counted(scheme.inputs)
    draws, _ = observe(scheme, subkeys, corpus.tokens, counted.positions[counted.corpus])
    return (draws[..., None] >> np.arange(scheme.layers)) & 1


def _fit_layer(before: NDArray[np.float64], bit: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Maximum a posteriori of one layer: intercept and weights of the layers before, with a ridge around the prior."""
    prior = np.concatenate([[BETA_PRIOR], np.zeros(before.shape[1])])
    inputs = np.column_stack([np.ones(len(bit)), before])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        s = special.expit(inputs @ weights)
        one = 0.5 + 0.25 * s
        off = weights - prior
        value = -np.log(np.where(bit == 1, one, 1.0 - one)).sum() + 0.5 * RIDGE * off @ off
        slope = np.where(bit == 1, -1.0 / one, 1.0 / (1.0 - one)) * 0.25 * s * (1.0 - s)
        return value, inputs.T @ slope + RIDGE * off

    best = optimize.minimize(loss, prior, jac=True, method="L-BFGS-B").x
    return float(best[0]), best[1:]
