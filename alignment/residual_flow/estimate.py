"""Residual optical flow between two frames beyond their global model, and its encoding for storage.

Far motions of objects come first (`motion_layers`), then small motions in windows of every size (`local_motion`), in
both directions. Where there is no evidence for motion the flow is zero and the global model holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from alignment.estimation import pyramid
from alignment.residual_flow import local_motion, motion_layers
from alignment.residual_flow.blur_hypotheses import build_hypotheses, match_static, warp_bicubic

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
# Logistic regression of "right to 0.5 px" over 35 virtual pairs: static, smoothly distorted, with parallax, with a
# moving object. Constant, log deviation, mismatch, disagreement of the directions, nearness of a layer's edge.
_LOGIT = (-4.25, -2.83, -4.46, -0.16, -5.32)
_EDGE_PX = 4.0
_OUTSIDE_FACTOR = 0.85


@dataclass(frozen=True, slots=True)
class ResidualFlow:
    """The motion beyond the global model, on the sharp frame's grid.

    Attributes:
        flow: (H, W, 2) float32 u[warped blur→sharp] in pixels: sharp(x + flow(x)) shows the content of blur(x).
        confidence: (H, W) float32, 0 … 1: the probability that the flow is right to `GOOD_PX` pixels of the registered
            frames; 0 where content is occluded.
        consistent: (H, W) pixels of the overlap where the forward and the backward flow cancel.
        occlusion: (H, W) pixels whose content in the blurred frame is occluded in the sharp one.
    """

    flow: Image
    confidence: Image
    consistent: Mask
    occlusion: Mask


def estimate_residual_flow(estimate: GlobalEstimate) -> ResidualFlow:
    """Estimates the flow between two frames beyond their global model, in pixels of the level of `estimate`."""
    size = estimate.frames.size
    hypotheses = build_hypotheses(estimate, _FINEST_SIDE_PX)
    static = match_static(hypotheses)
    layers = motion_layers.find_layers(hypotheses, static)
    at_layer = None if layers.label.any() else static
    forward = local_motion.estimate_motion(hypotheses, layers.motion(), at_layer=at_layer)
    error_px = hypotheses.factor * _round_trip_error_px(hypotheses, layers, forward)
    occluded = layers.occluded()
    confidence = np.where(occluded, 0, _confidence(hypotheses, forward, error_px, layers, estimate.reduction))
    consistent = (hypotheses.overlap & (error_px < _CONSISTENT_PX) & ~occluded).astype(np.float32)
    return ResidualFlow(
        flow=hypotheses.factor * _resize(forward.flow, size),
        confidence=np.clip(_resize(confidence.astype(np.float32), size), 0, 1),
        consistent=_resize(consistent, size) > 0.5,
        occlusion=_resize(occluded.astype(np.float32), size) > 0.5,
    )


def _round_trip_error_px(hypotheses: BlurHypotheses, layers: Layers, forward: Motion) -> Image:
    """(H, W) distance between a pixel and the end of the forward flow followed by the backward flow."""
    if not forward.flow.any():
        # Without motion both directions see the same difference.
        return np.zeros(hypotheses.overlap.shape, dtype=np.float32)
    start = layers.return_motion()
    backward = local_motion.estimate_motion(hypotheses.swapped(), start, -warp_bicubic(forward.flow, start))
    round_trip = forward.flow + warp_bicubic(backward.flow, forward.flow)
    return np.asarray(np.linalg.norm(round_trip, axis=2), dtype=np.float32)


def _confidence(hypotheses: BlurHypotheses, motion: Motion, error_px: Image, layers: Layers, reduction: int) -> Image:
    constant, by_deviation, by_mismatch, by_error, by_edge = _LOGIT
    logit = constant + by_deviation * np.log(reduction * hypotheses.factor * motion.deviation_px + 0.02)
    logit += by_mismatch * motion.mismatch + by_error * np.minimum(reduction * error_px, 3.0)
    if layers.label.any():
        edge = cv2.morphologyEx(layers.label.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), dtype=np.uint8))
        inner = (edge == 0).astype(np.uint8)
        logit += by_edge * np.exp(-cv2.distanceTransform(inner, cv2.DIST_L2, 3) / _EDGE_PX)
    return np.asarray(np.where(hypotheses.overlap, 1.0, _OUTSIDE_FACTOR) / (1 + np.exp(-logit)), dtype=np.float32)


def _resize(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def upsample(residual: ResidualFlow, size: tuple[int, int]) -> ResidualFlow:
    """`residual` of halved frames on the grid and in the pixels of the (height, width) frames before halving."""
    return ResidualFlow(
        flow=np.float32(2) * _upsample_image(residual.flow, size),
        confidence=_upsample_image(residual.confidence, size),
        consistent=_upsample_image(residual.consistent, size) > 0.5,
        occlusion=_upsample_image(residual.occlusion, size) > 0.5,
    )


def _upsample_image(image: NDArray[Any], size: tuple[int, int]) -> Image:
    """An image of halved frames on the (height, width) grid before halving, values unchanged."""
    height, width = image.shape[:2]
    return _pad_to(_resize(image.astype(np.float32, copy=False), (2 * height, 2 * width)), size)


def _pad_to(image: NDArray[Any], size: tuple[int, int]) -> Image:
    """`image` with its last row or column repeated where one is missing: halving crops an odd one."""
    missing = (0, size[0] - image.shape[0], 0, size[1] - image.shape[1])
    image = image.astype(np.float32, copy=False)
    return np.asarray(cv2.copyMakeBorder(image, *missing, cv2.BORDER_REPLICATE) if any(missing) else image)


def downsample(residual: ResidualFlow) -> ResidualFlow:
    """`residual` on the grid and in the pixels of frames of half the size."""

    def halve_mask(mask: Mask) -> Mask:
        return np.asarray(pyramid.halve(mask.astype(np.float32)) > 0.5)

    components = [pyramid.halve(np.ascontiguousarray(residual.flow[..., axis])) for axis in range(2)]
    return ResidualFlow(
        flow=np.stack(components, axis=-1) * np.float32(0.5),
        confidence=pyramid.halve(residual.confidence),
        consistent=halve_mask(residual.consistent),
        occlusion=halve_mask(residual.occlusion),
    )


@dataclass(frozen=True, slots=True)
class EncodedFlow:
    """A residual flow encoded for storage, on a grid of half its size (rounded up).

    Attributes:
        flow: (h, w, 2) float16 in the stored unit.
        confidence: (h, w) uint8, 0 … 255.
        occlusion: (h, w) uint8, 1 where most of the pixel's content is occluded.
    """

    flow: NDArray[np.float16]
    confidence: NDArray[np.uint8]
    occlusion: NDArray[np.uint8]


def encode_at_quarter_size(residual: ResidualFlow, unit_px: float) -> EncodedFlow:
    """Encodes the flow of half-size frames on a quarter-size grid, in full-size pixels.

    Args:
        residual: (H, W) of the half-size frames.
        unit_px: Size of a pixel of `residual` in the stored unit.
    """
    height, width = residual.confidence.shape
    grid = ((height + 1) // 2, (width + 1) // 2)
    odd = (0, height % 2, 0, width % 2)

    def block_means(image: NDArray[Any]) -> Image:
        even = cv2.copyMakeBorder(image.astype(np.float32, copy=False), *odd, cv2.BORDER_REPLICATE)
        return np.asarray(cv2.resize(even, grid[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)

    return _encode(
        block_means(residual.flow), block_means(residual.confidence), block_means(residual.occlusion), unit_px
    )


def encode_flow(residual: ResidualFlow, sizes: tuple[tuple[int, int], ...], unit_px: float) -> EncodedFlow:
    """Encodes a residual flow that was estimated on reduced frames, see `encode_at_quarter_size`.

    Args:
        residual: (H, W) on the last of these levels.
        sizes: (height, width) of the half-size frames and of their halvings down to the level of `residual`.
        unit_px: Size of a pixel of the half-size frames in the stored unit.
    """
    if len(sizes) == 1:
        return encode_at_quarter_size(residual, unit_px)
    grid = ((sizes[0][0] + 1) // 2, (sizes[0][1] + 1) // 2)

    def upsample_to_grid(image: NDArray[Any]) -> Image:
        if not image.any():
            return np.zeros((*grid, *image.shape[2:]), dtype=np.float32)
        for size in (*reversed(sizes[1:-1]), grid):
            image = _upsample_image(image, size) if size[0] > image.shape[0] + 1 else _pad_to(image, size)
        return np.asarray(image, dtype=np.float32)

    flow, confidence, occlusion = (
        upsample_to_grid(image) for image in (residual.flow, residual.confidence, residual.occlusion)
    )
    return _encode(flow, confidence, occlusion, unit_px * 2 ** (len(sizes) - 1))


def _encode(flow: Image, confidence: Image, occlusion: Image, unit_px: float) -> EncodedFlow:
    return EncodedFlow(
        flow=(np.float32(unit_px) * flow).astype(np.float16),
        confidence=np.rint(np.float32(255) * confidence).astype(np.uint8),
        occlusion=(occlusion > 0.5).astype(np.uint8),
    )
