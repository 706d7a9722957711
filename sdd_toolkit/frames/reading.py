"""Reads a RAW file or an image as a linear frame.

A frame is read in one of two sizes. `read_half` bins each 2x2 block of the Bayer mosaic into one pixel, without
demosaicing: cheap, unbiased, and enough for registration and measurements. `develop_frame` develops every pixel with
fixed settings. Both cover the same even-sided area and apply the same orientation, so `x_full = 2 x_half + 0.5`.
JPEG, PNG and TIFF images are converted to linear sRGB by their own colour profile, without one taken as sRGB.

Every function raises `RawError` where the file is missing or cannot be decoded; `bad_pixels` are (N, 2) rows and
columns of the visible, not oriented mosaic, repaired before anything else; `turn` is an EXIF orientation by which the
frame is turned after its own (`PairRecord.blur_turn`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sdd_toolkit.formats import image_frames
from sdd_toolkit.formats.containers import check_is_file, is_image
from sdd_toolkit.imaging.frame import NEUTRAL_BALANCE
from sdd_toolkit.imaging.orientation import UPRIGHT, turn_image, turn_size
from sdd_toolkit.raw import reading as raw
from sdd_toolkit.raw.development import Demosaic

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from sdd_toolkit.imaging.frame import CameraFrame, DevelopedFrame, HalfFrame, RawMosaic
    from sdd_toolkit.records import Row

    PixelPositions = NDArray[np.int32]


def read_half(path: Path, bad_pixels: PixelPositions | None = None, turn: int = UPRIGHT) -> HalfFrame:
    """Reads a RAW file or an image at half size in linear light without white balance."""
    half = image_frames.read_half(path) if is_image(path) else raw.read_half(path, bad_pixels)
    if turn == UPRIGHT:
        return half
    rgb, clipped = turn_image(half.rgb, turn), turn_image(half.clipped, turn)
    return replace(half, rgb=rgb, clipped=clipped, size=turn_size(half.size, turn))


def develop_frame(
    path: Path,
    white_balance: Row | None = None,
    demosaic: Demosaic = Demosaic.AHD,
    bad_pixels: PixelPositions | None = None,
    turn: int = UPRIGHT,
) -> DevelopedFrame:
    """Develops a RAW file or an image to linear light with sRGB primaries.

    Args:
        path: A RAW file or an image; images are developed already, and `white_balance` does not change them.
        white_balance: Multipliers of R, G, B, the same for both frames of a pair; None means as shot.
        demosaic: The demosaicing algorithm; LibRaw chooses its own for what is no Bayer mosaic. `half` bins 2x2
            blocks of any file.
        bad_pixels: See the module.
        turn: See the module.
    """
    if is_image(path):
        frame = image_frames.read_developed(path, binned=demosaic is Demosaic.HALF)
    else:
        frame = raw.develop(path, white_balance, demosaic, bad_pixels)
    return frame if turn == UPRIGHT else replace(frame, light=turn_image(frame.light, turn))


def read_full(path: Path, white_balance: Row | None = None) -> NDArray[np.float32]:
    """`develop_frame` by AHD without repairs: (H, W, 3) float32 in [0, 1], oriented."""
    return develop_frame(path, white_balance).linear


def read_camera_rgb(path: Path, bad_pixels: PixelPositions | None = None, turn: int = UPRIGHT) -> CameraFrame:
    """Reads a RAW file or an image at full size, demosaiced by AHD, in camera RGB: the content of a linear DNG."""
    frame = image_frames.read_camera_rgb(path) if is_image(path) else raw.read_camera_rgb(path, bad_pixels)
    return frame if turn == UPRIGHT else replace(frame, rgb=turn_image(frame.rgb, turn))


def read_mosaic(path: Path) -> RawMosaic | None:
    """Reads the Bayer mosaic of a RAW file as it is stored; None for images and for other mosaics."""
    if is_image(path):
        check_is_file(path)
        return None
    return raw.read_mosaic(path)


def read_white_balance(path: Path) -> Row:
    """Reads the as-shot multipliers of R, G, B, green = 1; (1, 1, 1) for images and files without any."""
    if is_image(path):
        check_is_file(path)
        return NEUTRAL_BALANCE
    return raw.read_white_balance(path)
