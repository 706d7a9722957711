"""Packs one pair: both files developed at full size, the blurred frame warped onto the sharp one, cropped, encoded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap
from sdd_toolkit.calibration.undistortion import undistort_flow
from sdd_toolkit.errors import RawError
from sdd_toolkit.frames.reading import develop_frame
from sdd_toolkit.imaging.encoding import Codes, Encoding, encode, encode_integers
from sdd_toolkit.imaging.geometry import enlarge_flow
from sdd_toolkit.imaging.interpolation import Interpolation
from sdd_toolkit.imaging.resampling import sample, warp, warped_tiles
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.packing.pair_geometry import UnpackableError, pair_geometry
from sdd_toolkit.raw.development import DevelopConfig, PairDevelopment
from sdd_toolkit.records import Reason
from sdd_toolkit.shards.index import Brightness, FailedPair
from sdd_toolkit.shards.schema import DTYPE, PackedPair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TypeAlias

    from numpy.typing import NDArray

    from sdd_toolkit.calibration.undistortion import Vignetting
    from sdd_toolkit.imaging.frame import DevelopedFrame, FrameFacts
    from sdd_toolkit.imaging.resampling import WarpedTile
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.packing.pair_geometry import PairGeometry
    from sdd_toolkit.records import Alignment, PairRecord

    Light: TypeAlias = NDArray[np.uint16] | NDArray[np.float32]
    Points: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]

_BAND_ROWS = 64


def pack_pair(
    record: PairRecord,
    blur: Path,
    sharp: Path,
    folder: Path,
    config: PackConfig,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    hot_pixels: HotPixelMap = HotPixelMap(),  # noqa: B008 frozen
) -> PackedPair | FailedPair:
    """The pair on the sharp frame's grid, cropped to where both frames are valid, or the reason why it has none.

    Both frames get the sharp frame's white balance. The blurred frame is resampled once, straight onto the cropped
    grid, and brought to the sharp frame's brightness in linear light. One frame is in memory at a time. Developed
    to half size, the alignment is brought to half-size pixels first. With a lens correction the grid is that of the
    undistorted sharp frame, and the sharp frame is resampled once, too.

    Args:
        record: An aligned pair.
        blur: Its blurred frame's file; the caller has checked that it is the one that was ingested.
        sharp: Its sharp frame's file.
        folder: Folder that `alignment.flow_file` is relative to.
        config: Section `[pack]`: encoding, smallest size, warp and brightness.
        develop: How RAW files are developed.
        hot_pixels: The defective pixels that are repaired first.

    Raises:
        ManifestError: `alignment.flow_file` leaves `folder`.
        MissingExtraError: A lens correction is wanted and lensfunpy is not installed.
    """
    bad_blur, bad_sharp = (hot_pixels.of(meta) for meta in (record.blur_meta, record.sharp_meta))
    try:
        geometry = pair_geometry(record, folder, config, develop)
        frame = develop_frame(sharp, None, develop.demosaic, bad_sharp)
        _check_size(sharp, frame, geometry)
        balance = frame.white_balance
        sharp_codes, sharp_facts = _pack_sharp(frame, geometry, config.encoding)
        del frame
        frame = develop_frame(blur, balance, develop.demosaic, bad_blur, record.blur_turn)
        _check_size(blur, frame, geometry)
        light, blur_facts, vignetting = _flat_blurred(frame, geometry, config.brightness)
        del frame
        blur_codes, valid = _pack_blurred(light, geometry, config, vignetting)
    except UnpackableError as error:
        return FailedPair(record.id, error.reason, error.detail)
    except RawError as error:
        return FailedPair(record.id, Reason.UNREADABLE, error.what)
    points, flows, lens = geometry.distorted_points, geometry.flows, geometry.lens
    return PackedPair(
        id=record.id,
        blur=blur_codes,
        sharp=sharp_codes,
        valid=valid,
        flow=flows.cropped(geometry.box).residual if points is None else undistort_flow(flows.residual, points),
        record=record,
        box=geometry.box,
        development=PairDevelopment(balance, blur_facts, sharp_facts, None if lens is None else lens.name),
    )


def _check_size(path: Path, frame: DevelopedFrame, geometry: PairGeometry) -> None:
    expected = tuple(geometry.alignment.size)
    if frame.light.shape[:2] != expected:
        raise UnpackableError(
            Reason.SIZE_MISMATCH, f"{path.name} develops to {frame.light.shape[:2]}, the alignment is for {expected}"
        )


def _pack_sharp(frame: DevelopedFrame, geometry: PairGeometry, encoding: Encoding) -> tuple[Codes, FrameFacts]:
    """The sharp frame cropped, undistorted if there is a lens correction, and encoded."""
    lens, points = geometry.lens, geometry.distorted_points
    light, facts = _correct_vignetting(frame, None if lens is None else lens.sharp)
    if points is None:
        left, top, right, bottom = geometry.box
        return _encode_frame(light[top:bottom, left:right], encoding), facts
    undistorted = warp(light, np.eye(3), geometry.size, through=points)
    undistorted *= _unit_scale(light)
    return _encode_frame(undistorted, encoding), facts


def _flat_blurred(
    frame: DevelopedFrame, geometry: PairGeometry, brightness: Brightness
) -> tuple[Light, FrameFacts, Vignetting | None]:
    """The blurred frame's light, its facts, and the vignetting that is corrected only after the warp.

    With `full` brightness the measured falloff brings the blurred frame to the sharp frame's vignetting; the lens model
    then takes that one out of both.
    """
    lens = geometry.lens
    if lens is None or brightness is Brightness.GAIN:
        light, facts = _correct_vignetting(frame, None if lens is None else lens.blur)
        return light, facts, None
    if lens.sharp is None:
        return frame.light, frame.facts, None
    return frame.light, replace(frame.facts, vignetting_by=lens.sharp.f_number), lens.sharp


def _correct_vignetting(frame: DevelopedFrame, vignetting: Vignetting | None) -> tuple[Light, FrameFacts]:
    """A developed frame's light without its vignetting, and its facts."""
    if vignetting is None:
        return frame.light, frame.facts
    linear = frame.linear
    linear *= vignetting.gain[..., None]
    return linear, replace(frame.facts, vignetting_by=vignetting.f_number)


