"""Composites surfaces from back to front in linear light, each blurred by its own circle of confusion.

Where the radius changes within a surface (a tilted surface, or rolling focus), the light of each pixel is divided
between the two kernels next to its radius, a quarter of a pixel apart; where the kernel changes over the frame (a cat's
eye), between the kernels of the four nodes around it. The weights sum to one: no light is lost and there are no steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from capture.virtual.optics import THIN_LENS
from capture.virtual.scene import overlap_slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from capture.virtual.optics import Optics
    from capture.virtual.scene import VirtualScene

    Image = NDArray[np.float32]

_SLICE_PX = 0.25
_UNIFORM_RADIUS_PX = 0.01
_STRIP_PIXELS = 16384


def composite(
    scene: VirtualScene,
    radii_px: Sequence[float | NDArray[np.float64]] | None = None,
    *,
    moved: bool = False,
    optics: Optics = THIN_LENS,
) -> NDArray[np.float32]:
    """(H, W, 3) linear sRGB of the whole canvas.

    Every surface scatters its light: colour times alpha, and alpha, are both convolved with the image of a point at
    its depth, then composited over the surfaces behind, so that blurred edges reveal hidden parts.

    Args:
        scene: Surfaces from back to front.
        radii_px: One signed circle-of-confusion radius a surface in canvas pixels, or (h, w) or (h, 1) of them where
            it changes within the surface; None renders everything in focus with any lens.
        moved: Whether the moving object has made its jump (the sharp shot).
        optics: The lens.
    """
    canvas = np.zeros((*scene.size, 4), np.float32)
    for number, surface in enumerate(scene.surfaces):
        if radii_px is None:
            blurred = surface.rgba
        else:
            top, left = surface.position(moved=moved)
            blurred = blur_surface(surface.rgba, radii_px[number], optics, (left, top), opaque=number == 0)
        reach = (blurred.shape[0] - surface.rgba.shape[0]) // 2
        _composite_over(canvas, blurred, surface.position(reach, moved=moved))
    return np.ascontiguousarray(canvas[..., :3])


def blur_surface(
    rgba: Image,
    radius_px: float | NDArray[np.float64],
    optics: Optics,
    position: tuple[int, int],
    *,
    opaque: bool = False,
) -> Image:
    """Blurs one surface as the lens does, on a grid enlarged by the same number of pixels on every side.

    Args:
        rgba: (h, w, 4) colour times alpha, and alpha.
        radius_px: Signed radius, or (h, w) or (h, 1) of them.
        optics: The lens.
        position: (left, top) of the surface on the canvas.
        opaque: Whether the surface continues beyond its border, without an edge.
    """
    height, width = rgba.shape[:2]
    radius = np.asarray(radius_px, dtype=np.float64)
    if radius.size > 1 and float(np.ptp(radius)) <= _UNIFORM_RADIUS_PX:
        radius = np.asarray(radius.mean())
    wide = optics.varies_over_frame and (opaque or max(height, width) > optics.spacing_px / 2)
    if radius.size == 1 and not wide:
        middle = (position[0] + (width - 1) / 2, position[1] + (height - 1) / 2)
        return convolve(rgba, optics.kernel(float(radius.item()), middle), opaque=opaque)
    return _blur_varying(rgba, radius, optics, position, wide=wide, opaque=opaque)


def convolve(rgba: Image, kernel: Image, *, opaque: bool = False) -> Image:
    """Convolves `rgba` with `kernel` on a grid enlarged by the kernel's reach, so that no light is lost.

    With `opaque` the border pixels are repeated outwards: a surface without an edge.
    """
    reach = kernel.shape[0] // 2
    if reach == 0:
        return rgba
    border = cv2.BORDER_REPLICATE if opaque else cv2.BORDER_CONSTANT
    padded = cv2.copyMakeBorder(rgba, reach, reach, reach, reach, border, value=(0, 0, 0, 0))
    # OpenCV correlates; for a convolution the kernel is mirrored.
    mirrored = np.ascontiguousarray(kernel[::-1, ::-1])
    return np.asarray(cv2.filter2D(padded, -1, mirrored, borderType=border), dtype=np.float32)


def _blur_varying(
    rgba: Image,
    radius: NDArray[np.float64],
    optics: Optics,
    position: tuple[int, int],
    *,
    wide: bool,
    opaque: bool,
) -> Image:
    """`imaged` for a kernel that changes within the surface."""
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float32), rgba.shape[:2])
    ends = float(radii.min()), float(radii.max())
    reach = max(optics.kernel(np.sign(end) * (abs(end) + _SLICE_PX)).shape[0] // 2 for end in ends) + 1
    if opaque:
        # Light from beyond the border is added; alpha, which is 1 everywhere, measures it.
        around = (reach, reach)
        rgba = np.pad(rgba, (around, around, (0, 0)), mode="edge")
        radii = np.pad(radii, (around, around), mode="edge")
        position = (position[0] - reach, position[1] - reach)
    height, width = rgba.shape[:2]
    total = np.zeros((height + 2 * reach, width + 2 * reach, 4), np.float32)
    for radius_px, node, top, left, weights in _split_by_radius(radii, optics, position, wide=wide):
        part = rgba[top : top + weights.shape[0], left : left + weights.shape[1]]
        blurred = convolve(part * weights[..., None], optics.kernel(radius_px, node))
        edge = reach - (blurred.shape[0] - weights.shape[0]) // 2
        y, x = top + edge, left + edge
        total[y : y + blurred.shape[0], x : x + blurred.shape[1]] += blurred
    # Where the kernel changes quickly, the light of a surface bunches or thins. Up to a small tolerance energy is
    # conserved; beyond it, a surface keeps its brightness rather than its energy.
    alpha = total[..., 3:]
    uneven = alpha - np.clip(alpha, *((0.997, 1.003) if opaque else (0.0, 1.01)))
    total /= np.maximum(1 + uneven, 1e-6)
    np.clip(alpha, 1.0 if opaque else 0.0, 1.0, out=alpha)
    return np.ascontiguousarray(total[reach:-reach, reach:-reach]) if opaque else total


def _split_by_radius(
    radii: Image, optics: Optics, position: tuple[int, int], *, wide: bool
) -> Iterator[tuple[float, tuple[float, float] | None, int, int, Image]]:
    """Radius and position of a kernel, top and left of a box, and the weights of its pixels for that kernel."""
    steps = radii / np.float32(_SLICE_PX)
    for step in range(int(np.floor(steps.min())), int(np.floor(steps.max())) + 2):
        hat = np.maximum(1 - np.abs(steps - np.float32(step)), 0)
        top, left, hat = _crop_to_nonzero(hat)
        if hat.size == 0:
            continue
        if not wide:
            yield step * _SLICE_PX, None, top, left, hat
            continue
        for node, row, column, weights in _field_weights(
            optics, (position[0] + left, position[1] + top), (hat.shape[0], hat.shape[1])
        ):
            within = (slice(row, row + weights.shape[0]), slice(column, column + weights.shape[1]))
            yield step * _SLICE_PX, node, top + row, left + column, weights * hat[within]


def _field_weights(
    optics: Optics, position: tuple[int, int], size: tuple[int, int]
) -> Iterator[tuple[tuple[float, float], int, int, Image]]:
    """The nodes of the grid around a box at `position` (left, top), each with top, left and its weights in the box."""
    axes = []
    for start, length, middle in zip(position, size[::-1], optics.centre, strict=True):
        at = (np.arange(start, start + length) - middle) / optics.spacing_px
        axes.append([
            (node, np.maximum(1 - np.abs(at - node), 0).astype(np.float32))
            for node in range(int(np.floor(at[0])), int(np.floor(at[-1])) + 2)
        ])  # fmt: skip
    for row, down in axes[1]:
        for column, across in axes[0]:
            top, left, weights = _crop_to_nonzero(down[:, None] * across[None, :])
            if weights.size:
                node = (
                    optics.centre[0] + column * optics.spacing_px,
                    optics.centre[1] + row * optics.spacing_px,
                )
                yield node, top, left, weights


def _crop_to_nonzero(weights: Image) -> tuple[int, int, Image]:
    """Top, left and the smallest box that contains all weights above zero."""
    rows, columns = np.flatnonzero(weights.any(axis=1)), np.flatnonzero(weights.any(axis=0))
    if len(rows) == 0:
        return 0, 0, weights[:0, :0]
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return int(rows[0]), int(columns[0]), weights[box]


def _composite_over(canvas: Image, rgba: Image, position: tuple[int, int]) -> None:
    """Composites `rgba` over the (H, W, 4) canvas, whose fourth channel is not used and only makes it faster."""
    target, source = overlap_slices((canvas.shape[0], canvas.shape[1]), rgba.shape[:2], position)
    part, behind = rgba[source], canvas[target]
    if part.size == 0:
        return
    # In strips that stay in the processor's cache.
    rows = max(1, _STRIP_PIXELS // part.shape[1])
    for top in range(0, part.shape[0], rows):
        strip, below = part[top : top + rows], behind[top : top + rows]
        transparency = 1 - cv2.extractChannel(strip, 3)
        cv2.add(cv2.multiply(below, cv2.merge([transparency] * 4)), strip, below)
