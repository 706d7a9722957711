"""A ground plane that recedes from the camera, with leaves lying and standing on it: depth as a continuous ramp.

The inverse depth of a plane is linear in image coordinates, so a tilted plane is a linear ramp of dioptres, and of
signed radii. Lying leaves are part of the plane. Standing leaves have the depth of their lowest point: everything
farther up in the picture is behind them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from capture.virtual.compositing import composite
from capture.virtual.dead_leaves import draw_leaves
from capture.virtual.scene import Surface, VirtualScene

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STANDING_COVERAGE = 0.35
_MAX_TILT_DEG = 30.0


def ground_scene(
    size: tuple[int, int], frame: tuple[int, int], near: float, far: float, rng: np.random.Generator
) -> VirtualScene:
    """A textured plane whose inverse depth is linear over the canvas, with leaves standing on it.

    Args:
        size: (height, width) of the canvas.
        frame: (height, width) of the frame, which sets the largest leaf.
        near: Largest inverse depth, 1/m, at the lower edge.
        far: Smallest inverse depth, 1/m, at the upper edge.
        rng: Random generator.
    """
    plane = depth_ramp(size, near, far, np.radians(rng.uniform(-_MAX_TILT_DEG, _MAX_TILT_DEG)))
    lying, earth = draw_leaves(size, frame, rng)
    upright, _ = draw_leaves(size, frame, rng, _STANDING_COVERAGE)
    texture = np.ones((*size, 4), np.float32)
    texture[..., :3] = composite(VirtualScene((earth, *(leaf.paint() for leaf in lying)), size))
    standing = []
    for leaf in upright:
        x, y = leaf.outline[np.argmax(leaf.outline[:, 1])]
        depth = plane[np.clip(round(y), 0, size[0] - 1), np.clip(round(x), 0, size[1] - 1)]
        standing.append(replace(leaf, inverse_depth=float(depth)))
    standing.sort(key=lambda leaf: leaf.inverse_depth)
    ground = Surface(texture, 0, 0, (near + far) / 2, relief=plane)
    return VirtualScene((ground, *(leaf.paint() for leaf in standing)), size)


def depth_ramp(size: tuple[int, int], near: float, far: float, direction_rad: float) -> NDArray[np.float32]:
    """(H, W) inverse depths that rise linearly from `far` to `near`; downwards if `direction_rad` is 0.

    >>> depth_ramp((3, 1), near=1.0, far=0.5, direction_rad=0.0).ravel().tolist()
    [0.5, 0.75, 1.0]
    """
    y = (np.arange(size[0], dtype=np.float64) - (size[0] - 1) / 2)[:, None]
    x = (np.arange(size[1], dtype=np.float64) - (size[1] - 1) / 2)[None, :]
    along = y * np.cos(direction_rad) + x * np.sin(direction_rad)
    half = max(float(along.max()), 1e-9)  # a single pixel has no slope
    return np.asarray(far + (near - far) * (along + half) / (2 * half), dtype=np.float32)
