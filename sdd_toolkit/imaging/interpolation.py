"""Interpolates an image at points between its pixels: cubic B-spline, linear or nearest.

OpenCV's cubic and Lanczos interpolation round sampling points to 1/32 px (5.0 as 4.x), and its Lanczos kernel, cut to
8 taps, misplaces smooth content by up to 0.01 px. Here a frame is first refined to cubic B-spline coefficients at
half-pixel steps, by a filter that is least-squares optimal for the whole chain, and the spline is then evaluated
exactly: four bilinear samples, which OpenCV 5 takes without rounding, make one cubic B-spline sample (C. Sigg and
M. Hadwiger, "Fast third-order texture filtering", GPU Gems 2, 2005). The position of smooth content is exact to
0.001 px, and the amplitude of a sinusoid of up to 0.3 cycles per pixel to 0.3 %.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    Image = NDArray[np.float32]
    Plane = NDArray[np.float64]

REACH_PX = 6.0
"""Support of the spline: `Interpolation.SPLINE` needs this much of the source on every side of a point."""

# Taps 0 … 12 of the symmetric filter from pixels to coefficients at half-pixel steps. They minimise the error of the
# interpolated sinusoids exp(2πi f x), f ≤ 0.35 cycles per pixel, weighted by 1/f² as photographs are, and of the pixels
# themselves up to the Nyquist frequency; a test derives them again.
_TAPS = (
    1.1644373385, 0.6727023955, -0.1059724667, -0.2503407299, 0.0344140227, 0.1118655902, -0.0159701019,
    -0.0468844357, 0.0078672242, 0.0155181077, -0.0033844627, -0.0028609621, 0.0008271470,
)  # fmt: skip
_WINDOW_PX = 7
_WEIGHT_SCALE = 2.0**20
"""Factor of the weights: OpenCV's blending adds 1e-5 to their sum before it divides by it."""


class Interpolation(StrEnum):
    """An interpolation between pixels."""

    SPLINE = "spline"
    LINEAR = "linear"
    NEAREST = "nearest"


def interpolate(image: NDArray[Any], x: Plane, y: Plane, interpolation: Interpolation) -> Image:
    """Interpolates an image at the points of one tile; only the part of the image that they need is read.

    Args:
        image: (H, W[, C]) of any number type; beyond its border the border pixel is repeated.
        x: (h, w) px, or a shape that broadcasts with that of y.
        y: (h, w) px.
        interpolation: Which interpolation.

    Returns:
        (h, w[, C]) float32.
    """
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4):
        # OpenCV rounds points to 1/32 px for two channels, and takes no more than four.
        planes = [np.ascontiguousarray(image[..., channel]) for channel in range(image.shape[2])]
        return np.stack([interpolate(plane, x, y, interpolation) for plane in planes], axis=-1)
    height, width = image.shape[:2]
    x_near, left, right = _window(x, width)
    y_near, top, bottom = _window(y, height)
    window = image[max(0, top) : bottom, max(0, left) : right]
    colour = image.ndim == 3 and image.shape[2] == 3
    if colour:
        # OpenCV samples four channels three times as fast as three.
        window = cv2.cvtColor(window, cv2.COLOR_RGB2RGBA)
    around = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    if any(around):
        window = cv2.copyMakeBorder(window, *around, borderType=cv2.BORDER_REPLICATE)
    light = np.asarray(window, dtype=np.float32)
    values: NDArray[Any]
    if interpolation is Interpolation.SPLINE:
        values = _sample_spline(light, x_near, y_near)
    else:
        flag = cv2.INTER_NEAREST if interpolation is Interpolation.NEAREST else cv2.INTER_LINEAR
        values = cv2.remap(light, x_near, y_near, flag)
    if colour:
        values = cv2.cvtColor(values, cv2.COLOR_RGBA2RGB)
    return np.asarray(values, dtype=np.float32).reshape(*x.shape, *image.shape[2:])


def _window(points: Plane, length: int) -> tuple[Image, int, int]:
    """Points of one axis counted from the first pixel that they need, that pixel, and the one after the last."""
    first, last = points.min(), points.max()
    if first < -_WINDOW_PX or last > length - 1 + _WINDOW_PX:
        # Far outside there is only the repeated border pixel.
        points = np.clip(points, -_WINDOW_PX, length - 1 + _WINDOW_PX)
        first, last = points.min(), points.max()
    start = int(np.floor(first)) - _WINDOW_PX
    return np.subtract(points, start).astype(np.float32), start, int(np.ceil(last)) + _WINDOW_PX + 1


def _sample_spline(window: Image, x: Image, y: Image) -> Image:
    """Samples the cubic B-spline of a window, which extends 7 px beyond the points on every side.

    Its coefficients at whole pixels and halfway between are four images. In each, the two coefficients next to a
    point on either axis make one linear sample.
    """
    on, between = _taps()
    columns, rows, rim = _lookups(x), _lookups(y), len(on) // 2
    lines = []
    for down, (rows_at, _) in zip((on, between), rows, strict=True):
        filtered = cv2.filter2D(window, cv2.CV_32F, down[:, None], anchor=(0, (len(down) - 1) // 2))[rim:-rim]
        rows_at -= rim
        samples = [
            cv2.remap(
                cv2.filter2D(filtered, cv2.CV_32F, across[None, :], anchor=((len(across) - 1) // 2, 0)),
                columns_at,
                rows_at,
                cv2.INTER_LINEAR,
            )
            for across, (columns_at, _) in zip((on, between), columns, strict=True)
        ]
        lines.append(cv2.blendLinear(*samples, *(weight for _, weight in columns)))
    return np.asarray(cv2.blendLinear(*lines, *(weight for _, weight in rows)), dtype=np.float32)


def _taps() -> tuple[Image, Image]:
    """The filters to the coefficients at whole pixels and to those half a pixel after them."""
    taps = np.array(_TAPS, dtype=np.float32)
    on, between = taps[::2], taps[1::2]
    return np.concatenate([on[:0:-1], on]), np.concatenate([between[::-1], between])


def _lookups(points: Image) -> tuple[tuple[Image, Image], tuple[Image, Image]]:
    """Points of the two linear samples that make a cubic B-spline sample, and their weights times `_WEIGHT_SCALE`.

    The first sample is among the coefficients at whole pixels, the second among those halfway between. With δ from a
    point to the nearest of them, the B-spline weighs that one and its neighbour beyond the point by
    2/3 - 4 δ² + 4 |δ|³ and 4/3 |δ|³.
    """
    on = np.rint(points)
    gap = points - on
    weight = gap * gap
    cube = weight * gap
    weight *= np.float32(-4 * _WEIGHT_SCALE)
    weight += np.float32(2 / 3 * _WEIGHT_SCALE)
    weight += np.abs(cube) * np.float32(16 / 3 * _WEIGHT_SCALE)
    cube *= np.float32(4 / 3 * _WEIGHT_SCALE)
    on += np.divide(cube, weight, out=cube)
    between = np.floor(points)
    gap = points - between
    gap -= np.float32(0.5)
    cube = gap * gap
    cube *= gap
    cube *= np.float32(4 / 3 * _WEIGHT_SCALE)
    rest = np.float32(_WEIGHT_SCALE) - weight
    between += np.divide(cube, rest, out=cube)
    return (on, weight), (between, rest)
