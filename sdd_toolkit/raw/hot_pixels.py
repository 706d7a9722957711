"""Hot and dead pixels of a sensor: detects them in mosaics of several scenes, repairs them from their neighbours.

They belong to the sensor, not to the scene: frames that are displaced against each other share them, which biases
registration towards no motion. A point of light in a scene, a star or a specular highlight, looks the same, but not
in every scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.robust import MAD_TO_SIGMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    PixelPositions = NDArray[np.int32]

MIN_SCENES = 3
"""Number of scenes in which a sample must stick out to count as a defect of the sensor."""
_SHARE_OF_SCENES = 0.5
_NOISE_FACTOR = 4.0  # standard deviations of the frame's noise
_CONTRAST_FACTOR = 0.25  # of the spread of the neighbours: grows with local noise and texture
_RANGE_FACTOR = 0.002  # of the sensor's range: less does no harm
_BAND_ROWS = 64
_SMALLEST_PLANE = 3
_NOISE_SAMPLES = 1 << 18
_WINDOW = 2  # a 5x5 window holds eight samples of the same colour in a Bayer mosaic, and enough of an X-Trans one


@dataclass(frozen=True, slots=True)
class Outliers:
    """Samples of one frame that differ strongly from their neighbours of the same colour.

    Attributes:
        hot: (N,) flat indices into the mosaic, ascending.
        dead: (M,) likewise.
    """

    hot: NDArray[np.int64]
    dead: NDArray[np.int64]


def find_outliers(mosaic: NDArray[np.uint16], range_dn: float) -> Outliers:
    """Finds samples far beyond the second highest or lowest of their eight neighbours of the same colour.

    The margin is four standard deviations of the noise, a quarter of the spread of the neighbours (second highest to
    second lowest) and 0.2 % of the range. The second extreme, so that two defects side by side do not hide each other.

    Args:
        mosaic: (H, W) samples of a 2x2 Bayer mosaic.
        range_dn: White minus black.
    """
    least = [np.float32(_NOISE_FACTOR * _noise_dn(plane) + _RANGE_FACTOR * range_dn) for plane in _planes(mosaic)]
    usable = [min(plane.shape) >= _SMALLEST_PLANE for plane in _planes(mosaic)]
    if not any(usable):
        return Outliers(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    least_of_all = int(min(value for value, large in zip(least, usable, strict=True) if large))
    all_hot, all_dead = [], []
    for top, band in _bands(mosaic):
        ys, xs = _candidates(band, least_of_all)
        plane = 2 * ((ys + top) % 2) + xs % 2
        hot, dead = _exceeds_neighbours(band, ys, xs, np.array(least)[plane])
        indices, counted = (ys + top) * mosaic.shape[1] + xs, np.array(usable)[plane]
        all_hot.append(indices[hot & counted])
        all_dead.append(indices[dead & counted])
    return Outliers(np.concatenate(all_hot), np.concatenate(all_dead))


def confirm_hot_pixels(scenes: Sequence[Outliers], width: int) -> PixelPositions:
    """Positions that are hot, or dead, in at least half of the scenes and in `MIN_SCENES` of them.

    Args:
        scenes: One frame of each scene; fewer than `MIN_SCENES` confirm nothing.
        width: Width of the mosaic.

    Returns:
        (N, 2) rows and columns, in reading order.
    """
    if len(scenes) < MIN_SCENES:
        return np.zeros((0, 2), dtype=np.int32)
    needed = max(MIN_SCENES, int(np.ceil(_SHARE_OF_SCENES * len(scenes))))
    flat = np.zeros(0, dtype=np.int64)
    for kind in ([scene.hot for scene in scenes], [scene.dead for scene in scenes]):
        indices, hits = np.unique(np.concatenate(kind), return_counts=True)
        flat = np.union1d(flat, indices[hits >= needed])
    return np.stack([flat // width, flat % width], axis=1).astype(np.int32)


def repair(mosaic: NDArray[np.uint16], colours: NDArray[np.uint8], positions: PixelPositions) -> None:
    """Replaces samples by the median of their neighbours of the same colour in a 5x5 window, in place.

    Neighbours that are repaired themselves do not count; a sample without any neighbour stays.

    Args:
        mosaic: (H, W) samples.
        colours: (H, W) index of each sample's colour; the two greens of a Bayer mosaic are two colours.
        positions: (N, 2) rows and columns; those outside of the mosaic are left out.
    """
    height, width = mosaic.shape
    inside = (positions >= 0).all(axis=1) & (positions < (height, width)).all(axis=1)
    rows, columns = positions[inside].T.astype(np.int64)
    bad = set((rows * width + columns).tolist())
    steps = [(dy, dx) for dy in range(-_WINDOW, _WINDOW + 1) for dx in range(-_WINDOW, _WINDOW + 1) if dy or dx]
    values = np.full((len(rows), len(steps)), np.nan)
    known = np.fromiter(bad, dtype=np.int64, count=len(bad))
    for number, (dy, dx) in enumerate(steps):
        y, x = rows + dy, columns + dx
        usable = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        usable &= (colours[y, x] == colours[rows, columns]) & ~np.isin(y * width + x, known)
        values[usable, number] = mosaic[y[usable], x[usable]]
    repairable = ~np.isnan(values).all(axis=1)
    mosaic[rows[repairable], columns[repairable]] = np.rint(np.nanmedian(values[repairable], axis=1)).astype(np.uint16)


def _planes(mosaic: NDArray[np.uint16]) -> list[NDArray[np.uint16]]:
    return [mosaic[row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _bands(mosaic: NDArray[np.uint16]) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """First row and samples of bands of a mosaic, with a border of one mirrored sample of each colour."""
    height, width = mosaic.shape
    padded = np.empty((_BAND_ROWS + 4, width + 4), dtype=np.uint16)
    for top in range(0, height, _BAND_ROWS):
        rows = np.arange(top - 2, min(top + _BAND_ROWS, height) + 2)
        rows = np.clip(np.where(rows < 0, rows + 4, np.where(rows >= height, rows - 4, rows)), 0, height - 1)
        band = padded[: len(rows)]
        band[:, 2:-2] = mosaic[rows]
        band[:, :2], band[:, -2:] = band[:, 4:6], band[:, -6:-4]
        yield top, band


def _candidates(band: NDArray[np.uint16], least_dn: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of samples that may be hot or dead: all outliers and few others, found without sorting.

    One neighbour may be as bright as a hot sample. So of the three pairs to the left and right of it, above, beside and
    below, two are darker.
    """
    centre = band[2:-2, 2:-2]
    bright, dark = (_middle(pairs[:-4], pairs[2:-2], pairs[4:]) for pairs in _extremes(band[:, :-4], band[:, 4:]))
    excess = cv2.max(cv2.subtract(centre, bright), cv2.subtract(dark, centre))
    return np.divmod(np.flatnonzero(excess > least_dn), centre.shape[1])


