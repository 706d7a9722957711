"""Section `[develop]` of the configuration, and the record of how the frames of a pair were developed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from sdd_toolkit.config import Section
from sdd_toolkit.imaging.frame import FrameFacts
from sdd_toolkit.records import Row

HIGHLIGHTS = "clip"
"""A channel that reaches sensor white, or 1 after the white balance, is clipped: the same for every frame.

LibRaw's other modes scale by the largest multiplier or rebuild highlights from their surroundings, so that the tone
of a frame would depend on its content.
"""


class Demosaic(StrEnum):
    """The demosaicing algorithm."""

    AHD = "ahd"
    DHT = "dht"
    HALF = "half"


class LensCorrection(StrEnum):
    """Whether distortion and vignetting of the lens are corrected."""

    NONE = "none"
    LENSFUN = "lensfun"
    LENSFUN_IF_KNOWN = "lensfun-if-known"


class DevelopConfig(Section):
    """Settings of the development of RAW files, section `[develop]`."""

    demosaic: Demosaic = Field(
        default=Demosaic.AHD,
        description="ahd, dht, or half: 2x2 blocks become one pixel, and pairs are packed at half size. "
        "Only Bayer mosaics can choose, see docs/develop.md.",
    )
    hot_pixels: bool = Field(
        default=True, description="Whether pixels that are hot or dead in many scenes are repaired before all else."
    )
    lens_correction: LensCorrection = Field(
        default=LensCorrection.NONE,
        description="none; lensfun: distortion and vignetting by the lensfun database, an unknown lens is an error; "
        "lensfun-if-known: pairs with an unknown lens stay as they are.",
    )

    @property
    def reduction(self) -> int:
        """Full-size pixels along one edge of a developed pixel."""
        return 2 if self.demosaic is Demosaic.HALF else 1


@dataclass(frozen=True, slots=True)
class PairDevelopment:
    """The settings the two frames of a pair were developed with, stored with the pair.

    Attributes:
        white_balance: Multipliers of R, G, B of both frames; green = 1.
        blur: The blurred frame.
        sharp: The sharp frame.
        lens: Lens of the lensfun database whose distortion was corrected in both frames; None: not corrected.
    """

    white_balance: Row
    blur: FrameFacts
    sharp: FrameFacts
    lens: str | None = None
