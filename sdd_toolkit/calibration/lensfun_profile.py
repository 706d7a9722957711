"""Distortion and vignetting of known lenses, by the lensfun database: the only importer of lensfunpy.

A correction is a map and a gain, computed here and applied by `pack_pair` in the one resampling of a frame. Both are
symmetric about the frame's centre, so they are made for the oriented frame.
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

_FAR_M = 1000.0  # what lensfun takes for infinity
_SHOWN = 5
_POWERS, _FITTED_ROWS = 5, 64
_BAND_ROWS = 256


@dataclass(frozen=True, slots=True)
class LensModel:
    """A lens of the database as it was used.

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
    """The lens a frame was shot with, or why the database cannot correct it.

    Raises:
        MissingExtraError: lensfunpy is not installed.
    """
    database()
    if meta.make is None or meta.model is None or meta.lens is None:
        return "the file names no camera and lens"
    if meta.exposure.focal_mm is None:
        return "the file names no focal length"
    found = _found(meta.make, meta.model, meta.lens)
    if isinstance(found, str):
        return found
    _, lens = found
    if lens.interpolate_distortion(meta.exposure.focal_mm) is None:
        return f"the database knows no distortion of {lens.model} at {meta.exposure.focal_mm:g} mm"
    return LensModel(meta.make, meta.model, meta.lens, f"{lens.maker} {lens.model}", meta.exposure.focal_mm)


def check_known(records: Sequence[PairRecord]) -> None:
    """Raises InputError naming the cameras and lenses of the sharp frames that `find` does not know."""
    unknown: dict[str, str] = {}
    for record in records:
        found = find_profile(record.sharp_meta)
        if isinstance(found, str):
            meta = record.sharp_meta
            unknown.setdefault(f"{meta.make} {meta.model}, {meta.lens}: {found}", record.id)
    if unknown:
        shown = "; ".join(f"{what} ({name})" for what, name in list(unknown.items())[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise InputError(
            f"no lens correction for {shown}{more}",
            hint='lens_correction = "lensfun-if-known" in [develop] leaves such pairs as they are',
        )


def distortion_map(model: LensModel, size: tuple[int, int]) -> NDArray[np.float32]:
    """Where each pixel of the straightened frame lies in the frame as shot.

    Args:
        model: See `find`.
        size: (height, width) at full size.

    Returns:
        (height, width, 2) px, (x, y), pixel centres at integers.
    """
    height, width = size
    (centre_x, centre_y), reach = centre_and_half_diagonal(size)
    coefficients = _radial(model, size)
    places = np.empty((height, width, 2), dtype=np.float32)
    dx = (np.arange(width) - centre_x)[None, :]
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, min(top + _BAND_ROWS, height))
        dy = (np.arange(rows.start, rows.stop) - centre_y)[:, None]
        factor = np.polynomial.polynomial.polyval(np.hypot(dx, dy) / reach, coefficients)
        places[rows, :, 0], places[rows, :, 1] = centre_x + factor * dx, centre_y + factor * dy
    return places


def vignetting_gain(model: LensModel, exposure: Exposure, size: tuple[int, int]) -> NDArray[np.float32] | None:
    """What the linear light of a frame as shot is multiplied by to be as bright everywhere as in its centre.

    Args:
        model: See `find`.
        exposure: The frame's own opening and focus distance; far away where that is not known.
        size: (height, width) at full size.

    Returns:
        (height, width); None where the opening or the lens' vignetting is not known.
    """
    if exposure.f_number is None:
        return None
    focus_m = exposure.focus_m if exposure.focus_m is not None and math.isfinite(exposure.focus_m) else _FAR_M
    modifier = _modifier(model, size)
    flags = _lensfunpy().ModifyFlags.VIGNETTING
    modifier.initialize(model.focal_mm, exposure.f_number, focus_m, pixel_format=np.float32, flags=flags)
    # Three channels is what the wrapper takes; one is kept.
    gain = np.ones((*size, 3), dtype=np.float32)
    return np.ascontiguousarray(gain[..., 0]) if modifier.apply_color_modification(gain) else None


def halve_map(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """`distortion` on the half-size grid, in half-size pixels."""
    blocks = (places[0::2, 0::2] + places[0::2, 1::2] + places[1::2, 0::2] + places[1::2, 1::2]) / np.float32(4)
    return np.asarray((blocks - np.float32(0.5)) / np.float32(2), dtype=np.float32)


def database_version() -> str:
    """The database's version: the version of the package it comes in."""
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
def _found(make: str, model: str, lens: str) -> tuple[Any, Any] | str:
    """Camera and lens of the database, the best match first; or why not."""
    cameras = database().find_cameras(make, model)
    if not cameras:
        return "the database does not know the camera"
    lenses = database().find_lenses(cameras[0], None, lens)
    return (cameras[0], lenses[0]) if lenses else "the database does not know the lens on this camera"


def _radial(model: LensModel, size: tuple[int, int]) -> NDArray[np.float64]:
    """Coefficients of the factor by which a point moves from the centre, in powers of its distance.

    lensfun rounds single places by tenths of a pixel (12-bit reciprocals); all of its models are a factor of up to the
    fourth power, so that a fit to many places is exact. The unit of distance is half the diagonal.
    """
    height, width = size
    (centre_x, centre_y), reach = centre_and_half_diagonal(size)
    modifier = _modifier(model, size)
    modifier.initialize(model.focal_mm, 8.0, _FAR_M, flags=_lensfunpy().ModifyFlags.DISTORTION)
    systems, moved = [], []
    for row in np.unique(np.linspace(0, height - 1, _FITTED_ROWS).astype(int)):
        places = modifier.apply_geometry_distortion(0, float(row), width, 1)[0].astype(np.float64)
        dx, dy = (np.arange(width) - centre_x) / reach, np.full(width, (row - centre_y) / reach)
        powers = np.hypot(dx, dy)[:, None] ** np.arange(_POWERS)
        systems += [dx[:, None] * powers, dy[:, None] * powers]
        moved += [(places[:, 0] - centre_x) / reach, (places[:, 1] - centre_y) / reach]
    solution = np.linalg.lstsq(np.concatenate(systems), np.concatenate(moved), rcond=None)[0]
    return np.asarray(solution, dtype=np.float64)


def _modifier(model: LensModel, size: tuple[int, int]) -> Any:
    found = _found(model.make, model.camera, model.lens)
    if isinstance(found, str):
        raise ValueError(found)
    camera, lens = found
    return _lensfunpy().Modifier(lens, camera.crop_factor, size[1], size[0])
