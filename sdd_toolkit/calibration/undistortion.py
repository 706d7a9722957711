"""Corrects the distortion and vignetting of a pair: map of the undistorted frame, its box, flow and gains.

Alignment refers to the frames as shot. The undistorted sharp frame shows at y the content of the sharp frame as shot at
D(y); the blurred frame follows from there by its homography, so that both are resampled once.
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
    """(H, W) factor of a developed frame, and the f-number it applies to."""

    gain: NDArray[np.float32]
    f_number: float


@dataclass(frozen=True, slots=True)
class Correction:
    """A lens correction in packed pixels.

    Attributes:
        name: Name of the lens in the database.
        distortion: (H, W, 2) D, positions in the frame as shot of the pixels of the undistorted sharp frame.
        blur: Vignetting of the blurred frame; None if that of either frame is unknown.
        sharp: Vignetting of the sharp frame.
    """

    name: str
    distortion: NDArray[np.float32]
    blur: Vignetting | None
    sharp: Vignetting | None


def find_correction(record: PairRecord, size: tuple[int, int], develop: DevelopConfig) -> Correction | None:
    """Finds the correction of a pair: geometry by the lens of the sharp frame, vignetting by each frame's f-number.

    Args:
        record: The pair.
        size: (height, width) of its frames at full size, oriented.
        develop: Whether to correct, and at what size.

    Returns:
        None if no correction is configured, or the lens is unknown with `lensfun-if-known`.

    Raises:
        RawError: The lens is unknown with `lensfun`.
        MissingExtraError: lensfunpy is not installed.
    """
    if develop.lens_correction is LensCorrection.NONE:
        return None
    model = lensfun_profile.find_profile(record.sharp_meta)
    if isinstance(model, str):
        if develop.lens_correction is LensCorrection.LENSFUN:
            raise RawError(f"no lens correction: {model}", hint='or lens_correction = "lensfun-if-known"')
        return None
    distortion = lensfun_profile.distortion_map(model, size)
    blur, sharp = (_vignetting(model, meta, size, develop) for meta in (record.blur_meta, record.sharp_meta))
    if blur is None or sharp is None:
        # Correcting one frame only would introduce a difference.
        blur = sharp = None
    if develop.reduction == 2:
        distortion = lensfun_profile.halve_map(distortion)
    return Correction(model.name, distortion, blur, sharp)


def undistort_box(box: Box, distortion: NDArray[np.float32]) -> Box:
    """The largest box of the undistorted frame, in multiples of 4 px, that shows the inside of `box` only."""
    height, width = distortion.shape[:2]
    left, top = (max(edge, REACH_PX) for edge in box[:2])
    right, bottom = min(box[2] - 1, width - 1 - REACH_PX), min(box[3] - 1, height - 1 - REACH_PX)
    x, y = distortion[..., 0], distortion[..., 1]
    inside_box = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    rows, columns = height // FLOW_FACTOR, width // FLOW_FACTOR
    cells = inside_box[: rows * FLOW_FACTOR, : columns * FLOW_FACTOR].reshape(rows, FLOW_FACTOR, columns, FLOW_FACTOR)
    left, top, right, bottom = (edge * FLOW_FACTOR for edge in largest_box(cells.all(axis=(1, 3))))
    return left, top, right, bottom


def undistort_flow(flow: NDArray[np.float32], distortion: NDArray[np.float32]) -> NDArray[np.float32]:
    """Converts a flow of the frames as shot to the quarter-size grid of the undistorted crop and its pixels.

    The undistorted frame shows at y the content at D(y); a short step u there is the step J⁻¹u here, J = dD/dy.
    """
    height, width = distortion.shape[:2]
    centres = distortion.reshape(height // FLOW_FACTOR, FLOW_FACTOR, width // FLOW_FACTOR, FLOW_FACTOR, 2)
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
