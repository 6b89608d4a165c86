"""Text is what a detector is given, and text may tokenise otherwise than it was generated: how much is lost by that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watermarks.schemes import Sliding


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Distinct PRF inputs of generated tokens, and how many of them the text no longer holds."""

    windows: int
    lost: int

    @property
    def rate(self) -> float:
        """Share of the inputs that is lost; 0 where there are none."""
        return self.lost / self.windows if self.windows else 0.0


def mismatch(generated: Sequence[Sequence[int]], retokenised: Sequence[Sequence[int]], inputs: Sliding) -> Mismatch:
    """Compares, text by text, the tokens that were drawn with those that the text gives.

    Raises:
        UsageError: lists of different lengths.
    """
    if len(generated) != len(retokenised):
        raise UsageError(f"got {len(generated)} generated and {len(retokenised)} tokenised texts, expected pairs")
    windows = lost = 0
    for drawn, read in zip(generated, retokenised, strict=True):
        before, after = (_windows(tokens, inputs.width) for tokens in (drawn, read))
        windows += len(before)
        lost += len(before - after)
    return Mismatch(windows=windows, lost=lost)


def _windows(tokens: Sequence[int], width: int) -> set[tuple[int, ...]]:
    return {tuple(tokens[i - width : i + 1]) for i in range(width, len(tokens))}
