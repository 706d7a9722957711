"""Similarity of two thumbnails: whether they show the same scene despite blur, exposure, shift, zoom or rotation.

1. Each thumbnail is reduced to a band of detail that survives strong blur (wavelengths from 5 % to 20 % of the width),
   its contrast normalised locally, so that no single bright edge decides.
2. Every picture is compared with every other at 27 zooms and shifts by matrix products: the most similar ones become
   candidates.
3. A candidate is registered (affine, by enhanced correlation: Evangelidis and Psarakis 2008) and scored by the
   correlation of the two bands over their overlap, which must cover half of the frame.

Pictures of different scenes score below 0.45; frames of one scene above 0.85, or above 0.64 where a large object moved
(docs/benchmarks/pairing.md).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.noise import noise_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LONG_SIDE_PX = 192
_BLACK_LEVEL = 0.002  # of white: below it there is only noise
_BRIGHT_PERCENTILE = 99.5
_FINE_SIGMA, _COARSE_SIGMA, _CONTRAST_SIGMA = 2.5 / 192, 8.0 / 192, 16.0 / 192  # of the longer side
_GRID_PX = 32
_ZOOMS = (0.92, 1.0, 1.08)
_SHIFTS_PX = (-1.5, 0.0, 1.5)  # of the grid: 5 % of the width
_FIXED_ZOOMS, _FIXED_SHIFTS_PX = (0.96, 1.0, 1.04), (-1.0, 0.0, 1.0)  # of frames from one position
_BLOCK_FRAMES = 512
_CANDIDATES_PER_FRAME = 6
_MIN_SIMILARITY = 0.15
_MIN_TEXTURE = 3.0  # times what noise gives
_MIN_CONTRAST = 0.004  # of the bright parts' tone
_MIN_SIDE_PX, _QUANTISATION_STEPS = 32, 32
_ASPECT_TOLERANCE = 0.02
_REGISTER_PX = 96
_MAX_SHIFT, _MAX_STRETCH, _MAX_ROTATION_RAD = 0.2, 0.2, 0.1
_MIN_START_CORRELATION, _REFINED_STARTS = 0.2, 2


def band_of(light: NDArray[np.float32]) -> NDArray[np.int8] | None:
    """The `detail_band` of a frame, its longer side reduced to `LONG_SIDE_PX`; exposure cancels out.

    Args:
        light: (H, W) linear light; tones are its square roots relative to the frame's own bright parts.
    """
    bright = float(np.percentile(light[::2, ::2], _BRIGHT_PERCENTILE))
    tone = np.sqrt(light / np.float32(max(bright, _BLACK_LEVEL)))
    scale = LONG_SIDE_PX / max(tone.shape)
    size = (max(round(tone.shape[1] * scale), 1), max(round(tone.shape[0] * scale), 1))
    small = cv2.resize(tone, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    noise = float(np.sqrt(noise_variance(tone))) * min(scale, 1.0)
    return detail_band(np.asarray(small, dtype=np.float32), noise)


def detail_band(picture: NDArray[np.float32], noise: float = 0.0) -> NDArray[np.int8] | None:
    """The blur-tolerant band of a thumbnail, its contrast normalised; None if there is too little texture to compare.

    Args:
        picture: (h, w) square root of light, 1 at the frame's bright parts.
        noise: Standard deviation of its sensor noise.

    Returns:
        (h, w) int8 of roughly uniform variance, in arbitrary units.
    """
    if min(picture.shape) < _MIN_SIDE_PX:
        return None
    side = max(picture.shape)
    detail = _gaussian_blur(picture, _FINE_SIGMA * side) - _gaussian_blur(picture, _COARSE_SIGMA * side)
    # White noise keeps 1 / (2 sigma sqrt(pi)) of its deviation under a Gaussian.
    floor = max(_MIN_TEXTURE * noise / (3.5 * _FINE_SIGMA * side), _MIN_CONTRAST)
    # The border is excluded: the filter mirrors the picture there, which bends a slope such as vignetting.
    edge = round(_COARSE_SIGMA * side)
    deviation = float(detail[edge:-edge, edge:-edge].std())
    if deviation < floor:
        return None
    local = np.sqrt(_gaussian_blur(detail * detail, _CONTRAST_SIGMA * side) + np.float32((0.3 * deviation) ** 2))
    return np.asarray(np.clip(np.rint(detail / local * _QUANTISATION_STEPS), -127, 127), dtype=np.int8)


def candidate_pairs(bands: Sequence[NDArray[np.int8]]) -> list[tuple[int, int]]:
    """Pairs of indices in `bands` worth registering, each once and sorted: the most similar few of every picture."""
    grids = [_to_grid(entry) for entry in bands]
    plain = _unit_vectors([_warp_to_square(grid, 1.0, (0.0, 0.0)) for grid in grids])
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(grids), _BLOCK_FRAMES):
        scores = _best_correlations(grids[start : start + _BLOCK_FRAMES], plain, _ZOOMS, _SHIFTS_PX)
        for index, row in enumerate(scores, start):
            row[index] = -1.0
            best = np.argpartition(-row, min(_CANDIDATES_PER_FRAME, len(row)) - 1)[:_CANDIDATES_PER_FRAME]
            for other in best[row[best] >= _MIN_SIMILARITY].tolist():
                pairs.add((min(index, other), max(index, other)))
    return sorted(pairs)


def correlations(first: Sequence[NDArray[np.int8]], second: Sequence[NDArray[np.int8]]) -> NDArray[np.float32]:
    """The correlation of every band with every other, at the best of a few small zooms and shifts.

    For frames from one position: a zoom of 4 % and a shift of 3 % of the width are the most that is searched. Much
    cheaper than `similarity`, and stricter: a picture of the same scene from another position does not agree.

    Args:
        first: Bands of N frames, see `detail_band`.
        second: Bands of M frames.

    Returns:
        (N, M), -1 … 1.
    """
    grids = [_to_grid(entry) for entry in first]
    plain = _unit_vectors([_warp_to_square(_to_grid(entry), 1.0, (0.0, 0.0)) for entry in second])
    blocks = [
        _best_correlations(grids[start : start + _BLOCK_FRAMES], plain, _FIXED_ZOOMS, _FIXED_SHIFTS_PX)
        for start in range(0, len(grids), _BLOCK_FRAMES)
    ]
    return np.concatenate([np.empty((0, len(plain)), dtype=np.float32), *blocks])


def _best_correlations(
    grids: Sequence[NDArray[np.float32]],
    plain: NDArray[np.float32],
    zooms: Sequence[float],
    shifts_px: Sequence[float],
) -> NDArray[np.float32]:
    scores = np.full((len(grids), len(plain)), -1.0, dtype=np.float32)
    for zoom, *shift in product(zooms, shifts_px, shifts_px):
        moved = _unit_vectors([_warp_to_square(grid, zoom, (shift[0], shift[1])) for grid in grids])
        np.maximum(scores, moved @ plain.T, out=scores)
    return scores


def similarity(first: NDArray[np.int8], second: NDArray[np.int8]) -> float:
    """Correlation of two bands after registration, 0 … 1.

    Args:
        first: Band of the first picture, see `detail_band`.
        second: Band of the second; its size may differ, not its aspect ratio.
    """
    if abs(first.shape[0] * second.shape[1] / (first.shape[1] * second.shape[0]) - 1.0) > _ASPECT_TOLERANCE:
        return 0.0
    size = (first.shape[1], first.shape[0])
    a, b = first.astype(np.float32), second.astype(np.float32)
    if b.shape != a.shape:
        b = np.asarray(cv2.resize(b, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    motion = _register(a, b)
    if motion is None:
        return 0.0
    inside = _warp(motion, np.ones_like(b)) > 0.99
    return max(0.0, _masked_correlation(a, _warp(motion, b), inside))


def _masked_correlation(first: NDArray[np.float32], second: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    if inside.mean() < 0.5:
        return 0.0
    a, b = first[inside], second[inside]
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b) / float(np.sqrt((a @ a) * (b @ b)) + 1e-9)


def _register(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The affine motion from `first` to `second` in their pixels; None if no plausible one agrees."""
    scale = _REGISTER_PX / max(first.shape)
    small, other = (_shrink(entry, scale) for entry in (first, second))
    # A large object that moved can mislead phase correlation, so no shift at all is a start, too.
    starts = [start for zoom in _ZOOMS for start in (_zoom_motion(small, zoom), _shift_motion(small, other, zoom))]
    correlations = [(_correlation_after(start, small, other), index) for index, start in enumerate(starts)]
    motions = [
        (_correlation_after(motion, small, other), -index, motion)
        for correlation, index in sorted(correlations, reverse=True)[:_REFINED_STARTS]
        if correlation > _MIN_START_CORRELATION and _is_plausible(motion := _refine(starts[index], small, other), small)
    ]
    return _rescale_motion(max(motions, key=lambda entry: entry[:2])[2], scale) if motions else None


