"""White noise of an image, estimated from the image itself by Immerkaer's operator.

The operator is the difference of two Laplacians; no constant, gradient or constant curvature excites it. Fine texture
does, so an estimate is taken from the calmest quarter of the image's cells. A cell is summarised by the *median* of
the responses where single edges and texture must not count (`noise_variance`), or by their *mean*, which is cheaper
and less uncertain, where the image has been smoothed already (`noise_sigma`).

Source: J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64(2), 1996.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float32]

MEDIAN_CELL_PX = 24
MEAN_CELL_PX = 16
_CALM_PERCENTILE = 25
_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_ENERGY = 36.0  # sum of the kernel's squares
_MEDIAN_OF_NORMAL = 0.6745  # median of |N(0, 1)|; its mean is sqrt(2 / pi)
_MEDIAN_ROWS = 2 * MEDIAN_CELL_PX


def noise_response(image: Image) -> Image:
    """(H, W) absolute response of Immerkaer's operator to an (H, W) image, border reflected."""
    return np.abs(cv2.filter2D(image, cv2.CV_32F, _KERNEL))


def noise_variance(image: Image) -> float:
    """Variance of white noise, from the median response of cells of 24 pixels.

    Args:
        image: (H, W) float32.

    Returns:
        In squared units of the image; 0 for an image smaller than a cell.
    """
    medians = []
    for top in range(0, image.shape[0] // MEDIAN_CELL_PX * MEDIAN_CELL_PX, _MEDIAN_ROWS):
        first = max(top - 1, 0)
        response = noise_response(image[first : top + _MEDIAN_ROWS + 1])[top - first :][:_MEDIAN_ROWS]
        medians.append(_cell_medians(response))
    cells = np.concatenate(medians) if medians else np.empty(0)
    calm = float(np.percentile(cells, _CALM_PERCENTILE)) if cells.size else 0.0
    return float((calm / _MEDIAN_OF_NORMAL) ** 2 / _ENERGY)


def noise_sigma(image: Image) -> float:
    """Standard deviation of white noise, from the mean response of cells of 16 pixels.

    Args:
        image: (H, W) float32.

    Returns:
        In units of the image; 0 for an image smaller than a cell.
    """
    cells = response_means(image)
    if cells.size == 0:
        return 0.0
    return float(np.percentile(cells, _CALM_PERCENTILE)) * float(np.sqrt(np.pi / 2) / 6.0)


def response_means(image: Image) -> NDArray[np.float64]:
    """(cells,) mean response of Immerkaer's operator in each cell of `means_in_cells`."""
    return means_in_cells(noise_response(image))


def means_in_cells(image: Image) -> NDArray[np.float64]:
    """(cells,) means of cells of 16 pixels of an (H, W) image without a rim of 2 pixels; a partial cell is left out."""
    inner = image[2:-2, 2:-2]
    rows, columns = inner.shape[0] // MEAN_CELL_PX, inner.shape[1] // MEAN_CELL_PX
    if not rows or not columns:
        return np.empty(0)
    whole = inner[: rows * MEAN_CELL_PX, : columns * MEAN_CELL_PX]
    return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()


def _cell_medians(image: Image) -> NDArray[np.float64]:
    """(rows, columns) medians of the cells of an image without negative values or -0."""
    rows, columns = image.shape[0] // MEDIAN_CELL_PX, image.shape[1] // MEDIAN_CELL_PX
    whole = image[: rows * MEDIAN_CELL_PX, : columns * MEDIAN_CELL_PX]
    cells = whole.reshape(rows, MEDIAN_CELL_PX, columns, MEDIAN_CELL_PX)
    ordered = cells.transpose(0, 2, 1, 3).copy().reshape(rows, columns, MEDIAN_CELL_PX * MEDIAN_CELL_PX)
    middle = MEDIAN_CELL_PX * MEDIAN_CELL_PX // 2
    # As integers they have the same order and are selected faster; `median` looks for NaN besides.
    ordered.view(np.int32).partition(middle, axis=2)
    return np.asarray((ordered[..., :middle].max(axis=2) + ordered[..., middle]) / 2, dtype=np.float64)