def _extremes(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """The larger and the smaller of two samples."""
    return np.asarray(cv2.max(first, second), dtype=np.uint16), np.asarray(cv2.min(first, second), dtype=np.uint16)


def _middle(above: NDArray[np.uint16], beside: NDArray[np.uint16], below: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The second of three samples by size."""
    larger, smaller = _extremes(above, below)
    return np.asarray(cv2.max(smaller, cv2.min(larger, beside)), dtype=np.uint16)


def _exceeds_neighbours(
    band: NDArray[np.uint16], ys: NDArray[np.int64], xs: NDArray[np.int64], least_dn: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether samples of a band lie above, and below, the second extreme of their eight neighbours by the margin."""
    width = band.shape[1]
    around = [dy * width + dx for dy in (0, 2, 4) for dx in (0, 2, 4) if (dy, dx) != (2, 2)]
    neighbours = np.sort(band.reshape(-1)[(ys * width + xs)[:, None] + np.array(around)], axis=-1)
    low, high = neighbours[:, 1].astype(np.float32), neighbours[:, -2].astype(np.float32)
    threshold = (high - low) * np.float32(_CONTRAST_FACTOR) + least_dn
    centre = band[ys + 2, xs + 2].astype(np.float32)
    return centre > high + threshold, centre < low - threshold


def _noise_dn(plane: NDArray[np.uint16]) -> float:
    """Standard deviation of the noise: median distance of a sample from the mean of its two neighbours.

    Some rows of a large plane determine it to a fraction of a percent.
    """
    rows = plane[:: max(1, plane.size // _NOISE_SAMPLES)]
    left, centre, right = (rows[:, start : start + rows.shape[1] - 2].astype(np.int32) for start in range(3))
    twice = np.abs(2 * centre - left - right).ravel()
    if not len(twice):
        return 0.0
    upto, half = np.cumsum(np.bincount(twice)), (len(twice) - 1) / 2
    middle = [int(np.searchsorted(upto, np.floor(half) + extra, side="right")) for extra in (0, half % 1 > 0)]
    return MAD_TO_SIGMA * (sum(middle) / 4) / float(np.sqrt(1.5))
