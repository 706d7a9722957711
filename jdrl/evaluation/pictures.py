"""Pictures of an evaluation: crops of input, output and truth, and maps of displacements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from jdrl.data.display import to_display_pixels
from jdrl.metrics.fidelity import psnr
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.imaging.flow_colours import fade_by_confidence, flow_colours
from sdd_toolkit.storage.files import replace_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jdrl.data.batch import Batch
    from jdrl.metrics.drift import Drift

_STRIDE_PX = 16
_CELL_PX = 12  # side of a block in a map of displacements


@dataclass(frozen=True, slots=True, eq=False)
class CropComparison:
    """The same crop of input, output and truth, each (h, w, 3) uint8, with its PSNR."""

    pair: str
    input: NDArray[np.uint8]
    deblurred: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    input_psnr_db: float
    deblurred_psnr_db: float

    @property
    def gain_db(self) -> float:
        """Gain in PSNR by deblurring, dB."""
        return self.deblurred_psnr_db - self.input_psnr_db


@dataclass(frozen=True, slots=True)
class CropWindow:
    """The pictured part of a frame."""

    rows: slice
    columns: slice


def largest_gain_window(truth: Batch, deblurred: Tensor, size: int) -> CropWindow:
    """Finds the square of a pair in which deblurring reduces the squared error most.

    Args:
        truth: The pair.
        deblurred: (1, 3, H, W).
        size: Side of the square, pixels; smaller if the frame is.
    """
    target, valid = truth.sharp_on_blur, truth.valid
    reduction = ((truth.blur - target).square() - (deblurred - target).square()).mean(1, keepdim=True) * valid
    side = min(size, *reduction.shape[-2:])
    pooled = F.avg_pool2d(reduction, side, stride=_STRIDE_PX)[0, 0]
    row, column = divmod(int(pooled.argmax()), pooled.shape[1])
    top, left = row * _STRIDE_PX, column * _STRIDE_PX
    return CropWindow(slice(top, top + side), slice(left, left + side))


def compare_crop(pair: str, truth: Batch, deblurred: Tensor, window: CropWindow, encoding: Encoding) -> CropComparison:
    """Cuts the same window out of input, output and truth.

    Args:
        pair: The pair's id.
        truth: The pair.
        deblurred: (1, 3, H, W).
        window: See `largest_gain_window`.
        encoding: Of the values; linear ones get the sRGB curve for display.
    """
    images = (truth.blur, deblurred, truth.sharp_on_blur, truth.valid)
    crops = [image[..., window.rows, window.columns] for image in images]
    before, after = (float(psnr(image, crops[2], crops[3])) for image in crops[:2])
    blurred, restored, sharp = (to_display_pixels(image, encoding) for image in crops[:3])
    return CropComparison(pair, blurred, restored, sharp, before, after)


def comparison_strip(comparison: CropComparison) -> NDArray[np.uint8]:
    """Joins input, output and truth side by side, (h, 3 w + 2 gaps, 3)."""
    gap = np.full((len(comparison.input), 4, 3), 255, dtype=np.uint8)
    return np.concatenate([comparison.input, gap, comparison.deblurred, gap, comparison.truth], axis=1)


def draw_comparison(rows: Sequence[CropComparison], path: Path) -> None:
    """Draws rows of input, output and truth with their PSNR, as a PNG."""
    figure = Figure(figsize=(9.0, 3.15 * len(rows)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 3, squeeze=False)
    for row, comparison in zip(panels, rows, strict=True):
        titles = (
            f"input  {comparison.input_psnr_db:.2f} dB",
            f"deblurred  {comparison.deblurred_psnr_db:.2f} dB",
            "truth (sharp frame, aligned)",
        )
        images = (comparison.input, comparison.deblurred, comparison.truth)
        for axes, title, image in zip(row, titles, images, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
    with replace_atomically(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def drift_map(drift: Drift, scale_px: float) -> NDArray[np.uint8]:
    """Draws a map of displacements, (h, w, 3): hue is direction, full colour `scale_px`; grey without an estimate."""
    known = np.isfinite(drift.field[..., 0])
    colours = flow_colours(np.where(known[..., None], drift.field, 0), scale_px)
    return np.kron(fade_by_confidence(colours, known.astype(np.float32)), np.ones((_CELL_PX, _CELL_PX, 1), np.uint8))
