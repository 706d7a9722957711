"""The alignment check of the report: the window that shows misalignment best, and its red-cyan overlays.

A window is (top, left, height, width). Windows and homographies are in pixels of half-size frames, or of a box of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Homography = NDArray[np.float64]
    Window = tuple[int, int, int, int]

WINDOW_PX = (180, 240)
LARGEST_DISC_PX = 40.0
_ENLARGED = 2


def overlay(blurred: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Red-cyan overlay of two (H, W) brightnesses: grey where they agree, coloured fringes where they do not.

    Returns:
        (H, W, 3) RGB, the blurred frame in red, the sharp one in green and blue.
    """
    return np.stack([blurred, sharp, sharp], axis=-1)


def draw_overlays(
    before: NDArray[np.uint8], after: NDArray[np.uint8], sharp: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`overlay` of a window before and after alignment, enlarged twice.

    Args:
        before: (h, w, 3) RGB preview of the blurred frame as shot.
        after: (h, w, 3) RGB preview of the aligned frame.
        sharp: (h, w, 3) RGB preview of the sharp frame, equally blurred.
    """
    target = to_grey(sharp)
    size = (sharp.shape[1] * _ENLARGED, sharp.shape[0] * _ENLARGED)
    first, second = (
        cv2.resize(overlay(to_grey(view), target), size, interpolation=cv2.INTER_CUBIC) for view in (before, after)
    )
    return np.asarray(first, dtype=np.uint8), np.asarray(second, dtype=np.uint8)


def most_textured_window(
    brightness: NDArray[np.uint8],
    displacement_px: NDArray[np.float32],
    box: tuple[int, int, int, int],
    size: tuple[int, int],
) -> Window:
    """The window with most texture under most motion, which shows misalignment best.

    Args:
        brightness: (H, W).
        displacement_px: (H, W) length of the motion before alignment.
        box: (left, top, right, bottom) the window must lie in.
        size: (height, width) of the window; reduced to that of the box.

    Returns:
        (top, left, height, width).
    """
    left, top, right, bottom = box
    height, width = min(size[0], bottom - top), min(size[1], right - left)
    plane = brightness[top:bottom, left:right].astype(np.float32)
    slope = np.hypot(cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1))
    total = cv2.integral(slope * (1.0 + displacement_px[top:bottom, left:right]))
    score = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    return top + int(row), left + int(column), height, width


def choose_window(
    picture: NDArray[np.uint8], homography: Homography, box: tuple[float, float, float, float], size: tuple[int, int]
) -> Window:
    """`most_textured_window` of a half-size frame, searched on a smaller picture of it.

    Args:
        picture: (h, w, 3) the sharp frame with the blur of the blurred one, so that only shared texture counts.
        homography: (3, 3) blurred to sharp.
        box: (left, top, right, bottom) the window should lie in.
        size: (height, width) of the half-size frame.

    Returns:
        (top, left, height, width) on the half-size frame.
    """
    factor = picture.shape[1] / size[1]
    moved = geometry.displacement(geometry.rescale_homography(homography, factor), picture.shape[:2])
    rows, columns = box_slices(box, factor, picture.shape)
    within = (columns.start, rows.start, min(columns.stop, picture.shape[1]), min(rows.stop, picture.shape[0]))
    wanted = (max(1, round(WINDOW_PX[0] * factor)), max(1, round(WINDOW_PX[1] * factor)))
    window = most_textured_window(to_grey(picture), np.linalg.norm(moved, axis=-1), within, wanted)
    top, left = (round(edge / factor) for edge in window[:2])
    height, width = min(WINDOW_PX[0], size[0]), min(WINDOW_PX[1], size[1])
    return min(top, size[0] - height), min(left, size[1] - width), height, width


def common_box(homography: Homography, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the part of a frame that stays on it under a homography, from its corners."""
    height, width = size
    moved = np.clip(geometry.project(homography, geometry.corners(size)), (-width, -height), (2 * width, 2 * height))
    upper_left, upper_right, lower_right, lower_left = moved.tolist()
    return (
        max(0.0, -upper_left[0], -lower_left[0]),
        max(0.0, -upper_left[1], -upper_right[1]),
        width - max(0.0, upper_right[0] - width + 1, lower_right[0] - width + 1),
        height - max(0.0, lower_left[1] - height + 1, lower_right[1] - height + 1),
    )


def grow(window: Window, margin_px: float, size: tuple[int, int]) -> Window:
    """A window with a margin around it, within the frame of `size` = (height, width)."""
    top, left, height, width = window
    margin = int(np.ceil(margin_px))
    first_row, first_column = max(0, top - margin), max(0, left - margin)
    last_row, last_column = min(size[0], top + height + margin), min(size[1], left + width + margin)
    return first_row, first_column, last_row - first_row, last_column - first_column


def union(first: Window, second: Window) -> Window:
    """The smallest window that contains both."""
    top, left = min(first[0], second[0]), min(first[1], second[1])
    bottom, right = (max(window[axis] + window[axis + 2] for window in (first, second)) for axis in (0, 1))
    return top, left, bottom - top, right - left


def window_slices(window: Window, container: Window = (0, 0, 0, 0)) -> tuple[slice, slice]:
    """Rows and columns of a window, in the frame or in another window that contains it."""
    top, left = window[0] - container[0], window[1] - container[1]
    return slice(top, top + window[2]), slice(left, left + window[3])


def to_grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) brightness of an (H, W, 3) RGB picture."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def box_slices(box: tuple[float, float, float, float], factor: float, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a full-size box on a grid `factor` times as large; at least one pixel each.

    Args:
        box: (left, top, right, bottom) in full-size pixels.
        factor: Size of the grid relative to full size.
        size: (height, width, …) of the grid.
    """
    left, top, right, bottom = (round(edge * factor) for edge in box)
    first_row, first_column = min(max(top, 0), size[0] - 1), min(max(left, 0), size[1] - 1)
    return slice(first_row, max(bottom, first_row + 1)), slice(first_column, max(right, first_column + 1))
