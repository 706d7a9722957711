"""Burnt-out samples of a frame whose white level is too high: found as a plateau at the top of a colour's histogram.

Many bodies saturate below the white level that their files, or LibRaw's table, tell: at intermediate ISO values, or
each colour at its own level. Such samples have no light of their own; they are set to the white level, so that they
count as saturated and white stays white. Nothing is scaled: all other samples keep their light.

A plateau is told from a bright surface by its width: saturation suppresses the shot noise, which spreads even a uniform
surface over one per cent of the range of a sensor. Demosaiced and merged files have less noise than any sensor, so that
nothing can be told of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

SATURATED = 0.99
"""Share of the range above which a sample counts as saturated: samples scatter a little below the white level."""

LOWEST = 0.75
"""Share of the range below which no sensor saturates: LibRaw's threshold for the same purpose."""

_WIDTH = 0.008  # of the range: the scatter of saturated samples
_WIDTHS_BELOW = 3
_CONTRAST = 4.0
_LEAST_SAMPLES = 50
_LARGEST_SHARE = 0.95  # of a flat frame nothing can be said
_STRAY = 1e-6  # of the samples may lie above a plateau: hot pixels


def plateau(planes: Sequence[NDArray[np.uint16]], black: float, white: float) -> int | None:
    """The lowest code of burnt-out samples of one colour; None if none burns out below the white level.

    Args:
        planes: (h, w) samples of this colour.
        black: Code of no light.
        white: The white level of the file.

    Example:
        >>> light = np.linspace(0, 2, 10_000).reshape(100, 100)
        >>> plateau([np.minimum(light * 15_000, 15_000).astype(np.uint16)], 0, 16_383)
        14870
    """
    span, size = white - black, sum(plane.size for plane in planes)
    stray = int(_STRAY * size)
    # Whole numbers: NumPy would convert every sample to compare it with a fraction.
    lowest, saturated = (math.ceil(black + share * span) for share in (LOWEST, SATURATED))
    brightest = max((int(plane.max()) for plane in planes), default=0)
    if brightest < lowest:
        return None
    counts = np.zeros(65536, dtype=np.int64)
    for plane in planes:
        counts += cv2.calcHist([plane], [0], None, [65536], [0, 65536]).ravel().astype(np.int64)
    from_top = np.cumsum(counts[::-1])
    top = 65535 - int(np.searchsorted(from_top, stray + 1))
    width = max(round(_WIDTH * span), 1)
    first, below = top - width + 1, top - (1 + _WIDTHS_BELOW) * width + 1
    if top < lowest or top >= saturated or below < 0:
        return None
    inside, beneath = counts[first:].sum(), counts[below:first].sum()
    is_plateau = inside >= max(_LEAST_SAMPLES, _CONTRAST * beneath) and inside <= _LARGEST_SHARE * size
    return first if is_plateau else None


def mark_burnt_out(raw: Any) -> None:
    """Sets burnt-out samples of an open file's mosaic to its white level, each colour by its own plateau."""
    if raw.raw_image_visible.ndim == 3:
        return
    white, darkest = int(raw.white_level), min(raw.black_level_per_channel)
    if raw.raw_image_visible.max() < darkest + LOWEST * (white - darkest):  # of most frames: no colour is that bright
        return
    for planes, black in _colours(raw):
        first = plateau([np.ascontiguousarray(plane) for plane in planes], black, white)
        if first is not None:
            for plane in planes:
                plane[plane >= first] = white


def _colours(raw: Any) -> Iterator[tuple[list[NDArray[np.uint16]], float]]:
    """Views of the samples of each colour of an open file, and its black level; the two greens of Bayer apart."""
    visible, blacks = raw.raw_image_visible, raw.black_level_per_channel
    pattern = raw.raw_pattern
    if pattern is None:
        yield [visible], blacks[0]
        return
    rows, columns = pattern.shape
    colours = raw.raw_colors_visible[:rows, :columns]
    for colour in np.unique(colours):
        places = np.argwhere(colours == colour)
        # Of a sensor without colours, LibRaw tells one black level for all.
        black = blacks[min(int(colour), len(blacks) - 1)]
        yield [visible[row::rows, column::columns] for row, column in places], black
