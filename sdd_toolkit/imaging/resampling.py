"""Warps an image once, by a homography, radial distortion, a flow and a map together, and samples it at given points.

Everything is computed in tiles: besides source and target only a few tiles are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.interpolation import REACH_PX, Interpolation, interpolate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

    Image = NDArray[np.float32]
    Plane = NDArray[np.float64]

_TILE_PX = 160
"""Small enough for the arrays of a tile to stay in the cache of a core, and on the heap."""
_FLOW_ITERATIONS = 20
_CONVERGED_PX = 1e-3
_FOLDED_PX = 0.5


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile of target pixels and the source points they show.

    Attributes:
        window: Rows and columns on the target.
        x: (h, w) px.
        y: (h, w) px.
        exists: Whether there is such a point; broadcasts.
    """

    window: tuple[slice, slice]
    x: Plane
    y: Plane
    exists: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WarpedTile:
    """A tile of a warped image.

    Attributes:
        window: Its rows and columns on the target grid.
        values: (h, w[, C]) float32, in the units of the source.
        valid: (h, w) bool, whether a pixel is computed from source pixels only.
    """

    window: tuple[slice, slice]
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
    """Warps an image to the target grid; outside the source the border pixel is repeated.

    The target pixel y shows the source at D(H⁻¹ y′): D moves a point away from the centre of the source by the factor
    1 + `radial` ρ², with ρ its distance from the centre in half diagonals, and y′ is the point that `flow` moves to y,
    y′ + flow(y′) = y. A shift by whole pixels copies them.

    Args:
        image: (H, W[, C]) source, float32 or of integers.
        homography: (3, 3), source (x, y, 1) to target.
        size: (height, width) of the target grid.
        radial: k of the radial term; independent of the frame's size.
        flow: (height, width, 2) px on the target grid, u[warped source→target]: content that the homography alone
            brings to y belongs at y + flow(y). None: no flow.
        through: (height, width, 2) px: the target pixel y shows the content that would be at through(y) without it.
            It is applied first, and `flow` lies on the grid it leads to, of any size. None: y itself.
        interpolation: The interpolation between pixels.

    Returns:
        (height, width[, C]) float32; `valid_mask` gives its mask.

    Raises:
        ValueError: The flow is not on the target grid.

    Example:
        >>> ramp = np.arange(12, dtype=np.float32).reshape(2, 6)
        >>> shift = np.array([[1, 0, 2.0], [0, 1, 0], [0, 0, 1]])
        >>> warp(ramp, shift, (1, 6))
        array([[0., 0., 0., 1., 2., 3.]], dtype=float32)
    """
    warped = np.empty((*size, *image.shape[2:]), dtype=np.float32)
    tiles = warped_tiles(
        image, homography, size, radial=radial, flow=flow, through=through, interpolation=interpolation
    )
    for tile in tiles:
        warped[tile.window] = tile.values
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
    """Yields the results of `warp` and `valid_mask` a tile at a time, which saves memory; arguments as for these."""
    if flow is None and through is None and radial == 0 and _moves_whole_pixels(homography):
        interpolation = Interpolation.NEAREST
    source = (image.shape[0], image.shape[1])
    for tile in _tiles(homography, source, size, radial, flow, through):
        values = interpolate(image, tile.x, tile.y, interpolation)
        yield WarpedTile(tile.window, values, _is_inside(tile, source, reach_px))


def valid_mask(
    homography: NDArray[np.float64],
    source: tuple[int, int],
    target: tuple[int, int],
    *,
    radial: float = 0.0,
    flow: Image | None = None,
    through: Image | None = None,
    reach_px: float = REACH_PX,
) -> NDArray[np.bool_]:
    """(H, W) mask of target pixels that `warp` computes from source pixels only.

    Args:
        homography: (3, 3), source (x, y, 1) to target.
        source: (height, width) of the source.
        target: (height, width) of the target.
        radial: As for `warp`.
        flow: As for `warp`; a pixel to which it moves nothing is not valid.
        through: As for `warp`.
        reach_px: Support of the interpolation on each side: `REACH_PX` for the spline, 0 for the others.
    """
    mask = np.empty(target, dtype=np.bool_)
    for tile in _tiles(homography, source, target, radial, flow, through):
        mask[tile.window] = _is_inside(tile, source, reach_px)
    return mask


def sample(image: Image, x: Plane, y: Plane, interpolation: Interpolation = Interpolation.SPLINE) -> Image:
    """Samples an image at given points; outside of it the border pixel is repeated.

    Args:
        image: (H, W[, C]) float32.
        x: (h, w) px.
        y: (h, w) px.
        interpolation: The interpolation between pixels.

    Returns:
        (h, w[, C]) float32.
    """
    values = np.empty((*x.shape, *image.shape[2:]), dtype=np.float32)
    for window in _windows((x.shape[0], x.shape[1])):
        values[window] = interpolate(image, x[window], y[window], interpolation)
    return values


