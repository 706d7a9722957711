"""The largest box of the sharp frame that the blurred one covers: found on a coarse grid, its edges pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging import geometry, resampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Box = tuple[int, int, int, int]

_COARSE_SIDE_PX = 400
# What a zoom of up to 1.3 can make of half a coarse pixel, in both directions.
_HALF_PIXEL = 0.75


def valid_box(matrix: Matrix, size: tuple[int, int], radial: float = 0.0) -> Box:
    """(left, top, right, bottom), half open: pixels of the sharp frame that warping makes of blurred pixels only.

    Args:
        matrix: Blurred to sharp.
        size: (height, width) of both frames.
        radial: Coefficient of the radial term.
    """
    factor = max(-(-max(size) // _COARSE_SIDE_PX), 1)
    if factor == 1:
        return geometry.inner_box(resampling.valid(matrix, size, size, radial=radial))
    coarse = (size[0] // factor, size[1] // factor)
    reach = resampling.REACH_PX / factor + _HALF_PIXEL
    mask = resampling.valid(geometry.scaled(matrix, 1 / factor), coarse, coarse, radial=radial, reach_px=reach)
    left, top, right, bottom = (factor * edge for edge in geometry.inner_box(mask))
    found = (left, top, right, bottom)
    # With a radial term the corners do not tell about what lies between them.
    return found if radial or right == left else _grow(found, matrix, size, 2 * factor)


def _grow(box: Box, matrix: Matrix, size: tuple[int, int], most_px: int) -> Box:
    """`box` with each edge moved outwards, in turn, as far as its corners stay inside the blurred frame."""
    back = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    edges = list(box)
    for edge, outwards in enumerate((-1, -1, 1, 1)):
        for _ in range(most_px):
            edges[edge] += outwards
            if not _lies_in_both((edges[0], edges[1], edges[2], edges[3]), back, size):
                edges[edge] -= outwards
                break
    return edges[0], edges[1], edges[2], edges[3]


def _lies_in_both(box: Box, back: Matrix, size: tuple[int, int]) -> bool:
    """Whether the corner pixels of a box lie inside both frames; what lies between them then does, too."""
    left, top, right, bottom = box
    if left < 0 or top < 0 or right > size[1] or bottom > size[0]:
        return False
    corners = np.array([[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]], dtype=np.float64)
    places = geometry.project(back, corners)
    reach = resampling.REACH_PX
    return bool(np.all(places >= reach) and np.all(places <= np.array([size[1], size[0]]) - 1 - reach))
