"""The scene of the virtual camera: textured surfaces at their depths, ordered from back to front.

All colours are linear sRGB; depths are inverse depths in dioptres (1/m).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Surface:
    """An opaque surface of the scene, cropped to its bounding box.

    Attributes:
        rgba: (h, w, 4) float32 linear sRGB times alpha, and alpha.
        left: Column of its first pixel on the canvas; may lie outside.
        top: Row of its first pixel.
        inverse_depth: 1/m; the mean where the depth changes within the surface.
        jump: (dx, dy) px by which it moves between the blurred and the sharp shot.
        relief: (h, w) or (h, 1) float32 inverse depths in 1/m where they change within it; None: constant.
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
        surfaces: The first one covers the whole canvas.
        size: (height, width) of the canvas.
        inverse_depth: (H, W) 1/m of a photograph, finer than its surfaces; None: that of the surfaces.
    """

    surfaces: tuple[Surface, ...]
    size: tuple[int, int]
    inverse_depth: NDArray[np.float32] | None = None

    def front_depth(self) -> NDArray[np.float32]:
        """(H, W) inverse depth of the front surface at each canvas pixel, before any jump."""
        if self.inverse_depth is not None:
            return self.inverse_depth
        depth = np.zeros(self.size, np.float32)
        for surface in self.surfaces:
            target, source = overlap_slices(self.size, surface.rgba.shape[:2], surface.position())
            opaque = surface.rgba[..., 3][source] >= 0.5
            depths = np.broadcast_to(surface.depths.astype(np.float32), surface.rgba.shape[:2])
            depth[target][opaque] = depths[source][opaque]
        return depth

    def front_surface(self, *, moved: bool = False) -> NDArray[np.int32]:
        """(H, W) number of the surface in front at each canvas pixel, before or after all jumps; -1: none."""
        front = np.full(self.size, -1, np.int32)
        for number, surface in enumerate(self.surfaces):
            target, source = overlap_slices(self.size, surface.rgba.shape[:2], surface.position(moved=moved))
            front[target][surface.rgba[..., 3][source] >= 0.5] = number
        return front

    @property
    def jumps(self) -> NDArray[np.int32]:
        """(N, 2) px (dx, dy) by which each surface moves between the shots."""
        return np.array([surface.jump for surface in self.surfaces], np.int32)


def overlap_slices(
    size: tuple[int, int], patch: tuple[int, ...], position: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the canvas and of a patch at `position` (top, left) where they overlap; may be empty."""
    target, source = [], []
    for start, length, limit in zip(position, patch, size, strict=False):
        first, last = min(max(start, 0), limit), min(max(start + length, 0), limit)
        target.append(slice(first, last))
        source.append(slice(first - start, last - start))
    return (target[0], target[1]), (source[0], source[1])
