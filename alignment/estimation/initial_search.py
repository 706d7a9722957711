"""The first search: which zoom, rotation and shift bring two small frames roughly together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.estimation import homography
from sdd_toolkit.imaging import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

SEARCH_PX = 108
_ZOOM_STEP = 0.02
_ROTATION_STEP_DEG = 1.0
_CANDIDATES = 3


def search_similarity(
    moving: Image, fixed: Image, *, zooms: tuple[float, float], max_rotation_deg: float
) -> tuple[Matrix, float]:
    """A rough homography `moving` → `fixed`: the zoom, rotation and shift of the highest correlation.

    Args:
        moving: (h, w) band-passed image.
        fixed: (h, w) band-passed image.
        zooms: Smallest and largest zoom tried.
        max_rotation_deg: Largest rotation tried, either way.

    Returns:
        The homography and its correlation, to be compared with others of the same frames.
    """
    factor = max(max(fixed.shape) / SEARCH_PX, 1.0)
    small = (max(int(fixed.shape[1] / factor), 8), max(int(fixed.shape[0] / factor), 8))
    a, b = (cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in (moving, fixed))
    window = cv2.createHanningWindow(small, cv2.CV_32F) ** 0.5
    padded = (cv2.getOptimalDFTSize(2 * small[1]), cv2.getOptimalDFTSize(2 * small[0]))
    canvas = np.zeros(padded, dtype=np.float32)
    target = _spectrum(b * window, canvas)

    def tried(zoom: float, angle: float) -> tuple[float, Matrix]:
        turn = _similarity_about_centre(zoom, angle, (small[1], small[0]))
        turned = cv2.warpPerspective(a, turn, small, flags=cv2.INTER_LINEAR) * window
        crossed = cv2.mulSpectrums(target, _spectrum(turned, canvas), 0, conjB=True)
        surface = cv2.idft(crossed, flags=cv2.DFT_REAL_OUTPUT)
        _, peak, _, (dx, dy) = cv2.minMaxLoc(surface)
        # Shifts beyond half the padded frame are negative ones.
        dx -= padded[1] if dx > padded[1] // 2 else 0
        dy -= padded[0] if dy > padded[0] // 2 else 0
        score = peak / (float(np.linalg.norm(turned)) + 1e-12)
        return score, np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]]) @ turn

    scales = _search_steps(*zooms, _ZOOM_STEP)
    angles = np.radians(_search_steps(-max_rotation_deg, max_rotation_deg, _ROTATION_STEP_DEG))
    found: dict[tuple[int, int], tuple[float, Matrix]] = {}
    # Every second step, then all around the best of these: a correlation peak is wider than a step.
    rough = [(i, j) for i in _every_second(len(scales)) for j in _every_second(len(angles))]
    for i, j in rough:
        found[i, j] = tried(float(scales[i]), float(angles[j]))
    for place in sorted(rough, key=lambda place: -found[place][0])[:_CANDIDATES]:
        for i, j in _neighbours(place, (len(scales), len(angles))):
            if (i, j) not in found:
                found[i, j] = tried(float(scales[i]), float(angles[j]))
    best_score, best = max(found.values(), key=lambda one: one[0])
    grow = np.array([fixed.shape[1] / small[0], fixed.shape[0] / small[1]])
    up = np.array([[grow[0], 0, (grow[0] - 1) / 2], [0, grow[1], (grow[1] - 1) / 2], [0, 0, 1]])
    return geometry.normalised(up @ best @ np.linalg.inv(up)), best_score


def _spectrum(image: Image, canvas: Image) -> Image:
    canvas[: image.shape[0], : image.shape[1]] = image
    return np.asarray(cv2.dft(canvas, nonzeroRows=image.shape[0]), dtype=np.float32)


def _every_second(count: int) -> range:
    """Of an odd number of steps, the middle one among them."""
    return range((count // 2) % 2, count, 2)


def _neighbours(place: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int]]:
    """The neighbours of a place on a grid."""
    rows, columns = (range(max(at - 1, 0), min(at + 2, count)) for at, count in zip(place, size, strict=True))
    return [(row, column) for row in rows for column in columns]


def _search_steps(low: float, high: float, step: float) -> Matrix:
    return np.linspace(low, high, 2 * int(np.ceil((high - low) / 2 / step)) + 1)


def _similarity_about_centre(zoom: float, angle: float, size: tuple[int, int]) -> Matrix:
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    inner = np.array([cosine - 1, -sine, 0, sine, cosine - 1, 0, 0, 0, 0])
    return homography.to_matrix(inner, size)
