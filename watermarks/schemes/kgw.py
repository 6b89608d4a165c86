"""``kgw``: the green list (Kirchenbauer et al., arXiv 2301.10226), soft, hard and self-salted, any context width.

* Soft (Algorithm 2): ``delta`` is added to the scores of a keyed ``gamma`` share of the vocabulary.
* Hard (Algorithm 1): the rest, the red list, is forbidden.
* ``self_salt`` (Algorithm 3, *private watermarking*; arXiv 2306.04634): each candidate chooses its anchor among the h
  tokens before it, the one that minimises F(candidate, anchor), and the colour is a second, independent output on that
  pair. A candidate keeps its colour as long as its anchor stays, whatever happens to the other context tokens.

The list is drawn token by token, so its size is Binomial(V, gamma) and not exactly gamma·V: membership is independent
across tokens, one membership costs O(1), and the law of the green count is exactly binomial.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from countermark.errors import UsageError
from watermarks import prf
from watermarks.schemes.base import Sliding, check_green, check_statistic, check_width, register, threshold
from watermarks.schemes.laws import TWO32, BinomialLaw

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOUR = 1
"""PRF stream of the self-salted colour; stream 0 chooses the anchor."""


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Kgw:
    """Green list of a ``gamma`` share of the vocabulary, seeded by the ``context_width`` tokens before.

    Args:
        gamma: share of the vocabulary on the green list, in (0, 1).
        delta: bias in logits, above 0. Without effect, and not to be set, if ``hard``.
        context_width: h, the number of tokens before the scored one that seed the list, at least 1 (a list without
            context is ``unigram``, with another way of counting).
        hard: forbid the red list. A position where every candidate is red is left unmarked: there is nothing to choose.
        self_salt: each candidate is salted by itself and one of the h tokens.
        order: ``after`` temperature and truncation, or ``before`` them.
    """

    name: ClassVar[str] = "kgw"
    samples: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ("green",)
    count_statistic: ClassVar[str] = "green"
    gamma: float = 0.25
    delta: float = 2.0
    context_width: int = 2
    hard: bool = False
    self_salt: bool = False
    order: str = "after"

    def __post_init__(self) -> None:
        check_green(self.gamma, self.delta, self.order)
        check_width("context_width", self.context_width)
        if self.hard and self.delta != Kgw.__dataclass_fields__["delta"].default:
            raise UsageError(f"got delta {self.delta} with hard, expected none", hint="a hard list has no bias")

    @property
    def inputs(self) -> Sliding:
        return Sliding(width=self.context_width, once="input" if self.self_salt else "window")

    def params(self) -> dict[str, Any]:
        return asdict(self)

    def draws(self, subkey: bytes, contexts: Any, tokens: Any) -> Any:  # noqa: ANN401
        if self.self_salt:
            return _anchored(subkey, contexts, tokens)[1]
        return prf.draws(subkey, contexts, tokens)

    def observe(self, subkey: bytes | Sequence[bytes], windows: Any) -> tuple[Any, Any]:  # noqa: ANN401
        contexts, tokens = windows[..., :-1], windows[..., -1]
        if not self.self_salt:
            return prf.draws(subkey, contexts, tokens), None
        anchors, colours = _anchored(subkey, contexts, tokens)
        return colours, (anchors << 32) | tokens

    def bend(self, scores: Any, draws: Any) -> Any:  # noqa: ANN401 - torch tensors, without importing torch
        green = draws < threshold(self.gamma)
        return forbid(scores, green) if self.hard else scores + green.to(scores.dtype) * self.delta

    def worth(self, draws: Any, statistic: str) -> Any:  # noqa: ANN401
        check_statistic(self, statistic)
        return (draws < threshold(self.gamma)) * 1

    def law(self, statistic: str) -> BinomialLaw:
        check_statistic(self, statistic)
        return BinomialLaw(p=threshold(self.gamma) / TWO32)


def forbid(scores: Any, green: Any) -> Any:  # noqa: ANN401
    """Scores with the red list masked, but for rows that would have nothing left."""
    bent = scores.masked_fill(~green, float("-inf"))
    empty = (bent == float("-inf")).all(-1, keepdim=True)
    return scores.where(empty, bent)


def _anchored(subkey: bytes | Sequence[bytes], contexts: Any, tokens: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The anchor token of each candidate and the colour draw of that pair; on a tie the earliest context token wins."""
    best = anchor = colour = None
    for i in range(contexts.shape[-1]):
        one = contexts[..., i : i + 1]
        value = prf.draws(subkey, one, tokens)
        painted = prf.draws(subkey, one, tokens, COLOUR)
        token = one[..., 0] + value * 0
        if best is None:
            best, anchor, colour = value, token, painted
            continue
        better = (value < best) * 1
        best, anchor, colour = (
            old + better * (new - old) for old, new in ((best, value), (anchor, token), (colour, painted))
        )
    return anchor, colour
