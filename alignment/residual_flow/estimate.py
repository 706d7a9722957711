"""Residual flow: what moves beyond the global model, found on frames at equal softness.

Far motions of objects first (`layers`), then small ones in windows of every size (`local_motion`), in both directions.
Where nothing speaks for motion the flow is zero: the global model holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from alignment.estimation import pyramid
from alignment.residual_flow import local_motion, motion_layers
from alignment.residual_flow.blur_hypotheses import blurred_to_match, build_hypotheses, pulled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.estimation.global_model import GlobalEstimate
    from alignment.residual_flow.blur_hypotheses import BlurHypotheses
    from alignment.residual_flow.local_motion import Motion
    from alignment.residual_flow.motion_layers import Layers

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]

GOOD_PX = 0.5
_FINEST_SIDE_PX = 800
_CONSISTENT_PX = 0.7
# Logistic regression of "right to 0.5 px" over 35 virtual pairs: standing still, smoothly bent, with parallax, with a
# moving object. Constant, log deviation, mismatch, disagreement of the directions, nearness of a layer's edge.
_LOGIT = (-4.25, -2.83, -4.46, -0.16, -5.32)
_EDGE_PX = 4.0
_UNSEEN = 0.85


@dataclass(frozen=True, slots=True)
class Residual:
    """What is left after the global model, on the sharp frame's grid.

    Attributes:
        flow: (H, W, 2) float32 u[warped blur→sharp] in pixels: sharp(x + flow(x)) looks like blur(x).
        confidence: (H, W) float32, 0 … 1: the probability that the flow is right to `GOOD_PX` pixels of the frames
            handed in; 0 where content is hidden.
        consistent: (H, W) pixels of the overlap where forward and backward flow undo each other.
        occlusion: (H, W) pixels whose content in the blurred frame is hidden behind something else in the sharp one.
    """

    flow: Image
    confidence: Image
    consistent: Mask
    occlusion: Mask


def residual_flow(estimate: GlobalEstimate) -> Residual:
    """The flow between two frames beyond their global model, in pixels of the level that was found on."""
    size = estimate.frames.size
    views = build_hypotheses(estimate, _FINEST_SIDE_PX)
    still = blurred_to_match(views, np.zeros((*views.overlap.shape, 2), dtype=np.float32))
    found = motion_layers.find_layers(views, still)
    forward = local_motion.estimate_motion(views, found.motion(), still=None if found.label.any() else still)
    gap_px = views.factor * _gap_px(views, found, forward)
    hidden = found.hidden()
    confidence = np.where(hidden, 0, _confidence(views, forward, gap_px, found, estimate.reduction))
    consistent = (views.overlap & (gap_px < _CONSISTENT_PX) & ~hidden).astype(np.float32)
    return Residual(
        flow=views.factor * _resized(forward.flow, size),
        confidence=np.clip(_resized(confidence.astype(np.float32), size), 0, 1),
        consistent=_resized(consistent, size) > 0.5,
        occlusion=_resized(hidden.astype(np.float32), size) > 0.5,
    )


def _gap_px(views: BlurHypotheses, found: Layers, forward: Motion) -> Image:
    """(H, W) how far from where it started the flow there and back leads."""
    if not forward.flow.any():
        # Nothing moves from either side: both see the same difference.
        return np.zeros(views.overlap.shape, dtype=np.float32)
    start = found.return_motion()
    backward = local_motion.estimate_motion(views.turned(), start, -pulled(forward.flow, start))
    return np.asarray(np.linalg.norm(forward.flow + pulled(backward.flow, forward.flow), axis=2), dtype=np.float32)


def _confidence(views: BlurHypotheses, motion: Motion, gap_px: Image, found: Layers, reduction: int) -> Image:
    constant, by_deviation, by_mismatch, by_gap, by_edge = _LOGIT
    logit = constant + by_deviation * np.log(reduction * views.factor * motion.deviation_px + 0.02)
    logit += by_mismatch * motion.mismatch + by_gap * np.minimum(reduction * gap_px, 3.0)
    if found.label.any():
        inner = cv2.morphologyEx(found.label.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), dtype=np.uint8)) == 0
        logit += by_edge * np.exp(-cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 3) / _EDGE_PX)
    return np.asarray(np.where(views.overlap, 1.0, _UNSEEN) / (1 + np.exp(-logit)), dtype=np.float32)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def enlarged(residual: Residual, size: tuple[int, int]) -> Residual:
    """`residual` of halved frames on the grid and in the pixels of the (height, width) frames they were halved from."""
    return Residual(
        flow=np.float32(2) * _doubled(residual.flow, size),
        confidence=_doubled(residual.confidence, size),
        consistent=_doubled(residual.consistent, size) > 0.5,
        occlusion=_doubled(residual.occlusion, size) > 0.5,
    )


def _doubled(image: NDArray[Any], size: tuple[int, int]) -> Image:
    """An image of halved frames on the (height, width) grid they were halved from, values unchanged."""
    height, width = image.shape[:2]
    return _padded(_resized(image.astype(np.float32, copy=False), (2 * height, 2 * width)), size)


def _padded(image: NDArray[Any], size: tuple[int, int]) -> Image:
    """With its last row or column once more where there is one too few: halving cuts an odd one."""
    missing = (0, size[0] - image.shape[0], 0, size[1] - image.shape[1])
    image = image.astype(np.float32, copy=False)
    return np.asarray(cv2.copyMakeBorder(image, *missing, cv2.BORDER_REPLICATE) if any(missing) else image)


def halved(residual: Residual) -> Residual:
    """`residual` on the grid and in the pixels of frames of half the size."""

    def mask(image: Mask) -> Mask:
        return np.asarray(pyramid.halve(image.astype(np.float32)) > 0.5)

    along = [pyramid.halve(np.ascontiguousarray(residual.flow[..., axis])) for axis in range(2)]
    return Residual(
        flow=np.stack(along, axis=-1) * np.float32(0.5),
        confidence=pyramid.halve(residual.confidence),
        consistent=mask(residual.consistent),
        occlusion=mask(residual.occlusion),
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """A residual flow as it is stored, on a grid of half its size (rounded up).

    Attributes:
        flow: (h, w, 2) float16 in the stored unit.
        confidence: (h, w) uint8, 0 … 255.
        occlusion: (h, w) uint8, 1 where most of the pixel's content is hidden.
    """

    flow: NDArray[np.float16]
    confidence: NDArray[np.uint8]
    occlusion: NDArray[np.uint8]


def quartered(residual: Residual, unit_px: float) -> Stored:
    """The flow of half-size frames as it is stored: on a quarter-size grid, in full-size pixels.

    Args:
        residual: (H, W) of the half-size frames.
        unit_px: What one pixel of `residual` is in the stored unit.
    """
    height, width = residual.confidence.shape
    grid = ((height + 1) // 2, (width + 1) // 2)
    odd = (0, height % 2, 0, width % 2)

    def means(image: NDArray[Any]) -> Image:
        whole = cv2.copyMakeBorder(image.astype(np.float32, copy=False), *odd, cv2.BORDER_REPLICATE)
        return np.asarray(cv2.resize(whole, grid[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)

    return _stored(means(residual.flow), means(residual.confidence), means(residual.occlusion), unit_px)


def stored(residual: Residual, sizes: tuple[tuple[int, int], ...], unit_px: float) -> Stored:
    """`quartered`, of a residual flow that was found on reduced frames.

    Args:
        residual: (H, W) on the last of these levels.
        sizes: (height, width) of the half-size frames and of their halvings down to those it was found on.
        unit_px: What one pixel of the half-size frames is in the stored unit.
    """
    if len(sizes) == 1:
        return quartered(residual, unit_px)
    grid = ((sizes[0][0] + 1) // 2, (sizes[0][1] + 1) // 2)

    def on_grid(image: NDArray[Any]) -> Image:
        if not image.any():
            return np.zeros((*grid, *image.shape[2:]), dtype=np.float32)
        for size in (*reversed(sizes[1:-1]), grid):
            image = _doubled(image, size) if size[0] > image.shape[0] + 1 else _padded(image, size)
        return np.asarray(image, dtype=np.float32)

    unit_px *= 2 ** (len(sizes) - 1)
    return _stored(on_grid(residual.flow), on_grid(residual.confidence), on_grid(residual.occlusion), unit_px)


def _stored(flow: Image, confidence: Image, occlusion: Image, unit_px: float) -> Stored:
    return Stored(
        flow=(np.float32(unit_px) * flow).astype(np.float16),
        confidence=np.rint(np.float32(255) * confidence).astype(np.uint8),
        occlusion=(occlusion > 0.5).astype(np.uint8),
    )
