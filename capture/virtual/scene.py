"""What stands before the camera: textured surfaces, each at its own depth, ordered from back to front.

Dead leaves: opaque shapes dropped at random, radii with density proportional to r⁻³, which gives the scale-invariant
statistics of natural pictures. Source: A. B. Lee, D. Mumford, J. Huang, IJCV 41 (2001); Gousseau, Roueff (2007).
All colours are linear sRGB; depths are inverse depths in dioptres (1/m).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from capture.virtual.texture import Appearance, draw_appearance, draw_palettes, paint_two_tones

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COVERAGE = 2.5
_SMALLEST_RADIUS_PX = 8.0
_LARGEST_RADIUS = 0.22
_SUPERSAMPLING = 4
_EDGE_SIGMA_PX = 0.5


@dataclass(frozen=True, slots=True)
class Surface:
    """One opaque thing at one depth, cut to its bounding box.

    Attributes:
        rgba: (h, w, 4) float32 linear sRGB times alpha, and alpha.
        left: Column of its first pixel on the canvas; may lie outside.
        top: Row of its first pixel.
        inverse_depth: 1/m; the mean where it is tilted or uneven.
        jump: (dx, dy) px it moves between the blurred and the sharp shot.
        relief: (h, w) or (h, 1) float32 inverse depths in 1/m where they change within it; None: the same all over.
    """

    rgba: NDArray[np.float32]
    left: int
    top: int
    inverse_depth: float
    jump: tuple[int, int] = (0, 0)
    relief: NDArray[np.float32] | None = None

    @property
    def depths(self) -> NDArray[np.float64]:
        """Inverse depths in 1/m that broadcast over its pixels."""
        return np.asarray(self.inverse_depth if self.relief is None else self.relief, dtype=np.float64)

    def position(self, reach_px: int = 0, *, moved: bool = False) -> tuple[int, int]:
        """(top, left) on the canvas of the surface enlarged by `reach_px`, before or after its jump."""
        dx, dy = self.jump if moved else (0, 0)
        return self.top + dy - reach_px, self.left + dx - reach_px


@dataclass(frozen=True, slots=True)
class VirtualScene:
    """Surfaces from back to front on a canvas larger than the frame.

    Attributes:
        surfaces: The first one covers the whole canvas; only the last one may jump.
        size: (height, width) of the canvas.
        inverse_depth: (H, W) of a photograph, finer than its surfaces; None: that of the surfaces.
    """

    surfaces: tuple[Surface, ...]
    size: tuple[int, int]
    inverse_depth: NDArray[np.float32] | None = None

    def front_depth(self) -> NDArray[np.float32]:
        """(H, W) inverse depth of what is in front at each canvas pixel before any jump."""
        depth, painted = np.zeros(self.size, np.float32), self.surfaces
        if self.inverse_depth is not None:
            depth, painted = self.inverse_depth.copy(), tuple(s for s in self.surfaces if s.jump != (0, 0))
        for surface in painted:
            target, source = overlap_slices(self.size, surface.rgba.shape[:2], surface.position())
            seen = surface.rgba[..., 3][source] >= 0.5
            own = np.broadcast_to(surface.depths.astype(np.float32), surface.rgba.shape[:2])
            depth[target][seen] = own[source][seen]
        return depth

    def moving_object_mask(self, *, moved: bool = False) -> NDArray[np.float32]:
        """(H, W) 1 where the object that jumps is seen, before or after its jump, else 0."""
        mask = np.zeros(self.size, np.float32)
        last = self.surfaces[-1]
        if last.jump != (0, 0):
            target, source = overlap_slices(self.size, last.rgba.shape[:2], last.position(moved=moved))
            mask[target] = last.rgba[..., 3][source] >= 0.5
        return mask


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf before it is painted.

    Attributes:
        outline: (n, 2) corners (x, y) on the canvas.
        inverse_depth: 1/m.
        tones: (2, 3) its colours.
        seen: Its texture.
    """

    outline: NDArray[np.float64]
    inverse_depth: float
    tones: NDArray[np.float32]
    seen: Appearance

    def paint(self) -> Surface:
        """The leaf as a surface, antialiased."""
        left, top = (np.floor(self.outline.min(axis=0)).astype(int) - 2).tolist()
        right, bottom = (np.ceil(self.outline.max(axis=0)).astype(int) + 3).tolist()
        coverage = _rasterise(self.outline - (left, top), (bottom - top, right - left))
        return Surface(paint_two_tones(coverage, self.tones, self.seen), left, top, self.inverse_depth)


def dead_leaves(
    size: tuple[int, int],
    frame: tuple[int, int],
    near: float,
    far: float,
    rng: np.random.Generator,
    *,
    reach_px: float | None = None,
) -> VirtualScene:
    """A dead-leaves scene whose visible area is spread evenly over the inverse depths `far` … `near`.

    Args:
        size: (height, width) of the canvas.
        frame: (height, width) of the frame, which sets the largest leaf.
        near: Largest inverse depth, 1/m.
        far: Smallest inverse depth, 1/m.
        rng: Source of chance.
        reach_px: Largest reach of a kernel; leaves that stay hidden behind others even so are left out. None keeps all.
    """
    leaves, ground = draw_leaves(size, frame, rng)
    # A leaf with t of the drop order behind it survives with exp(-coverage (1 - t)): equal area per dioptre.
    cover = np.exp(-_COVERAGE * (1 - (np.arange(len(leaves)) + 1) / len(leaves)))
    depths = far + (near - far) * (cover - cover[0]) / (cover[-1] - cover[0])
    placed = [replace(leaf, inverse_depth=depth) for leaf, depth in zip(leaves, depths.tolist(), strict=True)]
    seen = placed if reach_px is None else _drop_hidden(placed, size, reach_px)
    return VirtualScene((replace(ground, inverse_depth=far), *(leaf.paint() for leaf in seen)), size)


