"""The geometry of a packed pair: alignment at packed scale, residual flow, lens correction and the common crop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.calibration.undistortion import find_correction, undistort_box
from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.geometry import rescale_homography
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR, applicable_flow, halve_flow, move_with_flow
from sdd_toolkit.imaging.residual_flow import read_residual_flow as read_residual
from sdd_toolkit.records import Reason
from sdd_toolkit.shards.index import Warp
from sdd_toolkit.storage.files import resolve_inside

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.calibration.undistortion import Correction
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.raw.development import DevelopConfig
    from sdd_toolkit.records import Alignment, PairRecord

Box = tuple[int, int, int, int]


class UnpackableError(Exception):
    """The reason why a pair cannot be packed; `pack_pair` turns it into a `FailedPair`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Flows:
    """The residual flow on the quarter-size grid of the packed frame, in packed pixels.

    Attributes:
        applied: (h, w, 2) the part that the warp applies; None: nothing.
        residual: (h, w, 2) the part that remains between the packed frames.
        occluded: (h, w) where the warped blurred frame shows something else than the sharp one.
    """

    applied: NDArray[np.float32] | None
    residual: NDArray[np.float32]
    occluded: NDArray[np.bool_]

    def cropped(self, box: Box) -> Flows:
        """The part on a box whose edges are multiples of 4 px."""
        left, top, right, bottom = (edge // FLOW_FACTOR for edge in box)
        part = np.s_[top:bottom, left:right]
        applied = None if self.applied is None else self.applied[part]
        return Flows(applied, self.residual[part], self.occluded[part])


@dataclass(frozen=True, slots=True)
class PairGeometry:
    """The grid of a packed pair, in packed pixels of the whole sharp frame.

    Attributes:
        alignment: Maps that grid into the blurred frame.
        flows: Residual flow of the whole frame.
        lens: Lens correction of both frames; None: none.
        overlap: (left, top, right, bottom), half open: where both frames have pixels.
        box: The crop: `overlap` without the rim that the applied flow reaches across.
    """

    alignment: Alignment
    flows: Flows
    lens: Correction | None
    overlap: Box
    box: Box

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the packed arrays."""
        left, top, right, bottom = self.box
        return bottom - top, right - left

    @property
    def distorted_points(self) -> NDArray[np.float32] | None:
        """(h, w, 2) where the packed pixels lie in the sharp frame as shot; None without lens correction."""
        left, top, right, bottom = self.box
        return None if self.lens is None else self.lens.distortion[top:bottom, left:right]


def pair_geometry(record: PairRecord, folder: Path, config: PackConfig, develop: DevelopConfig) -> PairGeometry:
    """The grid of a pair from its alignment.

    Args:
        record: The pair.
        folder: Folder that `alignment.flow_file` is relative to.
        config: Section `[pack]`: warp and smallest size.
        develop: How RAW files are developed: half size halves the grid.

    Raises:
        UnpackableError: The pair is not aligned, its flow cannot be read, or the frames overlap too little.
        ManifestError: `alignment.flow_file` leaves `folder`.
        MissingExtraError: A lens correction is wanted and lensfunpy is not installed.
    """
    alignment = _usable_alignment(record.alignment)
    lens = find_correction(record, alignment.size, develop)
    flows = _read_flows(folder, alignment, config.warp, develop.reduction)
    if develop.reduction == 2:
        alignment = _at_half_size(alignment)
    overlap = crop_box(alignment.box, alignment.size)
    box = _shrink_by_flow(overlap, flows)
    if lens is not None:
        box = overlap = undistort_box(box, lens.distortion)
    geometry = PairGeometry(alignment, flows, lens, overlap, box)
    height, width = geometry.size
    if min(height, width) < config.min_size_px:
        raise UnpackableError(Reason.TOO_SMALL, f"overlap {width} x {height} px < {config.min_size_px} px")
    return geometry


def crop_box(box: Box, size: tuple[int, int]) -> Box:
    """`box` shrunk to multiples of 4 px, so that the quarter-size grid of the flow crops exactly with it.

    Args:
        box: (left, top, right, bottom), half open.
        size: (height, width) of the frame; a box that leaves it is cut.
    """
    height, width = size
    left, top = (-(-max(0, edge) // FLOW_FACTOR) * FLOW_FACTOR for edge in box[:2])
    right = min(width, box[2]) // FLOW_FACTOR * FLOW_FACTOR
    bottom = min(height, box[3]) // FLOW_FACTOR * FLOW_FACTOR
    return left, top, max(left, right), max(top, bottom)


def _usable_alignment(alignment: Alignment | None) -> Alignment:
    if alignment is None:
        raise UnpackableError(Reason.NOT_ALIGNED, "the pair was never aligned")
    if alignment.failure is not None:
        raise UnpackableError(alignment.failure, alignment.detail)
    photometry = (alignment.gain, *alignment.colour_gain, alignment.offset, *alignment.vignetting)
    numbers = np.array([*alignment.homography.ravel(), alignment.radial, *photometry], dtype=np.float64)
    brightens = alignment.gain > 0 and min(alignment.colour_gain) > 0
    if not (np.all(np.isfinite(numbers)) and brightens and abs(np.linalg.det(alignment.homography)) > 1e-9):
        raise UnpackableError(Reason.NOT_ALIGNED, "its homography or gain is not usable")
    return alignment


def _at_half_size(alignment: Alignment) -> Alignment:
    """`alignment` in half-size pixels: x_full = 2 x_half + 0.5. Half pixels at the rim of the box are lost."""
    left, top, right, bottom = alignment.box
    first, second, third = ((float(a), float(b), float(c)) for a, b, c in rescale_homography(alignment.homography, 0.5))
    return replace(
        alignment,
        rows=(first, second, third),
        size=(alignment.size[0] // 2, alignment.size[1] // 2),
        box=(-(-left // 2), -(-top // 2), right // 2, bottom // 2),
    )


def _read_flows(folder: Path, alignment: Alignment, warp: Warp, reduction: int) -> Flows:
    """The flow of the whole frame, in packed pixels; zero where the alignment wrote none."""
    if alignment.flow_file is None:
        grid = [-(-(edge // reduction) // FLOW_FACTOR) for edge in alignment.size]
        return Flows(None, np.zeros((*grid, 2), dtype=np.float32), np.zeros(grid, dtype=np.bool_))
    path = resolve_inside(folder, alignment.flow_file)
    try:
        residual = read_residual(path, alignment.size)
    except InputError as error:
        raise UnpackableError(Reason.UNREADABLE, error.what) from error
    if reduction == 2:
        residual = halve_flow(residual)
    if warp is Warp.HOMOGRAPHY:
        return Flows(None, residual.flow, np.zeros_like(residual.occlusion))
    applied = applicable_flow(residual)
    occluded = move_with_flow(residual.occlusion.astype(np.float32), applied) > 0
    return Flows(applied, move_with_flow(residual.flow - applied, applied), occluded)


def _shrink_by_flow(box: Box, flows: Flows) -> Box:
    """`box` shrunk by the longest flow at its rim, so that pixels from outside of it stay outside."""
    applied = flows.cropped(box).applied
    if applied is None or applied.size == 0:
        return box
    length_px = np.abs(applied).max(axis=2)
    rims = (length_px[0], length_px[-1], length_px[:, 0], length_px[:, -1])
    longest_px = max(float(rim.max()) for rim in rims)
    margin_px = -(-int(np.ceil(longest_px)) // FLOW_FACTOR) * FLOW_FACTOR
    left, top, right, bottom = box
    left, top = left + margin_px, top + margin_px
    return left, top, max(left, right - margin_px), max(top, bottom - margin_px)
