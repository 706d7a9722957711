"""What LibRaw tells of an open Bayer mosaic: its samples' colours and levels, and its colour matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging.encoding import XYZ_FROM_SRGB
from sdd_toolkit.raw.demosaic import WHITE, Mosaic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sdd_toolkit.records import Row

_BAND_ROWS = 256


def phases(raw: Any) -> Iterator[tuple[tuple[slice, slice], int, float, np.float32]]:
    """The four phases of a Bayer mosaic in the visible area: where, channel, black level, 1 / (white - black)."""
    sizes, blacks, colours = raw.sizes, raw.black_level_per_channel, raw.color_desc.decode()
    for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
        index = raw.raw_color(sizes.top_margin + top, sizes.left_margin + left)
        black = float(blacks[index])
        scale = np.float32(1.0 / max(raw.white_level - black, 1.0))
        yield (slice(top, None, 2), slice(left, None, 2)), "RGB".index(colours[index]), black, scale


def is_checkered(raw: Any) -> bool:
    """Whether every second sample is green, red and blue in rows of their own: not all 2x2 mosaics are."""
    upper_left, upper_right, lower_left, lower_right = (channel for _, channel, _, _ in phases(raw))
    return upper_left == lower_right == 1 or upper_right == lower_left == 1


def mosaic_of(raw: Any, balance: Row, unity: float) -> Mosaic:
    """The visible mosaic of an open file.

    Args:
        raw: The open file.
        balance: Multipliers of R, G, B.
        unity: The multiplier that counts as 1.
    """
    found = list(phases(raw))
    # Every step in single precision as in LibRaw, so that the samples become the same numbers.
    multipliers = np.array(balance, dtype=np.float32) / np.float32(unity) * np.float32(WHITE)
    gains = [
        float(multipliers[channel] / np.float32(max(raw.white_level - black, 1.0))) for _, channel, black, _ in found
    ]
    channels, blacks = [channel for _, channel, _, _ in found], [black for _, _, black, _ in found]
    return Mosaic(
        raw.raw_image_visible,
        colours=(channels[0], channels[1], channels[2], channels[3]),
        black=(blacks[0], blacks[1], blacks[2], blacks[3]),
        gains=(gains[0], gains[1], gains[2], gains[3]),
    )


def known_matrix(raw: Any) -> tuple[Row, Row, Row] | None:
    """The matrix LibRaw converts with, if it tells: its table's of cameras, or what a DNG file says itself."""
    if raw.num_colors != 3:
        return None
    to_camera = np.asarray(raw.rgb_xyz_matrix, dtype=np.float64)[:3] @ XYZ_FROM_SRGB
    matrix = np.asarray(raw.color_matrix, dtype=np.float64)[:, :3]
    if np.all(np.isfinite(to_camera)) and abs(np.linalg.det(to_camera)) > 1e-6:
        # White is white: the balance has brought the camera's answer to it to (1, 1, 1).
        matrix = np.linalg.inv(to_camera / to_camera.sum(axis=1, keepdims=True))
    if not np.all(np.isfinite(matrix)) or not np.any(matrix):
        return None
    rows = [(float(row[0]), float(row[1]), float(row[2])) for row in matrix]
    return (rows[0], rows[1], rows[2])


def stretch(raw: Any) -> None:
    """Brings the samples of a Bayer mosaic to 0 … 65535 in place, each colour by its own black level.

    LibRaw subtracts each colour's black but divides all of them by the range of the lowest one.
    """
    mosaic = raw.raw_image_visible
    for (rows, columns), _, black, scale in phases(raw):
        plane = mosaic[rows, columns]
        for top in range(0, len(plane), _BAND_ROWS):
            band = plane[top : top + _BAND_ROWS]
            light = (band.astype(np.float32) - np.float32(black)) * (scale * np.float32(65535))
            band[...] = np.rint(np.clip(light, 0, 65535))
