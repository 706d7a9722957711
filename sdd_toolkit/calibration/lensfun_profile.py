"""Distortion and vignetting of lenses from the lensfun database; the only importer of lensfunpy.

A correction is a map and a gain, computed here and applied by `pack_pair` in the single resampling of a frame. Both
are symmetric about the frame's centre, so they are computed for the oriented frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sdd_toolkit.errors import InputError, MissingExtraError
from sdd_toolkit.imaging.geometry import centre_and_half_diagonal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sdd_toolkit.records import Exposure, FrameMeta, PairRecord

_INFINITY_M = 1000.0  # infinity for lensfun
_MAX_LISTED = 5
_POWERS, _FITTED_ROWS = 5, 64
_BAND_ROWS = 256


@dataclass(frozen=True, slots=True)
class LensModel:
    """A lens of the database at one focal length.

    Attributes:
        make: The camera's maker.
        camera: The camera's model.
        lens: The lens' name in the file.
        name: Its name in the database.
        focal_mm: Focal length.
    """

    make: str
    camera: str
    lens: str
    name: str
    focal_mm: float


def find_profile(meta: FrameMeta) -> LensModel | str:
    """Finds the lens of a frame in the database; returns the reason if it cannot be corrected.

    Raises:
        MissingExtraError: lensfunpy is not installed.
    """
    database()
    if meta.make is None or meta.model is None or meta.lens is None:
        return "the file names no camera and lens"
    if meta.exposure.focal_mm is None:
        return "the file names no focal length"
    match = _find(meta.make, meta.model, meta.lens)
    if isinstance(match, str):
        return match
    _, lens = match
    if lens.interpolate_distortion(meta.exposure.focal_mm) is None:
        return f"the database has no distortion of {lens.model} at {meta.exposure.focal_mm:g} mm"
    return LensModel(meta.make, meta.model, meta.lens, f"{lens.maker} {lens.model}", meta.exposure.focal_mm)


def check_known(records: Sequence[PairRecord]) -> None:
    """Raises InputError with the cameras and lenses of sharp frames that `find_profile` does not find."""
    unknown: dict[str, str] = {}
    for record in records:
        profile = find_profile(record.sharp_meta)
        if isinstance(profile, str):
            meta = record.sharp_meta
            unknown.setdefault(f"{meta.make} {meta.model}, {meta.lens}: {profile}", record.id)
    if unknown:
        listed = "; ".join(f"{lens} ({pair_id})" for lens, pair_id in list(unknown.items())[:_MAX_LISTED])
        more = f" and {len(unknown) - _MAX_LISTED} more" if len(unknown) > _MAX_LISTED else ""
        raise InputError(
            f"no lens correction for {listed}{more}",
            hint='lens_correction = "lensfun-if-known" in [develop] leaves such pairs as they are',
        )


def distortion_map(model: LensModel, size: tuple[int, int]) -> NDArray[np.float32]:
    """The position in the frame as shot of each pixel of the undistorted frame.

    Args:
        model: See `find_profile`.
        size: (height, width) at full size.

    Returns:
        (height, width, 2) px, (x, y), pixel centres at integers.
    """
    height, width = size
    (centre_x, centre_y), reach = centre_and_half_diagonal(size)
    coefficients = _radial(model, size)
    positions = np.empty((height, width, 2), dtype=np.float32)
    dx = (np.arange(width) - centre_x)[None, :]
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, min(top + _BAND_ROWS, height))
        dy = (np.arange(rows.start, rows.stop) - centre_y)[:, None]
        factor = np.polynomial.polynomial.polyval(np.hypot(dx, dy) / reach, coefficients)
        positions[rows, :, 0], positions[rows, :, 1] = centre_x + factor * dx, centre_y + factor * dy
    return positions


def vignetting_gain(model: LensModel, exposure: Exposure, size: tuple[int, int]) -> NDArray[np.float32] | None:
    """The gain that corrects vignetting: factor of the linear light of a frame as shot, 1 in its centre.

    Args:
        model: See `find_profile`.
        exposure: F-number and focus distance of the frame; an unknown distance counts as infinity.
        size: (height, width) at full size.

    Returns:
        (height, width); None if the f-number or the vignetting of the lens is unknown.
    """
    if exposure.f_number is None:
        return None
    focus_m = exposure.focus_m if exposure.focus_m is not None and math.isfinite(exposure.focus_m) else _INFINITY_M
    modifier = _modifier(model, size)
    flags = _lensfunpy().ModifyFlags.VIGNETTING
    modifier.initialize(model.focal_mm, exposure.f_number, focus_m, pixel_format=np.float32, flags=flags)
    # The wrapper requires three channels; one is returned.
    gain = np.ones((*size, 3), dtype=np.float32)
    return np.ascontiguousarray(gain[..., 0]) if modifier.apply_color_modification(gain) else None


def halve_map(full: NDArray[np.float32]) -> NDArray[np.float32]:
    """Converts a map of `distortion_map` to the half-size grid, in half-size pixels."""
    blocks = (full[0::2, 0::2] + full[0::2, 1::2] + full[1::2, 0::2] + full[1::2, 1::2]) / np.float32(4)
    return np.asarray((blocks - np.float32(0.5)) / np.float32(2), dtype=np.float32)


def database_version() -> str:
    """The version of the database: that of its package."""
    return str(_lensfunpy().__version__)


@cache
def database() -> Any:
    """The lensfun database that comes with lensfunpy.

    Raises:
        MissingExtraError: lensfunpy is not installed.
    """
    return _lensfunpy().Database()


def _lensfunpy() -> Any:
    try:
        import lensfunpy
    except ImportError as error:
        raise MissingExtraError.of("lensfunpy", "lens") from error
    return lensfunpy


@cache
def _find(make: str, model: str, lens: str) -> tuple[Any, Any] | str:
    """The best match of camera and lens in the database, or the reason why there is none."""
    cameras = database().find_cameras(make, model)
    if not cameras:
        return "the camera is not in the database"
    lenses = database().find_lenses(cameras[0], None, lens)
    return (cameras[0], lenses[0]) if lenses else "the lens is not in the database for this camera"


def _radial(model: LensModel, size: tuple[int, int]) -> NDArray[np.float64]:
    """Coefficients of the factor by which a point moves from the centre, in powers of its distance.

    lensfun rounds single positions by tenths of a pixel (12-bit reciprocals); all of its models are a factor of up to
    the fourth power, so that a fit to many positions is exact. The unit of distance is half the diagonal.
    """
    height, width = size
    (centre_x, centre_y), reach = centre_and_half_diagonal(size)
    modifier = _modifier(model, size)
    modifier.initialize(model.focal_mm, 8.0, _INFINITY_M, flags=_lensfunpy().ModifyFlags.DISTORTION)
    systems, moved = [], []
    for row in np.unique(np.linspace(0, height - 1, _FITTED_ROWS).astype(int)):
        positions = modifier.apply_geometry_distortion(0, float(row), width, 1)[0].astype(np.float64)
        dx, dy = (np.arange(width) - centre_x) / reach, np.full(width, (row - centre_y) / reach)
        powers = np.hypot(dx, dy)[:, None] ** np.arange(_POWERS)
        systems += [dx[:, None] * powers, dy[:, None] * powers]
        moved += [(positions[:, 0] - centre_x) / reach, (positions[:, 1] - centre_y) / reach]
    solution = np.linalg.lstsq(np.concatenate(systems), np.concatenate(moved), rcond=None)[0]
    return np.asarray(solution, dtype=np.float64)


def _modifier(model: LensModel, size: tuple[int, int]) -> Any:
    match = _find(model.make, model.camera, model.lens)
    if isinstance(match, str):
        raise ValueError(match)
    camera, lens = match
    return _lensfunpy().Modifier(lens, camera.crop_factor, size[1], size[0])
