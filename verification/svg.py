"""Charts as SVG text: the same bytes for the same numbers, no script, no colour of its own.

Colours and dashes are classes of the page's style sheet, so that a chart prints, and reads without colour. Sizes are
in units of a drawing that is 380 wide: about one CSS pixel on a phone.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verification.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 380.0
LINE = 14.0
"""Height of a line of text."""
_LONGEST = 400


def document(body: Sequence[str], *, height: float, ident: str, title: str, description: str) -> str:
    """The whole SVG element, named for those who do not see it; ``ident`` is unique in the page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(WIDTH)} {number(height)}" role="img" '
        f'aria-labelledby="{ident}-t {ident}-d"><title id="{ident}-t">{_escaped(title)}</title>'
        f'<desc id="{ident}-d">{_escaped(description)}</desc>{"".join(body)}</svg>'
    )


def text(x: float, y: float, words: str, kind: str = "tick", *, anchor: str = "start") -> str:
    """Words on a base line; ``anchor`` is start, middle or end."""
    return f'<text x="{number(x)}" y="{number(y)}" class="{kind}" text-anchor="{anchor}">{_escaped(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" class="{kind}"/>'


def path(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A line through points."""
    return f'<polyline points="{" ".join(f"{number(x)},{number(y)}" for x, y in points)}" class="{kind}"/>'


def bar(x: float, y: float, width: float, height: float, kind: str, *, pattern: str = "") -> str:
    """A rectangle, filled with a :func:`hatching` where one is named; of no size it is still a hair wide."""
    size = f'width="{number(max(width, 0.5))}" height="{number(max(height, 0.5))}"'
    fill = f' fill="url(#{pattern})"' if pattern else ""
    return f'<rect x="{number(x)}" y="{number(y)}" {size} class="{kind}"{fill}/>'


def marker(x: float, y: float, shape: str, kind: str) -> str:
    """A point: ``disc``, ``square``, ``diamond`` or ``triangle``, centred."""
    if shape == "disc":
        return f'<circle cx="{number(x)}" cy="{number(y)}" r="4" class="{kind}"/>'
    corners = {
        "square": ((-3.4, -3.4), (3.4, -3.4), (3.4, 3.4), (-3.4, 3.4)),
        "diamond": ((0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)),
        "triangle": ((0, -4.6), (4.6, 3.6), (-4.6, 3.6)),
    }[shape]
    return f'<polygon points="{" ".join(f"{number(x + a)},{number(y + b)}" for a, b in corners)}" class="{kind}"/>'


def hatching(ident: str) -> str:
    """A pattern that tells a bar from a plain one on grey paper; a bar's ``fill`` names ``#ident``."""
    return (
        f'<defs><pattern id="{ident}" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="5" height="5" class="hatch-ground"/><line x1="0" y1="0" x2="0" y2="5" class="hatch-line"/>'
        "</pattern></defs>"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A rectangle of the drawing with two scales: x over ``[low, high]``, y over ``[bottom, top]``."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float = 42.0
    right: float = 370.0
    upper: float = 26.0
    lower: float = 214.0
    log_y: bool = False

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the data lies in the drawing."""
        return self.across(x), self.up(y)

    def across(self, x: float) -> float:
        """The horizontal place of ``x``."""
        low, high = self.x
        return self.left + (x - low) / (high - low) * (self.right - self.left)

    def up(self, y: float) -> float:
        """The vertical place of ``y``."""
        low, high = (math.log10(v) for v in self.y) if self.log_y else self.y
        value = math.log10(y) if self.log_y else y
        return self.lower - (value - low) / (high - low) * (self.lower - self.upper)

    def axes(self, x_name: str, y_name: str, *, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[str]:
        """Grid, ticks and names; the name of y stands above its axis, where it needs no turning of the head."""
        parts = [text(0, self.upper - 13, y_name, "name")]
        for value in y_ticks:
            y = self.up(value)
            parts.append(line(self.left, y, self.right, y, "grid"))
            parts.append(text(self.left - 5, y + 4, tick(value), anchor="end"))
        parts += [text(self.across(value), self.lower + 16, tick(value), anchor="middle") for value in x_ticks]
        parts.append(line(self.left, self.lower, self.right, self.lower, "axis"))
        parts.append(text((self.left + self.right) / 2, self.lower + 33, x_name, "name", anchor="middle"))
        return parts


def nice_ticks(low: float, high: float, *, count: int = 5, whole: bool = False) -> list[float]:
    """Round numbers within ``[low, high]``, about ``count`` of them."""
    step = (high - low) / max(count, 1)
    size = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    step = next(size * each for each in (1, 2, 5, 10) if size * each >= step * 0.999) if step > 0 else 1.0
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def spread(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """``places`` moved as little as it takes to lie ``gap`` apart, in order, within ``[low, high]`` if they fit."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    floor = low
    for i in order:
        moved[i] = max(places[i], floor)
        floor = moved[i] + gap
    ceiling = high
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


def tick(value: float) -> str:
    """A number on an axis."""
    if abs(value) >= 10_000:  # noqa: PLR2004 - five figures need their comma
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("-", "\u2212")


def number(value: float) -> str:
    """A coordinate to a hundredth, without a trailing zero."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def _escaped(words: str) -> str:
    return html.escape(visible(words, _LONGEST))
