"""A transform as a mapping of coordinates between two frames, and its application to arrays in bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.interpolation import REACH_PX, Interpolation
from sdd_toolkit.imaging.resampling import invert_flow, sample
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
    """A transform with the options of its application.

    Attributes:
        transform: Blurred frame to sharp frame.
        inverse: Whether content of the sharp frame is mapped to the blurred frame's grid, instead of the reverse.
        flow: (ceil(H / 4), ceil(W / 4), 2) residual flow u[aligned→sharp], full-size pixels; None: not applied.
        occlusion: (ceil(H / 4), ceil(W / 4)) bool, content of the aligned frame that the sharp one does not show.
        scale: Size of the files relative to the transform's frames.
    """

    transform: Transform
    inverse: bool = False
    flow: NDArray[np.float32] | None = None
    occlusion: NDArray[np.bool_] | None = None
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
        rows: Their position in the target.
        pixels: (rows, W[, C]), of the source's type.
        valid: (rows, W) bool, whether all source pixels of a pixel lie inside the source.
    """

    rows: slice
    pixels: NDArray[Any]
    valid: NDArray[np.bool_]


def map_in_bands(image: NDArray[Any], mapping: Mapping, *, nearest: bool = False) -> Iterator[Band]:
    """Maps an image to the other frame's grid, band by band from the top.

    Args:
        image: (H, W[, C]) of `mapping.size`: float32, or any type for `nearest`.
        mapping: The transform.
        nearest: Takes the nearest pixel, and 0 outside the source; otherwise the spline of
            `sdd_toolkit.imaging.resampling`, and the nearest border pixel outside. A shift by whole pixels copies them
            in either case.

    Example:
        A transform that shifts by two pixels to the right and one pixel down:

        >>> import numpy as np
        >>> from alignment.transforms.mapping import Mapping, map_in_bands
        >>> from alignment.transforms.transform import Transform
        >>> rows = ((1.0, 0.0, 2.0), (0.0, 1.0, 1.0), (0.0, 0.0, 1.0))
        >>> mapping = Mapping(Transform("blur.png", "sharp.png", (3, 4), rows, "similarity"))
        >>> (band,) = map_in_bands(np.arange(12).reshape(3, 4), mapping, nearest=True)
        >>> band.pixels.tolist()
        [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 4, 5]]
    """
    height, width = mapping.size
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, min(top + _BAND_ROWS, height))
        x, y, exists = source_points(mapping, rows)
        is_copy = nearest or bool(np.array_equal(x, np.rint(x)) and np.array_equal(y, np.rint(y)))
        reach_px = _HALF_PIXEL if is_copy else REACH_PX
        inside_x = (x >= reach_px) & (x <= width - 1 - reach_px)
        inside_y = (y >= reach_px) & (y <= height - 1 - reach_px)
        valid = inside_x & inside_y & exists
        if nearest:
            pixels = image[_index(y, height), _index(x, width)]
            pixels[~valid] = 0
        else:
            pixels = sample(image, x, y, Interpolation.NEAREST if is_copy else Interpolation.SPLINE)
        yield Band(rows, pixels, valid)


def source_points(mapping: Mapping, rows: slice) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """Source positions of the pixels of some target rows.

    Args:
        mapping: The transform.
        rows: Rows of the target.

    Returns:
        x and y, (rows, W) float64 pixels of the source, and (rows, W) bool, whether such a point exists.

    Example:
        >>> from alignment.transforms.mapping import Mapping, source_points
        >>> from alignment.transforms.transform import Transform
        >>> rows = ((1.0, 0.0, 2.0), (0.0, 1.0, 1.0), (0.0, 0.0, 1.0))
        >>> mapping = Mapping(Transform("blur.png", "sharp.png", (3, 4), rows, "similarity"))
        >>> x, y, _ = source_points(mapping, slice(1, 2))
        >>> x.tolist(), y.tolist()
        ([[-2.0, -1.0, 0.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]])
    """
    offset = (mapping.scale - 1.0) / 2.0
    ys, xs = np.mgrid[rows, 0 : mapping.size[1]].astype(np.float64)
    x, y = (xs - offset) / mapping.scale, (ys - offset) / mapping.scale
    transform = mapping.transform
    exists: NDArray[np.bool_] = np.ones((1, 1), dtype=np.bool_)
    if mapping.inverse:
        x, y, ahead = geometry.project_grid(transform.matrix, *_undo_radial(x, y, transform))
        exists = ahead & _is_visible(mapping, x, y)
        if mapping.flow is not None:
            x, y = _follow_flow(mapping.flow, x, y)
    else:
        if mapping.flow is not None:
            x, y, exists = _undo_flow(mapping.flow, x, y)
        exists = exists & _is_visible(mapping, x, y)
        x, y, ahead = geometry.project_grid(np.asarray(np.linalg.inv(transform.matrix)), x, y)
        exists = exists & ahead
        x, y = geometry.apply_radial(x, y, transform.radial, transform.size)
    return mapping.scale * x + offset, mapping.scale * y + offset, exists


def _undo_radial(x: Plane, y: Plane, transform: Transform) -> tuple[Plane, Plane]:
    """The inverse of the radial term by Newton's method on r (1 + k r²), where k r² is a few hundredths at most."""
    if transform.radial == 0:
        return x, y
    (centre_x, centre_y), reach = geometry.centre_and_half_diagonal(transform.size)
    bent = np.hypot(x - centre_x, y - centre_y) / reach
    radius = bent.copy()
    for _ in range(_NEWTON_STEPS):
        radius -= (radius * (1 + transform.radial * radius**2) - bent) / (1 + 3 * transform.radial * radius**2)
    factor = 1 / (1 + transform.radial * radius**2)
    return centre_x + factor * (x - centre_x), centre_y + factor * (y - centre_y)


def _is_visible(mapping: Mapping, x: Plane, y: Plane) -> NDArray[np.bool_]:
    """Whether the sharp frame shows the content of these points of the aligned one."""
    if mapping.occlusion is None:
        return np.ones((1, 1), dtype=np.bool_)
    return np.asarray(
        sample(mapping.occlusion.astype(np.float32), _to_flow_grid(x), _to_flow_grid(y), Interpolation.LINEAR) < 0.5
    )


def _follow_flow(flow: NDArray[np.float32], x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The points p + u(p) to which the flow moves the points p of the aligned frame."""
    moved = sample(flow, _to_flow_grid(x), _to_flow_grid(y), Interpolation.LINEAR)
    return x + moved[..., 0], y + moved[..., 1]


def _undo_flow(flow: NDArray[np.float32], x: Plane, y: Plane) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """The points that the flow moves to (x, y), and whether such a point exists."""
    across, down, settled = invert_flow(flow / np.float32(FLOW_FACTOR), _to_flow_grid(x), _to_flow_grid(y))
    return _from_flow_grid(across), _from_flow_grid(down), settled


def _to_flow_grid(points: Plane) -> Plane:
    return (points - (FLOW_FACTOR - 1) / 2) / FLOW_FACTOR


def _from_flow_grid(points: Plane) -> Plane:
    return points * FLOW_FACTOR + (FLOW_FACTOR - 1) / 2


def _index(points: Plane, length: int) -> NDArray[np.intp]:
    return np.clip(np.rint(points), 0, length - 1).astype(np.intp)
