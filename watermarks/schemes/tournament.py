"""``tournament``: SynthID-Text (Dathathri et al., Nature 634, 2024), two leaves, non-distortionary.

Each layer draws one bit a token. In layer l two samples meet, and the one with the larger bit goes on (a tie is
tossed), which takes p(x) to p(x)·(1 + g(x) - Σ g p). Over keys the layers leave p as it was. All bits of a token come
from its one draw: layer l reads bit l.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from watermarks import prf
from watermarks.schemes.base import Sliding, check_statistic, check_width, register
from watermarks.schemes.laws import BinomialLaw, LatticeLaw

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LAYERS = 32


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Tournament:
    """m two-leaf tournament layers.

    Statistics: ``weighted`` sums the bits with the paper's weights, falling from 10 to 1, rounded to integers; ``mean``
    sums them unweighted. A Bayesian score has no exact law and ranks only (:mod:`verification.bayesian`).

    Args:
        layers: m, 1 to 32.
        context_width: h, the number of tokens before that seed the bits.
    """

    name: ClassVar[str] = "tournament"
    samples: ClassVar[bool] = True
    statistics: ClassVar[tuple[str, ...]] = ("weighted", "mean")
    count_statistic: ClassVar[str] = "mean"
    layers: int = 30
    context_width: int = 4

    def __post_init__(self) -> None:
        check_width("layers", self.layers, high=MAX_LAYERS)
        check_width("context_width", self.context_width)

    @property
    def inputs(self) -> Sliding:
        return Sliding(width=self.context_width, once="context")

    @property
    def order(self) -> str:
        return "after"

    @property
    def weights(self) -> tuple[int, ...]:
        """The paper's ``linspace(10, 1, m)``, rounded to integers: the law then lives on a small lattice."""
        last = max(self.layers - 1, 1)
        return tuple((20 * last - 18 * layer + last) // (2 * last) for layer in range(self.layers))

    def params(self) -> dict[str, Any]:
        return asdict(self)

    def draws(self, subkey: bytes, contexts: Any, tokens: Any) -> Any:  # noqa: ANN401
        return prf.draws(subkey, contexts, tokens)

    def observe(self, subkey: bytes | Sequence[bytes], windows: Any) -> tuple[Any, Any]:  # noqa: ANN401
        return prf.draws(subkey, windows[..., :-1], windows[..., -1]), None

    def bend(self, scores: Any, draws: Any) -> Any:  # noqa: ANN401 - torch tensors, without importing torch
        p = scores.float().softmax(-1)
        for layer in range(self.layers):
            g = ((draws >> layer) & 1).to(p.dtype)
            p = (p * (1.0 + g - (g * p).sum(-1, keepdim=True))).clamp(min=0.0)  # sums may round above 1
        return p.log().to(scores.dtype)

    def worth(self, draws: Any, statistic: str) -> Any:  # noqa: ANN401
        check_statistic(self, statistic)
        weights = self.weights if statistic == "weighted" else (1,) * self.layers
        total = draws & 0
        for layer, weight in enumerate(weights):
            total = total + ((draws >> layer) & 1) * weight
        return total

    def law(self, statistic: str) -> BinomialLaw | LatticeLaw:
        check_statistic(self, statistic)
        if statistic == "mean":
            return BinomialLaw(p=0.5, trials=self.layers)
        return LatticeLaw(p=0.5, weights=self.weights)
