"""Objects that moved far between the shots: rigid layers on top of the global model, and what they hide.

A pixel belongs to a layer if that explains it better than standing still does, both where it leaves and where it
arrives; what stands still where a layer arrives is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.residual_flow import far_motion
from alignment.residual_flow.blur_hypotheses import blurred_to_match, mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.residual_flow.blur_hypotheses import BlurHypotheses, MatchedPair
    from alignment.residual_flow.far_motion import Displacement

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Shift = tuple[float, float]

_NEAR_PX = 2.0
_CONTRAST_PX = 8.0
_FLOOR = np.float32(0.02)
_CLEARLY = 1.5
_ROUND_PX = 8.0
_SMOOTHNESS = 2.0
_HIDDEN = np.float32(0.55)
_BAND_PX = 8
_EDGE_SIGMA = 1.0
_EVEN_PX = 11
_LEVELS_PER_DEVIATION = 42.0
_RIM_PX = 17
_TURNS = 5
_SURE_SHARE = 0.2
_UNRELATED = 0.35


@dataclass(frozen=True, slots=True)
class Layers:
    """Which rigid motion explains which pixel.

    Attributes:
        label: (H, W) int on the grid of `moving`: 0 stands still, k moves by `shifts[k]`.
        arrived: (H, W) int, the same on the grid of `fixed`: which layer is seen there.
        shifts: (dx, dy) px per layer; the first is (0, 0).
    """

    label: NDArray[np.int32]
    arrived: NDArray[np.int32]
    shifts: tuple[Shift, ...]

    def motion(self) -> Image:
        """(H, W, 2) u[moving→fixed] of each pixel's layer."""
        if len(self.shifts) == 1:
            return np.zeros((*self.label.shape, 2), dtype=np.float32)
        return np.array(self.shifts, dtype=np.float32)[self.label]

    def return_motion(self) -> Image:
        """(H, W, 2) u[fixed→moving] of each pixel's layer."""
        return -np.array(self.shifts, dtype=np.float32)[self.arrived]

    def hidden(self) -> Mask:
        """(H, W) pixels of the moving frame where another layer is seen once they have arrived."""
        height, width = self.label.shape
        if len(self.shifts) == 1:
            return np.zeros((height, width), dtype=np.bool_)
        steps = np.rint(self.motion()).astype(np.intp)
        xs = np.clip(np.arange(width)[None] + steps[..., 0], 0, width - 1)
        ys = np.clip(np.arange(height)[:, None] + steps[..., 1], 0, height - 1)
        return np.asarray(self.arrived[ys, xs] != self.label)


def find_layers(views: BlurHypotheses, still: MatchedPair | None = None) -> Layers:
    """The rigid layers of a pair; a jump that explains next to no pixel is dropped.

    Args:
        views: The pair.
        still: It at equal softness where nothing moves, if that is known already.
    """
    still = still or blurred_to_match(views, np.zeros((*views.overlap.shape, 2), dtype=np.float32))
    return labelled(views, far_motion.find_displacements(views, still), still)


def labelled(views: BlurHypotheses, found: list[Displacement], still: MatchedPair) -> Layers:
    """Which of the given jumps explains which pixel."""
    size = (views.overlap.shape[0], views.overlap.shape[1])
    label, arrived = np.zeros(size, dtype=np.int32), np.zeros(size, dtype=np.int32)
    shifts: list[Shift] = [(0.0, 0.0)]
    if not found:
        return Layers(label, arrived, tuple(shifts))
    cost = difference(views, still)
    seen = cost
    for candidate in found:
        jump, mask, moved = _explained(views, cost, seen, candidate)
        # An edge fits along itself: at the rim of an object that is known already a new jump explains nothing new.
        known = cv2.dilate(((label > 0) | (arrived > 0)).astype(np.uint8), _ellipse(_RIM_PX)) > 0
        new = mask & ~known
        if new.sum() < max(far_motion.LEAST_SHARE * mask.size, 0.5 * mask.sum()) or moved[mask].mean() > _UNRELATED:
            continue
        back = (-jump.shift[0], -jump.shift[1])
        there = shifted(mask.astype(np.float32), back) > 0.5
        label[mask], arrived[there] = len(shifts), len(shifts)
        cost, seen = np.where(mask, moved, cost), np.where(there, shifted(moved, back), seen)
        shifts.append(jump.shift)
    return Layers(label, arrived, tuple(shifts))


