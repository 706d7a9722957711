"""Dead-leaves scenes: opaque shapes dropped at random, with the scale-invariant statistics of natural pictures.

Radii have a density proportional to r⁻³. Source: A. B. Lee, D. Mumford, J. Huang, IJCV 41 (2001); Gousseau, Roueff
(2007).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from capture.virtual.scene import Surface, VirtualScene, overlap_slices
from capture.virtual.texture import Appearance, draw_appearance, draw_palettes, paint_two_tones

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COVERAGE = 2.5
_SMALLEST_RADIUS_PX = 8.0
_LARGEST_RADIUS = 0.22
_SUPERSAMPLING = 4
_EDGE_SIGMA_PX = 0.5


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf before it is rasterised.

    Attributes:
        outline: (n, 2) corners (x, y) on the canvas.
        inverse_depth: 1/m.
        tones: (2, 3) colours, linear sRGB.
        appearance: Texture and shading.
    """

    outline: NDArray[np.float64]
    inverse_depth: float
    tones: NDArray[np.float32]
    appearance: Appearance

    def paint(self) -> Surface:
        """The leaf as a surface, antialiased."""
        left, top = (np.floor(self.outline.min(axis=0)).astype(int) - 2).tolist()
        right, bottom = (np.ceil(self.outline.max(axis=0)).astype(int) + 3).tolist()
        coverage = _rasterise(self.outline - (left, top), (bottom - top, right - left))
        return Surface(paint_two_tones(coverage, self.tones, self.appearance), left, top, self.inverse_depth)


def dead_leaves(
    size: tuple[int, int],
    frame: tuple[int, int],
    near: float,
    far: float,
    rng: np.random.Generator,
    *,
    reach_px: float | None = None,
) -> VirtualScene:
    """A dead-leaves scene whose visible area is distributed evenly over the inverse depths `far` … `near`.

    Args:
        size: (height, width) of the canvas.
        frame: (height, width) of the frame, which sets the largest leaf.
        near: Largest inverse depth, 1/m.
        far: Smallest inverse depth, 1/m.
        rng: Random generator.
        reach_px: Largest reach of a kernel; leaves that stay hidden behind others are omitted. None keeps all.
    """
    leaves, ground = draw_leaves(size, frame, rng)
    # At position t of the drop order, exp(-coverage (1 - t)) of a leaf stays visible: equal area per dioptre.
    visible = np.exp(-_COVERAGE * (1 - (np.arange(len(leaves)) + 1) / len(leaves)))
    depths = far + (near - far) * (visible - visible[0]) / (visible[-1] - visible[0])
    placed = [replace(leaf, inverse_depth=depth) for leaf, depth in zip(leaves, depths.tolist(), strict=True)]
    drawn = placed if reach_px is None else _drop_hidden(placed, size, reach_px)
    return VirtualScene((replace(ground, inverse_depth=far), *(leaf.paint() for leaf in drawn)), size)


def draw_leaves(
    size: tuple[int, int], frame: tuple[int, int], rng: np.random.Generator, coverage: float = _COVERAGE
) -> tuple[list[Leaf], Surface]:
    """Draws leaves in the order in which they are dropped, all at depth 0, and the ground below them.

    Args:
        size: (height, width) of the canvas.
        frame: (height, width) of the frame, which sets the largest leaf.
        rng: Random generator.
        coverage: Area of all leaves, as a multiple of the area of the canvas.
    """
    height, width = size
    smallest = _SMALLEST_RADIUS_PX
    largest = max(2 * smallest, _LARGEST_RADIUS * min(frame))
    mean_area = 2 * np.pi * np.log(largest / smallest) / (smallest**-2 - largest**-2)
    count = max(8, round(coverage * height * width / mean_area))
    radii = (smallest**-2 - rng.random(count) * (smallest**-2 - largest**-2)) ** -0.5
    centres = rng.random((count, 2)) * (width, height)
    tones = draw_palettes(count + 1, rng)
    ground = Surface(paint_two_tones(np.ones(size, np.float32), tones[-1], draw_appearance(rng)), 0, 0, 0.0)
    leaves = [
        Leaf(_random_outline(rng) * radius + centre, 0.0, colours, draw_appearance(rng))
        for radius, centre, colours in zip(radii.tolist(), centres, tones[:-1], strict=True)
    ]
    return leaves, ground


