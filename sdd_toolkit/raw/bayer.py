"""Bayer mosaic of an open RAW file: colours and levels of its samples, colour matrix, binning to half size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.encoding import XYZ_FROM_SRGB
from sdd_toolkit.raw.demosaic import WHITE, Mosaic
from sdd_toolkit.raw.saturation import SATURATED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.records import Row

_STRETCHED_ROWS, _BINNED_ROWS = 256, 128


def phases(raw: Any) -> Iterator[tuple[tuple[slice, slice], int, float, np.float32]]:
    """The four phases of a Bayer mosaic: slices of the visible area, channel, black level, 1 / (white - black)."""
    sizes, blacks, colours = raw.sizes, raw.black_level_per_channel, raw.color_desc.decode()
    for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
        index = raw.raw_color(sizes.top_margin + top, sizes.left_margin + left)
        black = float(blacks[index])
        scale = np.float32(1.0 / max(raw.white_level - black, 1.0))
        yield (slice(top, None, 2), slice(left, None, 2)), "RGB".index(colours[index]), black, scale


def has_green_diagonal(raw: Any) -> bool:
    """Whether every second sample is green, with red and blue in separate rows: not all 2x2 mosaics are like that."""
    upper_left, upper_right, lower_left, lower_right = (channel for _, channel, _, _ in phases(raw))
    return upper_left == lower_right == 1 or upper_right == lower_left == 1


def mosaic_of(raw: Any, balance: Row, unity: float) -> Mosaic:
    """The visible mosaic of an open file, with the levels and gains for `demosaic`.

    Args:
        raw: The open file.
        balance: Multipliers of R, G, B.
        unity: The multiplier that counts as 1.
    """
    # Every step in single precision as in LibRaw, so that the samples become the same numbers.
    multipliers = np.array(balance, dtype=np.float32) / np.float32(unity) * np.float32(WHITE)
    channels, blacks, gains = [], [], []
    for _, channel, black, _ in phases(raw):
        channels.append(channel)
        blacks.append(black)
        gains.append(float(multipliers[channel] / np.float32(max(raw.white_level - black, 1.0))))
    return Mosaic(
        raw.raw_image_visible,
        colours=(channels[0], channels[1], channels[2], channels[3]),
        black=(blacks[0], blacks[1], blacks[2], blacks[3]),
        gains=(gains[0], gains[1], gains[2], gains[3]),
    )


def colour_matrix(raw: Any) -> tuple[Row, Row, Row] | None:
    """LibRaw's matrix from white-balanced camera RGB to linear sRGB, of its camera table or of a DNG; None if unset."""
    if raw.num_colors != 3:
        return None
    to_camera = np.asarray(raw.rgb_xyz_matrix, dtype=np.float64)[:3] @ XYZ_FROM_SRGB
    matrix = np.asarray(raw.color_matrix, dtype=np.float64)[:, :3]
    if np.all(np.isfinite(to_camera)) and abs(np.linalg.det(to_camera)) > 1e-6:
        # The white balance has scaled the camera's response to white to (1, 1, 1).
        matrix = np.linalg.inv(to_camera / to_camera.sum(axis=1, keepdims=True))
    if not np.all(np.isfinite(matrix)) or not np.any(matrix):
        return None
    rows = [(float(row[0]), float(row[1]), float(row[2])) for row in matrix]
    return (rows[0], rows[1], rows[2])


def stretch(raw: Any) -> None:
    """Scales the samples of a Bayer mosaic to 0 … 65535 in place, each colour by its own black level.

    LibRaw subtracts each colour's black but divides all of them by the range of the lowest one.
    """
    mosaic = raw.raw_image_visible
    for (rows, columns), _, black, scale in phases(raw):
        plane = mosaic[rows, columns]
        for top in range(0, len(plane), _STRETCHED_ROWS):
            band = plane[top : top + _STRETCHED_ROWS]
            light = (band.astype(np.float32) - np.float32(black)) * (scale * np.float32(65535))
            band[...] = np.rint(np.clip(light, 0, 65535))


def bin_mosaic(raw: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bins each 2x2 block of a Bayer mosaic into one pixel.

    Returns:
        (h, w, 3) means of each colour's samples in [0, 1], and (h, w) whether any sample of a block is saturated.
    """
    height, width = raw.sizes.height // 2 * 2, raw.sizes.width // 2 * 2
    mosaic = raw.raw_image_visible[:height, :width]
    rgb = np.empty((height // 2, width // 2, 3), dtype=np.float32)
    clipped = np.zeros((height // 2, width // 2), dtype=np.bool_)
    levels = [(channel, np.float32(black), scale) for _, channel, black, scale in phases(raw)]
    least = [_first_saturated(black, scale) for _, black, scale in levels]
    for top in range(0, height, _BINNED_ROWS):
        band = mosaic[top : top + _BINNED_ROWS]
        rows = slice(top // 2, top // 2 + len(band) // 2)
        planes: dict[int, NDArray[np.float32]] = {}
        # OpenCV separates even and odd columns as two channels, several times faster than NumPy's strides.
        columns = cv2.split(band.reshape(len(band), width // 2, 2))
        codes = [column[row::2] for row in (0, 1) for column in columns]
        for plane, (channel, black, scale), level in zip(codes, levels, least, strict=True):
            samples = np.subtract(plane, black, dtype=np.float32)
            samples *= scale
            saturated = plane >= level
            if saturated.any():
                clipped[rows] |= saturated
                # `minimum` and `maximum` by a scalar take ten times as long as `clip`.
                np.clip(samples, -np.inf, np.float32(1.0), out=samples)
            if channel in planes:
                samples += planes[channel]
                samples *= np.float32(0.5)
            planes[channel] = samples
        for channel in range(3):
            np.clip(planes[channel], np.float32(0.0), np.float32(1.0), out=planes[channel])
        cv2.merge([planes[channel] for channel in range(3)], rgb[rows])
    return rgb, clipped


def _first_saturated(black: np.float32, scale: np.float32) -> int:
    """The lowest 16-bit code that counts as saturated; 65536 if none does."""
    light = (np.arange(65536, dtype=np.float32) - black) * scale
    return int(np.searchsorted(light, np.float32(SATURATED)))
