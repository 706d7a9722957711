"""Blur kernels (point-spread functions) of a lens pupil: polygonal diaphragms, cat's eye, spherical aberration.

The image of a point out of focus is the scaled pupil of the lens. `radius_px` is always that of the round, uniform disc
of the thin lens, positive beyond the focus. A polygon of blades has the area of that disc; a cat's eye is the disc
without the part that the rim blocks. Shapes are given for points beyond the focus; before the focus they are rotated by
half a turn. Weights are exact areas: analytic for discs, Green's theorem for outlines.

Spherical aberration moves the ray through the pupil's height h (0 … 1) from r h to

    e(h) = r h + b (h³ - h)

pixels: the marginal rays meet at the thin lens's focus, those between them nearer to or farther from the lens. Where r
and b have the same sign, the light concentrates in the middle (a soft edge); where they differ, at the rim (a bright
ring); in focus, |e| stays below 0.385 |b|. Source: V. Mahajan, Optical Imaging and Aberrations I, SPIE 1998, ch. 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging.disc import disc_coverage, disc_kernel, disc_reach_px, normalise_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float64]

_OUTLINE_POINTS = 96
_ZONES = 12
_MIN_RING_PX = 0.02


@dataclass(frozen=True, slots=True)
class Pupil:
    """The part of a lens's opening that is visible from one point of the frame; lengths in radii of the round opening.

    Attributes:
        blades: Sides of the diaphragm; 0 is round.
        roundness: 0 for straight blades … 1 for blades that close to a circle.
        turn_deg: Rotation of the polygon; at 0 one corner lies on the x axis.
        rim_x: Centre of the lens barrel's rim (the cat's eye); x to the right.
        rim_y: The same, y down.
        rim_radius: Radius of that rim, which blocks the light outside.
    """

    blades: int = 0
    roundness: float = 0.0
    turn_deg: float = 0.0
    rim_x: float = 0.0
    rim_y: float = 0.0
    rim_radius: float = np.inf

    @property
    def is_round(self) -> bool:
        """Whether the pupil is the full disc."""
        return self.blades == 0 and np.hypot(self.rim_x, self.rim_y) + 1 <= self.rim_radius


ROUND = Pupil()


def pupil_outline(pupil: Pupil) -> Plane:
    """(n, 2) corners (x, y) of the pupil, by increasing angle.

    The polygon of the blades has the area π of the round opening; the rim reduces it.
    """
    angles: Plane = np.arange(_OUTLINE_POINTS, dtype=np.float64) * (2 * np.pi / _OUTLINE_POINTS)
    if pupil.blades:
        turn, side = np.radians(pupil.turn_deg), 2 * np.pi / pupil.blades
        angles = np.sort(np.concatenate([angles, turn + side * np.arange(pupil.blades)]) % (2 * np.pi))
        straight = np.cos(side / 2) / np.cos((angles - turn) % side - side / 2)
        reach = straight + pupil.roundness * (1 - straight)
        reach *= np.sqrt(np.pi / _signed_area(_to_corners(reach, angles)))
    else:
        # A polygon of n corners is smaller than its circle.
        reach = np.full(angles.shape, np.sqrt(2 * np.pi / _OUTLINE_POINTS / np.sin(2 * np.pi / _OUTLINE_POINTS)))
    if np.isfinite(pupil.rim_radius):
        along = pupil.rim_x * np.cos(angles) + pupil.rim_y * np.sin(angles)
        inside = pupil.rim_radius**2 - pupil.rim_x**2 - pupil.rim_y**2 + along**2
        reach = np.minimum(reach, np.maximum(along + np.sqrt(np.maximum(inside, 0.0)), 1e-3))
    return _to_corners(reach, angles)


def open_fraction(pupil: Pupil) -> float:
    """The fraction of the round opening's light that passes: the vignetting of a cat's eye."""
    return 1.0 if pupil.is_round else _signed_area(pupil_outline(pupil)) / np.pi


@lru_cache(maxsize=8192)
def pupil_kernel(radius_px: float, pupil: Pupil = ROUND, aberration_px: float = 0.0) -> NDArray[np.float32]:
    """The kernel of a lens with this pupil; sums to one.

    A regular polygon of n blades has the circumradius R with n/2 R² sin(2π/n) = π radius²; its variance along any
    direction is R²/12 (2 + cos(2π/n)), above the disc's radius²/4 by 1.1 % for six blades.

    Args:
        radius_px: Signed circle-of-confusion radius of the thin lens, negative before the focus.
        pupil: Shape of the opening.
        aberration_px: Spherical aberration b, see the module. With a shape other than round, zones of the pupil are
            taken to be similar to its edge.

    Returns:
        (2R + 1, 2R + 1) float32, read-only.
    """
    if pupil.is_round and aberration_px == 0:
        return disc_kernel(abs(radius_px))
    heights = np.sqrt(np.linspace(0.0, 1.0, _ZONES + 1)) if aberration_px else np.array([0.0, 1.0])
    landings = radius_px * heights + aberration_px * (heights**3 - heights)
    shape = None if pupil.is_round else pupil_outline(pupil)
    widest = 1.0 if shape is None else float(np.hypot(*shape.T).max())
    reach = disc_reach_px(float(np.abs(landings).max()) * widest + _MIN_RING_PX)
    if reach == 0:
        return disc_kernel(0.0)
    total = np.zeros((2 * reach + 1, 2 * reach + 1))
    covers = [_coverage(landing, shape, reach) for landing in landings.tolist()]
    for number, (first, second) in enumerate(zip(landings[:-1].tolist(), landings[1:].tolist(), strict=True)):
        # The light of one zone of the pupil lies between its two radii; where these are too close, on a thin ring.
        ring = np.abs(covers[number + 1] - covers[number])
        if first * second < 0 or abs(abs(second) - abs(first)) < _MIN_RING_PX:
            outer = float(np.copysign(max(abs(first), abs(second), _MIN_RING_PX), first + second))
            thin = first * second > 0 and abs(outer) > _MIN_RING_PX
            inner = outer - np.copysign(_MIN_RING_PX, outer) if thin else 0.0
            ring = _coverage(outer, shape, reach) - _coverage(inner, shape, reach)
        total += ring / ring.sum()
    return normalise_kernel(total)


def _coverage(radius_px: float, shape: Plane | None, reach: int) -> Plane:
    """Each pixel's area inside the pupil scaled by a signed radius."""
    if radius_px == 0:
        return np.zeros((2 * reach + 1, 2 * reach + 1))
    if shape is None:
        return disc_coverage(abs(radius_px), reach)
    nodes: Plane = np.arange(-reach, reach + 2, dtype=np.float64) - 0.5
    area = _polygon_area(radius_px * shape, nodes)
    return np.asarray(np.maximum(np.diff(np.diff(area, axis=0), axis=1), 0.0), dtype=np.float64)


