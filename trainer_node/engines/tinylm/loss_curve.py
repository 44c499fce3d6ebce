"""The loss curve as an SVG: a picture that every browser shows, drawn by a few lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 50  # margins
_COLORS = ("#1f5fa8", "#c4561f", "#3a7d44")  # told apart by those who see no red or green, and in print
_DASHES = ("", "6 4", "2 3")
_TICKS = 5

Curves = Mapping[str, Sequence[tuple[float, float]]]


def svg(curves: Curves, *, title: str, x_label: str, y_label: str) -> str:
    """Curves by name, each of (x, y) points; what is not finite is left out."""
    shown = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()}
    shown = {name: points for name, points in shown.items() if points}
    xs = [x for points in shown.values() for x, _ in points] or [0.0]
    ys = [y for points in shown.values() for _, y in points] or [0.0]
    scale = _Scale(min(xs), max(xs), math.floor(min(ys) * 2) / 2, math.ceil(max(ys) * 2) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12">',
        f"<title>{_text(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15" font-weight="bold">{_text(title)}</text>',
        *_axes(scale, x_label, y_label),
        *_lines(scale, shown),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Scale:
    """From values to places in the picture."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        self.x_low, self.x_high = x_low, x_high if x_high > x_low else x_low + 1
        self.y_low, self.y_high = y_low, y_high if y_high > y_low else y_low + 1

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - _TOP - _BOTTOM)


def _axes(scale: _Scale, x_label: str, y_label: str) -> Iterator[str]:
    left, bottom = _LEFT, HEIGHT - _BOTTOM
    for number in range(_TICKS + 1):
        value = scale.y_low + (scale.y_high - scale.y_low) * number / _TICKS
        place = scale.y(value)
        yield f'<line x1="{left}" y1="{place:.1f}" x2="{WIDTH - _RIGHT}" y2="{place:.1f}" stroke="#ddd"/>'
        yield f'<text x="{left - 8}" y="{place + 4:.1f}" text-anchor="end">{value:.2f}</text>'
    steps = max(1, round((scale.x_high - scale.x_low) / 10))
    at = scale.x_low
    while at <= scale.x_high + 1e-9:
        yield f'<text x="{scale.x(at):.1f}" y="{bottom + 18}" text-anchor="middle">{at:g}</text>'
        at += steps
    yield f'<line x1="{left}" y1="{bottom}" x2="{WIDTH - _RIGHT}" y2="{bottom}" stroke="#333"/>'
    yield f'<text x="{(left + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{_text(x_label)}</text>'
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    yield f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{_text(y_label)}</text>'


def _lines(scale: _Scale, curves: Curves) -> Iterator[str]:
    for number, (name, points) in enumerate(curves.items()):
        color, dash = _COLORS[number % len(_COLORS)], _DASHES[number % len(_DASHES)]
        pattern = f' stroke-dasharray="{dash}"' if dash else ""
        places = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in points)
        yield f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="2"{pattern}/>'
        for x, y in points if len(points) <= 60 else ():
            yield f'<circle cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="2.5" fill="{color}"/>'
        top = _TOP + 8 + 18 * number
        begin = WIDTH - _RIGHT - 150
        yield f'<line x1="{begin}" y1="{top}" x2="{begin + 28}" y2="{top}" stroke="{color}" stroke-width="2"{pattern}/>'
        yield f'<text x="{begin + 36}" y="{top + 4}">{_text(name)}</text>'


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
