"""Brightness: luminance, a noise-stabilised tone to compare frames in, and the gain between two frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIPPED = 0.98
_GREEN_HEAVY = np.array([[0.25, 0.5, 0.25]], dtype=np.float32)
_BRIGHT_PERCENTILE = 99.0
_DARK_SHARE = 1e-3
_CELL_PX = 16
# Below this linear level a frame is noise around black.
_LIT = 1e-3


def luminance(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) mean of the Bayer samples (green counts twice) of an (H, W, 3) linear frame, clipped at 0."""
    return np.asarray(np.maximum(cv2.transform(frame, _GREEN_HEAVY), 0), dtype=np.float32)


def white_of(light: NDArray[np.float32]) -> float:
    """The bright end of an (H, W) linear luminance; scales with exposure."""
    return float(np.percentile(light[::4, ::4], _BRIGHT_PERCENTILE))


def tone(light: NDArray[np.float32], white: float) -> NDArray[np.float32]:
    """Square root of luminance relative to `white`: shot noise has about equal strength everywhere.

    A small offset keeps read noise in the shadows from being stretched; gain cancels against `white`.
    """
    return np.asarray(np.sqrt(light * np.float32(1.0 / max(white, 1e-9)) + np.float32(_DARK_SHARE)))


def band(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """`image` (H, W) less its local Gaussian mean: takes offset, vignetting and shading out of a comparison."""
    return np.asarray(image - blurred(image, sigma_px), dtype=np.float32)


def blurred(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Gaussian mean of an (H, W) image; wide ones are computed on a reduced grid."""
    if sigma_px < 6.0 or min(image.shape) < 64:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101))
    height, width = image.shape
    small = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / 4, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def noise_sigma(image: NDArray[np.float32]) -> float:
    """Standard deviation of white noise in an (H, W) image, blind to structure.

    The operator of Immerkaer 1996 ("Fast noise variance estimation") on the calmest quarter of the cells.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    response = np.abs(cv2.filter2D(image, cv2.CV_32F, kernel))[2:-2, 2:-2]
    rows, columns = response.shape[0] // _CELL_PX, response.shape[1] // _CELL_PX
    cells = response[: rows * _CELL_PX, : columns * _CELL_PX].reshape(rows, _CELL_PX, columns, _CELL_PX)
    if cells.size == 0:
        return 0.0
    calm = float(np.percentile(cells.mean(axis=(1, 3)), 25))
    # Mean of |N(0, 1)| is sqrt(2 / pi); the kernel has energy 36.
    return calm * float(np.sqrt(np.pi / 2) / 6.0)


def linear_gain(moving: NDArray[np.float32], fixed: NDArray[np.float32], usable: NDArray[np.bool_]) -> float:
    """The factor that brings `moving` to the brightness of `fixed`: weighted median over cells of mean ratios.

    Cell means hardly change with defocus; the median ignores clipped, occluded and moving parts.

    Args:
        moving: (H, W) linear luminance, already on the grid of `fixed`.
        fixed: (H, W) linear luminance.
        usable: (H, W) pixels that may be compared (inside both frames, not saturated).

    Returns:
        1 where nothing can be compared.
    """
    size = (max(moving.shape[1] // _CELL_PX, 1), max(moving.shape[0] // _CELL_PX, 1))

    def means(image: NDArray[np.float32]) -> NDArray[np.float64]:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float64).ravel()

    whole = means(usable.astype(np.float32)) > 0.999
    a, b = means(moving)[whole], means(fixed)[whole]
    lit = (a > _LIT) & (b > _LIT)
    if not lit.any():
        return 1.0
    ratio, weight = b[lit] / a[lit], np.sqrt(a[lit] * b[lit])
    order = np.argsort(ratio)
    share = np.cumsum(weight[order])
    return float(np.interp(0.5 * share[-1], share - 0.5 * weight[order], ratio[order]))
