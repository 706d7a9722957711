"""Hot and dead pixels of a sensor: found in mosaics of several scenes, repaired from neighbours of the same colour.

They sit on the sensor, not in the scene: two frames that moved against each other share them, and registration is
drawn to no motion. A real point of light, a star or a specular highlight, looks like one, but not in every scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Places = NDArray[np.int32]

MIN_SCENES = 3
"""Nothing is taken for a defect of the sensor that is not seen in so many scenes."""
_SHARE_OF_SCENES = 0.5
_NOISES = 4.0  # standard deviations of the frame's noise
_CONTRASTS = 0.25  # of the spread of the neighbours: grows with local noise and texture
_RANGES = 0.002  # of the sensor's range: less does no harm
_BAND_ROWS = 32
_WINDOW = 2  # a 5x5 window holds eight samples of the same colour in a Bayer mosaic, and enough of an X-Trans one


@dataclass(frozen=True, slots=True)
class Outliers:
    """Samples of one frame that stick out of their neighbours of the same colour.

    Attributes:
        hot: (N,) flat indices into the mosaic, ascending.
        dead: (M,) likewise.
    """

    hot: NDArray[np.int64]
    dead: NDArray[np.int64]


def outliers(mosaic: NDArray[np.uint16], range_dn: float) -> Outliers:
    """Samples beyond the second highest or lowest of their eight neighbours of the same colour.

    By how much: four standard deviations of the noise, a quarter of the spread of the neighbours (second highest to
    second lowest) and 0.2 % of the range. The second, so that two defects side by side do not hide each other.

    Args:
        mosaic: (H, W) samples of a 2x2 Bayer mosaic.
        range_dn: White minus black.
    """
    found: dict[str, list[NDArray[np.int64]]] = {"hot": [], "dead": []}
    width = mosaic.shape[1]
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        plane = mosaic[row::2, column::2]
        if min(plane.shape) < 3:
            continue
        least = np.float32(_NOISES * _noise_dn(plane) + _RANGES * range_dn)
        for top, band in _bands(plane):
            low, high = _second_extremes(band)
            threshold = (high - low).astype(np.float32)
            threshold *= np.float32(_CONTRASTS)
            threshold += least
            centre = band[1:-1, 1:-1].astype(np.float32)
            for name, mask in (("hot", centre > high + threshold), ("dead", centre < low - threshold)):
                places = np.flatnonzero(mask)
                ys, xs = places // mask.shape[1], places % mask.shape[1]
                found[name].append(2 * ((ys + top) * width + xs) + row * width + column)
    empty = np.zeros(0, dtype=np.int64)
    hot, dead = (np.sort(np.concatenate([empty, *found[name]])) for name in ("hot", "dead"))
    return Outliers(hot, dead)


def confirmed(scenes: Sequence[Outliers], width: int) -> Places:
    """Places that are hot, or dead, in at least half of the scenes and in `MIN_SCENES` of them.

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
        places, hits = np.unique(np.concatenate(kind), return_counts=True)
        flat = np.union1d(flat, places[hits >= needed])
    return np.stack([flat // width, flat % width], axis=1).astype(np.int32)


def repair(mosaic: NDArray[np.uint16], colours: NDArray[np.uint8], places: Places) -> None:
    """Replaces samples by the median of their neighbours of the same colour in a 5x5 window, in place.

    Neighbours that are to be repaired themselves do not count; a sample without any neighbour stays.

    Args:
        mosaic: (H, W) samples.
        colours: (H, W) index of each sample's colour; the two greens of a Bayer mosaic are two colours.
        places: (N, 2) rows and columns; those outside of the mosaic are left out.
    """
    height, width = mosaic.shape
    inside = (places >= 0).all(axis=1) & (places < (height, width)).all(axis=1)
    rows, columns = places[inside].T.astype(np.int64)
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
    mendable = ~np.isnan(values).all(axis=1)
    mosaic[rows[mendable], columns[mendable]] = np.rint(np.nanmedian(values[mendable], axis=1)).astype(np.uint16)


def _bands(plane: NDArray[np.uint16]) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Some rows of a plane at a time, with a border of one mirrored sample, and their first row."""
    for top in range(0, len(plane), _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, len(plane))
        rows = np.abs(np.arange(top - 1, bottom + 1))
        rows = np.where(rows >= len(plane), 2 * len(plane) - 2 - rows, rows)
        yield top, np.pad(plane[rows], ((0, 0), (1, 1)), mode="reflect")


def _second_extremes(band: NDArray[np.uint16]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Second lowest and second highest of the eight neighbours of every inner sample."""
    height, width = band.shape[0] - 2, band.shape[1] - 2
    shape = (height, width)
    lowest, low = np.full(shape, 65535, np.uint16), np.full(shape, 65535, np.uint16)
    highest, high = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
    between = np.empty(shape, np.uint16)
    for dy, dx in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        value = band[dy : dy + height, dx : dx + width]
        np.maximum(high, np.minimum(highest, value, out=between), out=high)
        np.maximum(highest, value, out=highest)
        np.minimum(low, np.maximum(lowest, value, out=between), out=low)
        np.minimum(lowest, value, out=lowest)
    return low, high


def _noise_dn(plane: NDArray[np.uint16]) -> float:
    """Standard deviation of the noise: the median of how far a sample is from the mean of its two neighbours."""
    counts = np.zeros(2 * 65536, dtype=np.int64)
    for top in range(0, len(plane), _BAND_ROWS):
        left, centre, right = (
            plane[top : top + _BAND_ROWS, start : start + plane.shape[1] - 2].astype(np.int32) for start in range(3)
        )
        twice = np.abs(2 * centre - left - right)
        counts += np.bincount(twice.ravel(), minlength=len(counts))
    upto, half = np.cumsum(counts), (plane.shape[0] * (plane.shape[1] - 2) - 1) / 2
    middle = [int(np.searchsorted(upto, np.floor(half) + extra, side="right")) for extra in (0, half % 1 > 0)]
    return 1.4826 * (sum(middle) / 4) / float(np.sqrt(1.5))