def draw_leaves(
    size: tuple[int, int], frame: tuple[int, int], rng: np.random.Generator, coverage: float = _COVERAGE
) -> tuple[list[Leaf], Surface]:
    """Leaves in the order in which they are dropped, all at depth 0, and the ground they fall on.

    Args:
        size: (height, width) of the canvas.
        frame: (height, width) of the frame, which sets the largest leaf.
        rng: Source of chance.
        coverage: Area of all leaves in areas of the canvas.
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
    """The leaves that are seen, in the same order: those not wholly behind the opaque insides of nearer ones."""
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
        # What blur may show through is not opaque: the rim, twice as wide as blur reaches.
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
    share: tuple[float, float] = (0.08, 0.1),
    jump_px: tuple[float, float] = (30.0, 60.0),
) -> VirtualScene:
    """`scene` with a textured object in front that jumps between the shots.

    Args:
        scene: What stands still.
        frame: (height, width) of the frame.
        near: Inverse depth of the object, 1/m.
        rng: Source of chance.
        share: Least and largest area of the object in areas of the frame.
        jump_px: Shortest and longest jump; less in frames below 400 px.
    """
    radius = float(np.sqrt(rng.uniform(*share) * frame[0] * frame[1] / np.pi))
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(*jump_px) * min(1.0, min(frame) / 400)
    jump = (round(length * np.cos(angle)), round(length * np.sin(angle)))
    middle = np.array([scene.size[1], scene.size[0]]) / 2
    slack = np.maximum(np.array([frame[1], frame[0]]) / 2 - radius - 60, 0) * 0.8
    x, y = middle + rng.uniform(-1, 1, 2) * slack - np.array(jump) / 2
    colours = draw_palettes(1, rng, least_contrast=0.9)[0]
    thing = Leaf(_random_outline(rng) * radius + (x, y), near, colours, draw_appearance(rng, bold=True)).paint()
    thing = replace(thing, jump=jump)
    return VirtualScene((*scene.surfaces, thing), scene.size, scene.inverse_depth)


def slice_photograph(
    image: NDArray[np.float32],
    inverse_depth: NDArray[np.float32],
    edges: NDArray[np.float64],
    reach_px: int,
    *,
    uneven: bool = False,
) -> VirtualScene:
    """A photograph cut into surfaces by its depth map; behind nearer ones each surface is continued.

    Args:
        image: (H, W, 3) linear sRGB, as large as the canvas.
        inverse_depth: (H, W) in 1/m.
        edges: Increasing inverse depths between which one surface lies.
        reach_px: How far blur can reveal what is hidden.
        uneven: Whether the depth goes on changing within a surface.

    Returns:
        The scene; hidden parts of a surface are filled from its visible surroundings.
    """
    bins = np.clip(np.searchsorted(edges, inverse_depth, side="right") - 1, 0, len(edges) - 2)
    window = np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)
    surfaces: list[Surface] = []
    for number in range(len(edges) - 1):
        visible = bins == number
        if not visible.any():
            continue
        # What is nearer hides this surface: continue it there, so that blur at the edge has something to reveal.
        around = cv2.dilate(visible.astype(np.uint8), window) > 0
        alpha = (visible | (around & (bins > number))) if surfaces else np.ones(bins.shape, np.bool_)
        left, top, wide, high = cv2.boundingRect(alpha.astype(np.uint8))
        crop = (slice(top, top + high), slice(left, left + wide))
        colour = np.where(visible[crop][..., None], image[crop], _fill_hidden(image[crop], visible[crop]))
        opaque = alpha[crop].astype(np.float32)
        rgba = np.dstack([colour * opaque[..., None], opaque]).astype(np.float32)
        # Hidden parts are as near as their surface gets to what hides them.
        own = inverse_depth[visible]
        relief = np.clip(inverse_depth[crop], own.min(), own.max()) if uneven else None
        surfaces.append(Surface(rgba, left, top, float(np.mean(own, dtype=np.float64)), relief=relief))
    return VirtualScene(tuple(surfaces), (image.shape[0], image.shape[1]), inverse_depth)


def _fill_hidden(image: NDArray[np.float32], visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Colours spread from `visible` pixels into the others, by a pyramid of weighted means (push-pull)."""
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


def _random_outline(rng: np.random.Generator) -> NDArray[np.float64]:
    """(n, 2) corners of an ellipse, a polygon, a bar or a lobed leaf of about unit radius, turned at random."""
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
    """Share of each pixel inside the polygon, softened as a lens would."""
    fine = np.zeros((size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING), np.uint8)
    points = np.rint((outline + 0.5) * _SUPERSAMPLING - 0.5).astype(np.int32)
    cv2.fillPoly(fine, [points], 255)
    area = cv2.resize(fine, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(area, (3, 3), _EDGE_SIGMA_PX, borderType=cv2.BORDER_CONSTANT))


def overlap_slices(
    size: tuple[int, int], patch: tuple[int, ...], place: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch at `place` (top, left) meets the canvas: slices of the canvas and of the patch; may be empty."""
    target, source = [], []
    for start, length, limit in zip(place, patch, size, strict=False):
        first, last = min(max(start, 0), limit), min(max(start + length, 0), limit)
        target.append(slice(first, last))
        source.append(slice(first - start, last - start))
    return (target[0], target[1]), (source[0], source[1])
