"""Initial search: the zoom, rotation and shift of highest correlation between two small frames."""

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
    """Finds a rough homography `moving` → `fixed`: the zoom, rotation and shift of highest correlation.

    Every second combination of zoom and rotation is tried, then all neighbours of the best ones. The shift of each
    is the peak of their cross-correlation, computed by Fourier transforms.

    Args:
        moving: (h, w) band-passed image.
        fixed: (h, w) band-passed image.
        zooms: Smallest and largest zoom to try.
        max_rotation_deg: Largest rotation to try, either way.

    Returns:
        The homography and its correlation, comparable with others of the same frames.
    """
    factor = max(max(fixed.shape) / SEARCH_PX, 1.0)
    small = (max(int(fixed.shape[1] / factor), 8), max(int(fixed.shape[0] / factor), 8))
    a, b = (cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in (moving, fixed))
    window = cv2.createHanningWindow(small, cv2.CV_32F) ** 0.5
    padded = (cv2.getOptimalDFTSize(2 * small[1]), cv2.getOptimalDFTSize(2 * small[0]))
    canvas = np.zeros(padded, dtype=np.float32)
    target = _spectrum(b * window, canvas)

    def correlate(zoom: float, angle: float) -> tuple[float, Matrix]:
        similarity = _similarity_about_centre(zoom, angle, (small[1], small[0]))
        warped = cv2.warpPerspective(a, similarity, small, flags=cv2.INTER_LINEAR) * window
        product = cv2.mulSpectrums(target, _spectrum(warped, canvas), 0, conjB=True)
        surface = cv2.idft(product, flags=cv2.DFT_REAL_OUTPUT)
        _, peak, _, (dx, dy) = cv2.minMaxLoc(surface)
        # Shifts beyond half the padded frame are negative ones.
        dx -= padded[1] if dx > padded[1] // 2 else 0
        dy -= padded[0] if dy > padded[0] // 2 else 0
        score = peak / (float(np.linalg.norm(warped)) + 1e-12)
        return score, np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]]) @ similarity

    scales = _search_steps(*zooms, _ZOOM_STEP)
    angles = np.radians(_search_steps(-max_rotation_deg, max_rotation_deg, _ROTATION_STEP_DEG))
    results: dict[tuple[int, int], tuple[float, Matrix]] = {}
    # A correlation peak is wider than a step.
    rough = [(i, j) for i in _every_second(len(scales)) for j in _every_second(len(angles))]
    for i, j in rough:
        results[i, j] = correlate(float(scales[i]), float(angles[j]))
    for position in sorted(rough, key=lambda position: -results[position][0])[:_CANDIDATES]:
        for i, j in _neighbours(position, (len(scales), len(angles))):
            if (i, j) not in results:
                results[i, j] = correlate(float(scales[i]), float(angles[j]))
    best_score, best = max(results.values(), key=lambda result: result[0])
    ratio = np.array([fixed.shape[1] / small[0], fixed.shape[0] / small[1]])
    enlarge = np.array([[ratio[0], 0, (ratio[0] - 1) / 2], [0, ratio[1], (ratio[1] - 1) / 2], [0, 0, 1]])
    return geometry.normalise_homography(enlarge @ best @ np.linalg.inv(enlarge)), best_score


def _spectrum(image: Image, canvas: Image) -> Image:
    canvas[: image.shape[0], : image.shape[1]] = image
    return np.asarray(cv2.dft(canvas, nonzeroRows=image.shape[0]), dtype=np.float32)


def _every_second(count: int) -> range:
    """Every second of an odd number of steps, the middle one included."""
    return range((count // 2) % 2, count, 2)


def _neighbours(position: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int]]:
    """A position on a grid and its neighbours."""
    rows, columns = (range(max(at - 1, 0), min(at + 2, count)) for at, count in zip(position, size, strict=True))
    return [(row, column) for row in rows for column in columns]


def _search_steps(low: float, high: float, step: float) -> Matrix:
    return np.linspace(low, high, 2 * int(np.ceil((high - low) / 2 / step)) + 1)


def _similarity_about_centre(zoom: float, angle: float, size: tuple[int, int]) -> Matrix:
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    inner = np.array([cosine - 1, -sine, 0, sine, cosine - 1, 0, 0, 0, 0])
    return homography.to_matrix(inner, size)
