"""The pictures of the benchmark VSDD: PSNR against displacement, and a strip of crops of one test scene."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sdd_toolkit.bench.intervals import mean_of
from sdd_toolkit.bench.plan import INPUT, JDRL, LEVELS, NAIVE, ORACLE, PRE_ALIGNED
from sdd_toolkit.bench.tables import DISPLACED, Scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sdd_toolkit.bench.scoring import ScoreRow

    Image = NDArray[np.uint8]

_LINES = {
    ORACLE: ("oracle", "#4d4d4d", "--"),
    JDRL: ("JDRL", "#c1121f", "-"),
    "jdrl_built": ("JDRL after sdd build", "#e09f3e", "-"),
    PRE_ALIGNED: ("pre-aligned", "#1f6f8b", "-"),
    "triplet": ("triplets", "#7b6d8d", "-"),
    "official": ("official form", "#6a994e", "-"),
    NAIVE: ("naive", "#8d6b4b", "-"),
    INPUT: ("input", "#9aa0a6", ":"),
}
_ENLARGEMENT = 2
_LABEL_PX = 22


def plot_psnr(rows: Sequence[ScoreRow]) -> bytes:
    """Plots PSNR against the mean displacement, one line an arm; returns a PNG file."""
    scores = Scores(rows)
    figure = Figure(figsize=(7.2, 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    measured = [level for level in DISPLACED if scores.has(NAIVE, level.name)]
    for arm, (label, colour, line) in _LINES.items():
        samples = [(level.displacement_px, scores.sample(arm, level.name, "psnr_db")) for level in measured]
        points = [(x, mean_of(sample).mean) for x, sample in samples if sample is not None]
        if points:
            x, y = zip(*points, strict=True)
            marker = "" if arm in (INPUT, ORACLE) else "o"
            axes.plot(x, y, line, marker=marker, markersize=4, color=colour, label=label)
    axes.set(xlabel="mean displacement of the sharp frame, px", ylabel="PSNR against the truth, dB")
    axes.set_xticks(sorted(LEVELS))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    if measured:
        axes.legend(frameon=False, fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def draw_strip(images: Mapping[str, Image], crop_px: int = 128) -> Image:
    """Crops of one scene side by side, enlarged, with their names: where the truth has most detail.

    Args:
        images: (H, W, 3) 8-bit sRGB by name; the last one is the truth.
        crop_px: Side of the crop.
    """
    truth = list(images.values())[-1].astype(np.float32).mean(axis=-1)
    side = min(crop_px, *truth.shape)
    detail = cv2.boxFilter((truth - cv2.GaussianBlur(truth, (0, 0), 2.0)) ** 2, -1, (side, side))
    half = side // 2
    inside = detail[half : truth.shape[0] - side + half + 1, half : truth.shape[1] - side + half + 1]
    top, left = np.unravel_index(int(np.argmax(inside)), inside.shape)
    parts = []
    for name, image in images.items():
        crop = image[top : top + side, left : left + side]
        large = cv2.resize(crop, None, fx=_ENLARGEMENT, fy=_ENLARGEMENT, interpolation=cv2.INTER_CUBIC)
        label = np.full((_LABEL_PX, large.shape[1], 3), 255, np.uint8)
        cv2.putText(label, name, (4, _LABEL_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        parts += [np.vstack([label, large]), np.full((large.shape[0] + _LABEL_PX, 4, 3), 255, np.uint8)]
    return np.hstack(parts[:-1])
