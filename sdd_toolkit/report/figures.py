"""Histograms and curves of the report as inline SVG whose colours are CSS variables of the page.

Matplotlib draws with the placeholder colours of `_PALETTE`; they are then replaced by CSS variables, so that a figure
follows the colour scheme of the page.
"""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from sdd_toolkit.statistics import Histogram

_PALETTE = {
    "#010101": "var(--series-1)",
    "#010102": "var(--series-2)",
    "#010103": "var(--muted)",
    "#010104": "var(--rule)",
}
_SERIES, _MUTED, _RULE = ("#010101", "#010102"), "#010103", "#010104"
_METADATA = ("Date", "Creator", "Format", "Type")
_SIZE_IN = (3.5, 1.75)
_CURVE_SIZE_IN, _CURVE_AXES, _DOT_IN = (6.0, 2.6), (0.07, 0.12, 0.91, 0.84), 0.075
_AXES = (0.085, 0.17, 0.89, 0.76)


def histogram_svg(histogram: Histogram, *, stacked: bool, label: str) -> str:
    """Draws a histogram as an `<svg>` element without ids, colours or fonts of its own.

    Args:
        histogram: At most two groups.
        stacked: Whether groups are parts of a whole (kept, rejected) and their bars are stacked; otherwise they are two
            measurements (before, after), drawn one behind the other.
        label: Text for screen readers.
    """
    with matplotlib.rc_context({"svg.hashsalt": "sdd", "svg.fonttype": "none", "font.size": 8.5}):
        figure = Figure(figsize=_SIZE_IN)
        axes = figure.add_axes(_AXES)
        _draw_bars(axes, histogram, stacked)
        _style_histogram_axes(axes, histogram)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata=dict.fromkeys(_METADATA))
    return _to_inline_svg(stream.getvalue(), label)


def curve_svg(
    curve: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], points: NDArray[np.float64], label: str
) -> str:
    """Draws a curve with its band of uncertainty and measured points as an `<svg>` element.

    Args:
        curve: (N,) abscissas, ordinates and half widths of the band.
        points: (M, 2).
        label: Text for screen readers.
    """
    x, y, half = curve
    with matplotlib.rc_context({"svg.hashsalt": "sdd", "svg.fonttype": "none", "font.size": 8.5}):
        figure = Figure(figsize=_CURVE_SIZE_IN)
        axes = figure.add_axes(_CURVE_AXES)
        low, high = (float(edge(np.concatenate([y - half, y + half, points[:, 1]]))) for edge in (np.min, np.max))
        margin = 0.05 * (high - low) or 1.0
        axes.set(xlim=(float(x[0]), float(x[-1])), ylim=(low - margin, high + margin))
        band = np.concatenate([np.column_stack([x, y - half]), np.column_stack([x, y + half])[::-1]])
        axes.add_patch(Polygon(band, facecolor=_SERIES[0], alpha=0.16, linewidth=0, clip_on=False))
        axes.plot(x, y, color=_SERIES[0], linewidth=1.4, clip_on=False)
        # Markers would be drawn by reference to an id, and a page has many figures.
        width = _DOT_IN / (_CURVE_SIZE_IN[0] * _CURVE_AXES[2]) * float(np.ptp(axes.get_xlim()))
        height = _DOT_IN / (_CURVE_SIZE_IN[1] * _CURVE_AXES[3]) * float(np.ptp(axes.get_ylim()))
        for point in points:
            axes.add_patch(Ellipse(tuple(point), width, height, facecolor=_SERIES[1], linewidth=0, clip_on=False))
        _style_axes(axes)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_locator(MaxNLocator(8))
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata=dict.fromkeys(_METADATA))
    return _to_inline_svg(stream.getvalue(), label)


def _draw_bars(axes: Axes, histogram: Histogram, stacked: bool) -> None:
    # On a logarithmic axis the bars are drawn over the exponents, with equal widths.
    edges = np.log10(histogram.edges) if histogram.logarithmic else histogram.edges
    widths = np.diff(edges) * 0.88
    left = edges[:-1] + np.diff(edges) * 0.06
    base = np.zeros(len(left))
    for counts, colour in zip(histogram.counts, _SERIES, strict=False):
        filled = counts > 0
        axes.bar(
            left[filled],
            counts[filled],
            widths[filled],
            bottom=base[filled],
            align="edge",
            color=colour,
            alpha=1.0 if stacked else 0.72,
            clip_on=False,
        )
        base = base + counts if stacked else base


def _style_histogram_axes(axes: Axes, histogram: Histogram) -> None:
    edges = np.log10(histogram.edges) if histogram.logarithmic else histogram.edges
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.set_ylim(0, axes.get_ylim()[1])
    _style_axes(axes)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    if histogram.logarithmic:
        ticks = LogLocator(subs=(1.0, 2.0, 5.0), numticks=7).tick_values(histogram.edges[0], histogram.edges[-1])
        inside = [float(tick) for tick in ticks if histogram.edges[0] <= tick <= histogram.edges[-1]]
        axes.set_xticks([float(np.log10(tick)) for tick in inside])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda exponent, _: f"{10**exponent:.3g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.tick_params(length=0, colors=_MUTED, pad=3)
    axes.grid(axis="y", color=_RULE, linewidth=0.6, clip_on=False)
    axes.set_axisbelow(True)


def _to_inline_svg(svg: str, label: str) -> str:
    """Strips prolog, metadata, style, ids, size and fonts from an SVG and replaces its colours by CSS variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    svg = re.sub(r'\s(?:id|xmlns|xmlns:xlink|version)="[^"]*"', "", svg)
    svg = re.sub(r"font: [^;\"]*;?|font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    for placeholder, variable in _PALETTE.items():
        svg = svg.replace(placeholder, variable)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").strip()
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
