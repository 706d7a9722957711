"""Resampling an image once, at exactly the points asked for.

OpenCV's cubic and Lanczos interpolation round sampling points to 1/32 px (5.0 as 4.x), and its Lanczos kernel, cut to
8 taps, misplaces smooth content by up to 0.01 px. Here a frame is first refined to cubic B-spline coefficients at
half-pixel steps, by a filter that is least-squares optimal for the whole chain, and the spline is then evaluated
exactly: four bilinear samples, which OpenCV 5 takes without rounding, make one cubic B-spline sample (C. Sigg and
M. Hadwiger, "Fast third-order texture filtering", GPU Gems 2, 2005). Smooth content lies right to 0.001 px, and a
sinusoid of up to 0.3 cycles per pixel comes out right to 0.3 % of its amplitude.

Everything is done in tiles: beside source and target only a few tiles are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit import geometry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Image = NDArray[np.float32]
    Plane = NDArray[np.float64]

REACH_PX = 6.0
"""How far from its point the spline looks: `Interpolation.SPLINE` needs this much of the source on every side."""

# Taps 0 … 12 of the symmetric filter from pixels to coefficients at half-pixel steps. They minimise the error of the
# interpolated sinusoids exp(2πi f x), f ≤ 0.35 cycles per pixel, weighted by 1/f² as photographs are, and of the pixels
# themselves up to the Nyquist frequency; a test derives them again.
_TAPS = (
    1.1644373385, 0.6727023955, -0.1059724667, -0.2503407299, 0.0344140227, 0.1118655902, -0.0159701019,
    -0.0468844357, 0.0078672242, 0.0155181077, -0.0033844627, -0.0028609621, 0.0008271470,
)  # fmt: skip
_TILE_PX = 256
_WINDOW_PX = 7
_FLOW_ROUNDS = 20
_SETTLED_PX = 1e-3
_FOLDED_PX = 0.5


class Interpolation(StrEnum):
    """How a value between pixels is made."""

    SPLINE = "spline"
    LINEAR = "linear"
    NEAREST = "nearest"


@dataclass(frozen=True, slots=True)
class _Tile:
    """Some target pixels and the points of the source they show; `found` is False where there is no such point."""

    place: tuple[slice, slice]
    x: Plane
    y: Plane
    found: NDArray[np.bool_]


def warp(
    image: Image,
    homography: NDArray[np.float64],
    size: tuple[int, int],
    *,
    radial: float = 0.0,
    flow: Image | None = None,
    through: Image | None = None,
    interpolation: Interpolation = Interpolation.SPLINE,
) -> Image:
    """Brings `image` onto the target grid; outside the source the border pixel is repeated.

    The target pixel y shows the source at D(H⁻¹ y′): D moves a point away from the centre of the source by the factor
    1 + `radial` ρ², with ρ its distance from there in half diagonals, and y′ is the point that `flow` carries to y,
    y′ + flow(y′) = y. A shift by whole pixels copies them.

    Args:
        image: (H, W[, C]) float32 source.
        homography: (3, 3), source (x, y, 1) to target.
        size: (height, width) of the target grid.
        radial: k of the radial term; independent of the frame's size.
        flow: (height, width, 2) px on the target grid, u[warped source→target]: what the homography alone brings to
            y belongs to y + flow(y). None: no flow.
        through: (height, width, 2) px: the target pixel y shows what would be at through(y) without it. It comes
            before all else, and `flow` lies on the grid it leads to, of any size. None: y itself.
        interpolation: How values between pixels are made.

    Returns:
        (height, width[, C]) float32; use `valid` for the mask that goes with it.

    Raises:
        ValueError: The flow is not on the target grid.
    """
    if flow is None and through is None and radial == 0 and _moves_whole_pixels(homography):
        interpolation = Interpolation.NEAREST
    warped = np.empty((*size, *image.shape[2:]), dtype=np.float32)
    for tile in _tiles(homography, (image.shape[0], image.shape[1]), size, radial, flow, through):
        warped[tile.place] = _sampled(image, tile.x, tile.y, interpolation)
    return warped


def valid(
    homography: NDArray[np.float64],
    source: tuple[int, int],
    target: tuple[int, int],
    *,
    radial: float = 0.0,
    flow: Image | None = None,
    through: Image | None = None,
    reach_px: float = REACH_PX,
) -> NDArray[np.bool_]:
    """(H, W) mask of target pixels that `warp` made of source pixels only.

    Args:
        homography: (3, 3), source (x, y, 1) to target.
        source: (height, width) of the source.
        target: (height, width) of the target.
        radial: As for `warp`.
        flow: As for `warp`; where it carries nothing to a pixel, the pixel is not valid.
        through: As for `warp`.
        reach_px: How far from its point the interpolation looks: `REACH_PX` for the spline, 0 for the others.
    """
    mask = np.empty(target, dtype=np.bool_)
    for tile in _tiles(homography, source, target, radial, flow, through):
        inside_x = (tile.x >= reach_px) & (tile.x <= source[1] - 1 - reach_px)
        inside_y = (tile.y >= reach_px) & (tile.y <= source[0] - 1 - reach_px)
        mask[tile.place] = inside_x & inside_y & tile.found
    return mask


def sample(image: Image, x: Plane, y: Plane, interpolation: Interpolation = Interpolation.SPLINE) -> Image:
    """The values of `image` at any points; outside of it the border pixel is repeated.

    Args:
        image: (H, W[, C]) float32.
        x: (h, w) px.
        y: (h, w) px.
        interpolation: How values between pixels are made.

    Returns:
        (h, w[, C]) float32.
    """
    values = np.empty((*x.shape, *image.shape[2:]), dtype=np.float32)
    for place in _places((x.shape[0], x.shape[1])):
        values[place] = _sampled(image, x[place], y[place], interpolation)
    return values


def warp_by_flow(image: Image, flow: Image, interpolation: Interpolation = Interpolation.LINEAR) -> Image:
    """`out(x) = image(x + flow(x))`; outside the source the border pixel is repeated.

    Args:
        image: (H, W[, C]) float32.
        flow: (h, w, 2) px, (x, y).
        interpolation: How values between pixels are made.
    """
    values = np.empty((*flow.shape[:2], *image.shape[2:]), dtype=np.float32)
    for place in _places((flow.shape[0], flow.shape[1])):
        ys, xs = (axis.astype(np.float64) for axis in np.mgrid[place])
        values[place] = _sampled(image, xs + flow[*place, 0], ys + flow[*place, 1], interpolation)
    return values


def origins(flow: Image, x: Plane, y: Plane) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """The points that a flow carries to (x, y): the fixed point of p = (x, y) - flow(p).

    Args:
        flow: (H, W, 2) px; beyond its border the border's value holds.
        x: (h, w) px on the flow's grid.
        y: (h, w) px.

    Returns:
        x and y of these points, and where the search settled: it does not where the flow folds or tears.
    """
    across, down = (np.ascontiguousarray(flow[..., axis]) for axis in (0, 1))
    at_x, at_y = x, y
    gap = np.zeros(x.shape)
    for _ in range(_FLOW_ROUNDS):
        new_x = x - _sampled(across, at_x, at_y, Interpolation.LINEAR)
        new_y = y - _sampled(down, at_x, at_y, Interpolation.LINEAR)
        gap = np.maximum(np.abs(new_x - at_x), np.abs(new_y - at_y))
        at_x, at_y = new_x, new_y
        if gap.max(initial=0.0) < _SETTLED_PX:
            break
    return at_x, at_y, gap < _FOLDED_PX


def _tiles(
    homography: NDArray[np.float64],
    source: tuple[int, int],
    target: tuple[int, int],
    radial: float,
    flow: Image | None,
    through: Image | None,
) -> Iterator[_Tile]:
    """The target's tiles and what they show."""
    if through is not None and through.shape != (*target, 2):
        raise ValueError(f"through {through.shape} on a target of {target}")
    if flow is not None and through is None and flow.shape != (*target, 2):
        raise ValueError(f"flow {flow.shape} on a target of {target}")
    back = np.asarray(np.linalg.inv(np.asarray(homography, dtype=np.float64)))
    longest = 0 if flow is None else int(np.ceil(max(np.abs(part).max(initial=0) for part in flow)))
    for place in _places(target):
        rows, columns = place
        y: Plane = np.arange(rows.start, rows.stop, dtype=np.float64)[:, None]
        x: Plane = np.arange(columns.start, columns.stop, dtype=np.float64)[None, :]
        if through is not None:
            x, y = (through[*place, axis].astype(np.float64) for axis in (0, 1))
        settled: NDArray[np.bool_] = np.ones((1, 1), dtype=np.bool_)
        if flow is not None:
            # Steps of the search are no longer than the flow, and it starts on the tile.
            top, bottom = _around(y, longest, flow.shape[0])
            left, right = _around(x, longest, flow.shape[1])
            near = flow[top:bottom, left:right]
            x, y = (np.asarray(axis) for axis in np.broadcast_arrays(x - left, y - top))
            x, y, settled = origins(near, x, y)
            x, y = x + left, y + top
        x, y, ahead = geometry.mapped(back, x, y)
        x, y = geometry.bent(x, y, radial, source)
        yield _Tile(place, x, y, ahead & settled)


