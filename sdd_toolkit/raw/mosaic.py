"""Reads the Bayer mosaic of a RAW file as the sensor recorded it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from typing import TYPE_CHECKING

from sdd_toolkit.formats.containers import check_is_file, is_image
from sdd_toolkit.raw import libraw

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Places = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class RawMosaic:
    """The samples of a Bayer mosaic as the sensor gave them, not oriented.

    Attributes:
        samples: (H, W) uint16, the visible area.
        range_dn: White minus black.
    """

    samples: NDArray[np.uint16]
    range_dn: float


def read_mosaic(path: Path) -> RawMosaic | None:
    """The mosaic of a RAW file as it is stored; None for images and for what is no Bayer mosaic.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    if is_image(path):
        check_is_file(path)
        return None
    with libraw.open_raw(path) as raw:
        if not libraw.is_bayer(raw):
            return None
        return RawMosaic(libraw.mosaic_of(raw).copy(), libraw.range_dn(raw))
