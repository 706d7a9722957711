"""Reads PNG, TIFF and JPEG images, taken as sRGB, as linear frames of even sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.imaging.binning import any_in_2x2, bin_2x2
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


def read_half(path: Path) -> HalfFrame:
    """Reads an image at half size: means of 2x2 blocks of linear light.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    codes, encoding = _read_even(path)
    clipped = any_in_2x2(codes.max(axis=-1) == encoding.white)
    size = (codes.shape[0], codes.shape[1])
    return HalfFrame(bin_2x2(decode(codes, encoding)), clipped, size, NEUTRAL_BALANCE, IDENTITY_MATRIX)


def read_developed(path: Path, *, binned: bool = False) -> DevelopedFrame:
    """Reads an image as a developed frame, at full size or `binned` to half of it.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    if binned:
        return DevelopedFrame(read_half(path).rgb, FrameFacts("half"), NEUTRAL_BALANCE)
    return DevelopedFrame(decode(*_read_even(path)), FrameFacts("none"), NEUTRAL_BALANCE)


def read_camera_rgb(path: Path) -> CameraFrame:
    """Reads an image at full size; its colours are those of linear sRGB.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    return CameraFrame(decode(*_read_even(path)), NEUTRAL_BALANCE, IDENTITY_MATRIX)


def _read_even(path: Path) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], Encoding]:
    """(H, W, 3) codes with even sides, and the encoding of their depth."""
    codes = read_image(path)
    even = codes[: codes.shape[0] // 2 * 2, : codes.shape[1] // 2 * 2]
    return even, Encoding.SRGB8 if codes.dtype == np.uint8 else Encoding.SRGB16