def _around(points: Plane, longest: int, length: int) -> tuple[int, int]:
    """First and last index of a flow, half open, that a search from some points of one axis may look at."""
    first = min(max(0, int(np.floor(points.min())) - longest - 2), length - 1)
    return first, min(length, max(first, int(np.ceil(points.max())) + longest + 2) + 1)


def _places(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, size[0], _TILE_PX):
        for left in range(0, size[1], _TILE_PX):
            yield slice(top, min(top + _TILE_PX, size[0])), slice(left, min(left + _TILE_PX, size[1]))


def _moves_whole_pixels(homography: NDArray[np.float64]) -> bool:
    matrix = np.asarray(homography, dtype=np.float64) / homography[2][2]
    shift = np.rint(matrix[:2, 2])
    whole = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], dtype=np.float64)
    return bool(np.array_equal(matrix, whole))


def _sampled(image: Image, x: Plane, y: Plane, interpolation: Interpolation) -> Image:
    """Values at the points of one tile, of the part of the image that they need."""
    if image.ndim == 3 and image.shape[2] not in (1, 3):
        # OpenCV takes exact samples of one and of three channels; others it rounds to 1/32 px.
        planes = [_sampled(np.ascontiguousarray(image[..., c]), x, y, interpolation) for c in range(image.shape[2])]
        return np.stack(planes, axis=-1)
    height, width = image.shape[:2]
    # Far out there is only the repeated border pixel.
    x = np.clip(x, -_WINDOW_PX, width - 1 + _WINDOW_PX)
    y = np.clip(y, -_WINDOW_PX, height - 1 + _WINDOW_PX)
    left, right = int(np.floor(x.min())) - _WINDOW_PX, int(np.ceil(x.max())) + _WINDOW_PX + 1
    top, bottom = int(np.floor(y.min())) - _WINDOW_PX, int(np.ceil(y.max())) + _WINDOW_PX + 1
    window = cv2.copyMakeBorder(
        image[max(0, top) : bottom, max(0, left) : right],
        *(max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width)),
        borderType=cv2.BORDER_REPLICATE,
    )
    x, y = x - left, y - top
    if interpolation is Interpolation.SPLINE:
        values = _spline(np.asarray(window, dtype=np.float32), x, y)
    else:
        flag = cv2.INTER_NEAREST if interpolation is Interpolation.NEAREST else cv2.INTER_LINEAR
        values = np.asarray(cv2.remap(window, x.astype(np.float32), y.astype(np.float32), flag), dtype=np.float32)
    return values.reshape(*x.shape, *image.shape[2:])


