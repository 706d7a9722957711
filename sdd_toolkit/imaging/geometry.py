"""Geometric transforms: applies, rescales and decomposes homographies; largest box in a mask; flow enlargement.

`imaging.resampling` samples images by them; package `alignment` estimates them.

Pixel centres lie at integers throughout (OpenCV's convention), so scaling a frame by 1/2 with 2x2 means moves
points by x_half = (x_full - 0.5) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Shift, zoom, rotation and perspective of a homography at the frame centre; lengths in pixels."""

    shift_px: tuple[float, float]
    zoom: float
    rotation_deg: float
    perspective_px: float


def rescale_homography(homography: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Converts a homography to frames enlarged by `factor` (2: half-size estimate to full-size pixels).

    Args:
        homography: (3, 3), between frames of the original size.
        factor: Linear enlargement; pixel centres map as x' = factor x + (factor - 1) / 2.

    Example:
        >>> shift = np.array([[1, 0, 3.0], [0, 1, 0], [0, 0, 1]])
        >>> rescale_homography(shift, 2.0)[0]
        array([1., 0., 6.])
    """
    offset = (factor - 1.0) / 2.0
    up = np.array([[factor, 0, offset], [0, factor, offset], [0, 0, 1]], dtype=np.float64)
    return normalise_homography(up @ homography @ np.linalg.inv(up))


def normalise_homography(homography: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales a homography so that its last entry is 1; float64."""
    matrix = np.asarray(homography, dtype=np.float64)
    return np.asarray(matrix / matrix[2, 2], dtype=np.float64)


def project(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps points by a homography.

    Args:
        homography: (3, 3).
        points: (N, 2), (x, y) in pixels.

    Returns:
        (N, 2).

    Example:
        >>> project(np.diag([2.0, 2.0, 1.0]), np.array([[1.0, 5.0]]))
        array([[ 2., 10.]])
    """
    lifted = np.column_stack([points, np.ones(len(points))]) @ np.asarray(homography, dtype=np.float64).T
    return np.asarray(lifted[:, :2] / lifted[:, 2:], dtype=np.float64)


def project_grid(matrix: Plane, x: Plane, y: Plane) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """Maps coordinates on a grid by a homography.

    Args:
        matrix: (3, 3).
        x: Any shape.
        y: A shape that broadcasts with that of x.

    Returns:
        x and y, and whether the point lies in front of the line that the matrix maps to infinity.
    """
    rows = normalise_homography(matrix)
    depth = rows[2, 0] * x + rows[2, 1] * y + 1.0
    ahead = depth > 0
    if not ahead.all():
        depth = np.where(ahead, depth, 1.0)
    across = (rows[0, 0] * x + (rows[0, 1] * y + rows[0, 2])) / depth
    down = (rows[1, 0] * x + (rows[1, 1] * y + rows[1, 2])) / depth
    return across, down, ahead


def apply_radial(x: Plane, y: Plane, radial: float, size: tuple[int, int]) -> tuple[Plane, Plane]:
    """Moves points of a (height, width) frame by the radial term, see `sdd_toolkit.records.Alignment`."""
    if radial == 0:
        return x, y
    (centre_x, centre_y), reach = centre_and_half_diagonal(size)
    factor = 1 + radial / reach**2 * ((x - centre_x) ** 2 + (y - centre_y) ** 2)
    return centre_x + factor * (x - centre_x), centre_y + factor * (y - centre_y)


def centre_and_half_diagonal(size: tuple[int, int]) -> tuple[tuple[float, float], float]:
    """(x, y) of the centre of a (height, width) frame, and half its diagonal in pixels."""
    height, width = size
    return ((width - 1) / 2.0, (height - 1) / 2.0), float(np.hypot(height, width)) / 2.0


def corners(size: tuple[int, int]) -> NDArray[np.float64]:
    """(4, 2) centres of the corner pixels of a (height, width) frame, clockwise from the top left."""
    height, width = size
    right, bottom = width - 1.0, height - 1.0
    return np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], dtype=np.float64)


def decompose(homography: NDArray[np.float64], size: tuple[int, int]) -> Decomposition:
    """Decomposes a homography into the best similarity over the frame and a perspective remainder.

    The similarity is the least-squares fit (Umeyama 1991, eq. 40-42, without reflection) to the mapped corners.
    """
    source = corners(size)
    target = project(homography, source)
    centre, moved = source.mean(axis=0), target.mean(axis=0)
    a, b = source - centre, target - moved
    power = float(np.sum(a**2))
    cosine = float(np.sum(a * b)) / power
    sine = float(np.sum(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])) / power
    fit = a @ np.array([[cosine, sine], [-sine, cosine]]) + moved
    shift = moved - centre
    return Decomposition(
        shift_px=(float(shift[0]), float(shift[1])),
        zoom=float(np.hypot(cosine, sine)),
        rotation_deg=float(np.degrees(np.arctan2(sine, cosine))),
        perspective_px=float(np.max(np.linalg.norm(fit - target, axis=1))),
    )


def displacement(homography: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W, 2): for each pixel x of the source grid, H(x) - x."""
    height, width = size
    xs = np.arange(width, dtype=np.float64)
    matrix = np.asarray(homography, dtype=np.float64)
    moved = np.empty((height, width, 2), dtype=np.float32)
    # Row by row: allocating frames of float64 would take longer than filling them.
    for y in range(height):
        scale = matrix[2, 0] * xs + matrix[2, 1] * y + matrix[2, 2]
        moved[y, :, 0] = (matrix[0, 0] * xs + matrix[0, 1] * y + matrix[0, 2]) / scale - xs
        moved[y, :, 1] = (matrix[1, 0] * xs + matrix[1, 1] * y + matrix[1, 2]) / scale - y
    return moved


def largest_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The largest axis-aligned rectangle of True pixels: (left, top, right, bottom), half open.

    Largest rectangle under a histogram, row by row; (0, 0, 0, 0) if there is no True pixel.

    Example:
        >>> largest_box(np.array([[True, True, False], [True, True, True]]))
        (0, 0, 2, 2)
    """
    best, best_area = (0, 0, 0, 0), 0
    heights = np.zeros(mask.shape[1] + 1, dtype=np.int64)
    for row in range(mask.shape[0]):
        heights[:-1] = np.where(mask[row], heights[:-1] + 1, 0)
        # A row can only improve if its best possible area does.
        if int(heights.max()) * mask.shape[1] <= best_area:
            continue
        stack: list[int] = []
        # Runs of equal height act as one bar; a warped frame's edge has few of them.
        starts = np.flatnonzero(np.diff(heights, prepend=-1))
        ends = np.append(starts[1:], len(heights)) - 1
        for column, last, height in zip(starts.tolist(), ends.tolist(), heights[starts].tolist(), strict=True):
            while stack and heights[stack[-1]] >= height:
                tall = int(heights[stack.pop()])
                left = stack[-1] + 1 if stack else 0
                if tall * (column - left) > best_area:
                    best_area = tall * (column - left)
                    best = (left, row - tall + 1, column, row + 1)
            stack.append(last)
    return best


def enlarge_flow(flow: NDArray[np.float32], factor: int, window: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Interpolates a coarse flow field on the full grid, bilinearly; its values are full-size pixels and stay.

    Args:
        flow: (h, w, 2); its pixel q covers full pixels factor q … factor q + factor - 1.
        factor: Full-size pixels per coarse pixel.
        window: (top, left, height, width) of the full grid to fill.

    Returns:
        (height, width, 2) float32.
    """
    top, left, height, width = window
    offset = (factor - 1.0) / 2.0
    ys, xs = np.mgrid[top : top + height, left : left + width].astype(np.float32)
    coarse_x, coarse_y = (xs - offset) / factor, (ys - offset) / factor
    field = cv2.remap(flow, coarse_x, coarse_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(field, dtype=np.float32)
