"""Sharpness and exposure measures of the two half-size frames of a pair; their thresholds are in `criteria`.

Detail is measured on the square root of linear luminance, where shot noise has nearly the same strength at
every brightness, in two bands: *fine* (finer than a Gaussian of 1 px) and *medium* (between 1 and 4 px). The energy of
noise alone, estimated from the frame itself, is subtracted from each band.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.imaging.array_checks import linear_frame
from sdd_toolkit.imaging.luminance import luminance
from sdd_toolkit.imaging.noise import noise_variance
from sdd_toolkit.records import Quality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdd_toolkit.imaging.frame import HalfFrame
    from sdd_toolkit.records import Alignment

TILE_PX = 24
FINE_SIGMA_PX = 1.0
MEDIUM_SIGMA_PX = 4.0
# Halving and doubling an image spread it by variances of 1/4 and 3/4 px².
_MEDIUM_SIGMA_HALF_PX = ((MEDIUM_SIGMA_PX**2 - FINE_SIGMA_PX**2 - 1.0) / 4.0) ** 0.5
# Reach of the wide Gaussian: the border is mirrored as at full size.
_PAD_PX = 16
# Reach of both Gaussians together; even, so that rows are halved in the same pairs whichever row is the first.
_REACH_PX = 28
# Rows at a time, an even number of whole tiles: few enough to stay in the cache of a core.
_BAND_ROWS = 8 * TILE_PX
BRIGHT_PERCENTILE = 99.5
_SURELY_BELOW_PERCENTILE = 98.0
_TEXTURE_OVER_NOISE = 3.0
_TEXTURE_FLOOR = 4e-6
_CLEARLY = 1.25
_CRISP_PERCENTILE = 80.0


@dataclass(frozen=True, slots=True)
class Detail:
    """Detail energy of a frame: variance of a band, noise subtracted.

    Attributes:
        fine: (rows, columns) energy of each tile in the fine band.
        medium: (rows, columns) energy of each tile in the medium band.
        fine_noise: Energy of noise alone in the fine band.
        medium_noise: Energy of noise alone in the medium band.
    """

    fine: NDArray[np.float64]
    medium: NDArray[np.float64]
    fine_noise: float
    medium_noise: float


def measure_pair(blur: HalfFrame, sharp: HalfFrame, alignment: Alignment | None) -> Quality:
    """Measures the quality of a pair of half-size frames, see `measure_quality`."""
    clipped = max(np.count_nonzero(frame.clipped) / frame.clipped.size for frame in (blur, sharp))
    return measure_quality(blur.rgb, sharp.rgb, clipped, alignment)


def measure_quality(
    blur: NDArray[np.float32],
    sharp: NDArray[np.float32],
    clipped_fraction: float,
    alignment: Alignment | None,
) -> Quality:
    """Measures the quality of a pair.

    Args:
        blur: (h, w, 3) half-size linear camera RGB of the blurred frame in any float type, or uint8 or uint16 with the
            sRGB curve, which are decoded.
        sharp: (h, w, 3) the sharp frame, likewise.
        clipped_fraction: Share of saturated pixels in the frame that has more of them.
        alignment: The pair's registration in full-size pixels; without one, or with a failed one, pixels are compared
            at the same position.

    Raises:
        TypeError: A frame is no array of floats, uint8 or uint16.
        ValueError: A frame is not (h, w, 3), or holds values that are not finite or far from 0 to 1.

    Example:
        A checkered frame, and the same frame blurred and at half the brightness:

        >>> import cv2
        >>> import numpy as np
        >>> from sdd_toolkit.quality.sharpness import measure_quality
        >>> cells = np.random.default_rng(0).uniform(0.1, 0.9, (64, 96)).astype(np.float32)
        >>> sharp = cells.repeat(2, 0).repeat(2, 1)[..., None].repeat(3, 2)
        >>> quality = measure_quality(cv2.GaussianBlur(sharp, (0, 0), 3.0) / 2, sharp, 0.0, None)
        >>> quality.sharpness_gain > 3, quality.sharper_fraction, round(quality.exposure_ev)
        (True, 1.0, 1)
    """
    light = [luminance(linear_frame(frame, name)) for frame, name in ((blur, "blur"), (sharp, "sharp"))]
    levels = [bright_level(plane) for plane in light]
    a, b, exposure_ev = _on_common_grid(light[0], light[1], alignment)
    blurred, crisp = _measure_light_detail(a), _measure_light_detail(b)
    ratio, textured = _compare_detail(blurred, crisp)
    return Quality(
        sharpness_gain=float(np.median(ratio)) if ratio.size else 1.0,
        sharper_fraction=float(np.mean(ratio > _CLEARLY)) if ratio.size else 0.0,
        softer_fraction=float(np.mean(ratio < 1.0 / _CLEARLY)) if ratio.size else 0.0,
        sharp_acuity=acuity(crisp),
        blur_acuity=acuity(blurred),
        exposure_ev=exposure_ev,
        clipped_fraction=clipped_fraction,
        blur_level=levels[0],
        sharp_level=levels[1],
        texture_fraction=float(np.mean(textured)) if textured.size else 0.0,
    )


def bright_level(light: NDArray[np.float32]) -> float:
    """The `BRIGHT_PERCENTILE` of an (h, w) luminance, computed from its brightest pixels only."""
    rank = (light.size - 1) * BRIGHT_PERCENTILE / 100
    bright = light[light >= np.percentile(light[::4, ::4], _SURELY_BELOW_PERCENTILE)]
    if bright.size < light.size - rank + 1:
        bright = light.reshape(-1)
    return float(np.percentile(bright, 100 * (rank - (light.size - bright.size)) / max(bright.size - 1, 1)))


def measure_detail(frame: NDArray[np.float32]) -> Detail:
    """Measures the detail energy of each tile of an (h, w, 3) linear frame in the fine and the medium band.

    Raises:
        TypeError: As of `measure_quality`.
        ValueError: As of `measure_quality`.
    """
    return _measure_light_detail(luminance(linear_frame(frame, "frame")))


def _measure_light_detail(light: NDArray[np.float32]) -> Detail:
    """`measure_detail` of an (h, w) luminance."""
    tone = np.clip(light, np.float32(0), np.float32(np.inf))
    np.sqrt(tone, out=tone)
    variance = noise_variance(tone)
    fine_noise, medium_noise = variance * _BAND_GAIN[0], variance * _BAND_GAIN[1]
    height, rows = tone.shape[0], tone.shape[0] // TILE_PX
    fine, medium = (np.empty((rows, tone.shape[1] // TILE_PX)) for _ in range(2))
    for top in range(0, rows * TILE_PX, _BAND_ROWS):
        first, last = max(top - _REACH_PX, 0), min(top + _BAND_ROWS + _REACH_PX, height)
        band = tone[first:last]
        inner = slice(top - first, min(top + _BAND_ROWS, rows * TILE_PX) - first)
        tiles = slice(top // TILE_PX, (top + _BAND_ROWS) // TILE_PX)
        soft, softer = (image[inner] for image in _smooth_twice(band))
        fine[tiles] = _tile_means(np.square(band[inner] - soft)) - fine_noise
        medium[tiles] = _tile_means(np.square(soft - softer)) - medium_noise
    return Detail(np.maximum(fine, 0), np.maximum(medium, 0), fine_noise, medium_noise)


def _smooth_twice(tone: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An (h, w) image blurred by the two Gaussians that bound the bands; the wide one is computed at half size."""
    soft = cv2.GaussianBlur(tone, (0, 0), FINE_SIGMA_PX)
    height, width = tone.shape
    pad = _PAD_PX
    wide = cv2.copyMakeBorder(soft, pad, pad + height % 2, pad, pad + width % 2, cv2.BORDER_REFLECT_101)
    small = cv2.resize(wide, (wide.shape[1] // 2, wide.shape[0] // 2), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), _MEDIUM_SIGMA_HALF_PX)
    softer = cv2.resize(small, wide.shape[::-1], interpolation=cv2.INTER_LINEAR)[pad : pad + height, pad : pad + width]
    return np.asarray(soft, dtype=np.float32), np.asarray(softer, dtype=np.float32)


def relative_detail(frame: NDArray[np.float32]) -> float:
    """Mean energy of the fine detail of an (h, w, 3) linear frame relative to its mean brightness.

    Returns:
        0 for a frame smaller than a tile or without light.

    Raises:
        TypeError: As of `measure_quality`.
        ValueError: As of `measure_quality`.
    """
    light = luminance(linear_frame(frame, "frame"))
    if min(light.shape) < TILE_PX:
        return 0.0
    level = float(light.mean())
    return float(_measure_light_detail(light).fine.mean()) / level if level > 0 else 0.0


def fine_band_noise(tone: NDArray[np.float32]) -> float:
    """Energy of the noise of an (h, w) image in the fine band."""
    return noise_variance(tone) * _BAND_GAIN[0]


def acuity(frame: Detail) -> float:
    """Ratio of fine to medium energy in the crispest fifth of the textured tiles; 0 without texture.

    About 0.3 … 1 for a frame in focus at half size and below 0.05 beyond a circle of confusion of 2 px there.
    """
    textured = frame.medium > texture_threshold(frame)
    if not textured.any():
        return 0.0
    return float(np.percentile(frame.fine[textured] / frame.medium[textured], _CRISP_PERCENTILE))


def texture_threshold(frame: Detail) -> float:
    """Energy in the medium band above which a tile counts as textured."""
    return _TEXTURE_OVER_NOISE * frame.medium_noise + _TEXTURE_FLOOR


def _compare_detail(blurred: Detail, crisp: Detail) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    # A tile counts if either frame holds texture; noise bounds the ratio.
    textured = (crisp.medium > texture_threshold(crisp)) | (blurred.medium > texture_threshold(blurred))
    floor = 0.25 * (blurred.fine_noise + crisp.fine_noise) + 1e-7
    ratio = np.sqrt((crisp.fine[textured] + floor) / (blurred.fine[textured] + floor))
    return ratio, textured


def _on_common_grid(
    blur: NDArray[np.float32], sharp: NDArray[np.float32], alignment: Alignment | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """(h, w) luminance of both frames on one grid at one brightness, and log2 of the gain between them."""
    if alignment is None or alignment.failure is not None:
        height, width = min(blur.shape[0], sharp.shape[0]), min(blur.shape[1], sharp.shape[1])
        medians = [max(float(np.median(light)), 1e-6) for light in (blur, sharp)]
        ev = float(np.log2(medians[1] / medians[0]))
        return blur[:height, :width], sharp[:height, :width], ev
    half = geometry.rescale_homography(alignment.homography, 0.5)
    size = (sharp.shape[0], sharp.shape[1])
    warped = resampling.warp(blur, half, size, radial=alignment.radial)
    left, top, right, bottom = (edge // 2 for edge in alignment.box)
    window = np.s_[top:bottom, left:right]
    return warped[window] * np.float32(alignment.gain), sharp[window], float(np.log2(alignment.gain))


def _tile_means(image: NDArray[np.float32]) -> NDArray[np.float64]:
    rows, columns = image.shape[0] // TILE_PX, image.shape[1] // TILE_PX
    if not rows or not columns:
        return np.zeros((rows, columns))
    whole = image[: rows * TILE_PX, : columns * TILE_PX]
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float64)


def _noise_gain_of_bands() -> tuple[float, float]:
    """Share of white-noise variance that passes the fine and the medium band."""
    fine = medium = 0.0
    for row, column in ((32, 32), (32, 33), (33, 32), (33, 33)):
        impulse = np.zeros((66, 66), dtype=np.float32)
        impulse[row, column] = 1.0
        soft, softer = _smooth_twice(impulse)
        fine += float(np.sum((impulse - soft) ** 2)) / 4
        medium += float(np.sum((soft - softer) ** 2)) / 4
    return fine, medium


_BAND_GAIN = _noise_gain_of_bands()