def _pack_blurred(
    light: Light, geometry: PairGeometry, config: PackConfig, vignetting: Vignetting | None
) -> tuple[Codes, NDArray[np.bool_]]:
    """The blurred frame warped onto the crop, brought to the sharp frame's brightness, encoded; and its valid pixels.

    Args:
        light: (H, W, 3) the developed blurred frame.
        geometry: Of the pair.
        config: Section `[pack]`: brightness and encoding.
        vignetting: Of the sharp frame, where it is to be corrected here.
    """
    alignment, overlap, unit_scale = geometry.alignment, geometry.overlap, _unit_scale(light)
    # The overlap, not the crop: the flow at the rim of the crop comes from beyond it.
    size = (overlap[3] - overlap[1], overlap[2] - overlap[0])
    dtype: np.dtype[Any] = np.dtype(DTYPE[config.encoding])
    codes = np.empty((*size, 3), dtype)
    valid = np.empty(size, dtype=np.bool_)
    for tile in _warp_tiles(light, geometry):
        points = _sharp_points(geometry, tile.window)
        values = tile.values
        values *= _brightness_factor(alignment, points, config.brightness) * unit_scale
        if config.brightness is Brightness.FULL:
            values += np.float32(alignment.offset)
        if vignetting is not None:
            x, y = (axis.astype(np.float64) for axis in points)
            values *= sample(vignetting.gain, x, y, Interpolation.LINEAR)[..., None]
        codes[tile.window], valid[tile.window] = encode(values, config.encoding), tile.valid
    top, left = geometry.box[1] - overlap[1], geometry.box[0] - overlap[0]
    height, width = geometry.size
    crop = np.s_[top : top + height, left : left + width]
    return codes[crop], valid[crop]


def _warp_tiles(light: Light, geometry: PairGeometry) -> Iterator[WarpedTile]:
    """The blurred frame resampled onto the overlap, and where it is valid, tile by tile."""
    alignment, flows, points = geometry.alignment, geometry.flows, geometry.distorted_points
    left, top, right, bottom = geometry.overlap
    size = (bottom - top, right - left)
    if points is None:
        flows = flows.cropped(geometry.overlap)
        matrix = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=np.float64) @ alignment.homography
        flow_size = size
    else:
        matrix = alignment.homography
        flow_size = alignment.size
    flow = None if flows.applied is None else enlarge_flow(flows.applied, FLOW_FACTOR, (0, 0, *flow_size))
    for tile in warped_tiles(light, matrix, size, radial=alignment.radial, flow=flow, through=points):
        if flow is None:
            yield tile
            continue
        rows, columns = tile.window
        if points is None:
            y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)[None]
        else:
            x, y = (np.rint(points[*tile.window, axis]).astype(np.int64) for axis in (0, 1))
        yield replace(tile, valid=tile.valid & ~flows.occluded[y // FLOW_FACTOR, x // FLOW_FACTOR])


def _sharp_points(geometry: PairGeometry, window: tuple[slice, slice]) -> Points:
    """x and y in the sharp frame as shot of the pixels in a window of the overlap; they broadcast."""
    points = geometry.distorted_points
    if points is not None:
        return points[*window, 0], points[*window, 1]
    rows, columns = window
    left, top = geometry.overlap[:2]
    ys = np.arange(top + rows.start, top + rows.stop, dtype=np.float32)[:, None]
    xs = np.arange(left + columns.start, left + columns.stop, dtype=np.float32)[None]
    return xs, ys


def _brightness_factor(alignment: Alignment, points: Points, brightness: Brightness) -> NDArray[np.float32]:
    """The factor that matches the blurred frame to the sharp one at points of it; broadcasts to (rows, w, 3)."""
    if brightness is Brightness.GAIN:
        return np.full((1, 1, 1), alignment.gain, dtype=np.float32)
    height, width = alignment.size
    xs, ys = (axis.astype(np.float64) for axis in points)
    squared = ((xs - (width - 1) / 2) ** 2 + (ys - (height - 1) / 2) ** 2) / (np.hypot(height, width) / 2) ** 2
    a, b = alignment.vignetting
    falloff = 1 + a * squared + b * squared**2
    return np.asarray(falloff[..., None] * (alignment.gain * np.array(alignment.colour_gain)), dtype=np.float32)


def _unit_scale(light: Light) -> np.float32:
    """The factor that brings `light` to 0 … 1."""
    return np.float32(1.0) if light.dtype == np.float32 else np.float32(1 / 65535)


def _encode_frame(light: Light, encoding: Encoding) -> Codes:
    """`light` encoded; floats a few rows at a time, because `encode` needs temporary arrays of its input's size."""
    if light.dtype == np.uint16:
        return encode_integers(np.asarray(light, dtype=np.uint16), encoding)
    linear = np.asarray(light, dtype=np.float32)
    return np.concatenate(
        [encode(linear[top : top + _BAND_ROWS], encoding) for top in range(0, len(linear), _BAND_ROWS)]
    )
