"""One pair from its two files to the arrays of a shard: develop at full size, warp the blurred frame, crop, encode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap
from sdd_toolkit.calibration.undistortion import find_correction, undistort_box, undistort_flow
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.frames.reading import develop_frame
from sdd_toolkit.imaging.encoding import Codes, Encoding, encode, encode_integers
from sdd_toolkit.imaging.geometry import enlarge_flow, scaled
from sdd_toolkit.imaging.resampling import Interpolation, sample, warp, warped_tiles
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR, applicable, carried, halved
from sdd_toolkit.imaging.residual_flow import read_residual_flow as read_residual
from sdd_toolkit.raw.development import DevelopConfig, PairDevelopment
from sdd_toolkit.records import Reason
from sdd_toolkit.shards.index import Brightness, FailedPair, Warp
from sdd_toolkit.shards.schema import PackedPair
from sdd_toolkit.storage.files import resolve_inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TypeAlias

    from numpy.typing import NDArray

    from sdd_toolkit.calibration.undistortion import Vignetting
    from sdd_toolkit.imaging.frame import DevelopedFrame, FrameFacts
    from sdd_toolkit.imaging.resampling import WarpedTile
    from sdd_toolkit.records import Alignment, PairRecord, Row

    Light: TypeAlias = NDArray[np.uint16] | NDArray[np.float32]

_BAND_ROWS = 64
Box = tuple[int, int, int, int]


class _UnpackableError(Exception):
    """Why this pair cannot be packed; never leaves this module."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class _Flows:
    """What is done with the residual flow, on the quarter-size grid of the packed size, in packed pixels.

    Attributes:
        applied: (h, w, 2) what the warp applies; None: nothing.
        left: (h, w, 2) what is left between the packed frames.
        hidden: (h, w) where the blurred frame, once warped, shows what the sharp one does not.
    """

    applied: NDArray[np.float32] | None
    left: NDArray[np.float32]
    hidden: NDArray[np.bool_]

    def cropped(self, box: Box) -> _Flows:
        """The part on a box of pixels that are multiples of 4."""
        left, top, right, bottom = (edge // FLOW_FACTOR for edge in box)
        part = np.s_[top:bottom, left:right]
        return _Flows(None if self.applied is None else self.applied[part], self.left[part], self.hidden[part])


def pack_pair(
    record: PairRecord,
    blur: Path,
    sharp: Path,
    folder: Path,
    encoding: Encoding,
    min_size_px: int,
    *,
    warp_by: Warp = Warp.HOMOGRAPHY,
    brightness: Brightness = Brightness.GAIN,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    hot_pixels: HotPixelMap = HotPixelMap(),  # noqa: B008 frozen
) -> PackedPair | FailedPair:
    """The pair on the sharp frame's grid, cropped to where both frames are valid, or why it cannot be had.

    Both frames get the sharp frame's white balance. The blurred frame is resampled once, straight onto the cropped
    grid, and brought to the sharp frame's brightness in linear light. One frame is in memory at a time. Developed
    to half size, the alignment is brought to half-size pixels first. With a lens correction the grid is that of the
    straightened sharp frame, and the sharp frame is resampled once, too.

    Args:
        record: An aligned pair.
        blur: Its blurred frame's file; the caller has checked that it is the one that was ingested.
        sharp: Its sharp frame's file.
        folder: Folder that `alignment.flow_file` is relative to.
        encoding: How to store the pixels.
        min_size_px: Boxes with a shorter side are refused.
        warp_by: Whether the residual flow is applied in the same resampling.
        brightness: What of the photometric model is applied.
        develop: How RAW files are developed.
        hot_pixels: What is repaired before.

    Raises:
        ManifestError: `alignment.flow_file` leaves `folder`.
        MissingExtraError: A lens correction is wanted and lensfunpy is not installed.
    """
    try:
        alignment = _usable_alignment(record.alignment)
        lens = find_correction(record, alignment.size, develop)
        flows = _read_flows(folder, alignment, warp_by, develop.reduction)
        alignment = _at_half_size(alignment) if develop.reduction == 2 else alignment
        overlap = crop_box(alignment.box, alignment.size)
        box = _shrink_by_flow(overlap, flows)
        if lens is not None:
            box = overlap = undistort_box(box, lens.places)
        left, top, right, bottom = box
        size = (bottom - top, right - left)
        if min(size) < min_size_px:
            raise _UnpackableError(Reason.TOO_SMALL, f"overlap {size[1]} x {size[0]} px < {min_size_px} px")
        places = None if lens is None else lens.places[top:bottom, left:right]
        bad = [hot_pixels.of(meta) for meta in (record.blur_meta, record.sharp_meta)]

        shown = _develop(sharp, None, alignment.size, develop, bad[1])
        balance = shown.white_balance
        light, sharp_facts = _correct_vignetting(shown, None if lens is None else lens.sharp)
        target = light[top:bottom, left:right]
        if places is not None:
            target = warp(light, np.eye(3), size, through=places)
            target *= _unit_scale(light)
        sharp_codes = _encode_frame(target, encoding)
        del shown, light, target

        shown = _develop(blur, balance, alignment.size, develop, bad[0])
        full = brightness is Brightness.FULL
        # The measured falloff brings the blurred frame to the sharp one's vignetting; then both share the sharp one's.
        light, blur_facts = _correct_vignetting(shown, None if lens is None or full else lens.blur)
        del shown
        common = lens.sharp if full and lens is not None else None
        if common is not None:
            blur_facts = replace(blur_facts, vignetting_by=common.f_number)
        # The flow at the rim of the crop comes from beyond it.
        blur_codes = np.empty((overlap[3] - overlap[1], overlap[2] - overlap[0], 3), dtype=sharp_codes.dtype)
        mask = np.empty(blur_codes.shape[:2], dtype=np.bool_)
        for tile in _warp_tiles(light, alignment, overlap, flows, places):
            at = (
                _coordinates(overlap, tile.place)
                if places is None
                else (places[*tile.place, 0], places[*tile.place, 1])
            )
            values = tile.values
            values *= _brightness_factor(alignment, at, brightness) * _unit_scale(light)
            if full:
                values += np.float32(alignment.offset)
            if common is not None:
                x, y = (axis.astype(np.float64) for axis in at)
                values *= sample(common.gain, x, y, Interpolation.LINEAR)[..., None]
            blur_codes[tile.place], mask[tile.place] = encode(values, encoding), tile.valid
        crop = np.s_[top - overlap[1] : bottom - overlap[1], left - overlap[0] : right - overlap[0]]
        name = None if lens is None else lens.name
        return PackedPair(
            id=record.id,
            blur=blur_codes[crop],
            sharp=sharp_codes,
            valid=mask[crop],
            flow=flows.cropped(box).left if places is None else undistort_flow(flows.left, places),
            record=record,
            box=box,
            development=PairDevelopment(balance, blur=blur_facts, sharp=sharp_facts, lens=name),
        )
    except _UnpackableError as error:
        return FailedPair(record.id, error.reason, error.detail)
    except RawError as error:
        return FailedPair(record.id, Reason.UNREADABLE, error.what)


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
        raise _UnpackableError(Reason.NOT_ALIGNED, "the pair was never aligned")
    if alignment.failure is not None:
        raise _UnpackableError(alignment.failure, alignment.detail)
    photometry = (alignment.gain, *alignment.colour_gain, alignment.offset, *alignment.vignetting)
    numbers = np.array([*alignment.homography.ravel(), alignment.radial, *photometry], dtype=np.float64)
    brightens = alignment.gain > 0 and min(alignment.colour_gain) > 0
    if not (np.all(np.isfinite(numbers)) and brightens and abs(np.linalg.det(alignment.homography)) > 1e-9):
        raise _UnpackableError(Reason.NOT_ALIGNED, "its homography or gain is not usable")
    return alignment


def _at_half_size(alignment: Alignment) -> Alignment:
    """What places pixels in `alignment`, in half-size pixels: x_full = 2 x_half + 0.5. The box loses half pixels."""
    left, top, right, bottom = alignment.box
    first, second, third = ((float(a), float(b), float(c)) for a, b, c in scaled(alignment.homography, 0.5))
    return replace(
        alignment,
        rows=(first, second, third),
        size=(alignment.size[0] // 2, alignment.size[1] // 2),
        box=(-(-left // 2), -(-top // 2), right // 2, bottom // 2),
    )


def _develop(
    path: Path, balance: Row | None, size: tuple[int, int], develop: DevelopConfig, bad_pixels: NDArray[np.int32] | None
) -> DevelopedFrame:
    shown = develop_frame(path, balance, develop.demosaic, bad_pixels)
    if shown.light.shape[:2] != tuple(size):
        raise _UnpackableError(
            Reason.SIZE_MISMATCH,
            f"{path.name} develops to {shown.light.shape[:2]}, the alignment is for {tuple(size)}",
        )
    return shown


def _correct_vignetting(shown: DevelopedFrame, vignetting: Vignetting | None) -> tuple[Light, FrameFacts]:
    """A developed frame's light without its vignetting, and its facts."""
    if vignetting is None:
        return shown.light, shown.facts
    linear = shown.linear
    linear *= vignetting.gain[..., None]
    return linear, replace(shown.facts, vignetting_by=vignetting.f_number)


def _unit_scale(light: Light) -> np.float32:
    """What brings `light` to 0 … 1."""
    return np.float32(1.0) if light.dtype == np.float32 else np.float32(1 / 65535)


def _encode_frame(light: Light, encoding: Encoding) -> Codes:
    """`light` as it is packed; floats a few rows at a time: `encode` needs temporary arrays of its input's size."""
    if light.dtype == np.uint16:
        return encode_integers(np.asarray(light, dtype=np.uint16), encoding)
    linear = np.asarray(light, dtype=np.float32)
    return np.concatenate(
        [encode(linear[top : top + _BAND_ROWS], encoding) for top in range(0, len(linear), _BAND_ROWS)]
    )


def _read_flows(folder: Path, alignment: Alignment, warp_by: Warp, reduction: int) -> _Flows:
    """Of the whole frame, in packed pixels; zero where the alignment wrote no flow."""
    if alignment.flow_file is None:
        grid = [-(-(edge // reduction) // FLOW_FACTOR) for edge in alignment.size]
        return _Flows(None, np.zeros((*grid, 2), dtype=np.float32), np.zeros(grid, dtype=np.bool_))
    path = resolve_inside(folder, alignment.flow_file)
    try:
        residual = read_residual(path, alignment.size)
    except InputError as error:
        raise _UnpackableError(Reason.UNREADABLE, error.what) from error
    if reduction == 2:
        residual = halved(residual)
    if warp_by is Warp.HOMOGRAPHY:
        return _Flows(None, residual.flow, np.zeros_like(residual.occlusion))
    applied = applicable(residual)
    hidden = carried(residual.occlusion.astype(np.float32), applied) > 0
    return _Flows(applied, carried(residual.flow - applied, applied), hidden)


def _shrink_by_flow(box: Box, flows: _Flows) -> Box:
    """`box` shrunk by the longest flow at its rim, so that what the flow brings in from outside stays outside."""
    around = flows.cropped(box).applied
    if around is None or around.size == 0:
        return box
    length = np.abs(around).max(axis=2)
    rim_px = max(float(edge.max()) for edge in (length[0], length[-1], length[:, 0], length[:, -1]))
    cut = -(-int(np.ceil(rim_px)) // FLOW_FACTOR) * FLOW_FACTOR
    left, top, right, bottom = box
    return left + cut, top + cut, max(left + cut, right - cut), max(top + cut, bottom - cut)


def _warp_tiles(
    light: Light, alignment: Alignment, box: Box, flows: _Flows, places: NDArray[np.float32] | None
) -> Iterator[WarpedTile]:
    """The blurred frame resampled onto the crop, and where that is valid, tile by tile.

    Args:
        light: (H, W, 3) the developed blurred frame.
        alignment: In its pixels.
        box: The crop.
        flows: Of the whole frame.
        places: (h, w, 2) where the crop's pixels lie in the sharp frame as shot; None: where they are.
    """
    left, top, right, bottom = box
    size = (bottom - top, right - left)
    if places is None:
        flows = flows.cropped(box)
        matrix = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=np.float64) @ alignment.homography
        window = size
    else:
        matrix = alignment.homography
        window = alignment.size
    flow = None if flows.applied is None else enlarge_flow(flows.applied, FLOW_FACTOR, (0, 0, *window))
    for tile in warped_tiles(light, matrix, size, radial=alignment.radial, flow=flow, through=places):
        if flow is None:
            yield tile
            continue
        rows, columns = tile.place
        if places is None:
            y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)[None]
        else:
            x, y = (np.rint(places[*tile.place, axis]).astype(np.int64) for axis in (0, 1))
        yield replace(tile, valid=tile.valid & ~flows.hidden[y // FLOW_FACTOR, x // FLOW_FACTOR])


def _coordinates(box: Box, place: tuple[slice, slice]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x and y of some pixels of a crop on the whole frame; they broadcast."""
    rows, columns = place
    ys = np.arange(box[1] + rows.start, box[1] + rows.stop, dtype=np.float32)[:, None]
    xs = np.arange(box[0] + columns.start, box[0] + columns.stop, dtype=np.float32)[None]
    return xs, ys


def _brightness_factor(
    alignment: Alignment, at: tuple[NDArray[np.float32], NDArray[np.float32]], brightness: Brightness
) -> NDArray[np.float32]:
    """What the warped crop is multiplied by at points of the sharp frame; broadcasts to (rows, w, 3)."""
    if brightness is Brightness.GAIN:
        return np.full((1, 1, 1), alignment.gain, dtype=np.float32)
    height, width = alignment.size
    xs, ys = (axis.astype(np.float64) for axis in at)
    squared = ((xs - (width - 1) / 2) ** 2 + (ys - (height - 1) / 2) ** 2) / (np.hypot(height, width) / 2) ** 2
    a, b = alignment.vignetting
    falloff = 1 + a * squared + b * squared**2
    return np.asarray(falloff[..., None] * (alignment.gain * np.array(alignment.colour_gain)), dtype=np.float32)
