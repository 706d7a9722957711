"""Where the pixels of one frame lie on the other: a transform applied to arrays, in either direction, in bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.resampling import REACH_PX, Interpolation, origins, sample
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from alignment.transforms.transform import Transform

    Plane = NDArray[np.float64]

_BAND_ROWS = 128
_NEWTON_STEPS = 8
_HALF_PIXEL = -0.5


@dataclass(frozen=True, slots=True)
class Mapping:
    """A transform on its way to files.

    Attributes:
        transform: Blurred frame to sharp frame.
        inverse: Brings what lies on the sharp frame onto the blurred frame's grid, instead of the other way round.
        flow: (ceil(H / 4), ceil(W / 4), 2) residual flow u[aligned→sharp], full-size pixels; None: not applied.
        hidden: (ceil(H / 4), ceil(W / 4)) bool, what of the aligned frame the sharp one does not show.
        scale: How many times larger than the transform's frames the files are.
    """

    transform: Transform
    inverse: bool = False
    flow: NDArray[np.float32] | None = None
    hidden: NDArray[np.bool_] | None = None
    scale: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the files."""
        height, width = self.transform.size
        return round(height * self.scale), round(width * self.scale)


@dataclass(frozen=True, slots=True)
class Band:
    """Some rows of a mapped image.

    Attributes:
        rows: Where they lie in the target.
        pixels: (rows, W[, C]), of the source's type.
        valid: (rows, W) bool, whether all that went into a pixel lies inside the source.
    """

    rows: slice
    pixels: NDArray[Any]
    valid: NDArray[np.bool_]


def map_in_bands(image: NDArray[Any], mapping: Mapping, *, nearest: bool = False) -> Iterator[Band]:
    """`image` on the other frame's grid, band by band from the top.

    Args:
        image: (H, W[, C]) of `mapping.size`: float32, or any type for `nearest`.
        mapping: What to apply.
        nearest: Takes the nearest pixel, and 0 where there is none; otherwise the spline of
            `sdd_toolkit.imaging.resampling`, and the nearest border pixel where there is none. A shift by whole
            pixels copies them in either case.
    """
    height, width = mapping.size
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, min(top + _BAND_ROWS, height))
        x, y, found = source_points(mapping, rows)
        copied = nearest or bool(np.array_equal(x, np.rint(x)) and np.array_equal(y, np.rint(y)))
        reach_px = _HALF_PIXEL if copied else REACH_PX
        inside_x = (x >= reach_px) & (x <= width - 1 - reach_px)
        inside_y = (y >= reach_px) & (y <= height - 1 - reach_px)
        valid = inside_x & inside_y & found
        if nearest:
            pixels = image[_index(y, height), _index(x, width)]
            pixels[~valid] = 0
        else:
            pixels = sample(image, x, y, Interpolation.NEAREST if copied else Interpolation.SPLINE)
        yield Band(rows, pixels, valid)


def source_points(mapping: Mapping, rows: slice) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """Which point of the source each target pixel shows.

    Args:
        mapping: What to apply.
        rows: Of the target.

    Returns:
        x and y, (rows, W) float64 pixels of the source, and (rows, W) bool, whether there is such a point.
    """
    offset = (mapping.scale - 1.0) / 2.0
    ys, xs = np.mgrid[rows, 0 : mapping.size[1]].astype(np.float64)
    x, y = (xs - offset) / mapping.scale, (ys - offset) / mapping.scale
    transform = mapping.transform
    found: NDArray[np.bool_] = np.ones((1, 1), dtype=np.bool_)
    if mapping.inverse:
        x, y, ahead = geometry.mapped(transform.matrix, *_undo_radial(x, y, transform))
        found = ahead & _is_visible(mapping, x, y)
        if mapping.flow is not None:
            x, y = _follow_flow(mapping.flow, x, y)
    else:
        if mapping.flow is not None:
            x, y, found = _undo_flow(mapping.flow, x, y)
        found = found & _is_visible(mapping, x, y)
        x, y, ahead = geometry.mapped(np.asarray(np.linalg.inv(transform.matrix)), x, y)
        found = found & ahead
        x, y = geometry.bent(x, y, transform.radial, transform.size)
    return mapping.scale * x + offset, mapping.scale * y + offset, found


def _undo_radial(x: Plane, y: Plane, transform: Transform) -> tuple[Plane, Plane]:
    """The inverse of `geometry.bent`: Newton's method on r (1 + k r²), of which k r² is a few hundredths at most."""
    if transform.radial == 0:
        return x, y
    (centre_x, centre_y), reach = geometry.centre(transform.size)
    bent = np.hypot(x - centre_x, y - centre_y) / reach
    radius = bent.copy()
    for _ in range(_NEWTON_STEPS):
        radius -= (radius * (1 + transform.radial * radius**2) - bent) / (1 + 3 * transform.radial * radius**2)
    factor = 1 / (1 + transform.radial * radius**2)
    return centre_x + factor * (x - centre_x), centre_y + factor * (y - centre_y)


def _is_visible(mapping: Mapping, x: Plane, y: Plane) -> NDArray[np.bool_]:
    """Whether the sharp frame shows what lies at these points of the aligned one."""
    if mapping.hidden is None:
        return np.ones((1, 1), dtype=np.bool_)
    return np.asarray(
        sample(mapping.hidden.astype(np.float32), _to_flow_grid(x), _to_flow_grid(y), Interpolation.LINEAR) < 0.5
    )


def _follow_flow(flow: NDArray[np.float32], x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Where the flow carries the points of the aligned frame: p + u(p)."""
    moved = sample(flow, _to_flow_grid(x), _to_flow_grid(y), Interpolation.LINEAR)
    return x + moved[..., 0], y + moved[..., 1]


def _undo_flow(flow: NDArray[np.float32], x: Plane, y: Plane) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """The points that the flow carries to (x, y), and whether there is such a point."""
    across, down, settled = origins(flow / np.float32(FLOW_FACTOR), _to_flow_grid(x), _to_flow_grid(y))
    return _from_flow_grid(across), _from_flow_grid(down), settled


def _to_flow_grid(points: Plane) -> Plane:
    return (points - (FLOW_FACTOR - 1) / 2) / FLOW_FACTOR


def _from_flow_grid(points: Plane) -> Plane:
    return points * FLOW_FACTOR + (FLOW_FACTOR - 1) / 2


def _index(points: Plane, length: int) -> NDArray[np.intp]:
    return np.clip(np.rint(points), 0, length - 1).astype(np.intp)
