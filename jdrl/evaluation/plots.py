"""Plots of scores against planted misalignment, and of losses against the flow."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jdrl.evaluation.misalignment import PROTOCOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jdrl.evaluation.misalignment import MisalignmentResult

_COLOURS = dict(zip(PROTOCOLS, ("#c1121f", "#1f6f8b", "#e09f3e", "#6d6d6d"), strict=True))
_LINES = ("-", "--", ":", "-.")
_BINS = 8


def plot_misalignment(result: MisalignmentResult) -> bytes:
    """Plots PSNR against the planted shift and zoom, and loss against the pairs' flow; returns a PNG file."""
    figure = Figure(figsize=(11.0, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    shift, zoom, loss = figure.subplots(1, 3)
    _plot_scores(shift, result, "shift", 1.0, "planted shift, px")
    _plot_scores(zoom, result, "zoom", 100.0, "planted zoom, %")
    _plot_losses(loss, result)
    handles, names = shift.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _plot_scores(axes: Axes, result: MisalignmentResult, kind: str, factor: float, label: str) -> None:
    checkpoints = list(dict.fromkeys(probe.checkpoint for probe in result.means))
    for number, checkpoint in enumerate(checkpoints):
        for protocol in PROTOCOLS:
            chosen = [
                (factor * probe.amount, probe.psnr_db)
                for probe in result.means
                if (probe.kind, probe.checkpoint, probe.protocol) == (kind, checkpoint, protocol)
                and probe.psnr_db is not None
            ]
            line = _LINES[number % len(_LINES)]
            name = protocol if len(checkpoints) == 1 else f"{protocol}, {number + 1}"
            x, y = zip(*sorted(chosen), strict=True) if chosen else ((), ())
            axes.plot(x, y, line, marker="o", markersize=3, color=_COLOURS[protocol], label=name)
    axes.set(xlabel=label, ylabel="PSNR, dB")
    _style_axes(axes)


def _plot_losses(axes: Axes, result: MisalignmentResult) -> None:
    """Plots the median loss over texture in bins of the flow's length with equally many blocks."""
    lengths = np.array([block.flow_px for block in result.blocks])
    if lengths.size and np.ptp(lengths) > 0:
        edges = np.unique(np.quantile(lengths, np.linspace(0, 1, _BINS + 1)))
        bin_of_block = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, len(edges) - 2)
        for protocol, colour in (("unwarped", "#c1121f"), ("aligned", "#1f6f8b")):
            losses = np.array(
                [getattr(block, f"loss_{protocol}") / (block.texture + 1 / 255) for block in result.blocks]
            )
            bins = [number for number in range(len(edges) - 1) if (bin_of_block == number).any()]
            x = [float(np.median(lengths[bin_of_block == number])) for number in bins]
            y = [float(np.median(losses[bin_of_block == number])) for number in bins]
            axes.plot(x, y, "-", marker="o", markersize=3, color=colour, label=protocol)
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.text(0.5, 0.5, "the same flow everywhere", ha="center", transform=axes.transAxes, fontsize=8)
    axes.set(xlabel="the pair's flow in the block, px", ylabel="median loss / texture")
    _style_axes(axes)


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
