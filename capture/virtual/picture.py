"""Scenes from photographs: a photograph with a depth map, measured or synthesised, cut into surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from capture.virtual.ground_plane import depth_ramp
from capture.virtual.scene import Surface, VirtualScene

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
        inverse_depth: (H, W) float32 in 1/m where `depths` is given; else 0 (far) … 1 (near), to be scaled.
        depths: (largest, smallest) inverse depth in 1/m; None lets the plan of the pair choose.
    """

    linear: NDArray[np.float32]
    inverse_depth: NDArray[np.float32]
    depths: tuple[float, float] | None

    def scene(self, canvas: tuple[int, int], plan: PairPlan, config: SimulateConfig) -> VirtualScene:
        """Scales the picture to cover `canvas` (height, width), and cuts it into surfaces of nearly equal blur."""
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


def slice_photograph(
    image: NDArray[np.float32],
    inverse_depth: NDArray[np.float32],
    cuts: NDArray[np.float64],
    reach_px: int,
    *,
    uneven: bool = False,
) -> VirtualScene:
    """Cuts a photograph into surfaces by its depth map; each surface is continued behind nearer ones.

    Args:
        image: (H, W, 3) linear sRGB, as large as the canvas.
        inverse_depth: (H, W) in 1/m.
        cuts: Increasing inverse depths; one surface lies between two neighbours.
        reach_px: Distance over which blur can reveal hidden parts; these are filled from the visible surroundings.
        uneven: Whether the depth changes within a surface.
    """
    bins = np.clip(np.searchsorted(cuts, inverse_depth, side="right") - 1, 0, len(cuts) - 2)
    window = np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)
    surfaces: list[Surface] = []
    for number in range(len(cuts) - 1):
        visible = bins == number
        if not visible.any():
            continue
        # Behind nearer surfaces this one is continued, so that blur at their edges can reveal it.
        around = cv2.dilate(visible.astype(np.uint8), window) > 0
        alpha = (visible | (around & (bins > number))) if surfaces else np.ones(bins.shape, np.bool_)
        left, top, wide, high = cv2.boundingRect(alpha.astype(np.uint8))
        crop = (slice(top, top + high), slice(left, left + wide))
        colour = np.where(visible[crop][..., None], image[crop], _fill_hidden(image[crop], visible[crop]))
        opaque = alpha[crop].astype(np.float32)
        rgba = np.dstack([colour * opaque[..., None], opaque]).astype(np.float32)
        # Hidden parts get the nearest visible depth of their surface.
        depths = inverse_depth[visible]
        relief = np.clip(inverse_depth[crop], depths.min(), depths.max()) if uneven else None
        surfaces.append(Surface(rgba, left, top, float(np.mean(depths, dtype=np.float64)), relief=relief))
    return VirtualScene(tuple(surfaces), (image.shape[0], image.shape[1]), inverse_depth)


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
    """Cuts between all inverse depths if these are few, else at every half pixel of radius."""
    values = np.unique(depth).astype(np.float64)
    if len(values) <= _MAX_EXACT_DEPTHS:
        inner = (values[1:] + values[:-1]) / 2
        return np.concatenate([[values[0] - 1], inner, [values[-1] + 1]])
    count = int(np.clip(np.ceil(spread_px / _STEP_PX), 1, _MAX_SURFACES))
    return np.linspace(values[0], values[-1], count + 1)


def _cuts_at_jumps(depth: NDArray[np.float32], spread_px: float) -> NDArray[np.float64]:
    """The cuts of `_depth_cuts` at which nine of ten neighbouring pixels differ by more than a pixel of radius."""
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


def _fill_hidden(image: NDArray[np.float32], visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Colours of `visible` pixels, extended into the others by a pyramid of weighted means (push-pull)."""
    weight = visible.astype(np.float32)
    levels = [np.dstack([image * weight[..., None], weight])]
    while min(levels[-1].shape[:2]) > 2:
        high, wide = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], ((wide + 1) // 2, (high + 1) // 2), interpolation=cv2.INTER_AREA))
    filled = levels[-1][..., :3] / np.maximum(levels[-1][..., 3:], 1e-6)
    for level in reversed(levels[:-1]):
        coarse = cv2.resize(filled, (level.shape[1], level.shape[0]), interpolation=cv2.INTER_LINEAR)
        share = np.minimum(level[..., 3:], 1.0)
        filled = share * level[..., :3] / np.maximum(level[..., 3:], 1e-6) + (1 - share) * coarse
    return np.asarray(filled, dtype=np.float32)
