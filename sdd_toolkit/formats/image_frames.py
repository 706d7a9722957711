"""Reads PNG, TIFF and JPEG images as linear frames of even sides, with sRGB primaries whatever their colour profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.formats.decoding import read_coloured_image
from sdd_toolkit.imaging.binning import any_in_2x2, bin_2x2
from sdd_toolkit.imaging.colour_profile import convert_to_srgb, decode_light
from sdd_toolkit.imaging.encoding import Encoding, decode
from sdd_toolkit.imaging.frame import (
    IDENTITY_MATRIX,
    NEUTRAL_BALANCE,
    CameraFrame,
    DevelopedFrame,
    FrameFacts,
    HalfFrame,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.imaging.colour_profile import ColourProfile
    from sdd_toolkit.imaging.encoding import Codes

_GAMUT_TOLERANCE = 1e-3  # rounding of code values beside the border

_SATURATED = 0.999
"""Share of white from which a code counts as saturated: 65 520 in a file made of 12-bit samples."""


def read_half(path: Path) -> HalfFrame:
    """Reads an image at half size: means of 2x2 blocks of linear light.

    Raises:
        RawError: The file is missing, cannot be decoded, or its colours cannot be converted.
    """
    image = _read_even(path)
    clipped = any_in_2x2(image.is_saturated)
    size = (image.linear.shape[0], image.linear.shape[1])
    return HalfFrame(bin_2x2(image.linear), clipped, size, NEUTRAL_BALANCE, IDENTITY_MATRIX, image.out_of_gamut)


def read_developed(path: Path, *, binned: bool = False) -> DevelopedFrame:
    """Reads an image as a developed frame, at full size or `binned` to half of it.

    Raises:
        RawError: The file is missing, cannot be decoded, or its colours cannot be converted.
    """
    image = _read_even(path)
    facts = FrameFacts("half" if binned else "none", colour=image.profile, out_of_gamut=image.out_of_gamut)
    return DevelopedFrame(bin_2x2(image.linear) if binned else image.linear, facts, NEUTRAL_BALANCE)


def read_camera_rgb(path: Path) -> CameraFrame:
    """Reads an image at full size; its colours are those of linear sRGB.

    Raises:
        RawError: The file is missing, cannot be decoded, or its colours cannot be converted.
    """
    return CameraFrame(_read_even(path).linear, NEUTRAL_BALANCE, IDENTITY_MATRIX)


@dataclass(frozen=True, slots=True)
class LinearImage:
    """An image as linear light with sRGB primaries.

    Attributes:
        linear: (H, W, 3) float32 in [0, 1].
        is_saturated: (H, W) bool: a channel is at its largest code, or within rounding of it.
        profile: The colour profile it was converted from; None: it was sRGB.
        out_of_gamut: Share of the pixels whose colour lies outside of sRGB and was clipped.
    """

    linear: NDArray[np.float32]
    is_saturated: NDArray[np.bool_]
    profile: str | None = None
    out_of_gamut: float = 0.0


def to_linear_srgb(codes: Codes, profile: ColourProfile | None) -> LinearImage:
    """Code values of a colour space (None: sRGB) as linear light with sRGB primaries, clipped to 0 … 1."""
    encoding = Encoding.SRGB8 if codes.dtype == np.uint8 else Encoding.SRGB16
    is_saturated = codes.max(axis=-1) >= _SATURATED * encoding.white
    if profile is None:
        return LinearImage(decode(codes, encoding), is_saturated)
    linear = convert_to_srgb(decode_light(codes, profile), profile)
    outside = ((linear < -_GAMUT_TOLERANCE) | (linear > 1 + _GAMUT_TOLERANCE)).any(axis=-1)
    share = round(float(outside.mean()), 6)
    return LinearImage(np.clip(linear, 0, 1, out=linear), is_saturated, profile.name, share)


def _read_even(path: Path) -> LinearImage:
    """An image with even sides."""
    codes, colour = read_coloured_image(path)
    even = codes[: codes.shape[0] // 2 * 2, : codes.shape[1] // 2 * 2]
    return to_linear_srgb(even, colour.profile)
