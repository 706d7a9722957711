"""Exact cubic B-spline sampling of an image between its pixels, for registration.

OpenCV's own cubic and Lanczos samplers place their taps on a grid of 1/32 px, and the response of its cubic is not
flat: both bias a measurement by more than the accuracy that registration reaches. Its bilinear sampler is exact, and a
cubic B-spline is four bilinear samples of the spline's coefficients (C. Sigg and M. Hadwiger, "Fast third-order texture
filtering", GPU Gems 2, 2005); the coefficients are one separable filter (M. Unser, "Splines: a perfect fit for signal
and image processing", IEEE Signal Processing Magazine 1999, box 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

_POLE = 3**0.5 - 2
_REACH = 12
_BAND_ROWS = 64
# The inverse of the sampled cubic B-spline (1, 4, 1) / 6.
_INVERSE = np.array([3**0.5 * _POLE ** abs(k) for k in range(-_REACH, _REACH + 1)], dtype=np.float64)


def coefficients(image: Image) -> Image:
    """B-spline coefficients of an (H, W) image, border mirrored."""
    kernel = _INVERSE / _INVERSE.sum()
    return np.asarray(cv2.sepFilter2D(image, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101))


def sample_cubic(spline: Image, homography: Matrix, size: tuple[int, int], *, radial: float = 0.0) -> Image:
    """Samples the image of spline coefficients on the target grid; outside the source the border is repeated.

    Args:
        spline: (h, w), from `coefficients`.
        homography: (3, 3), source (x, y, 1) to target.
        size: (height, width) of the target grid.
        radial: k of the radial term, see `sdd_toolkit.records.Alignment`.
    """
    out = np.empty(size, dtype=np.float32)
    for top in range(0, size[0], _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, size[0])
        x, y = source_positions(homography, (top, bottom), size, radial=radial)
        out[top:bottom] = _sample_at(spline, x, y)
    return out


def source_positions(
    homography: Matrix, rows: tuple[int, int], size: tuple[int, int], *, radial: float = 0.0
) -> tuple[Image, Image]:
    """Positions in the source of the pixels of some target rows.

    Args:
        homography: (3, 3), source to target.
        rows: First row and the one after the last.
        size: (height, width) of the frames.
        radial: k of the radial term.

    Returns:
        x and y, (rows, W) float32 each.
    """
    xs = np.arange(size[1], dtype=np.float64)[None]
    ys = np.arange(rows[0], rows[1], dtype=np.float64)[:, None]
    x, y, _ = geometry.project_grid(np.asarray(np.linalg.inv(homography)), xs, ys)
    x, y = geometry.apply_radial(x, y, radial, size)
    return x.astype(np.float32), y.astype(np.float32)


def _sample_at(spline: Image, x: Image, y: Image) -> Image:
    left_weight, left, right = _tap_pairs(x)
    upper_weight, upper, lower = _tap_pairs(y)

    def linear(at_x: Image, at_y: Image) -> Image:
        sampled = cv2.remap(spline, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(sampled, dtype=np.float32)

    above, below = linear(right, upper), linear(right, lower)
    above += left_weight * (linear(left, upper) - above)
    below += left_weight * (linear(left, lower) - below)
    below += upper_weight * (above - below)
    return below


def _tap_pairs(position: Image) -> tuple[Image, Image, Image]:
    """Weight of the lower pair of taps, and the positions at which one bilinear sample yields each pair."""
    whole = np.floor(position)
    f = position - whole
    g = np.float32(1) - f
    first, last = g * g * g / np.float32(6), f * f * f / np.float32(6)
    second = np.float32(2 / 3) - f * f * (np.float32(1) - f * np.float32(0.5))
    lower = first + second
    upper = np.float32(1) - lower
    return lower, whole - 1 + second / lower, whole + 1 + last / upper


def sample_linear(image: Image, matrix: Matrix, size: tuple[int, int]) -> Image:
    """Samples an image on a target grid, bilinear: for masks, means and images that a disc has smoothed.

    Args:
        image: (h, w).
        matrix: (3, 3), source to target.
        size: (height, width) of the target grid.
    """
    warped = cv2.warpPerspective(image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.float32)
