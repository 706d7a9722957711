"""Reads a RAW file as a frame: at half size, developed, in camera RGB, as stored, or its embedded preview.

Half size bins each 2x2 block of the Bayer mosaic into one pixel, without demosaicing. Sensors that are no 2x2 Bayer
mosaic (X-Trans, linear DNG, monochrome, Foveon) are binned after LibRaw's linear decode. Every function opens the
file once and raises `RawError` where it is missing or cannot be decoded; `bad_pixels` are (N, 2) rows and columns of
the visible, not oriented mosaic, repaired before anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdd_toolkit.imaging.encoding import Encoding, decode
from sdd_toolkit.imaging.frame import CameraFrame, DevelopedFrame, HalfFrame, RawMosaic, apply_white_balance
from sdd_toolkit.raw import libraw
from sdd_toolkit.raw.development import Demosaic

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from sdd_toolkit.imaging.frame import FrameFacts
    from sdd_toolkit.records import FrameMeta, Row

    PixelPositions = NDArray[np.int32]


def read_half(path: Path, bad_pixels: PixelPositions | None = None) -> HalfFrame:
    """Reads a RAW file at half size in linear camera RGB without white balance."""
    return _read_half(path, bad_pixels)[0]


def develop(
    path: Path,
    white_balance: Row | None = None,
    demosaic: Demosaic = Demosaic.AHD,
    bad_pixels: PixelPositions | None = None,
) -> DevelopedFrame:
    """Develops a RAW file to linear light with sRGB primaries.

    The level is fixed by the file's black and white level and the white balance, whose smallest multiplier counts
    as 1; nothing adapts to the content.

    Args:
        path: The RAW file.
        white_balance: Multipliers of R, G, B; None means as shot.
        demosaic: The demosaicing algorithm; LibRaw chooses its own for what is no Bayer mosaic. `half` bins 2x2
            blocks of any file.
        bad_pixels: See the module.
    """
    if demosaic is Demosaic.HALF:
        half, facts = _read_half(path, bad_pixels)
        balance = white_balance or half.white_balance
        return DevelopedFrame(apply_white_balance(half, balance), facts, balance)
    with libraw.open_raw(path) as raw:
        repaired = libraw.repair_hot_pixels(raw, bad_pixels)
        facts = libraw.facts_of(raw, demosaic, repaired)
        balance = white_balance or libraw.white_balance(raw)
        return DevelopedFrame(libraw.develop(raw, balance, demosaic), facts, balance)


def read_camera_rgb(path: Path, bad_pixels: PixelPositions | None = None) -> CameraFrame:
    """Reads a RAW file at full size, demosaiced by AHD, in linear camera RGB without white balance."""
    with libraw.open_raw(path) as raw:
        libraw.repair_hot_pixels(raw, bad_pixels)
        balance, matrix = libraw.white_balance(raw), libraw.to_srgb(raw)
        return CameraFrame(libraw.develop_camera_rgb(raw, balance), balance, matrix)


def read_mosaic(path: Path) -> RawMosaic | None:
    """Reads the Bayer mosaic of a RAW file as it is stored; None for other mosaics."""
    with libraw.open_raw(path) as raw:
        if not libraw.is_bayer(raw):
            return None
        return RawMosaic(libraw.visible_samples(raw).copy(), libraw.range_dn(raw))


def read_preview(path: Path, least_px: int) -> NDArray[np.float32] | None:
    """Reads the JPEG that a camera embeds in its RAW file as linear light, at a half or a quarter of its size.

    Args:
        path: The RAW file; its own pixels are not read.
        least_px: Shortest acceptable longer side of the result.

    Returns:
        (h, w, 3) float32 in [0, 1], oriented; None if there is none, or it is too small or of another shape.
    """
    with libraw.open_raw(path, unpack=False) as raw:
        codes = libraw.embedded_preview(raw, least_px)
    return None if codes is None else decode(codes, Encoding.SRGB8)


def read_white_balance(path: Path) -> Row:
    """Reads the as-shot multipliers of R, G, B of a RAW file, green = 1; (1, 1, 1) if the file has none."""
    with libraw.open_raw(path) as raw:
        return libraw.white_balance(raw)


def read_metadata(path: Path, *, shot: bool = True) -> FrameMeta:
    """Reads LibRaw's metadata of a RAW file; zeros and LibRaw's placeholders for missing values become None.

    Args:
        path: The RAW file.
        shot: Whether to read lens, exposure and time as well, for which rawpy unpacks all pixels.
    """
    with libraw.open_raw(path, unpack=False) as raw:
        return libraw.meta_of(raw, shot=shot)


def _read_half(path: Path, bad_pixels: PixelPositions | None) -> tuple[HalfFrame, FrameFacts]:
    with libraw.open_raw(path) as raw:
        repaired = libraw.repair_hot_pixels(raw, bad_pixels)
        facts = libraw.facts_of(raw, Demosaic.HALF, repaired)
        rgb, clipped = libraw.read_half(raw)
        size = (2 * rgb.shape[0], 2 * rgb.shape[1])
        return HalfFrame(rgb, clipped, size, libraw.white_balance(raw), libraw.to_srgb(raw)), facts