def warp_by_flow(image: Image, flow: Image, interpolation: Interpolation = Interpolation.LINEAR) -> Image:
    """Warps an image backward, out(x) = image(x + flow(x)); outside the source the border pixel is repeated.

    Args:
        image: (H, W[, C]) float32.
        flow: (h, w, 2) px, (x, y).
        interpolation: The interpolation between pixels.
    """
    values = np.empty((*flow.shape[:2], *image.shape[2:]), dtype=np.float32)
    for window in _windows((flow.shape[0], flow.shape[1])):
        ys, xs = (axis.astype(np.float64) for axis in np.mgrid[window])
        values[window] = interpolate(image, xs + flow[*window, 0], ys + flow[*window, 1], interpolation)
    return values


def invert_flow(flow: Image, x: Plane, y: Plane) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """Finds the points that a flow moves to (x, y): the fixed point of p = (x, y) - flow(p).

    Args:
        flow: (H, W, 2) px; beyond the border its value at the border is used.
        x: (h, w) px on the flow's grid.
        y: (h, w) px.

    Returns:
        x and y of these points, and whether the iteration converged, which it does not where the flow folds or tears.
    """
    across, down = (np.ascontiguousarray(flow[..., axis]) for axis in (0, 1))
    at_x, at_y = x, y
    gap = np.zeros(x.shape)
    for _ in range(_FLOW_ITERATIONS):
        new_x = x - interpolate(across, at_x, at_y, Interpolation.LINEAR)
        new_y = y - interpolate(down, at_x, at_y, Interpolation.LINEAR)
        gap = np.maximum(np.abs(new_x - at_x), np.abs(new_y - at_y))
        at_x, at_y = new_x, new_y
        if gap.max(initial=0.0) < _CONVERGED_PX:
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
    """The tiles of the target and the source points they show."""
    if through is not None and through.shape != (*target, 2):
        raise ValueError(f"through {through.shape} on a target of {target}")
    if flow is not None and through is None and flow.shape != (*target, 2):
        raise ValueError(f"flow {flow.shape} on a target of {target}")
    back = np.asarray(np.linalg.inv(np.asarray(homography, dtype=np.float64)))
    longest = 0 if flow is None else int(np.ceil(max(np.abs(part).max(initial=0) for part in flow)))
    for window in _windows(target):
        rows, columns = window
        y: Plane = np.arange(rows.start, rows.stop, dtype=np.float64)[:, None]
        x: Plane = np.arange(columns.start, columns.stop, dtype=np.float64)[None, :]
        if through is not None:
            x, y = (through[*window, axis].astype(np.float64) for axis in (0, 1))
        converged: NDArray[np.bool_] | None = None
        if flow is not None:
            # Steps of the iteration are no longer than the flow, and it starts on the tile.
            top, bottom = _around(y, longest, flow.shape[0])
            left, right = _around(x, longest, flow.shape[1])
            near = flow[top:bottom, left:right]
            x, y = (np.asarray(axis) for axis in np.broadcast_arrays(x - left, y - top))
            x, y, converged = invert_flow(near, x, y)
            x, y = x + left, y + top
        x, y, ahead = geometry.project_grid(back, x, y)
        x, y = geometry.apply_radial(x, y, radial, source)
        yield _Tile(window, x, y, ahead if converged is None else ahead & converged)


def _is_inside(tile: _Tile, source: tuple[int, int], reach_px: float) -> NDArray[np.bool_]:
    """Whether the source points of a tile lie at least `reach_px` inside the source; broadcast to the tile."""
    inside: NDArray[np.bool_] = np.broadcast_to(tile.exists, tuple(part.stop - part.start for part in tile.window))
    for points, length in ((tile.x, source[1]), (tile.y, source[0])):
        first, last = reach_px, length - 1 - reach_px
        if points.min() < first or points.max() > last:
            inside = inside & (points >= first) & (points <= last)
    return inside


def _around(points: Plane, longest: int, length: int) -> tuple[int, int]:
    """First and last index of a flow, half open, that the iteration from points of one axis may read."""
    first = min(max(0, int(np.floor(points.min())) - longest - 2), length - 1)
    return first, min(length, max(first, int(np.ceil(points.max())) + longest + 2) + 1)


def _windows(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, size[0], _TILE_PX):
        for left in range(0, size[1], _TILE_PX):
            yield slice(top, min(top + _TILE_PX, size[0])), slice(left, min(left + _TILE_PX, size[1]))


def _moves_whole_pixels(homography: NDArray[np.float64]) -> bool:
    matrix = np.asarray(homography, dtype=np.float64) / homography[2][2]
    shift = np.rint(matrix[:2, 2])
    whole = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], dtype=np.float64)
    return bool(np.array_equal(matrix, whole))
