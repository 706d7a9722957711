"""Residual flow between two frames that already lie on one grid at equal softness.

Dense inverse search (T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016) on the
contrast-normalised frames in both directions; where the two disagree, content is hidden or moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment import photometric
from alignment.estimation import BAND_SIGMA_PX
from sdd_toolkit import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.estimation import Matched

    Image = NDArray[np.float32]

_LEVELS_PER_SIGMA = 32.0
_AGREEMENT_PX = 0.5
_CONSISTENT_PX2 = 0.5
_CONSISTENT_SHARE = 0.01
_SMALLEST_PX = 32


@dataclass(frozen=True, slots=True)
class Residual:
    """What is left after the global model, on the sharp frame's grid.

    Attributes:
        flow: (H, W, 2) float32 u[warped blur→sharp] in pixels: sharp(x + flow(x)) looks like blur(x).
        confidence: (H, W) float32, 0 … 1: overlap, texture above the noise and agreement of both directions.
        consistent: (H, W) pixels of the overlap where forward and backward flow undo each other.
    """

    flow: Image
    confidence: Image
    consistent: NDArray[np.bool_]


def residual_flow(matched: Matched, noise: float) -> Residual:
    """The flow between the two matched frames.

    Args:
        matched: Frames at equal softness on one grid.
        noise: Standard deviation of their noise.
    """
    energy = photometric.blurred(0.5 * (matched.moving**2 + matched.fixed**2), BAND_SIGMA_PX)
    typical = float(energy[matched.overlap].mean()) if matched.overlap.any() else 1.0
    contrast = np.sqrt(np.maximum(energy, 0) + np.float32(0.02 * typical + 1e-12))
    level = np.asarray(_LEVELS_PER_SIGMA / contrast, dtype=np.float32)
    moving, fixed = (_bytes(image * level, matched.overlap) for image in (matched.moving, matched.fixed))
    forward, backward = _search(moving, fixed), _search(fixed, moving)
    gap = np.sum((forward + geometry.warp_by_flow(backward, forward)) ** 2, axis=2)
    length = np.sum(forward**2, axis=2) + np.sum(backward**2, axis=2)
    consistent = (gap < _CONSISTENT_SHARE * length + _CONSISTENT_PX2) & matched.overlap
    texture = np.clip(energy / np.float32(4 * noise**2 + 1e-12) - 0.25, 0, 1)
    confidence = np.where(matched.overlap, texture * np.exp(-gap / _AGREEMENT_PX**2), 0)
    return Residual(forward, confidence.astype(np.float32), consistent)


def enlarged(residual: Residual, size: tuple[int, int]) -> Residual:
    """`residual` of halved frames on the grid and in the pixels of the (height, width) frames they were halved from."""
    window = (0, 0, *size)
    return Residual(
        flow=2 * geometry.enlarge_flow(residual.flow, 2, window),
        confidence=geometry.enlarge_flow(residual.confidence, 2, window),
        consistent=geometry.enlarge_flow(residual.consistent.astype(np.float32), 2, window) > 0.5,
    )


def quartered(residual: Residual, unit_px: float) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """The flow of half-size frames as it is stored: on a quarter-size grid, in full-size pixels.

    Args:
        residual: (H, W) of the half-size frames.
        unit_px: What one pixel of `residual` is in the stored unit.

    Returns:
        (ceil(H/2), ceil(W/2), 2) flow and (ceil(H/2), ceil(W/2)) confidence, 0 … 255.
    """
    height, width = residual.confidence.shape
    pad = ((0, height % 2), (0, width % 2))
    flow = np.pad(residual.flow, (*pad, (0, 0)), mode="edge")
    confidence = np.pad(residual.confidence, pad, mode="edge")

    def means(image: Image) -> NDArray[np.float64]:
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        blocks = image.reshape(rows, 2, columns, 2, -1).astype(np.float64)
        return np.asarray(blocks.mean(axis=(1, 3)))

    levels = np.rint(255 * means(confidence)[..., 0]).astype(np.uint8)
    return (unit_px * means(flow)).astype(np.float16), levels


def _bytes(image: Image, overlap: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(overlap, np.clip(np.rint(image + 128), 0, 255), 128).astype(np.uint8)


def _search(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Image:
    if min(first.shape) < _SMALLEST_PX:
        return np.zeros((*first.shape, 2), dtype=np.float32)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    empty = np.zeros((*first.shape, 2), dtype=np.float32)
    # OpenCV cuts the frame into as many stripes as there are threads, and matches differ at their seams.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return np.asarray(search.calc(first, second, empty), dtype=np.float32)
    finally:
        cv2.setNumThreads(threads)
