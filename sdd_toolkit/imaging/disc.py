"""Disc kernels: the blur of a thin lens out of focus, and images blurred by it.

Two kernels weigh the pixels on the disc's rim. `disc_kernel` holds their exact areas, for images that serve as ground
truth. `sampled_disc_kernel` counts 8 x 8 points a pixel, up to 1.6 % of a pixel away from that; alignment compares
images under it, and its results must not change with the kernel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Kernel = NDArray[np.float32]

_SUBSAMPLES = 8
_POINT: Kernel = np.ones((1, 1), np.float32)
_POINT.flags.writeable = False


@lru_cache(maxsize=4096)
def disc_kernel(radius_px: float) -> Kernel:
    """Each pixel's exact share of a uniform disc: the image of a point in a thin lens.

    Up to a radius of half a pixel the disc falls into one pixel, and the kernel is a single 1. Its variance along x
    and along y is radius²/4, and a pixel's own 1/12 on top.

    Args:
        radius_px: Radius of the disc, 0 or more.

    Returns:
        (2R + 1, 2R + 1) float32, read-only, of sum 1, R = ceil(radius - 1/2).

    Raises:
        ValueError: The radius is negative.

    Example:
        >>> kernel = disc_kernel(2.0)
        >>> kernel.shape, round(float(kernel.sum()), 6), round(float(kernel[2, 2] * 4 * np.pi), 6)
        ((5, 5), 1.0, 1.0)
    """
    if not radius_px >= 0:
        raise ValueError(f"a radius of {radius_px} px is negative")
    reach = disc_reach_px(radius_px)
    return normalise_kernel(disc_coverage(radius_px, reach)) if reach else _POINT


def disc_reach_px(radius_px: float) -> int:
    """Whole pixels from the centre pixel to the last one that a disc covers."""
    return max(0, int(np.ceil(radius_px - 0.5)))


def disc_coverage(radius_px: float, reach_px: int) -> NDArray[np.float64]:
    """Each pixel's exact area inside a disc.

    Args:
        radius_px: Radius of the disc, positive.
        reach_px: Pixels on each side of the centre pixel; the disc lies within them.

    Returns:
        (2 reach + 1, 2 reach + 1) in squared pixels.
    """
    # Of one quadrant, whose pixels on the axes are halves: area within 0 ≤ X < node, 0 ≤ Y < node.
    nodes = np.concatenate([[0.0], np.arange(reach_px + 1) + 0.5])
    at = np.minimum(nodes, radius_px)
    strip = at * np.sqrt(np.maximum(radius_px**2 - at**2, 0.0)) + radius_px**2 * np.arcsin(at / radius_px)
    x, y = at[None, :], at[:, None]
    beyond = (strip[None, :] + strip[:, None]) / 2 - np.pi * radius_px**2 / 4
    area = np.where(x**2 + y**2 < radius_px**2, x * y, beyond)
    cover = np.maximum(area[1:, 1:] - area[:-1, 1:] - area[1:, :-1] + area[:-1, :-1], 0.0)
    cover[0, :] *= 2
    cover[:, 0] *= 2
    rows = np.concatenate([cover[:0:-1], cover])
    return np.concatenate([rows[:, :0:-1], rows], axis=1)


def normalise_kernel(coverage: NDArray[np.float64]) -> Kernel:
    """Weights as a read-only float32 kernel of sum 1."""
    kernel: Kernel = (coverage / coverage.sum()).astype(np.float32)
    kernel.flags.writeable = False
    return kernel


@lru_cache(maxsize=128)
def sampled_disc_kernel(radius_px: float) -> Kernel:
    """Each pixel's share of a uniform disc by 8 x 8 points a pixel, see the module.

    Args:
        radius_px: Radius of the disc; up to 0.5 the kernel is a single 1.

    Returns:
        (2R + 1, 2R + 1) float32 of sum 1.
    """
    reach = int(np.ceil(radius_px + 0.5 - 1e-9)) if radius_px > 0.5 else 0
    fine = (np.arange((2 * reach + 1) * _SUBSAMPLES) + 0.5) / _SUBSAMPLES - 0.5 - reach
    inside = fine[:, None] ** 2 + fine[None, :] ** 2 <= max(radius_px, 0.5) ** 2
    side = 2 * reach + 1
    cover = inside.reshape(side, _SUBSAMPLES, side, _SUBSAMPLES).mean(axis=(1, 3))
    return np.asarray(cover / cover.sum(), dtype=np.float32)


def blur_with_disc(image: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """An image out of focus by a disc (`sampled_disc_kernel`), border reflected.

    Args:
        image: (H, W[, C]) float32.
        radius_px: Radius of the disc; up to 0.5 the image is returned as it is.

    Returns:
        The same shape, float32.
    """
    if radius_px <= 0.5:
        return image
    kernel = sampled_disc_kernel(radius_px)
    return np.asarray(cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101))
