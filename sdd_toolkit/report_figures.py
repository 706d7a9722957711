"""Numbers to pictures: histograms and curves as SVG that takes its colours and its font from the page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.report_words import figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from sdd_toolkit.statistics import Histogram

    Numbers = NDArray[np.float64]

_SERIES, _MUTED, _RULE = ("var(--series-1)", "var(--series-2)"), "var(--muted)", "var(--rule)"
_BAR_SHARE, _BEHIND = 0.88, 0.72
_BAND, _DOT_RADIUS = 0.16, 2.7
_HEADROOM = 0.05
_TICK_STEPS = (1, 2, 5, 10)
_MOST_LOG_TICKS = 8
_LARGEST_PLAIN = 1e6


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where numbers lie in a figure, in its own units.

    Attributes:
        size: (width, height) of the figure.
        frame: (left, top, right, bottom) of the axes in it.
        x: The numbers at the left and the right.
        y: The numbers at the bottom and the top.
    """

    size: tuple[int, int]
    frame: tuple[float, float, float, float]
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: ArrayLike) -> Numbers:
        """Where numbers lie from left to right."""
        left, _, right, _ = self.frame
        return left + (right - left) * _part(value, self.x)

    def down(self, value: ArrayLike) -> Numbers:
        """Where numbers lie from top to bottom."""
        _, top, _, bottom = self.frame
        return bottom - (bottom - top) * _part(value, self.y)


def histogram_svg(histogram: Histogram, *, stacked: bool, label: str) -> str:
    """An `<svg>` element: bars of each group, stacked or one behind the other, without ids, colours or fonts of
    its own.

    Args:
        histogram: At most two groups.
        stacked: Groups are parts of one whole (kept, rejected); otherwise two measurements (before, after).
        label: What a screen reader says.
    """
    # On a logarithmic axis the bars are drawn over the exponents: equal widths.
    edges = np.log10(histogram.edges) if histogram.logarithmic else histogram.edges
    tallest = np.sum(histogram.counts, axis=0) if stacked else np.max(histogram.counts, axis=0)
    most = max(1.0, float(np.max(tallest)))
    x = (float(edges[0]), float(edges[-1]))
    axes = _Axes((252, 126), (21.4, 8.8, 245.7, 104.6), x, (0.0, most * (1 + _HEADROOM)))
    heights = _ticks(0.0, most, 3, whole=True)
    if histogram.logarithmic:
        values = _log_ticks(float(histogram.edges[0]), float(histogram.edges[-1]))
        below = zip(np.log10(values), (f"{value:.3g}" for value in values), strict=True)
    else:
        places = _ticks(*x, 5)
        below = zip(places, _labels(places), strict=True)
    bars = list[str]()
    base = np.zeros(len(edges) - 1)
    for counts, colour in zip(histogram.counts, _SERIES, strict=False):
        shown = counts > 0
        bars += _bars(axes, edges, base, counts, shown, f"fill: {colour}" if stacked else _glass(colour, _BEHIND))
        base = base + counts if stacked else base
    return _svg(axes, label, [*_grid(axes, heights), *bars, _floor(axes), *_row(axes, below)])


def curve_svg(curve: tuple[Numbers, Numbers, Numbers], points: Numbers, label: str) -> str:
    """An `<svg>` element: a curve with the band it lies in, and points about it.

    Args:
        curve: (N,) abscissas, ordinates and half widths of the band.
        points: (M, 2).
        label: What a screen reader says.
    """
    x, y, half = curve
    low, high = (float(edge(np.concatenate([y - half, y + half, points[:, 1]]))) for edge in (np.min, np.max))
    margin = _HEADROOM * (high - low) or 1.0
    limits = (float(x[0]), float(x[-1])), (low - margin, high + margin)
    axes = _Axes((432, 187), (30.2, 7.5, 423.4, 164.7), *limits)
    places = _ticks(*axes.x, 8)
    around = np.concatenate([x, x[::-1]]), np.concatenate([y - half, (y + half)[::-1]])
    dots = zip(axes.across(points[:, 0]), axes.down(points[:, 1]), strict=True)
    drawn = [
        f'<path d="{_line(axes, *around)} Z" style="{_glass(_SERIES[0], _BAND)}"/>',
        f'<path d="{_line(axes, x, y)}" style="fill: none; stroke: {_SERIES[0]}; stroke-width: 1.4"/>',
        *(f'<circle cx="{cx:.2f}" cy="{cy:.2f}" r="{_DOT_RADIUS}" style="fill: {_SERIES[1]}"/>' for cx, cy in dots),
        _floor(axes),
        *_row(axes, zip(places, _labels(places), strict=True)),
    ]
    return _svg(axes, label, [*_grid(axes, _ticks(*axes.y, 5)), *drawn])


