"""Brightness of one frame in terms of the other, compared in cells that are larger than the blur."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.estimation import photometry, spline
from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.imaging.disc import blur_with_disc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.estimation.photometry import Photometry
    from alignment.estimation.pyramid import FramePair
    from sdd_toolkit.records import Row

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

_LIGHT_PX = 130_000


def brightness_level(levels: list[FramePair]) -> int:
    """Number of the level on which brightness is compared: small enough for cells to contain the spread of defocus."""
    return next((n for n, level in enumerate(levels) if level.size[0] * level.size[1] <= _LIGHT_PX), len(levels) - 1)


def comparable_cells(frames: FramePair, matrix: Matrix) -> NDArray[np.bool_]:
    """(rows, columns) cells inside both frames and without saturated pixels.

    Args:
        frames: The pair at a level.
        matrix: Blurred to sharp in its pixels.
    """
    grid = photometry.brightness_grid(frames.size)
    trusted_blur = spline.sample_linear(frames.trusted_blur, matrix, frames.size)
    inside = resampling.valid_mask(matrix, frames.size, frames.size, reach_px=2.0)
    share = photometry.cell_means(np.where(inside, np.minimum(trusted_blur, frames.trusted_sharp), 0), grid)
    return np.asarray(share.reshape(grid) > 0.98)


def measure_brightness(frames: FramePair, matrix: Matrix, radius_px: float = 0.0) -> Photometry | None:
    """Measures the brightness of a level's sharp frame in terms of its blurred one.

    Args:
        frames: The pair at that level.
        matrix: Blurred to sharp in its pixels.
        radius_px: Disc that makes them about equally blurred, negative for the blurred frame: unequal contrast would
            be mistaken for an offset.

    Returns:
        None where no cell can be compared.
    """
    usable = comparable_cells(frames, matrix).ravel()
    if not usable.any():
        return None
    grid = photometry.brightness_grid(frames.size)
    moving = photometry.cell_means(
        spline.sample_linear(blur_with_disc(frames.blur, -radius_px), matrix, frames.size), grid
    )
    fixed = photometry.cell_means(blur_with_disc(frames.sharp, radius_px), grid)
    return photometry.fit_brightness(moving[usable], fixed[usable], photometry.squared_radius(grid).ravel()[usable])


def colour_gain(blur: Image, sharp: Image, levels: list[FramePair], matrix: Matrix, luma: Photometry) -> Row:
    """Gains of R, G, B relative to that of luminance; their Bayer-weighted mean is 1.

    Args:
        blur: (H, W, 3) linear.
        sharp: (H, W, 3) linear.
        levels: Their pyramid, from `build_pyramid`.
        matrix: Blurred to sharp, in pixels of `blur`.
        luma: Brightness of the luminance of `sharp` in terms of that of `blur`.
    """
    number = brightness_level(levels)
    frames = levels[number]
    small = geometry.rescale_homography(matrix, 0.5**number)
    usable = comparable_cells(frames, small)
    height, width = (2**number * edge for edge in frames.size)
    channels = [
        cv2.split(cv2.resize(frame[:height, :width], frames.size[::-1], interpolation=cv2.INTER_AREA))
        for frame in (blur, sharp)
    ]
    red, green, blue = (
        photometry.channel_gain(
            np.asarray(moving, dtype=np.float32), np.asarray(fixed, dtype=np.float32), small, usable, luma
        )
        for moving, fixed in zip(*channels, strict=True)
    )
    mean = 0.25 * red + 0.5 * green + 0.25 * blue
    return red / mean, green / mean, blue / mean
