"""Pictures of an evaluation: before and after, where to look, and maps of displacements."""

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
from sdd_toolkit.imaging.flow_colours import faded, flow_colours
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
class Comparison:
    """One cut-out of a pair, three times, (h, w, 3) uint8, with the PSNR of the cut-out."""

    pair: str
    input: NDArray[np.uint8]
    deblurred: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    input_psnr_db: float
    deblurred_psnr_db: float

    @property
    def gain_db(self) -> float:
        """What deblurring gained in this cut-out."""
        return self.deblurred_psnr_db - self.input_psnr_db


@dataclass(frozen=True, slots=True)
class CropWindow:
    """Which part of a frame is shown."""

    rows: slice
    columns: slice


def largest_gain_window(truth: Batch, deblurred: Tensor, size: int) -> CropWindow:
    """The square of a pair in which the squared error fell most.

    Args:
        truth: The pair.
        deblurred: (1, 3, H, W).
        size: Side of the square, pixels; less where the frame is smaller.
    """
    target, valid = truth.sharp_on_blur, truth.valid
    fall = ((truth.blur - target).square() - (deblurred - target).square()).mean(1, keepdim=True) * valid
    side = min(size, *fall.shape[-2:])
    pooled = F.avg_pool2d(fall, side, stride=_STRIDE_PX)[0, 0]
    row, column = divmod(int(pooled.argmax()), pooled.shape[1])
    top, left = row * _STRIDE_PX, column * _STRIDE_PX
    return CropWindow(slice(top, top + side), slice(left, left + side))


def crop_window(
    pair: str, truth: Batch, deblurred: Tensor, size: int, encoding: Encoding, place: CropWindow | None = None
) -> Comparison:
    """A square of a pair.

    Args:
        pair: The pair's id.
        truth: The pair.
        deblurred: (1, 3, H, W).
        size: Side of the square, pixels; less where the frame is smaller.
        encoding: Of the values; linear ones get the sRGB curve to be looked at.
        place: Which one; None: `place_of_gain`.
    """
    where = place or largest_gain_window(truth, deblurred, size)
    images = (truth.blur, deblurred, truth.sharp_on_blur, truth.valid)
    parts = [image[..., where.rows, where.columns] for image in images]
    before, after = (float(psnr(image, parts[2], parts[3])) for image in parts[:2])
    blurred, restored, sharp = (to_display_pixels(image, encoding) for image in parts[:3])
    return Comparison(pair, blurred, restored, sharp, before, after)


def row_picture(comparison: Comparison) -> NDArray[np.uint8]:
    """(h, 3 w + 2 gaps, 3): input | deblurred | truth."""
    gap = np.full((len(comparison.input), 4, 3), 255, dtype=np.uint8)
    parts = [comparison.input, gap, comparison.deblurred, gap, comparison.truth]
    return np.concatenate(parts, axis=1)


def draw_comparison(rows: Sequence[Comparison], path: Path) -> None:
    """Rows of input, deblurred and truth with their PSNR, as a PNG."""
    figure = Figure(figsize=(9.0, 3.15 * len(rows)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for line, comparison in zip(axes, rows, strict=True):
        titles = (
            f"input  {comparison.input_psnr_db:.2f} dB",
            f"deblurred  {comparison.deblurred_psnr_db:.2f} dB",
            "truth (sharp frame, aligned)",
        )
        images = (comparison.input, comparison.deblurred, comparison.truth)
        for place, title, image in zip(line, titles, images, strict=True):
            place.imshow(image, interpolation="nearest")
            place.set_title(title, fontsize=9)
            place.set_axis_off()
    with replace_atomically(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def drift_picture(shift: Drift, scale_px: float) -> NDArray[np.uint8]:
    """A map of displacements, (h, w, 3): hue is direction, full colour `scale_px`; grey where a block abstains."""
    known = np.isfinite(shift.field[..., 0])
    colours = flow_colours(np.where(known[..., None], shift.field, 0), scale_px)
    return np.kron(faded(colours, known.astype(np.float32)), np.ones((_CELL_PX, _CELL_PX, 1), np.uint8))
