"""Rows of a decoded mosaic that no sensor has written: LibRaw fills what a file lacks with zeros or with earlier rows.

A sensor's rows hold noise. Rows of zeros stand for bytes that a copy has left out, or that a disk lost, in any file.
Where a file does not tell its end, rows that repeat the ones before them do, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

_RARE = 1e-3
LEAST_ROWS = 4
"""Fewer missing rows do no harm, and rows at the rim of a sensor may be masked."""


def empty_rows(mosaic: NDArray[np.uint16], black: float) -> tuple[int, int]:
    """First row and number of the longest run of at least `LEAST_ROWS` rows of zeros; (0, 0) if there is none.

    A frame of zeros only has no such run: it is whole, and black. Neither has one in which zero is a common sample,
    which it can only be where no light is stored as zero.

    Args:
        mosaic: (H, W) samples.
        black: The lowest code of no light.
    """
    is_lit = mosaic.max(axis=1) > 0
    if is_lit.all() or not is_lit.any():
        return 0, 0
    if black <= 0 and np.count_nonzero(mosaic[is_lit] == 0) > _RARE * mosaic[is_lit].size:
        return 0, 0
    # Before the first row, behind each lit row and behind the last: the runs lie between two of these.
    edges = np.concatenate([[-1], np.flatnonzero(is_lit), [len(mosaic)]])
    lengths = np.diff(edges) - 1
    longest = int(lengths.argmax())
    if lengths[longest] < LEAST_ROWS:
        return 0, 0
    return int(edges[longest]) + 1, int(lengths[longest])


def repeated_rows(mosaic: NDArray[np.uint16], white: float) -> int:
    """Number of rows at the end that equal the row, or the two rows, before them; 0 if they are burnt out or few."""
    counts = []
    for period in (1, 2):
        differs = (mosaic[period:] != mosaic[:-period]).any(axis=1)
        last = np.flatnonzero(differs)
        counts.append(len(differs) - 1 - int(last[-1]) if len(last) else 0)
    count = max(counts)
    return count if count >= LEAST_ROWS and mosaic[-1].min() < white else 0


def missing_rows(raw: Any, *, is_bounded: bool) -> str:
    """The rows of an open file's mosaic that its file did not hold, in words; empty if there are none."""
    mosaic = raw.raw_image_visible
    if mosaic is None or mosaic.ndim != 2:  # linear pictures may have borders of their own
        return ""
    first, count = empty_rows(mosaic, min(raw.black_level_per_channel))
    if count:
        return f"rows {first} to {first + count - 1} of {raw.sizes.height} hold no light, nor noise"
    count = 0 if is_bounded else repeated_rows(mosaic, raw.white_level)
    return f"its last {count} rows repeat the ones before" if count else ""
