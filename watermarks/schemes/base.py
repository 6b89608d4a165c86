"""The protocol of a token-level scheme, and the registry.

A scheme is three short pure functions over the PRF's draws ``h(token)`` (integers below 2³²): how it bends the
next-token scores, what one observed token is worth, and the exact law of that worth when the key has nothing to do with
the text. Everything else (Hugging Face generation, detection, reports) comes for nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

TWO32 = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BinomialLaw:
    """Under an unrelated key, the sum over n distinct PRF inputs is Binomial(n, p), exactly (over keys)."""

    p: float


class Scheme(Protocol):
    """What every scheme offers. Instances are frozen values; equal parameters mean equal schemes."""

    name: ClassVar[str]

    @property
    def context_width(self) -> int:
        """h: how many tokens before the scored one enter the PRF."""

    def params(self) -> dict[str, Any]:
        """The parameters as plain JSON; they enter the sub-key's label, so other parameters mean another sub-key."""

    def bend(self, scores: Any, draws: Any) -> Any:  # noqa: ANN401 - torch tensors, without importing torch
        """Marked scores ``[B, V]`` from scores ``[B, V]`` and draws ``[B, V]``; masked (-inf) scores stay masked."""

    def worth(self, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        """What each observed token is worth, from its own draw; shape ``[N]``."""

    def law(self) -> BinomialLaw:
        """The exact law of the sum of worths over distinct PRF inputs, if the key is unrelated to the text."""


_REGISTRY: dict[str, type[Any]] = {}


def register(cls: type[Any]) -> type[Any]:
    """Class decorator: makes a scheme known by its ``name``."""
    _REGISTRY[cls.name] = cls
    return cls


def scheme_names() -> list[str]:
    """Names of all registered schemes, sorted."""
    return sorted(_REGISTRY)


def make_scheme(name: str, params: Mapping[str, Any]) -> Scheme:
    """The scheme ``name`` with ``params``.

    Raises:
        UsageError: unknown name, or parameters the scheme refuses.
    """
    if name not in _REGISTRY:
        raise UsageError(f"got scheme {name!r}, expected one of {', '.join(scheme_names())}")
    try:
        return _REGISTRY[name](**params)  # type: ignore[no-any-return]
    except TypeError as error:
        raise UsageError(f"got parameters {sorted(params)} for scheme {name!r}: {error}") from error


def threshold(gamma: float) -> int:
    """The integer below which a draw is green: floor(gamma · 2³²), so that P(green) never exceeds gamma."""
    return math.floor(gamma * TWO32)


def parameters_of(name: str) -> dict[str, str]:
    """The parameters of the scheme ``name`` and the names of their types (``int`` or ``float``)."""
    return {field.name: str(field.type) for field in fields(_REGISTRY[name])}
