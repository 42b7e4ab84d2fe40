"""Curves of costs over sizes as an SVG: both axes logarithmic, readable in light and dark, by eyes and by ears.

Pure.  Invariant: lines are told apart by the shape of their points and the name at their end, not by colour alone; all
text is text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Curves = Mapping[str, Sequence[tuple[int, float]]]

_WIDTH, _HEIGHT = 860, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 230, 56, 58
#: Pixels between the names at the ends of lines, at least.
_LINE = 18
_STYLE = """
svg { color-scheme: light dark; --ground: #ffffff; --ink: #1d2733; --soft: #5a6675; --grid: #dfe4ea;
  --c0: #0b62b0; --c1: #b3430a; --c2: #16703c; --c3: #8a2fa0; --c4: #8a6200; }
@media (prefers-color-scheme: dark) { svg { --ground: #12181f; --ink: #e7ecf2; --soft: #a3afbd; --grid: #2b3642;
  --c0: #6db3f2; --c1: #f59a63; --c2: #6fcf93; --c3: #d79be6; --c4: #e0b84e; } }
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); } .title { font-size: 16px; font-weight: 600; }
.grid { stroke: var(--grid); } .line { fill: none; stroke-width: 2; } .thin { stroke-dasharray: 2 3; }
"""
_MARKS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-4 -4h8v8h-8z",
    "M0 -5l5 9h-10z",
    "M0 -5l5 5l-5 5l-5 -5z",
    "M0 5l5 -9h-10z",
)


def svg(title: str, across: str, up: str, curves: Curves) -> str:
    """A picture of `curves`: name -> (size, cost), sizes growing, all above 0.  `across`, `up`: what axes say."""
    sizes = [size for points in curves.values() for size, _ in points]
    costs = [cost for points in curves.values() for _, cost in points]
    x = _scale(min(sizes), max(sizes), _LEFT, _WIDTH - _RIGHT)
    y = _scale(
        10 ** math.floor(math.log10(min(costs))), 10 ** math.ceil(math.log10(max(costs))), _HEIGHT - _BOTTOM, _TOP
    )
    told = "; ".join(f"{name}: {_told(points)}" for name, points in curves.items())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(f"{up}, by {across}. {told}.")}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" style="fill: var(--ground)"/>',
        f'<text class="title" x="20" y="28">{escape(title)}</text>',
        f'<text class="soft" x="20" y="46">{escape(up)}</text>',
        f'<text class="soft" x="{_LEFT}" y="{_HEIGHT - 14}">{escape(across)}</text>',
        *_grid(x, y, sizes, costs),
    ]
    ends = _apart([(y(points[-1][1]), name) for name, points in curves.items()])
    for number, (name, points) in enumerate(curves.items()):
        lines += _curve(number, name, [(x(size), y(cost)) for size, cost in points], ends[name])
    return "\n".join([*lines, "</svg>", ""])


class _scale:  # noqa: N801  (a function with its numbers)
    """From a size to a pixel."""

    def __init__(self, least: float, most: float, first: float, last: float) -> None:
        self.least, self.most = math.log10(least), max(math.log10(most), math.log10(least) + 1)
        self._first, self._last = first, last

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.least) / (self.most - self.least)
        return self._first + share * (self._last - self._first)

    @property
    def powers(self) -> range:
        return range(math.ceil(self.least), math.floor(self.most) + 1)


def _grid(x: _scale, y: _scale, sizes: Sequence[int], costs: Sequence[float]) -> list[str]:
    lines = []
    for power in x.powers:
        at = x(10**power)
        lines.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        lines.append(
            f'<text class="soft" x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{10**power:,}</text>'
        )
    for power in y.powers:
        at = y(10**power)
        lines.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        lines.append(f'<text class="soft" x="{_LEFT - 10}" y="{at + 4:.1f}" text-anchor="end">{10**power:,}</text>')
    return lines


def _curve(number: int, name: str, points: Sequence[tuple[float, float]], end: float) -> list[str]:
    colour = f"var(--c{number % 5})"
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    marks = [
        f'<path d="{_MARKS[number % 5]}" transform="translate({x:.1f} {y:.1f})" style="fill: {colour}"/>'
        for x, y in points
    ]
    x, y = points[-1]
    label = _WIDTH - _RIGHT + 24
    return [
        f'<path class="line" style="stroke: {colour}" d="M{path}"/>',
        *marks,
        f'<path class="thin" style="stroke: {colour}" d="M{x + 6:.1f} {y:.1f}L{label - 4} {end:.1f}"/>',
        f'<text x="{label}" y="{end + 4:.1f}" style="fill: {colour}">{escape(name)}</text>',
    ]


def _apart(ends: list[tuple[float, str]]) -> dict[str, float]:
    """Where names stand: beside their lines, and none upon another."""
    found: dict[str, float] = {}
    above = -math.inf
    for at, name in sorted(ends):
        above = found[name] = max(at, above + _LINE)
    return found


def _told(points: Sequence[tuple[int, float]]) -> str:
    first, last = points[0], points[-1]
    return f"{first[1]:.1f} at {first[0]:,}, {last[1]:.1f} at {last[0]:,}"
