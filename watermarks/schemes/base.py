"""The protocol of a token-level scheme, and the registry.

A scheme is three short pure functions over the PRF's draws (integers below 2³²): how it bends the next-token scores,
what one observed token is worth, and the exact law of that worth when the key has nothing to do with the text.
Everything else (Hugging Face generation, our decoding loop, detection under many keys, the conformance suite) comes for
nothing. Fast kernels are optional and live in :mod:`watermarks.kernels`; a scheme's own functions are the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from countermark.errors import UsageError
from watermarks.schemes.laws import TWO32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from watermarks.schemes.laws import Law

MAX_CONTEXT_WIDTH = 16
MAX_DELTA = 1000.0
"""Far beyond any use, and far below where a half-precision score overflows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliding:
    """PRF inputs are windows: the ``width`` tokens before a position, and the token there.

    Args:
        width: h. 0 is a fixed list.
        once: "window" counts every distinct window of a text; "context" counts the first window of each context, for
            schemes that mark a context only once; "input" counts every distinct input that the key chose in the windows
            (see :meth:`Scheme.observe`). A scheme that seeds by blocks will be another rule beside this one.
    """

    width: int
    once: str = "window"


class Scheme(Protocol):
    """What every scheme offers. Instances are frozen values; equal parameters mean equal schemes.

    Attributes:
        name: the name in configs and sub-key labels.
        samples: the scheme needs a sampled token. It refuses greedy and beam search, and leaves a context unmarked that
            the text has used before: a repeated draw would repeat the choice.
        statistics: names of its statistics; the first decides unless a plan names another.
        count_statistic: the statistic whose law is binomial, for effect sizes with an exact interval.
    """

    name: ClassVar[str]
    samples: ClassVar[bool]
    statistics: ClassVar[tuple[str, ...]]
    count_statistic: ClassVar[str]

    @property
    def inputs(self) -> Sliding:
        """Which stretches of a text are PRF inputs, and how often each counts."""

    @property
    def order(self) -> str:
        """``after`` or ``before`` the warpers (temperature, top-k, top-p, min-p)."""

    def params(self) -> dict[str, Any]:
        """The parameters as plain JSON; they enter the sub-key's label, so other parameters mean another sub-key."""

    def draws(self, subkey: bytes, contexts: Any, tokens: Any) -> Any:  # noqa: ANN401 - NumPy or torch
        """Draws of ``tokens [...]`` after ``contexts [..., h]``, which broadcast; NumPy or torch, any device."""

    def observe(self, subkey: bytes | Sequence[bytes], windows: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """Draws ``[N]`` of observed windows ``[N, h + 1]`` (``[K, N]`` for K keys), and the PRF inputs they used.

        The second value is None where the windows themselves are the inputs; else integers that name the input chosen
        by the key, of which each distinct one counts once.
        """

    def bend(self, scores: Any, draws: Any) -> Any:  # noqa: ANN401 - torch tensors, without importing torch
        """Marked scores ``[B, V]`` from scores and draws ``[B, V]``; masked (-inf) scores stay masked."""

    def worth(self, draws: Any, statistic: str) -> Any:  # noqa: ANN401 - NumPy or torch
        """What each observed token is worth under ``statistic``; ``int64`` of the draws' shape."""

    def law(self, statistic: str) -> Law:
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
    for key, wanted in parameters_of(name).items():
        value = params.get(key)
        if key in params and not fits(value, wanted):
            raise UsageError(f"got {key} {value!r} for scheme {name!r}, expected a value of type {wanted}")
    try:
        return _REGISTRY[name](**params)  # type: ignore[no-any-return]
    except TypeError as error:
        raise UsageError(f"got parameters {sorted(params)} for scheme {name!r}: {error}") from error


def fits(value: Any, wanted: str) -> bool:  # noqa: ANN401
    """Whether a value is of the named parameter type; an integer will do where a float is expected."""
    if isinstance(value, bool) or wanted == "bool":
        return isinstance(value, bool) and wanted == "bool"
    return isinstance(value, {"int": int, "float": int | float, "str": str}[wanted])


def parameters_of(name: str) -> dict[str, str]:
    """The parameters of the scheme ``name`` and the names of their types (``int``, ``float``, ``bool`` or ``str``)."""
    return {field.name: str(field.type) for field in fields(_REGISTRY[name])}


def threshold(gamma: float) -> int:
    """The integer below which a draw is green: floor(gamma · 2³²), so that P(green) never exceeds gamma."""
    return math.floor(gamma * TWO32)


def check_statistic(scheme: Scheme, statistic: str) -> None:
    """Raises :class:`UsageError` for a statistic the scheme does not have."""
    if statistic not in scheme.statistics:
        expected = ", ".join(scheme.statistics)
        raise UsageError(f"got statistic {statistic!r} for scheme {scheme.name!r}, expected one of {expected}")


def check_width(name: str, width: int, *, low: int = 1, high: int = MAX_CONTEXT_WIDTH) -> None:
    """Raises :class:`UsageError` unless ``width`` is an integer in its range."""
    if isinstance(width, bool) or not isinstance(width, int) or not low <= width <= high:
        raise UsageError(f"got {name} {width}, expected {low} to {high}")


def check_green(gamma: float, delta: float, order: str) -> None:
    """Raises :class:`UsageError` for a green list that is empty or everything, a bias that is none, or no order."""
    if not 0.0 < gamma < 1.0 or threshold(gamma) == 0:
        raise UsageError(f"got gamma {gamma}, expected a number between 0 and 1")
    if not 0.0 < delta <= MAX_DELTA:
        raise UsageError(f"got delta {delta}, expected a number above 0, at most {MAX_DELTA:g}")
    if order not in {"after", "before"}:
        raise UsageError(f"got order {order!r}, expected 'after' or 'before'")