def _correlation_after(motion: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The correlation of `first` and the warped `second`."""
    moved = _warp(motion, second)
    return float((moved * first).mean()) / float(first.std() * second.std() + 1e-9)


def _warp(motion: NDArray[np.float32], picture: NDArray[np.float32]) -> NDArray[np.float32]:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, motion, picture.shape[::-1], flags=flags), dtype=np.float32)


def _refine(start: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        _, refined = cv2.findTransformECC(first, second, start.copy(), cv2.MOTION_AFFINE, stop)
    except cv2.error:  # it does not converge
        return start
    return np.asarray(refined, dtype=np.float32)


def _is_plausible(motion: NDArray[np.float32], picture: NDArray[np.float32]) -> bool:
    linear = motion[:, :2].astype(np.float64)
    centre = np.array([(picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2])
    shift = linear @ centre + motion[:, 2] - centre
    turn = abs(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    stretch = np.abs(np.linalg.svd(linear, compute_uv=False) - 1).max()
    largest_px = _MAX_SHIFT * max(picture.shape)
    return bool(stretch <= _MAX_STRETCH and np.abs(shift).max() <= largest_px and turn <= _MAX_ROTATION_RAD)


def _shrink(entry: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(entry, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _rescale_motion(motion: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """A motion between pictures that were shrunk by `scale`, in pixels of the original ones."""
    edge = np.full(2, 0.5)
    linear = motion[:, :2].astype(np.float64)
    shift = (linear @ (scale * edge - edge) + motion[:, 2] + edge) / scale - edge
    return np.hstack([linear, shift[:, None]]).astype(np.float32)


def _zoom_motion(picture: NDArray[np.float32], zoom: float) -> NDArray[np.float32]:
    """The motion of a zoom about the centre."""
    centre = np.array([(picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2])
    return np.hstack([np.eye(2) * zoom, ((1 - zoom) * centre)[:, None]]).astype(np.float32)


def _shift_motion(first: NDArray[np.float32], second: NDArray[np.float32], zoom: float) -> NDArray[np.float32]:
    """The motion of a zoom, with the shift found by phase correlation."""
    motion = _zoom_motion(first, zoom)
    window = cv2.createHanningWindow(first.shape[::-1], cv2.CV_32F)
    # As an argument of phaseCorrelate, the window would be multiplied into `first` in place.
    (x, y), _ = cv2.phaseCorrelate(first * window, _warp(motion, second) * window)
    motion[:, 2] += zoom * np.array([x, y], dtype=np.float32)
    return motion


def _to_grid(entry: NDArray[np.int8]) -> NDArray[np.float32]:
    scale = _GRID_PX / max(entry.shape)
    size = (max(round(entry.shape[1] * scale), 1), max(round(entry.shape[0] * scale), 1))
    small = cv2.resize(entry.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def _warp_to_square(grid: NDArray[np.float32], zoom: float, shift_px: tuple[float, float]) -> NDArray[np.float32]:
    """The grid zoomed about its centre and shifted, on a square, so that all aspect ratios can be compared."""
    height, width = grid.shape
    centre = (_GRID_PX - 1) / 2
    offset = [centre - zoom * (side - 1) / 2 + by for side, by in zip((width, height), shift_px, strict=True)]
    motion = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]], dtype=np.float32)
    moved = np.asarray(cv2.warpAffine(grid, motion, (_GRID_PX, _GRID_PX)), dtype=np.float32)
    # Pixels outside the frame are not compared.
    top, left = (_GRID_PX - height) // 2, (_GRID_PX - width) // 2
    moved[:top] = moved[top + height :] = moved[:, :left] = moved[:, left + width :] = 0
    return moved


def _unit_vectors(grids: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    rows = np.array(grids, dtype=np.float32).reshape(len(grids), _GRID_PX**2)
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9), dtype=np.float32)


def _gaussian_blur(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), dtype=np.float32)
