"""Resampling an image once, at exactly the points asked for.

OpenCV's cubic and Lanczos interpolation round sampling points to 1/32 px (5.0 as 4.x), and its Lanczos kernel, cut to
8 taps, misplaces smooth content by up to 0.01 px. Here a frame is first refined to cubic B-spline coefficients at
half-pixel steps, by a filter that is least-squares optimal for the whole chain, and the spline is then evaluated
exactly: four bilinear samples, which OpenCV 5 takes without rounding, make one cubic B-spline sample (C. Sigg and
M. Hadwiger, "Fast third-order texture filtering", GPU Gems 2, 2005). Smooth content lies right to 0.001 px, and a
sinusoid of up to 0.3 cycles per pixel comes out right to 0.3 % of its amplitude.

Everything is done in tiles: beside source and target only a few tiles are in memory. OpenCV samples four channels three
times as fast as three, so colour travels with a channel of padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging import geometry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

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
_TILE_PX = 160
"""Small enough for the arrays of a tile to stay in a core's cache, and on the heap."""
_WINDOW_PX = 7
_SHARES = 2.0**20
"""What shares are multiplied by: OpenCV's blending adds 1e-5 to their sum before it divides by it."""
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
    """Some target pixels and the points of the source they show.

    Attributes:
        place: Rows and columns on the target.
        x: (h, w) px.
        y: (h, w) px.
        found: Where there is such a point; broadcasts.
    """

    place: tuple[slice, slice]
    x: Plane
    y: Plane
    found: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WarpedTile:
    """A piece of what `warp` makes.

    Attributes:
        place: Its rows and columns on the target grid.
        values: (h, w[, C]) float32, in the units of the source.
        valid: (h, w) bool, which of these pixels were made of source pixels only.
    """

    place: tuple[slice, slice]
    values: Image
    valid: NDArray[np.bool_]


def warp(
    image: NDArray[Any],
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
        image: (H, W[, C]) source, float32 or of integers.
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
    warped = np.empty((*size, *image.shape[2:]), dtype=np.float32)
    tiles = warped_tiles(
        image, homography, size, radial=radial, flow=flow, through=through, interpolation=interpolation
    )
    for tile in tiles:
        warped[tile.place] = tile.values
    return warped


def warped_tiles(
    image: NDArray[Any],
    homography: NDArray[np.float64],
    size: tuple[int, int],
    *,
    radial: float = 0.0,
    flow: Image | None = None,
    through: Image | None = None,
    interpolation: Interpolation = Interpolation.SPLINE,
    reach_px: float = REACH_PX,
) -> Iterator[WarpedTile]:
    """What `warp` and `valid` give, a tile at a time, for who has no use for the whole; arguments as for these."""
    if flow is None and through is None and radial == 0 and _moves_whole_pixels(homography):
        interpolation = Interpolation.NEAREST
    source = (image.shape[0], image.shape[1])
    for tile in _tiles(homography, source, size, radial, flow, through):
        values = _sampled(image, tile.x, tile.y, interpolation)
        yield WarpedTile(tile.place, values, _is_inside(tile, source, reach_px))


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
        mask[tile.place] = _is_inside(tile, source, reach_px)
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
        settled: NDArray[np.bool_] | None = None
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
        yield _Tile(place, x, y, ahead if settled is None else ahead & settled)


def _is_inside(tile: _Tile, source: tuple[int, int], reach_px: float) -> NDArray[np.bool_]:
    """Which pixels of a tile show points that far from the border of the source; broadcast to the tile."""
    inside: NDArray[np.bool_] = np.broadcast_to(tile.found, tuple(part.stop - part.start for part in tile.place))
    for points, length in ((tile.x, source[1]), (tile.y, source[0])):
        first, last = reach_px, length - 1 - reach_px
        if points.min() < first or points.max() > last:
            inside = inside & (points >= first) & (points <= last)
    return inside


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


def _sampled(image: NDArray[Any], x: Plane, y: Plane, interpolation: Interpolation) -> Image:
    """Values at the points of one tile, of the part of the image that they need."""
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4):
        # Two channels OpenCV rounds to 1/32 px, more than four it does not take.
        planes = [np.ascontiguousarray(image[..., channel]) for channel in range(image.shape[2])]
        return np.stack([_sampled(plane, x, y, interpolation) for plane in planes], axis=-1)
    height, width = image.shape[:2]
    x_near, left, right = _reached(x, width)
    y_near, top, bottom = _reached(y, height)
    window = image[max(0, top) : bottom, max(0, left) : right]
    colour = image.ndim == 3 and image.shape[2] == 3
    if colour:
        window = cv2.cvtColor(window, cv2.COLOR_RGB2RGBA)
    around = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    if any(around):
        window = cv2.copyMakeBorder(window, *around, borderType=cv2.BORDER_REPLICATE)
    light = np.asarray(window, dtype=np.float32)
    values: NDArray[Any]
    if interpolation is Interpolation.SPLINE:
        values = _spline(light, x_near, y_near)
    else:
        flag = cv2.INTER_NEAREST if interpolation is Interpolation.NEAREST else cv2.INTER_LINEAR
        values = cv2.remap(light, x_near, y_near, flag)
    if colour:
        values = cv2.cvtColor(values, cv2.COLOR_RGBA2RGB)
    return np.asarray(values, dtype=np.float32).reshape(*x.shape, *image.shape[2:])


