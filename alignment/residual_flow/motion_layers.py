"""Rigid motion layers: objects that moved far between the shots, and the background that they occlude.

A pixel belongs to a layer if the layer's motion explains it better than no motion does, both at its start and at its
destination. Static content at the destination of a layer is occluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.residual_flow import far_motion
from alignment.residual_flow.blur_hypotheses import match_static, window_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.residual_flow.blur_hypotheses import BlurHypotheses, MatchedPair
    from alignment.residual_flow.far_motion import Displacement

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Shift = tuple[float, float]

_NEAR_SIGMA_PX = 2.0
_CONTRAST_SIGMA_PX = 8.0
_FLOOR = np.float32(0.02)
_CLEARLY = 1.5
_ROUND_SIGMA_PX = 8.0
_SMOOTHNESS = 2.0
_OCCLUDED_COST = np.float32(0.55)
_BAND_PX = 8
_EDGE_SIGMA_PX = 1.0
_MEDIAN_PX = 11
_LEVELS_PER_DEVIATION = 42.0
_RIM_PX = 17
_ROUNDS = 5
_CERTAIN_SHARE = 0.2
_UNRELATED = 0.35


@dataclass(frozen=True, slots=True)
class Layers:
    """The rigid motion that each pixel follows.

    Attributes:
        label: (H, W) int on the grid of `moving`: 0 is static, k moves by `shifts[k]`.
        arrived_label: (H, W) int on the grid of `fixed`: the layer that is visible there.
        shifts: (dx, dy) px per layer; the first is (0, 0).
    """

    label: NDArray[np.int32]
    arrived_label: NDArray[np.int32]
    shifts: tuple[Shift, ...]

    def motion(self) -> Image:
        """(H, W, 2) u[moving→fixed] of each pixel's layer."""
        if len(self.shifts) == 1:
            return np.zeros((*self.label.shape, 2), dtype=np.float32)
        return np.array(self.shifts, dtype=np.float32)[self.label]

    def return_motion(self) -> Image:
        """(H, W, 2) u[fixed→moving] of each pixel's layer."""
        return -np.array(self.shifts, dtype=np.float32)[self.arrived_label]

    def occluded(self) -> Mask:
        """(H, W) pixels of the moving frame at whose destination another layer is visible."""
        height, width = self.label.shape
        if len(self.shifts) == 1:
            return np.zeros((height, width), dtype=np.bool_)
        steps = np.rint(self.motion()).astype(np.intp)
        xs = np.clip(np.arange(width)[None] + steps[..., 0], 0, width - 1)
        ys = np.clip(np.arange(height)[:, None] + steps[..., 1], 0, height - 1)
        return np.asarray(self.arrived_label[ys, xs] != self.label)


def find_layers(hypotheses: BlurHypotheses, static: MatchedPair | None = None) -> Layers:
    """Finds the rigid layers of a pair; a displacement that explains next to no pixel is dropped.

    Args:
        hypotheses: The pair.
        static: The pair at equal blur under no motion, if known.
    """
    static = static or match_static(hypotheses)
    return assign_layers(hypotheses, far_motion.find_displacements(hypotheses, static), static)


def assign_layers(hypotheses: BlurHypotheses, candidates: list[Displacement], static: MatchedPair) -> Layers:
    """Assigns each pixel to the candidate displacement that explains it, or to the static layer.

    Args:
        hypotheses: The pair.
        candidates: Displacements, the most frequent first.
        static: The pair at equal blur under no motion.
    """
    size = (hypotheses.overlap.shape[0], hypotheses.overlap.shape[1])
    label, arrived_label = np.zeros(size, dtype=np.int32), np.zeros(size, dtype=np.int32)
    shifts: list[Shift] = [(0.0, 0.0)]
    if not candidates:
        return Layers(label, arrived_label, tuple(shifts))
    cost = relative_difference(hypotheses, static)
    arrived_cost = cost
    for candidate in candidates:
        displacement, mask, moved_cost = _fit_object(hypotheses, cost, arrived_cost, candidate)
        # An edge matches itself along its direction: at the rim of a known object a further displacement explains
        # nothing new.
        known = cv2.dilate(((label > 0) | (arrived_label > 0)).astype(np.uint8), _ellipse(_RIM_PX)) > 0
        new = mask & ~known
        least = max(far_motion.LEAST_SHARE * mask.size, 0.5 * mask.sum())
        if new.sum() < least or moved_cost[mask].mean() > _UNRELATED:
            continue
        back = (-displacement.shift_px[0], -displacement.shift_px[1])
        destination = shift_image(mask.astype(np.float32), back) > 0.5
        label[mask], arrived_label[destination] = len(shifts), len(shifts)
        cost = np.where(mask, moved_cost, cost)
        arrived_cost = np.where(destination, shift_image(moved_cost, back), arrived_cost)
        shifts.append(displacement.shift_px)
    return Layers(label, arrived_label, tuple(shifts))


