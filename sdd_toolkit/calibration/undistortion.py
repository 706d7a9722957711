"""A lens model brought onto a pair: the straightened frame's grid, its box, its flow and its brightness.

Alignment knows the frames as shot. The straightened sharp frame shows at y what the sharp frame as shot holds at D(y);
the blurred frame follows by its homography from there, so that both are resampled once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.calibration import lensfun_profile
from sdd_toolkit.errors import RawError
from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.imaging.geometry import largest_box
from sdd_toolkit.imaging.interpolation import REACH_PX, Interpolation
from sdd_toolkit.imaging.resampling import sample
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.raw.development import LensCorrection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdd_toolkit.raw.development import DevelopConfig
    from sdd_toolkit.records import FrameMeta, PairRecord

    Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Vignetting:
    """(H, W) what a developed frame is multiplied by, and the f-number it is for."""

    gain: NDArray[np.float32]
    f_number: float


@dataclass(frozen=True, slots=True)
class Correction:
    """A lens correction in packed pixels.

    Attributes:
        name: Name of the lens in the database.
        places: (H, W, 2) where the pixels of the straightened sharp frame lie in the frame as shot: D.
        blur: Vignetting of the blurred frame; None if that of either frame is not known.
        sharp: Of the sharp frame.
    """

    name: str
    places: NDArray[np.float32]
    blur: Vignetting | None
    sharp: Vignetting | None


def find_correction(record: PairRecord, size: tuple[int, int], develop: DevelopConfig) -> Correction | None:
    """The correction of a pair: geometry by the sharp frame's lens, vignetting by each frame's own opening.

    Args:
        record: The pair.
        size: (height, width) of its frames at full size, oriented.
        develop: Whether, and at what size.

    Returns:
        None if none is wanted, or `lensfun-if-known` does not know the lens.

    Raises:
        RawError: `lensfun` does not know the lens.
        MissingExtraError: lensfunpy is not installed.
    """
    if develop.lens_correction is LensCorrection.NONE:
        return None
    model = lensfun_profile.find_profile(record.sharp_meta)
    if isinstance(model, str):
        if develop.lens_correction is LensCorrection.LENSFUN:
            raise RawError(f"no lens correction: {model}", hint='or lens_correction = "lensfun-if-known"')
        return None
    places = lensfun_profile.distortion_map(model, size)
    blur, sharp = (_vignetting(model, meta, size, develop) for meta in (record.blur_meta, record.sharp_meta))
    if blur is None or sharp is None:
        # Only one frame corrected would be a difference that no lens made.
        blur = sharp = None
    if develop.reduction == 2:
        places = lensfun_profile.halve_map(places)
    return Correction(model.name, places, blur, sharp)


def undistort_box(box: Box, places: NDArray[np.float32]) -> Box:
    """The largest box of the straightened frame, in multiples of 4 px, that shows the inside of `box` only."""
    height, width = places.shape[:2]
    left, top = (max(edge, REACH_PX) for edge in box[:2])
    right, bottom = min(box[2] - 1, width - 1 - REACH_PX), min(box[3] - 1, height - 1 - REACH_PX)
    x, y = places[..., 0], places[..., 1]
    inside_box = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    rows, columns = height // FLOW_FACTOR, width // FLOW_FACTOR
    cells = inside_box[: rows * FLOW_FACTOR, : columns * FLOW_FACTOR].reshape(rows, FLOW_FACTOR, columns, FLOW_FACTOR)
    found = largest_box(cells.all(axis=(1, 3)))
    return (found[0] * FLOW_FACTOR, found[1] * FLOW_FACTOR, found[2] * FLOW_FACTOR, found[3] * FLOW_FACTOR)


def undistort_flow(flow: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
    """A flow of the frames as shot, on the quarter-size grid of the straightened crop and in its pixels.

    The straightened frame shows at y what lies at D(y); a short step u there is the step J⁻¹u here, J = dD/dy.
    """
    height, width = places.shape[:2]
    centres = places.reshape(height // FLOW_FACTOR, FLOW_FACTOR, width // FLOW_FACTOR, FLOW_FACTOR, 2)
    centres = centres.mean(axis=(1, 3), dtype=np.float64)
    offset = (FLOW_FACTOR - 1) / 2
    x, y = ((centres[..., axis] - offset) / FLOW_FACTOR for axis in (0, 1))
    steps = sample(flow, x, y, Interpolation.LINEAR).astype(np.float64)
    down, across = (np.gradient(centres, axis=axis) / FLOW_FACTOR for axis in (0, 1))
    jacobian = np.stack([across, down], axis=-1)
    return np.asarray(np.linalg.solve(jacobian, steps[..., None])[..., 0], dtype=np.float32)


def _vignetting(
    model: lensfun_profile.LensModel, meta: FrameMeta, size: tuple[int, int], develop: DevelopConfig
) -> Vignetting | None:
    gain = lensfun_profile.vignetting_gain(model, meta.exposure, size)
    if gain is None or meta.exposure.f_number is None:
        return None
    return Vignetting(bin_2x2(gain) if develop.reduction == 2 else gain, meta.exposure.f_number)