def _explained(views: BlurHypotheses, cost: Image, seen: Image, jump: Displacement) -> tuple[Displacement, Mask, Image]:
    """A jump measured on its own object, where that is, and the difference under the jump."""
    moved = difference(views, jump.soft(views))
    mask = _segmented(cost, seen, moved, jump.shift) & views.overlap
    # Near its outline blur mixes the object with what is behind it.
    inner = cv2.erode(mask.astype(np.float32), _ellipse(_RIM_PX))
    if inner.sum() < 0.5 * far_motion.LEAST_SHARE * mask.size:
        return jump, mask, moved
    jump = far_motion.refined(views, jump, np.asarray(inner, dtype=np.float32))
    moved = difference(views, jump.soft(views))
    mask = _segmented(cost, seen, moved, jump.shift) & views.overlap
    return jump, _outlined(views, mask, jump), moved


def shifted(image: Image, shift: Shift) -> Image:
    """`out(x) = image(x + shift)`, bilinear, border repeated."""
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], dtype=np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def difference(views: BlurHypotheses, soft: MatchedPair) -> Image:
    """(H, W) squared difference relative to local contrast, 0 … 2; 1 where the motion leads out of the overlap."""
    power = soft.moving**2 + soft.fixed**2
    contrast = mean(power, _CONTRAST_PX) + np.float32(4 * views.noise**2 + 1e-9)
    gap = (soft.moving - soft.fixed) ** 2 / contrast
    return np.asarray(np.where(views.overlap, np.where(soft.inside, gap, 1), 0), dtype=np.float32)


def _segmented(cost: Image, seen: Image, moved: Image, shift: Shift) -> Mask:
    """Where an object that jumps by `shift` is: the mask that explains most of both frames, with a smooth outline.

    Args:
        cost: (H, W) difference under what is known so far, on the moving frame's grid.
        seen: The same on the fixed frame's grid.
        moved: Difference under the jump, on the moving frame's grid.
        shift: The jump.
    """
    back = (-shift[0], -shift[1])
    arrival = shifted(seen, shift)
    sure = np.minimum(mean(cost, _NEAR_PX), mean(arrival, _NEAR_PX)) > _CLEARLY * mean(moved, _NEAR_PX) + _FLOOR
    mask = sure.astype(np.float32)
    for _ in range(_TURNS):
        # A pixel joins if that explains it better than standing still, or being hidden; but it hides what stands
        # still where it arrives.
        behind = np.where(shifted(mask, back) > 0.5, _HIDDEN, cost)
        ahead = np.where(shifted(mask, shift) > 0.5, 0, _HIDDEN - arrival)
        loss = mean(moved - behind + ahead, _NEAR_PX)
        mask = (loss < np.float32(_SMOOTHNESS) * (mean(mask, _ROUND_PX) - 0.5)).astype(np.float32)
    return _together(mask > 0, sure)


def _outlined(views: BlurHypotheses, mask: Mask, jump: Displacement) -> Mask:
    """`mask` with its outline on the edges of the sharper frame.

    Differences tell an object from what is around it to about the radius of the disc. Between what is surely inside
    and surely outside, the watershed (F. Meyer 1992) finds the line of strongest contrast.
    """
    away = jump.position >= 0
    there, back = jump.shift, (-jump.shift[0], -jump.shift[1])
    sharper = mean((views.fixed if away else views.moving)[0], _EDGE_SIGMA)
    inside = shifted(mask.astype(np.float32), back) > 0.5 if away else mask
    reach = _ellipse(2 * _BAND_PX + 1)
    markers = np.zeros(mask.shape, dtype=np.int32)
    markers[cv2.dilate(inside.astype(np.uint8), reach) == 0] = 1
    markers[cv2.erode(inside.astype(np.uint8), reach) > 0] = 2
    if not (markers == 2).any() or not (markers == 1).any():
        return mask
    level = np.float32(_LEVELS_PER_DEVIATION / (float(sharper.std()) + 1e-9))
    grey = np.clip(np.rint(128 + level * sharper), 0, 255).astype(np.uint8)
    found = cv2.watershed(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), markers) == 2
    # The watershed's own line belongs to neither side.
    found = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), dtype=np.uint8))
    smooth = cv2.medianBlur(255 * found, _EVEN_PX).astype(np.float32)
    return np.asarray((shifted(smooth, there) if away else smooth) > 127) & views.overlap


def _together(possible: Mask, sure: Mask) -> Mask:
    """The connected regions of `possible` of which a part is `sure`."""
    count, region = cv2.connectedComponents(possible.astype(np.uint8))
    area, sure_area = (np.bincount(region[mask], minlength=count) for mask in (possible, possible & sure))
    kept = sure_area > _SURE_SHARE * area
    kept[0] = False
    return np.asarray(kept[region])


def _ellipse(side_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side_px, side_px)), dtype=np.uint8)
