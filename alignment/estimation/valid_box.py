"""The largest box of the sharp frame that the warped blurred frame covers, exact to the pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.imaging.interpolation import REACH_PX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Box = tuple[int, int, int, int]

_COARSE_SIDE_PX = 400
# Half a coarse pixel under a zoom of up to 1.3, in both directions.
_HALF_PIXEL = 0.75


def valid_box(matrix: Matrix, size: tuple[int, int], radial: float = 0.0) -> Box:
    """The largest box of pixels of the sharp frame that warping interpolates from pixels of the blurred frame only.

    It is found on a coarse grid; then its edges move outwards pixel by pixel.

    Args:
        matrix: (3, 3) blurred to sharp.
        size: (height, width) of both frames.
        radial: Coefficient of the radial term.

    Returns:
        (left, top, right, bottom), half open.
    """
    factor = max(-(-max(size) // _COARSE_SIDE_PX), 1)
    if factor == 1:
        return geometry.largest_box(resampling.valid_mask(matrix, size, size, radial=radial))
    coarse = (size[0] // factor, size[1] // factor)
    reach = REACH_PX / factor + _HALF_PIXEL
    mask = resampling.valid_mask(
        geometry.rescale_homography(matrix, 1 / factor), coarse, coarse, radial=radial, reach_px=reach
    )
    left, top, right, bottom = (factor * edge for edge in geometry.largest_box(mask))
    box = (left, top, right, bottom)
    # Under a radial term valid corners do not imply a valid edge between them.
    return box if radial or right == left else _grow(box, matrix, size, 2 * factor)


def _grow(box: Box, matrix: Matrix, size: tuple[int, int], max_growth_px: int) -> Box:
    """`box` with each edge moved outwards, in turn, while its corners stay inside the blurred frame."""
    back = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    edges = list(box)
    for edge, outwards in enumerate((-1, -1, 1, 1)):
        for _ in range(max_growth_px):
            edges[edge] += outwards
            if not _lies_in_both((edges[0], edges[1], edges[2], edges[3]), back, size):
                edges[edge] -= outwards
                break
    return edges[0], edges[1], edges[2], edges[3]


def _lies_in_both(box: Box, back: Matrix, size: tuple[int, int]) -> bool:
    """Whether the corner pixels of a box, and so all pixels between them, lie inside both frames."""
    left, top, right, bottom = box
    if left < 0 or top < 0 or right > size[1] or bottom > size[0]:
        return False
    corners = np.array([[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]], dtype=np.float64)
    positions = geometry.project(back, corners)
    reach = REACH_PX
    return bool(np.all(positions >= reach) and np.all(positions <= np.array([size[1], size[0]]) - 1 - reach))
