"""``unigram``: one fixed green list a key (Zhao et al., arXiv 2306.17439).

Every token is hashed by SipHash itself, with no expansion. The list of one key can be learnt from enough text of that
key, so give each customer a key of its own (a scope of the sub-key): a text is then traced by trying all of them.

A fixed list counts each *token* once, or weighted by a function of its count in the text; counting every occurrence, as
the paper's z-score does, takes the same coin for many.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from watermarks import prf
from watermarks.schemes.base import Sliding, check_green, check_statistic, register, threshold
from watermarks.schemes.laws import TWO32, BinomialLaw, CountLaw

if TYPE_CHECKING:
    from collections.abc import Sequence


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Unigram:
    """Soft green list without context.

    Statistics: ``unique`` is binomial over the distinct tokens; ``counts`` weighs each by the root of its count, which
    keeps more of the signal in long text and is as exact (:class:`CountLaw`).

    Args:
        gamma: share of the vocabulary on the green list, in (0, 1).
        delta: bias in logits, above 0.
        order: ``after`` temperature and truncation, or ``before`` them.
    """

    name: ClassVar[str] = "unigram"
    samples: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ("unique", "counts")
    count_statistic: ClassVar[str] = "unique"
    gamma: float = 0.5
    delta: float = 2.0
    order: str = "after"

    def __post_init__(self) -> None:
        check_green(self.gamma, self.delta, self.order)

    @property
    def inputs(self) -> Sliding:
        return Sliding(width=0)

    def params(self) -> dict[str, Any]:
        return asdict(self)

    def draws(self, subkey: bytes, contexts: Any, tokens: Any) -> Any:  # noqa: ANN401
        del contexts
        return prf.list_draws(subkey, tokens)

    def observe(self, subkey: bytes | Sequence[bytes], windows: Any) -> tuple[Any, Any]:  # noqa: ANN401
        return prf.list_draws(subkey, windows[..., 0]), None

    def bend(self, scores: Any, draws: Any) -> Any:  # noqa: ANN401 - torch tensors, without importing torch
        return scores + (draws < threshold(self.gamma)).to(scores.dtype) * self.delta

    def worth(self, draws: Any, statistic: str) -> Any:  # noqa: ANN401
        check_statistic(self, statistic)
        return (draws < threshold(self.gamma)) * 1

    def law(self, statistic: str) -> BinomialLaw | CountLaw:
        check_statistic(self, statistic)
        p = threshold(self.gamma) / TWO32
        return CountLaw(p=p) if statistic == "counts" else BinomialLaw(p=p)
