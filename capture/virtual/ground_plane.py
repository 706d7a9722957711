"""Ground that recedes from the camera, with leaves lying on it and standing on it: depth as a continuous ramp.

The inverse depth of a plane is linear in image coordinates, so a tilted plane is a linear ramp of dioptres, and of
signed radii. Lying leaves are part of the plane. Standing ones have the depth of their foot: everything farther up
the picture is behind them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from capture.virtual.compositing import composite
from capture.virtual.scene import Surface, VirtualScene, draw_leaves

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STANDING_COVERAGE = 0.35
_MAX_TILT_DEG = 30.0


def ground_scene(
    size: tuple[int, int], frame: tuple[int, int], near: float, far: float, rng: np.random.Generator
) -> VirtualScene:
    """A textured plane whose inverse depth runs linearly over the canvas, with leaves standing on it.

    Args:
        size: (height, width) of the canvas.
        frame: (height, width) of the frame, which sets the largest leaf.
        near: Largest inverse depth, 1/m, at the lower edge.
        far: Smallest inverse depth, 1/m, at the upper edge.
        rng: Source of chance.
    """
    plane = depth_ramp(size, near, far, np.radians(rng.uniform(-_MAX_TILT_DEG, _MAX_TILT_DEG)))
    lying, earth = draw_leaves(size, frame, rng)
    standing, _ = draw_leaves(size, frame, rng, _STANDING_COVERAGE)
    carpet = np.ones((*size, 4), np.float32)
    carpet[..., :3] = composite(VirtualScene((earth, *(leaf.paint() for leaf in lying)), size))
    surfaces = []
    for leaf in standing:
        x, y = leaf.outline[np.argmax(leaf.outline[:, 1])]
        foot = plane[np.clip(round(y), 0, size[0] - 1), np.clip(round(x), 0, size[1] - 1)]
        surfaces.append(replace(leaf, inverse_depth=float(foot)))
    surfaces.sort(key=lambda leaf: leaf.inverse_depth)
    ground = Surface(carpet, 0, 0, (near + far) / 2, relief=plane)
    return VirtualScene((ground, *(leaf.paint() for leaf in surfaces)), size)


def depth_ramp(size: tuple[int, int], near: float, far: float, turn_rad: float) -> NDArray[np.float32]:
    """(H, W) inverse depths that rise linearly from `far` to `near`, downwards if `turn_rad` is 0."""
    y = (np.arange(size[0], dtype=np.float64) - (size[0] - 1) / 2)[:, None]
    x = (np.arange(size[1], dtype=np.float64) - (size[1] - 1) / 2)[None, :]
    along = y * np.cos(turn_rad) + x * np.sin(turn_rad)
    half = max(float(along.max()), 1e-9)  # a single pixel has no slope
    return np.asarray(far + (near - far) * (along + half) / (2 * half), dtype=np.float32)