def _reached(points: Plane, length: int) -> tuple[Image, int, int]:
    """Points of one axis counted from the first pixel that they need, that pixel, and the one after the last."""
    first, last = points.min(), points.max()
    if first < -_WINDOW_PX or last > length - 1 + _WINDOW_PX:
        # Far out there is only the repeated border pixel.
        points = np.clip(points, -_WINDOW_PX, length - 1 + _WINDOW_PX)
        first, last = points.min(), points.max()
    start = int(np.floor(first)) - _WINDOW_PX
    return np.subtract(points, start).astype(np.float32), start, int(np.ceil(last)) + _WINDOW_PX + 1


def _spline(window: Image, x: Image, y: Image) -> Image:
    """The cubic B-spline through a window, which reaches 7 px beyond the points on every side.

    Its coefficients at whole pixels and halfway between are four images. In each, the two coefficients next to a
    point on either axis make one linear sample.
    """
    on, between = _taps()
    columns, rows, rim = _lookups(x), _lookups(y), len(on) // 2
    lines = []
    for down, (place_down, _) in zip((on, between), rows, strict=True):
        filtered = cv2.filter2D(window, cv2.CV_32F, down[:, None], anchor=(0, (len(down) - 1) // 2))[rim:-rim]
        place_down -= rim
        samples = [
            cv2.remap(
                cv2.filter2D(filtered, cv2.CV_32F, across[None, :], anchor=((len(across) - 1) // 2, 0)),
                place_across,
                place_down,
                cv2.INTER_LINEAR,
            )
            for across, (place_across, _) in zip((on, between), columns, strict=True)
        ]
        lines.append(cv2.blendLinear(*samples, *(share for _, share in columns)))
    return np.asarray(cv2.blendLinear(*lines, *(share for _, share in rows)), dtype=np.float32)


def _taps() -> tuple[Image, Image]:
    """The filters to the coefficients at whole pixels and to those half a pixel after them."""
    taps = np.array(_TAPS, dtype=np.float32)
    on, between = taps[::2], taps[1::2]
    return np.concatenate([on[:0:-1], on]), np.concatenate([between[::-1], between])


def _lookups(points: Image) -> tuple[tuple[Image, Image], tuple[Image, Image]]:
    """Where to take the linear samples that make a cubic B-spline sample, and their shares times `_SHARES`.

    The first is among the coefficients at whole pixels, the second among those halfway between. With δ from a point
    to the nearest of them, the B-spline weighs that one and its neighbour beyond the point by 2/3 - 4 δ² + 4 |δ|³ and
    4/3 |δ|³.
    """
    on = np.rint(points)
    gap = points - on
    share = gap * gap
    cube = share * gap
    share *= np.float32(-4 * _SHARES)
    share += np.float32(2 / 3 * _SHARES)
    share += np.abs(cube) * np.float32(16 / 3 * _SHARES)
    cube *= np.float32(4 / 3 * _SHARES)
    on += np.divide(cube, share, out=cube)
    between = np.floor(points)
    gap = points - between
    gap -= np.float32(0.5)
    cube = gap * gap
    cube *= gap
    cube *= np.float32(4 / 3 * _SHARES)
    rest = np.float32(_SHARES) - share
    between += np.divide(cube, rest, out=cube)
    return (on, share), (between, rest)
