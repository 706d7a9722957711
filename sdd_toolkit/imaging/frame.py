"""Frame types: a mosaic, a linear frame at half size, in camera RGB or developed; white balance and preview of frames.

Pixel centres lie at integers. All frames of a file cover the same even-sided area and are oriented alike, so that
x_full = 2 x_half + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging.encoding import Encoding, encode, uint16_to_linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdd_toolkit.records import Row

    ColourMatrix = tuple[Row, Row, Row]

NEUTRAL_BALANCE: Row = (1.0, 1.0, 1.0)
IDENTITY_MATRIX: ColourMatrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class RawMosaic:
    """The samples of a Bayer mosaic as the sensor recorded them, not oriented.

    Attributes:
        samples: (H, W) uint16, the visible area.
        range_dn: White level minus black level.
    """

    samples: NDArray[np.uint16]
    range_dn: float


@dataclass(frozen=True, slots=True)
class HalfFrame:
    """A frame at half size in linear light.

    Attributes:
        rgb: (h, w, 3) float32 linear camera RGB in [0, 1]: black 0, sensor white 1, no white balance; oriented.
        clipped: (h, w) bool, whether any sample of the 2x2 block is saturated.
        size: (height, width) = (2 h, 2 w) of the full developed frame.
        white_balance: As-shot multipliers of R, G, B; green = 1.
        to_srgb: Matrix from white-balanced camera RGB to linear sRGB, row by row.
        out_of_gamut: Of an image with another colour profile than sRGB: share of the pixels outside of sRGB.
    """

    rgb: NDArray[np.float32]
    clipped: NDArray[np.bool_]
    size: tuple[int, int]
    white_balance: Row
    to_srgb: ColourMatrix
    out_of_gamut: float = 0.0


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """A frame at full size in the camera's own colours.

    Attributes:
        rgb: (H, W, 3) float32 linear camera RGB in [0, 1]: black 0, sensor white 1, no white balance; oriented. Of an
            image: linear sRGB.
        white_balance: As-shot multipliers of R, G, B; green = 1.
        to_srgb: Matrix from white-balanced camera RGB to linear sRGB, row by row.
    """

    rgb: NDArray[np.float32]
    white_balance: Row
    to_srgb: ColourMatrix


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """The settings one frame was developed with.

    Attributes:
        demosaic: `ahd`, `dht`, `half`, `x-trans` (Markesteijn, three passes) or `none` (no mosaic).
        black_dn: Black levels of the mosaic's colours R, G, B and second green; empty for images.
        white_dn: White level; None for images.
        repaired: Number of hot and dead pixels repaired.
        vignetting_by: The f-number at which the lens model removed vignetting; None if it did not.
        colour: The colour profile an image was converted from to sRGB primaries; None: it was sRGB, or RAW.
        out_of_gamut: Share of its pixels whose colour lies outside of sRGB and was clipped.
    """

    demosaic: str
    black_dn: tuple[float, ...] = ()
    white_dn: float | None = None
    repaired: int = 0
    vignetting_by: float | None = None
    colour: str | None = None
    out_of_gamut: float = 0.0


@dataclass(frozen=True, slots=True)
class DevelopedFrame:
    """A developed frame.

    Attributes:
        light: (H, W, 3), linear light with sRGB primaries, oriented; half as large if binned: uint16 with 65535 for
            white as LibRaw returns it, or float32 in [0, 1].
        facts: The settings it was developed with.
        white_balance: The multipliers used.
    """

    light: NDArray[np.uint16] | NDArray[np.float32]
    facts: FrameFacts
    white_balance: Row

    @property
    def linear(self) -> NDArray[np.float32]:
        """`light` as float32 in [0, 1]."""
        return uint16_to_linear(self.light)


def apply_white_balance(frame: HalfFrame | CameraFrame, white_balance: Row) -> NDArray[np.float32]:
    """Converts camera RGB to linear light with sRGB primaries, at the level and colour of a developed frame.

    White balance is scaled so that its smallest multiplier is 1, as in LibRaw when highlights are clipped: the level
    depends on the white balance only, never on the content.

    Args:
        frame: Camera RGB without white balance.
        white_balance: Multipliers of R, G, B.

    Returns:
        (h, w, 3) float32 in [0, 1].
    """
    gains = np.array(white_balance, dtype=np.float32)
    clipped = np.minimum(frame.rgb * (gains / gains.min()), np.float32(1.0))
    matrix = np.array(frame.to_srgb, dtype=np.float32)
    return np.asarray(np.clip(clipped @ matrix.T, 0.0, 1.0), dtype=np.float32)


def preview(frame: HalfFrame | CameraFrame) -> NDArray[np.uint8]:
    """Renders camera RGB for display, with the as-shot white balance: (h, w, 3) uint8 sRGB."""
    return np.asarray(encode(apply_white_balance(frame, frame.white_balance), Encoding.SRGB8), dtype=np.uint8)