def _fit_object(
    hypotheses: BlurHypotheses, cost: Image, arrived_cost: Image, displacement: Displacement
) -> tuple[Displacement, Mask, Image]:
    """A displacement refined on the object that follows it, the object's mask, and the cost under the displacement."""
    moved_cost = relative_difference(hypotheses, displacement.match(hypotheses))
    mask = _segment(cost, arrived_cost, moved_cost, displacement.shift_px) & hypotheses.overlap
    # Near its outline blur mixes the object with the background.
    inner = cv2.erode(mask.astype(np.float32), _ellipse(_RIM_PX))
    if inner.sum() < 0.5 * far_motion.LEAST_SHARE * mask.size:
        return displacement, mask, moved_cost
    displacement = far_motion.refine_displacement(hypotheses, displacement, np.asarray(inner, dtype=np.float32))
    moved_cost = relative_difference(hypotheses, displacement.match(hypotheses))
    mask = _segment(cost, arrived_cost, moved_cost, displacement.shift_px) & hypotheses.overlap
    return displacement, _snap_outline(hypotheses, mask, displacement), moved_cost


def shift_image(image: Image, shift_px: Shift) -> Image:
    """`out(x) = image(x + shift_px)` of an (H, W) image, bilinear, border repeated."""
    matrix = np.array([[1, 0, shift_px[0]], [0, 1, shift_px[1]]], dtype=np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def relative_difference(hypotheses: BlurHypotheses, matched: MatchedPair) -> Image:
    """(H, W) squared difference relative to local contrast, 0 … 2; 1 where the motion leads out of the overlap."""
    power = matched.moving**2 + matched.fixed**2
    contrast = window_mean(power, _CONTRAST_SIGMA_PX) + np.float32(4 * hypotheses.noise**2 + 1e-9)
    ratio = (matched.moving - matched.fixed) ** 2 / contrast
    return np.asarray(np.where(hypotheses.overlap, np.where(matched.inside, ratio, 1), 0), dtype=np.float32)


def _segment(cost: Image, arrived_cost: Image, moved_cost: Image, shift_px: Shift) -> Mask:
    """The mask of the object that moves by `shift_px`: it explains most of both frames and has a smooth outline.

    Args:
        cost: (H, W) difference under the layers known so far, on the moving frame's grid.
        arrived_cost: The same on the fixed frame's grid.
        moved_cost: Difference under the displacement, on the moving frame's grid.
        shift_px: The displacement.
    """
    back = (-shift_px[0], -shift_px[1])
    destination_cost = shift_image(arrived_cost, shift_px)
    static_cost = np.minimum(window_mean(cost, _NEAR_SIGMA_PX), window_mean(destination_cost, _NEAR_SIGMA_PX))
    certain = static_cost > _CLEARLY * window_mean(moved_cost, _NEAR_SIGMA_PX) + _FLOOR
    mask = certain.astype(np.float32)
    for _ in range(_ROUNDS):
        # A pixel joins if moving explains it better than being static or occluded does; but it occludes the static
        # content at its destination.
        behind = np.where(shift_image(mask, back) > 0.5, _OCCLUDED_COST, cost)
        ahead = np.where(shift_image(mask, shift_px) > 0.5, 0, _OCCLUDED_COST - destination_cost)
        loss = window_mean(moved_cost - behind + ahead, _NEAR_SIGMA_PX)
        mask = (loss < np.float32(_SMOOTHNESS) * (window_mean(mask, _ROUND_SIGMA_PX) - 0.5)).astype(np.float32)
    return _keep_certain_regions(mask > 0, certain)


def _snap_outline(hypotheses: BlurHypotheses, mask: Mask, displacement: Displacement) -> Mask:
    """`mask` with its outline on the edges of the sharper frame.

    Differences separate an object from its surroundings to about the radius of the disc. Between certainly inside and
    certainly outside, the watershed (F. Meyer 1992) finds the line of strongest contrast.
    """
    fixed_is_sharper = displacement.disc_index >= 0
    shift_px, back = displacement.shift_px, (-displacement.shift_px[0], -displacement.shift_px[1])
    sharper = window_mean((hypotheses.fixed if fixed_is_sharper else hypotheses.moving)[0], _EDGE_SIGMA_PX)
    inside = shift_image(mask.astype(np.float32), back) > 0.5 if fixed_is_sharper else mask
    reach = _ellipse(2 * _BAND_PX + 1)
    markers = np.zeros(mask.shape, dtype=np.int32)
    markers[cv2.dilate(inside.astype(np.uint8), reach) == 0] = 1
    markers[cv2.erode(inside.astype(np.uint8), reach) > 0] = 2
    if not (markers == 2).any() or not (markers == 1).any():
        return mask
    gain = np.float32(_LEVELS_PER_DEVIATION / (float(sharper.std()) + 1e-9))
    grey = np.clip(np.rint(128 + gain * sharper), 0, 255).astype(np.uint8)
    region = cv2.watershed(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), markers) == 2
    # The line that the watershed draws belongs to neither side.
    closed = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), dtype=np.uint8))
    smooth = cv2.medianBlur(255 * closed, _MEDIAN_PX).astype(np.float32)
    return np.asarray((shift_image(smooth, shift_px) if fixed_is_sharper else smooth) > 127) & hypotheses.overlap


def _keep_certain_regions(possible: Mask, certain: Mask) -> Mask:
    """The connected regions of `possible` of which a sufficient share is `certain`."""
    count, region = cv2.connectedComponents(possible.astype(np.uint8))
    area, certain_area = (np.bincount(region[mask], minlength=count) for mask in (possible, possible & certain))
    retained = certain_area > _CERTAIN_SHARE * area
    retained[0] = False
    return np.asarray(retained[region])


def _ellipse(side_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side_px, side_px)), dtype=np.uint8)