def _drop_hidden(leaves: list[Leaf], size: tuple[int, int], reach_px: float) -> list[Leaf]:
    """The visible leaves, in the same order: those not wholly behind the opaque interiors of nearer ones."""
    edge = int(np.ceil(reach_px)) + 4
    hidden = np.zeros((size[0] + 2 * edge, size[1] + 2 * edge), np.uint8)
    kept: list[Leaf] = []
    for leaf in reversed(leaves):
        points = np.rint(leaf.outline).astype(np.int32) + edge
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        box = hidden[max(top - edge, 0) : max(bottom + edge + 1, 0), max(left - edge, 0) : max(right + edge + 1, 0)]
        if box.size == 0 or box.min() > 0:
            continue
        kept.append(leaf)
        # Blur can reveal what lies behind the rim, twice as wide as the blur reaches: only the interior is opaque.
        if min(right - left, bottom - top) > 2 * edge:
            inside = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
            shape = [points - (left, top)]
            cv2.fillPoly(inside, shape, 1)
            cv2.polylines(inside, shape, True, 0, 2 * edge)
            target, source = overlap_slices(hidden.shape, inside.shape, (top, left))
            hidden[target] |= inside[source]
    return kept[::-1]


def add_moving_object(
    scene: VirtualScene,
    frame: tuple[int, int],
    near: float,
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = (0.08, 0.1),
    jump_px: tuple[float, float] = (30.0, 60.0),
) -> VirtualScene:
    """`scene` with a textured object in front that jumps between the shots.

    Args:
        scene: The static scene.
        frame: (height, width) of the frame.
        near: Inverse depth of the object, 1/m.
        rng: Random generator.
        area: Smallest and largest area of the object, as a fraction of the frame.
        jump_px: Shortest and longest jump; less in frames below 400 px.
    """
    radius = float(np.sqrt(rng.uniform(*area) * frame[0] * frame[1] / np.pi))
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(*jump_px) * min(1.0, min(frame) / 400)
    jump = (round(length * np.cos(angle)), round(length * np.sin(angle)))
    middle = np.array([scene.size[1], scene.size[0]]) / 2
    slack = np.maximum(np.array([frame[1], frame[0]]) / 2 - radius - 60, 0) * 0.8
    x, y = middle + rng.uniform(-1, 1, 2) * slack - np.array(jump) / 2
    colours = draw_palettes(1, rng, least_contrast=0.9)[0]
    leaf = Leaf(_random_outline(rng) * radius + (x, y), near, colours, draw_appearance(rng, aperiodic=True))
    moving = replace(leaf.paint(), jump=jump)
    depth = scene.inverse_depth
    if depth is not None:
        depth = depth.copy()
        target, source = overlap_slices(scene.size, moving.rgba.shape[:2], moving.position())
        depth[target][moving.rgba[..., 3][source] >= 0.5] = moving.inverse_depth
    return VirtualScene((*scene.surfaces, moving), scene.size, depth)


def _random_outline(rng: np.random.Generator) -> NDArray[np.float64]:
    """(n, 2) corners of an ellipse, a polygon, a bar or a lobed leaf of about unit radius, rotated at random."""
    kind, turn = rng.integers(4), rng.uniform(0, 2 * np.pi)
    if kind == 1:
        angles = np.asarray((np.sort(rng.random(5)) + np.arange(5)) * (2 * np.pi / 5), dtype=np.float64)
    else:
        angles = np.asarray(np.arange(48) * (2 * np.pi / 48), dtype=np.float64)
    x: NDArray[np.float64] = np.cos(angles)
    y: NDArray[np.float64] = np.sin(angles)
    if kind == 0:
        squash = rng.uniform(0.5, 1.0)
        x, y = x / np.sqrt(squash), y * np.sqrt(squash)
    elif kind == 2:
        sides = rng.uniform(0.45, 1.0)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (np.sqrt(1 / sides), np.sqrt(sides)) * 0.8
        x, y = corners[:, 0], corners[:, 1]
    elif kind == 3:
        wave = 1 + 0.3 * np.cos(rng.integers(2, 7) * angles + turn) * rng.random()
        x, y = x * wave, y * wave
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.column_stack([cosine * x - sine * y, sine * x + cosine * y])


def _rasterise(outline: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Fraction of each pixel inside the polygon, slightly blurred as by a lens."""
    fine = np.zeros((size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING), np.uint8)
    points = np.rint((outline + 0.5) * _SUPERSAMPLING - 0.5).astype(np.int32)
    cv2.fillPoly(fine, [points], 255)
    area = cv2.resize(fine, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(area, (3, 3), _EDGE_SIGMA_PX, borderType=cv2.BORDER_CONSTANT))
