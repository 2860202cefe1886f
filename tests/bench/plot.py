"""A plot as SVG, for figures that are to be looked at: lines over one axis, both logarithmic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 70, 190, 40, 50
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#bf8700")


def log_log(path: Path, title: str, over: str, x: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
    """Write the plot: `lines` by name, a value for each `x` (all above 0). A dashed line beside each grows as x does:
    what lies below it grew by less."""
    top = max(max(values) for values in lines.values())
    low = min(min(values) for values in lines.values())
    across = _scale(x[0], x[-1], LEFT, WIDTH - RIGHT)
    up = _scale(low, max(top, low * 1.01), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(over)}</text>',
    ]
    for value in x:
        at = across(value)
        parts += [
            f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>',
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>',
        ]
    for value in _decades(low, top):
        at = up(value)
        parts += [
            f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#ddd"/>',
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>',
        ]
    labels = _apart({name: up(values[-1]) + 4 for name, values in lines.items()})
    for number, (name, values) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in zip(x, values, strict=True))
        ends = [(x[0], values[0]), (x[-1], min(values[0] * x[-1] / x[0], top))]
        if ends[1][1] == top:
            ends[1] = (x[0] * top / values[0], top)
        linear = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in ends)
        parts += [
            f'<polyline points="{linear}" fill="none" stroke="{colour}" stroke-dasharray="3 4" opacity="0.6"/>',
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{WIDTH - RIGHT + 8}" y="{labels[name]:.1f}" fill="{colour}">{escape(name)}</text>',
        ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _apart(wanted: Mapping[str, float], least: float = 15.0) -> dict[str, float]:
    """Where labels go that want to be there, none nearer than `least` to the one above it."""
    found: dict[str, float] = {}
    lowest = -math.inf
    for name, at in sorted(wanted.items(), key=lambda item: item[1]):
        found[name] = lowest = max(at, lowest + least)
    return found


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0
    return lambda value: begin + (end - begin) * math.log(value / low) / span


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = [base * 10**power for power in range(first, last + 1) for base in (1, 2, 5)]
    return [mark for mark in marks if low <= mark <= high]
