"""``kgw``: the soft green list (Kirchenbauer et al., arXiv 2301.10226, Algorithm 2), with any context width.

The list is drawn token by token, so its size is Binomial(V, gamma) and not exactly gamma·V: membership is independent
across tokens, one membership costs O(1), and the law of the green count is exactly binomial.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from countermark.errors import UsageError
from watermarks.schemes.base import TWO32, BinomialLaw, register, threshold

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CONTEXT_WIDTH = 16


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Kgw:
    """Soft green list: ``delta`` is added to the scores of a keyed ``gamma`` share of the vocabulary.

    Args:
        gamma: share of the vocabulary on the green list, in (0, 1).
        delta: bias in logits, above 0.
        context_width: h, the number of tokens before the scored one that seed the list, at least 1 (a list without
            context is another scheme, with another way of counting).
    """

    name: ClassVar[str] = "kgw"
    gamma: float = 0.25
    delta: float = 2.0
    context_width: int = 2

    def __post_init__(self) -> None:
        if not 0.0 < self.gamma < 1.0 or threshold(self.gamma) == 0:
            raise UsageError(f"got gamma {self.gamma}, expected a number between 0 and 1")
        if not 0.0 < self.delta < float("inf"):
            raise UsageError(f"got delta {self.delta}, expected a finite number above 0")
        if not isinstance(self.context_width, int) or not 1 <= self.context_width <= MAX_CONTEXT_WIDTH:
            raise UsageError(f"got context_width {self.context_width}, expected 1 to {MAX_CONTEXT_WIDTH}")

    def params(self) -> dict[str, Any]:
        return asdict(self)

    def bend(self, scores: Any, draws: Any) -> Any:  # noqa: ANN401 - torch tensors, without importing torch
        green = draws < threshold(self.gamma)
        return scores + green.to(scores.dtype) * self.delta

    def worth(self, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        return (draws < threshold(self.gamma)).astype(np.int64)

    def law(self) -> BinomialLaw:
        return BinomialLaw(p=threshold(self.gamma) / TWO32)
