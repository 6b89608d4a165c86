"""``gumbel``: Aaronson's exponential scheme (2022 talk; exact test of Fernandez et al., arXiv 2308.00113).

Among the tokens that temperature and truncation left, choose the one that minimises E/p, where E is an exponential
variable drawn by the key: over keys that is a sample of p itself. A chosen token tends to have a small E, so a small
draw, and is credited with the exponential variable -ln((draw + 1) / 2³²).

Dual key (``alpha`` > 0; TextSeal, arXiv 2605.12456, as serving engines have it): a second, independent set of draws
decides with probability alpha, by the sampler's own randomness, so that one prompt has many answers. The detector
weighs the two credits by 1 - alpha and alpha.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from countermark.errors import UsageError
from watermarks import prf
from watermarks.schemes.base import Sliding, check_statistic, check_width, register
from watermarks.schemes.laws import TWO32, BinomialLaw, GammaLaw

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIT = 2.0**-24
"""Credits are rounded down to this fixed point, so that sums are integers and depend on no order."""
SECOND = 1
"""PRF stream of the second key of the dual-key form."""


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Gumbel:
    """Keyed exponential sampling.

    Statistics: ``credit`` is at most Gamma(n, 1) (for dual keys: the weighted sum of two); ``half`` counts the tokens
    whose draw lies in the favoured half, for effect sizes.

    Args:
        context_width: h, the number of tokens before that seed the draws.
        alpha: probability that the second key decides, in [0, 0.5]. 0 is the single-key scheme.
    """

    name: ClassVar[str] = "gumbel"
    samples: ClassVar[bool] = True
    statistics: ClassVar[tuple[str, ...]] = ("credit", "half")
    count_statistic: ClassVar[str] = "half"
    context_width: int = 4
    alpha: float = 0.0

    def __post_init__(self) -> None:
        check_width("context_width", self.context_width)
        if not 0.0 <= self.alpha <= 0.5:  # noqa: PLR2004 - beyond one half the two keys trade places
            raise UsageError(f"got alpha {self.alpha}, expected 0 to 0.5")

    @property
    def inputs(self) -> Sliding:
        return Sliding(width=self.context_width, once="context")

    @property
    def order(self) -> str:
        return "after"

    def params(self) -> dict[str, Any]:
        return asdict(self)

    def draws(self, subkey: bytes, contexts: Any, tokens: Any) -> Any:  # noqa: ANN401
        return self._both(subkey, contexts, tokens)

    def observe(self, subkey: bytes | Sequence[bytes], windows: Any) -> tuple[Any, Any]:  # noqa: ANN401
        return self._both(subkey, windows[..., :-1], windows[..., -1]), None

    def _both(self, subkey: bytes | Sequence[bytes], contexts: Any, tokens: Any) -> Any:  # noqa: ANN401
        """Draws below 2³², or for dual keys first · 2³² + second as the bits of one integer."""
        first = prf.draws(subkey, contexts, tokens)
        return (first << 32) | prf.draws(subkey, contexts, tokens, SECOND) if self.alpha else first

    def bend(self, scores: Any, draws: Any) -> Any:  # noqa: ANN401 - torch tensors, without importing torch
        if not self.alpha:
            return scores.new_full(scores.shape, float("-inf")).scatter(-1, _chosen(scores, draws), 0.0)
        second, first = prf.split(draws)
        likely = scores.new_zeros(scores.shape).scatter(-1, _chosen(scores, first), 1.0 - self.alpha)
        other = scores.new_zeros(scores.shape).scatter(-1, _chosen(scores, second), self.alpha)
        return (likely + other).log()

    def worth(self, draws: Any, statistic: str) -> Any:  # noqa: ANN401
        check_statistic(self, statistic)
        second, first = prf.split(draws)
        if statistic == "half":
            return ((first if self.alpha else draws) < TWO32 // 2) * 1
        if not self.alpha:
            return _fixed(_credit(draws))
        return _fixed((1.0 - self.alpha) * _credit(first) + self.alpha * _credit(second))

    def law(self, statistic: str) -> BinomialLaw | GammaLaw:
        check_statistic(self, statistic)
        if statistic == "half":
            return BinomialLaw(p=0.5)
        return GammaLaw(unit=UNIT, scales=(1.0 - self.alpha, self.alpha) if self.alpha else (1.0,))


def _chosen(scores: Any, draws: Any) -> Any:  # noqa: ANN401
    """Argmin of E/p as argmax of log p - log E, with E = -log1p(-w), w = (draw + 1/2) / 2³²: precise for small E."""
    w = (draws.double() + 0.5) / TWO32
    value = scores.double() - (-((-w).log1p())).log()
    return value.argmax(-1, keepdim=True)


def _credit(draws: Any) -> Any:  # noqa: ANN401
    """-ln((draw + 1) / 2³²): never above the exponential variable of a continuous draw."""
    logs = (draws.double() + 1.0).log() if hasattr(draws, "double") else np.log(draws + 1.0)
    return 32.0 * math.log(2.0) - logs


def _fixed(credit: Any) -> Any:  # noqa: ANN401
    scaled = credit / UNIT
    return scaled.long() if hasattr(scaled, "long") else scaled.astype(np.int64)