def _spline(window: Image, x: Plane, y: Plane) -> Image:
    """The cubic B-spline through a window, which reaches 7 px beyond the points on every side."""
    doubled = _doubled(window)
    rows = _lookups(y)
    total = np.zeros((*x.shape, *window.shape[2:]), dtype=np.float32)
    for across, share_across in _lookups(x):
        for down, share_down in rows:
            share = share_across * share_down
            value = cv2.remap(doubled, across, down, cv2.INTER_LINEAR)
            total += value * (share if value.ndim == 2 else cv2.merge([share] * 3))
    return total


def _doubled(window: Image) -> Image:
    """Spline coefficients at the pixels of (h, w[, C]) and halfway between them: (2h, 2w[, C])."""
    taps = np.array(_TAPS, dtype=np.float32)
    on, between = (np.concatenate([half[::-1][:keep], half]) for half, keep in ((taps[::2], -1), (taps[1::2], None)))
    height, width = window.shape[:2]
    channels = window.shape[2] if window.ndim == 3 else 1
    doubled = np.empty((height, 2, width, 2 * channels), dtype=np.float32)
    for row, down in enumerate((on, between)):
        # Both column phases as channels of one image: in memory that is every other pixel.
        phases = [
            cv2.sepFilter2D(window, cv2.CV_32F, across, down, anchor=((len(across) - 1) // 2, (len(down) - 1) // 2))
            for across in (on, between)
        ]
        cv2.merge(phases, doubled[:, row])
    return doubled.reshape(2 * height, 2 * width, *window.shape[2:])


def _lookups(points: Plane) -> tuple[tuple[Image, Image], tuple[Image, Image]]:
    """Where to take the two linear samples that make a cubic B-spline sample, in half-pixel steps, and their shares."""
    steps = 2.0 * points
    base = np.floor(steps)
    t = steps - base
    first, last = (1 - t) * (1 - t) * (1 - t) / 6, t * t * t / 6
    low = first + (4 - 3 * t * t * (2 - t)) / 6
    high = 1 - low
    pairs = (base - first / low, low), (base + 1 + last / high, high)
    lower, upper = ((place.astype(np.float32), share.astype(np.float32)) for place, share in pairs)
    return lower, upper
