"""The pictures beside the tables of the alignment benchmark."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.alignment_sections import calibration, honesty
from benchmarks.alignment_sections.aligners import NOTHING, OURS
from benchmarks.alignment_sections.measurement import Measurement, distinct, median, values

DPI = 110
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.9",
    "legend.frameon": False,
}
OURS_COLOUR = "#c1121f"
OTHERS = ("#1f6f8b", "#e09f3e", "#6a994e", "#7b6d8d", "#8d6b4b", "#4d4d4d", "#3fa7d6", "#b56576", "#9aa0a6")


def colours(methods: list[str]) -> dict[str, str]:
    """Ours stands out, whatever takes part."""
    rest = iter(OTHERS)
    return {method: OURS_COLOUR if method == OURS else next(rest) for method in methods}


def planted(rows: list[Measurement], path: Path) -> None:
    """Every pair a dot, medians joined, error against the radius of the disc."""
    rows = [row for row in rows if row.section == "planted" and row.method != NOTHING]
    radii, methods = distinct(row.group for row in rows), distinct(row.method for row in rows)
    colour = colours(methods)
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for number, method in enumerate(methods):
        offset = 0.085 * (number - (len(methods) - 1) / 2)
        cells = [values(rows, "corner_error_px", group=radius, method=method) for radius in radii]
        places = np.arange(len(radii)) + offset
        for place, cell in zip(places, cells, strict=True):
            axes.plot([place] * len(cell), cell, ".", color=colour[method], alpha=0.45, markersize=5, markeredgewidth=0)
        medians = [median(cell) for cell in cells]
        width = 2.4 if method == OURS else 1.2
        axes.plot(places, medians, "o-", color=colour[method], label=method, linewidth=width, markersize=5)
    axes.set_yscale("log")
    axes.set_xticks(range(len(radii)), radii)
    axes.set_xlabel("radius of the disc, px")
    axes.set_ylabel("corner error, px")
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside right upper")
    save_figure(path)


def honest(rows: list[Measurement], path: Path) -> None:
    """Own estimate against the true error, one dot a pair; refused pairs in a strip of their own above."""
    figure, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    kinds = {
        "disc up to 16 px": (honesty.EASY, "#1f6f8b"),
        "disc of 24 to 48 px": (honesty.HARD, "#e09f3e"),
        "impossible": (honesty.IMPOSSIBLE, OURS_COLOUR),
    }
    pairs = {name: (honesty.pairs_of(rows, group), colour) for name, (group, colour) in kinds.items()}
    every = [pair for found, _ in pairs.values() for pair in found]
    finite = [estimate for _, estimate in every if not math.isnan(estimate)]
    ends = [value for pair in every for value in pair if value > 0 and math.isfinite(value)]
    low, high = min(ends) / 1.5, max(ends) * 1.5
    strip = 3 * max(finite, default=high)
    for name, (found, colour) in pairs.items():
        x = [true for true, _ in found]
        y = [strip if math.isnan(estimate) else estimate for _, estimate in found]
        axes.plot(x, y, "o", color=colour, alpha=0.6, markersize=5, markeredgewidth=0, label=name)
    axes.plot([low, high], [low, high], "-", color="0.6", linewidth=1, zorder=0, label="estimate = error")
    axes.axhline(strip / 1.7, color="0.6", linewidth=0.8, linestyle=":")
    axes.text(low, strip, " refused", va="center", color="0.35")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, strip * 1.6))
    axes.set_xlabel("true corner error, px (of a refused pair: as it came)")
    axes.set_ylabel("its own estimate, px")
    figure.legend(loc="outside right upper")
    save_figure(path)


def calibrated(rows: list[Measurement], path: Path) -> None:
    """Error against own estimate, one dot a loop or a planted pair, with the lines of one and two estimates."""
    cases = {
        name: [pair for pair in pairs if not math.isnan(pair[1]) and min(pair) > 0]
        for name, pairs in calibration.cases_of(rows).items()
    }
    every = [value for pairs in cases.values() for pair in pairs for value in pair]
    ends = np.array([min(every, default=1e-3) / 1.5, max(every, default=1.0) * 1.5])
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    rest = iter(OTHERS)
    for name, pairs in cases.items():
        is_planted = name.startswith(calibration.PLANTED)
        colour = OURS_COLOUR if is_planted else next(rest)
        label = "planted pairs" if is_planted else name
        known = label in axes.get_legend_handles_labels()[1]
        mark = "+" if is_planted else "o"
        estimates, errors = [pair[1] for pair in pairs], [pair[0] for pair in pairs]
        axes.plot(estimates, errors, mark, color=colour, alpha=0.7, markersize=5, label=None if known else label)
    axes.plot(ends, ends, "-", color="0.5", linewidth=1, zorder=0, label="error = estimate")
    axes.plot(ends, 2 * ends, "--", color="0.5", linewidth=1, zorder=0, label="error = 2 x estimate")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axes.set_xlabel("own estimate, px (of a loop: its three pairs in quadrature)")
    axes.set_ylabel("corner error, px")
    figure.legend(loc="outside right upper")
    save_figure(path)


def loops(rows: list[Measurement], path: Path) -> None:
    """Median loop error, a group of bars a stack, and every detour a dot."""
    rows = [row for row in rows if row.section == "loops" and row.quantity == "loop_px"]
    stacks, methods = distinct(row.group for row in rows), distinct(row.method for row in rows)
    colour = colours(methods)
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    width = 0.8 / max(len(methods), 1)
    for number, method in enumerate(methods):
        for place, stack in enumerate(stacks):
            bar(
                axes,
                place - 0.4 + (number + 0.5) * width,
                width,
                values(rows, "loop_px", group=stack, method=method),
                colour[method],
            )
        axes.bar([0], [math.nan], color=colour[method], label=method)
    axes.set_yscale("log")
    axes.set_xticks(range(len(stacks)), stacks)
    axes.set_ylabel("loop error at the corners, px")
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside right upper")
    save_figure(path)


def bar(axes: Axes, place: float, width: float, found: list[float], colour: str) -> None:
    middle = median(found)
    if math.isfinite(middle):
        axes.bar([place], [middle], width * 0.92, color=colour)
    elif found:
        bottom = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axes.text(place, 0.02, "fails", rotation=90, fontsize=8, color=colour, **bottom)
    axes.plot([place] * len(found), found, ".", color="black", markersize=3, alpha=0.6)


def save_figure(path: Path) -> None:
    plt.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close()


def draw(path: Path, rows: list[Measurement], section: str) -> None:
    with mpl.rc_context(STYLE):
        {"planted": planted, "honesty": honest, "loops": loops, "calibration": calibrated}[section](rows, path)
