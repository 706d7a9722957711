"""A user's photograph with its depth map, or one made up for it, put before the virtual camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from capture.virtual.ground_plane import depth_ramp
from capture.virtual.scene import VirtualScene, slice_photograph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig
    from capture.virtual.plan import PairPlan

_MAX_EXACT_DEPTHS = 32
_MAX_SURFACES = 48
_STEP_PX = 0.5
_JUMP_PX = 1.0
_JUMP_FRACTION = 0.9
_PLANES = 6
_BLOB_SIZE = 0.15
_MAX_TILT_DEG = 60.0


@dataclass(frozen=True, slots=True)
class Picture:
    """A photograph and the depth of its pixels.

    Attributes:
        linear: (H, W, 3) float32 linear sRGB, sharp everywhere.
        inverse_depth: (H, W) float32 in 1/m where `depths` is given; else 0 (far) … 1 (near), to be fitted.
        depths: (largest, smallest) inverse depth in 1/m; None lets the camera choose.
    """

    linear: NDArray[np.float32]
    inverse_depth: NDArray[np.float32]
    depths: tuple[float, float] | None

    def scene(self, canvas: tuple[int, int], plan: PairPlan, config: SimulateConfig) -> VirtualScene:
        """The picture scaled to cover `canvas` (height, width), cut into surfaces of nearly equal blur."""
        linear = _resize_to_cover(self.linear, canvas, smooth=True)
        depth = _resize_to_cover(self.inverse_depth, canvas, smooth=False)
        if self.depths is None:
            depth = (plan.far + (plan.near - plan.far) * depth).astype(np.float32)
        ends = np.array([plan.near, plan.far])
        radii = [shot.signed_radius_px(ends, config) for shot in (plan.blur, plan.sharp)]
        reach = int(np.ceil(max(np.abs(radius).max() for radius in radii))) + 2
        spread_px = max(float(np.ptp(radius)) for radius in radii)
        if config.depth == "layers":
            return slice_photograph(linear, depth, _depth_cuts(depth, spread_px), reach)
        return slice_photograph(linear, depth, _cuts_at_jumps(depth, spread_px), reach, uneven=True)


def picture_from_distance(linear: NDArray[np.float32], distance_m: NDArray[np.float64]) -> Picture:
    """A picture whose (H, W) depth map holds metres, infinity allowed."""
    inverse = (1.0 / distance_m).astype(np.float32)
    return Picture(linear, inverse, (float(inverse.max()), float(inverse.min())))


def picture_from_nearness(
    linear: NDArray[np.float32], nearness: NDArray[np.float32], config: SimulateConfig
) -> Picture:
    """A picture whose (H, W) depth map is linear in inverse depth: 0 = `far_m` … 1 = `near_m` of the configuration."""
    if config.near_m is None or config.far_m is None:
        return Picture(linear, nearness, None)
    near, far = 1.0 / config.near_m, 1.0 / config.far_m
    return Picture(linear, (far + (near - far) * nearness).astype(np.float32), (near, far))


def synthesise_nearness(size: tuple[int, int], depth: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) nearness 0 … 1 for a photograph without a depth map, nearer towards the bottom as most things are.

    Args:
        size: (height, width).
        depth: `ramp` is a tilted plane; `layers` are six planes whose borders wander across the picture.
        rng: Draws the tilt and the borders.
    """
    plane = depth_ramp(size, 1.0, 0.0, np.radians(rng.uniform(-_MAX_TILT_DEG, _MAX_TILT_DEG)))
    if depth == "ramp":
        return plane
    coarse = rng.standard_normal((round(2 / _BLOB_SIZE), round(2 / _BLOB_SIZE))).astype(np.float32)
    wandering = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    field = plane + 0.2 * wandering
    ranks = np.quantile(field, np.linspace(0, 1, _PLANES + 1)[1:-1])
    return np.asarray(np.searchsorted(ranks, field) / (_PLANES - 1), dtype=np.float32)


def _resize_to_cover(image: NDArray[np.float32], canvas: tuple[int, int], *, smooth: bool) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    scale = max(canvas[0] / height, canvas[1] / width)
    high, wide = max(canvas[0], round(height * scale)), max(canvas[1], round(width * scale))
    method = cv2.INTER_NEAREST_EXACT if not smooth else cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    fitted = cv2.resize(image, (wide, high), interpolation=method)
    top, left = (high - canvas[0]) // 2, (wide - canvas[1]) // 2
    return np.maximum(fitted[top : top + canvas[0], left : left + canvas[1]], 0)


def _depth_cuts(depth: NDArray[np.float32], spread_px: float) -> NDArray[np.float64]:
    """Where to cut the inverse depths: between all of them if they are few, else every half pixel of radius."""
    values = np.unique(depth).astype(np.float64)
    if len(values) <= _MAX_EXACT_DEPTHS:
        inner = (values[1:] + values[:-1]) / 2
        return np.concatenate([[values[0] - 1], inner, [values[-1] + 1]])
    count = int(np.clip(np.ceil(spread_px / _STEP_PX), 1, _MAX_SURFACES))
    return np.linspace(values[0], values[-1], count + 1)


def _cuts_at_jumps(depth: NDArray[np.float32], spread_px: float) -> NDArray[np.float64]:
    """The cuts of `_edges` at which the depth jumps: nine of ten neighbours across are over a pixel of radius apart."""
    low, high = float(depth.min()), float(depth.max())
    count = int(np.clip(np.ceil(spread_px / _STEP_PX), 1, _MAX_SURFACES))
    edges = np.linspace(low, high, count + 1)
    crossings, leaps = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for first, second in ((depth[1:], depth[:-1]), (depth[:, 1:], depth[:, :-1])):
        nearer, farther = np.maximum(first, second), np.minimum(first, second)
        apart = nearer > farther
        begin, end = (np.searchsorted(edges, side[apart], side="left") for side in (farther, nearer))
        leap = (nearer - farther)[apart] * (spread_px / max(high - low, 1e-12)) > _JUMP_PX
        for total, chosen in ((crossings, slice(None)), (leaps, leap)):
            total += np.cumsum(
                np.bincount(begin[chosen], minlength=count + 2) - np.bincount(end[chosen], minlength=count + 2)
            )[: count + 1]
    inner = (leaps > _JUMP_FRACTION * crossings)[1:-1]
    return np.concatenate([[low - 1], edges[1:-1][inner], [high + 1]])