def _polygon_area(corners: Plane, nodes: Plane) -> Plane:
    """(n, n): area of a polygon within X < nodes[column], Y < nodes[row]: the sum of min(X, x) dY along its edges."""
    following = np.roll(corners, -1, axis=0)
    (x0, y0), (x1, y1) = corners.T, following.T
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    slope = np.where(y1 != y0, (x1 - x0) / np.where(y1 != y0, y1 - y0, 1.0), 0.0)
    upper = np.clip(nodes[:, None], low, high)
    length = (upper - low) * np.sign(y1 - y0)
    first, last = x0 + slope * (low - y0), x0 + slope * (upper - y0)
    # The part of each edge left of x, and the mean of X - x along it: (row, column, edge).
    x = nodes[None, :, None]
    a = (np.minimum(first, last))[:, None, :] - x
    width = np.abs(last - first)[:, None, :]
    left = np.clip(-a, 0.0, width)
    mean = np.where(width > 1e-12, -left * (-a - left / 2) / np.maximum(width, 1e-12), np.minimum(a, 0.0))
    return np.asarray(np.einsum("rce,re->rc", mean, length), dtype=np.float64)


def _to_corners(reach: Plane, angles: Plane) -> Plane:
    return np.column_stack([reach * np.cos(angles), reach * np.sin(angles)])


def _signed_area(corners: Plane) -> float:
    following = np.roll(corners, -1, axis=0)
    return float(np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]) / 2)
