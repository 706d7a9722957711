"""Compositing surfaces back to front in linear light, each spread by its own circle of confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from capture.virtual.lens import disc_kernel
from capture.virtual.scene import overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from capture.virtual.scene import Scene

_RADIUS_STEP_PX = 0.02


def composite(scene: Scene, radii_px: Sequence[float] | None = None, *, moved: bool = False) -> NDArray[np.float32]:
    """(H, W, 3) linear sRGB of the whole canvas.

    Every surface scatters its light: colour times alpha, and alpha, are both convolved with the disc of its
    circle of confusion, then laid over what is behind, so that blurred edges reveal what they hide.

    Args:
        scene: Surfaces from back to front.
        radii_px: One circle-of-confusion radius a surface, canvas pixels; None renders all in focus.
        moved: Whether surfaces that jump have done so (the sharp shot).
    """
    canvas = np.zeros((*scene.size, 3), np.float32)
    for number, surface in enumerate(scene.surfaces):
        radius = 0.0 if radii_px is None else round(abs(radii_px[number]) / _RADIUS_STEP_PX) * _RADIUS_STEP_PX
        kernel = disc_kernel(radius)
        _lay(canvas, spread(surface.rgba, kernel, opaque=number == 0), surface.place(kernel.shape[0] // 2, moved=moved))
    return canvas


def spread(rgba: NDArray[np.float32], kernel: NDArray[np.float32], *, opaque: bool = False) -> NDArray[np.float32]:
    """`rgba` convolved with `kernel` on a grid enlarged by the kernel's reach, so that no light is lost.

    With `opaque` the border is continued instead: a surface without an edge.
    """
    reach = kernel.shape[0] // 2
    if reach == 0:
        return rgba
    border = cv2.BORDER_REPLICATE if opaque else cv2.BORDER_CONSTANT
    padded = cv2.copyMakeBorder(rgba, reach, reach, reach, reach, border, value=(0, 0, 0, 0))
    return np.asarray(cv2.filter2D(padded, -1, kernel, borderType=border), dtype=np.float32)


def _lay(canvas: NDArray[np.float32], rgba: NDArray[np.float32], place: tuple[int, int]) -> None:
    target, source = overlap((canvas.shape[0], canvas.shape[1]), rgba.shape[:2], place)
    part = rgba[source]
    behind = canvas[target]
    behind *= 1 - part[..., 3:]
    behind += part[..., :3]