def _part(value: ArrayLike, limits: tuple[float, float]) -> Numbers:
    """How far numbers are from the first limit to the second, 0 … 1."""
    return np.asarray((np.asarray(value, dtype=np.float64) - limits[0]) / (limits[1] - limits[0]), dtype=np.float64)


def _ticks(low: float, high: float, most: int, *, whole: bool = False) -> Numbers:
    """Multiples of 1, 2 or 5 times a power of ten between two numbers, at most `most` steps of them."""
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(times * power for times in _TICK_STEPS if times * power >= rough * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    return np.asarray(step * np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1), dtype=np.float64)


def _log_ticks(low: float, high: float) -> Numbers:
    """1, 2 and 5 times the powers of ten between two numbers; the powers only, and not all, if these are many."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    every, tens = (
        values[(values >= low * (1 - 1e-9)) & (values <= high * (1 + 1e-9))]
        for values in (np.outer(powers, _TICK_STEPS[:3]).ravel(), powers)
    )
    return every if len(every) <= _MOST_LOG_TICKS else tens[:: -(-len(tens) // _MOST_LOG_TICKS)]


def _labels(ticks: Numbers) -> list[str]:
    """The ticks as people write them, with the digits that tell them apart."""
    if len(ticks) < 2 or np.abs(ticks).max() >= _LARGEST_PLAIN:
        return [f"{tick:.3g}" for tick in ticks]
    digits = max(0, int(-np.floor(np.log10(ticks[1] - ticks[0]) + 1e-9)))
    return [figure(float(tick), digits) for tick in ticks]


def _bars(
    axes: _Axes, edges: Numbers, base: Numbers, counts: NDArray[np.int64], shown: NDArray[np.bool_], style: str
) -> Iterable[str]:
    widths = np.diff(edges)
    left = axes.across(edges[:-1] + widths * (1 - _BAR_SHARE) / 2)[shown]
    right = axes.across(edges[1:] - widths * (1 - _BAR_SHARE) / 2)[shown]
    bottom, top = axes.down(base)[shown], axes.down(base + counts)[shown]
    for x, y, width, height in zip(left, top, right - left, bottom - top, strict=True):
        yield f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" style="{style}"/>'


def _grid(axes: _Axes, ticks: Numbers) -> list[str]:
    """Horizontal lines, and at their left what they stand for."""
    left, _, right, _ = axes.frame
    heights = axes.down(ticks)
    return [
        f'<path d="M{left} {y:.2f}H{right}" style="stroke: {_RULE}; stroke-width: 0.6"/>'
        f"{_text(left - 3, y + 3.2, 'end', label)}"
        for y, label in zip(heights, _labels(ticks), strict=True)
    ]


def _floor(axes: _Axes) -> str:
    left, _, right, bottom = axes.frame
    return f'<path d="M{left} {bottom}H{right}" style="stroke: {_RULE}; stroke-width: 0.8"/>'


def _row(axes: _Axes, ticks: Iterable[tuple[float, str]]) -> list[str]:
    """What stands below the axes."""
    return [_text(float(axes.across(place)), axes.frame[3] + 9.5, "middle", label) for place, label in ticks]


def _line(axes: _Axes, x: Numbers, y: Numbers) -> str:
    points = zip(axes.across(x), axes.down(y), strict=True)
    return "M" + "L".join(f"{across:.2f} {down:.2f}" for across, down in points)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    style = f"font-size: 8.5px; text-anchor: {anchor}; fill: {_MUTED}"
    return f'<text x="{x:.2f}" y="{y:.2f}" style="{style}">{escape(text)}</text>'


def _glass(colour: str, opacity: float) -> str:
    return f"fill: {colour}; opacity: {opacity}"


def _svg(axes: _Axes, label: str, elements: Sequence[str]) -> str:
    width, height = axes.size
    head = f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}">'
    return f"{head}{''.join(elements)}</svg>"
