"""Statistics of a registration tile by tile: texture, correlation, unexplained difference, displacement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging import geometry, resampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.estimation.global_model import BlurMatchedFrames
    from alignment.residual_flow.estimate import ResidualFlow

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

TILE_PX = 32
_OVER_NOISE = 4.0
_FLOOR = 4e-6
# Share of unit white-noise variance that passes `global_model.prepare_luminance`: Gaussian of 0.7 px less one of 10 px.
_NOISE_KEPT = 0.162
_UNEXPLAINED = 0.5
_STRIDE = 3


@dataclass(frozen=True, slots=True)
class TileStatistics:
    """Statistics per tile.

    Attributes:
        textured: (rows, columns) tiles inside the overlap in which both frames hold texture above their noise, before
            and after blur matching.
        ncc: (rows, columns) normalised cross-correlation of the blur-matched, aligned frames.
        unexplained: (rows, columns) difference energy that neither blur nor a small shift removes, relative to the
            texture of the tile.
    """

    textured: NDArray[np.bool_]
    ncc: Matrix
    unexplained: Matrix

    @property
    def unexplained_fraction(self) -> float:
        """Share of textured tiles that are unexplained; 0 without textured tiles."""
        values = self.unexplained[self.textured]
        return float(np.mean(values > _UNEXPLAINED)) if values.size else 0.0

    @property
    def median_ncc(self) -> float:
        """Median correlation of the textured tiles; 0 without textured tiles."""
        values = self.ncc[self.textured]
        return float(np.median(values)) if values.size else 0.0


def tile_means(image: Image) -> Matrix:
    """(rows, columns) means of the whole tiles of an (H, W) image."""
    rows, columns = image.shape[0] // TILE_PX, image.shape[1] // TILE_PX
    whole = image[: rows * TILE_PX, : columns * TILE_PX]
    return np.asarray(whole.reshape(rows, TILE_PX, columns, TILE_PX).mean(axis=(1, 3), dtype=np.float64))


def textured_tiles(tone: Image, noise: float) -> NDArray[np.bool_]:
    """(rows, columns) tiles whose variance exceeds that of noise.

    Args:
        tone: (H, W) from `global_model.prepare_luminance`.
        noise: Standard deviation of white noise in the tone before it was band-passed.
    """
    return np.asarray(tile_means(tone**2) > _OVER_NOISE * _NOISE_KEPT * noise**2 + _FLOOR)


def measure_tiles(
    matched: BlurMatchedFrames,
    residual: ResidualFlow,
    textured: NDArray[np.bool_],
    *,
    noise: float,
    explained_shift_px: float,
) -> TileStatistics:
    """Measures the correlation and the unexplained difference of every tile.

    Args:
        matched: Frames at equal blur on one grid.
        residual: The flow between them.
        textured: (rows, columns) tiles with texture in both original frames.
        noise: Standard deviation of the noise of both frames together.
        explained_shift_px: The frames are compared under the flow, shortened to at most this length.
    """
    fixed = matched.fixed
    if residual.flow.any():
        length = np.linalg.norm(residual.flow, axis=2, keepdims=True)
        short = residual.flow * np.minimum(1.0, explained_shift_px / np.maximum(length, 1e-6)).astype(np.float32)
        fixed = resampling.warp_by_flow(fixed, short)
    floor = _NOISE_KEPT * noise**2 + _FLOOR
    power_moving, power_fixed = tile_means(matched.moving**2), tile_means(fixed**2)
    product = tile_means(matched.moving * fixed)
    difference = np.maximum(power_moving - 2 * product + power_fixed - floor, 0)
    ncc = product / np.sqrt((power_moving + 1e-12) * (power_fixed + 1e-12))
    forward = cv2.resize(matched.radius.index, textured.shape[::-1], interpolation=cv2.INTER_AREA) >= 0
    # The difference is relative to the frame that was not blurred.
    explained_power = np.where(forward, power_moving, power_fixed)
    whole = tile_means(matched.overlap.astype(np.float32)) > 0.99
    # Weak texture under a large disc is evidence neither for nor against the registration.
    whole &= np.maximum(power_moving, power_fixed) > _OVER_NOISE * floor
    return TileStatistics(textured=textured & whole, ncc=ncc, unexplained=difference / (explained_power + floor))


def median_and_p95(values: Matrix) -> tuple[float, float]:
    """Median and 95th percentile; zeros without values."""
    return (float(np.median(values)), float(np.percentile(values, 95))) if values.size else (0.0, 0.0)


def displacements_px(
    homography: Matrix, residual: ResidualFlow, textured: NDArray[np.bool_]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Length of the displacement before and after alignment, over textured, consistent pixels.

    Args:
        homography: Blurred to sharp.
        residual: Residual flow on the same grid.
        textured: (rows, columns) tiles.

    Returns:
        (median, 95th percentile) before, and after, in pixels.
    """
    pixels = np.kron(textured, np.ones((TILE_PX, TILE_PX), dtype=np.bool_))
    mask = np.zeros(residual.consistent.shape, dtype=np.bool_)
    mask[: pixels.shape[0], : pixels.shape[1]] = pixels
    mask &= residual.consistent
    # Flow is smooth: every third pixel of every third row is a sufficient sample.
    rows, columns = np.nonzero(mask[::_STRIDE, ::_STRIDE])
    rows, columns = _STRIDE * rows, _STRIDE * columns
    after = residual.flow[rows, columns].astype(np.float64)
    # The content of blurred pixel H⁻¹(y) lies at y + residual(y) in the sharp frame.
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    back = np.asarray(np.linalg.inv(homography), dtype=np.float64)
    before = after - (geometry.project(back, points) - points)
    return median_and_p95(np.linalg.norm(before, axis=1)), median_and_p95(np.linalg.norm(after, axis=1))
