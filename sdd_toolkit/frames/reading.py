"""Files to linear frames, RAW or image.

A frame is read in one of two sizes. `read_half` bins each 2x2 block of the Bayer mosaic into one pixel, without
demosaicing: cheap, unbiased, and all that registration and measuring need. `develop_frame` develops every pixel with
fixed settings. Both cover the same even-sized area and apply the same orientation, so `x_full = 2 x_half + 0.5`.

Sensors that are no 2x2 Bayer mosaic (X-Trans, linear DNG, monochrome, Foveon) are halved by averaging the full
linear decode. JPEG, PNG and TIFF images are taken as sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.records import Row
from typing import TYPE_CHECKING

from sdd_toolkit.formats.containers import IMAGE_SUFFIXES, RAW_SUFFIXES, check_is_file, is_candidate, is_image
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.imaging.binning import any_in_2x2, bin_2x2
from sdd_toolkit.imaging.encoding import Encoding, decode, encode
from sdd_toolkit.raw import libraw
from sdd_toolkit.raw.development import Demosaic, FrameFacts
from sdd_toolkit.raw.libraw import NO_BALANCE, NO_MATRIX

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.records import Row

    Places = NDArray[np.int32]

__all__ = [
    "IMAGE_SUFFIXES",
    "RAW_SUFFIXES",
    "CameraFrame",
    "DevelopedFrame",
    "HalfFrame",
    "as_shot_white_balance",
    "develop_frame",
    "is_candidate",
    "read_camera",
    "read_full",
    "read_half",
    "read_preview",
]


@dataclass(frozen=True, slots=True)
class HalfFrame:
    """A frame at half size in linear light.

    Attributes:
        rgb: (h, w, 3) float32 linear camera RGB in [0, 1]: black 0, sensor white 1, no white balance; oriented.
        clipped: (h, w) bool, whether any sample of the 2x2 block is saturated.
        size: (height, width) = (2 h, 2 w) of the full developed frame.
        white_balance: As-shot multipliers of R, G, B; green = 1.
        to_srgb: Matrix from white-balanced camera RGB to linear sRGB, row by row.
    """

    rgb: NDArray[np.float32]
    clipped: NDArray[np.bool_]
    size: tuple[int, int]
    white_balance: Row
    to_srgb: tuple[Row, Row, Row]


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """A whole frame in the camera's own colours.

    Attributes:
        rgb: (H, W, 3) float32 linear camera RGB in [0, 1]: black 0, sensor white 1, no white balance; oriented. Of an
            image: linear sRGB.
        white_balance: As-shot multipliers of R, G, B; green = 1.
        to_srgb: Matrix from white-balanced camera RGB to linear sRGB, row by row.
    """

    rgb: NDArray[np.float32]
    white_balance: Row
    to_srgb: tuple[Row, Row, Row]


@dataclass(frozen=True, slots=True)
class DevelopedFrame:
    """A developed frame.

    Attributes:
        light: (H, W, 3), linear light with sRGB primaries, oriented; half as large if halved: uint16 with 65535 for
            white as LibRaw gives it, or float32 in [0, 1].
        facts: How it came about.
        white_balance: The multipliers used.
    """

    light: NDArray[np.uint16] | NDArray[np.float32]
    facts: FrameFacts
    white_balance: Row

    @property
    def linear(self) -> NDArray[np.float32]:
        """`light` as float32 in [0, 1]."""
        return libraw.linear(self.light)


def read_half(path: Path, bad_pixels: Places | None = None) -> HalfFrame:
    """The frame at half size, linear, without white balance.

    Args:
        path: A RAW file or an image.
        bad_pixels: (N, 2) rows and columns of the visible, not oriented mosaic to repair first.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    if is_image(path):
        return _half_of_image(path)
    return _half_of_raw(path, bad_pixels)[0]


def read_preview(path: Path, least_px: int) -> NDArray[np.float32] | None:
    """The JPEG a camera embeds in its RAW file, as light, at a half or a quarter of its size.

    Args:
        path: A RAW file.
        least_px: Shortest acceptable longer side of the result.

    Returns:
        (h, w, 3) float32 in [0, 1], oriented; None if there is none, or it is too small or of another shape.

    Raises:
        RawError: The file is missing or LibRaw cannot open it.
    """
    with libraw.open_raw(path, unpack=False) as raw:
        codes = libraw.embedded_preview(raw, least_px)
    return None if codes is None else decode(codes, Encoding.SRGB8)


def read_full(path: Path, white_balance: Row | None = None) -> NDArray[np.float32]:
    """`develop_frame` with AHD and nothing repaired: (H, W, 3) float32 in [0, 1], oriented.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    return develop_frame(path, white_balance).linear


def develop_frame(
    path: Path,
    white_balance: Row | None = None,
    demosaic: Demosaic = Demosaic.AHD,
    bad_pixels: Places | None = None,
) -> DevelopedFrame:
    """The frame in linear light with sRGB primaries.

    The level is fixed by the file's black and white level and the white balance, whose smallest multiplier counts
    as 1; nothing adapts to the content. Images are developed already: `white_balance` does not touch them.

    Args:
        path: A RAW file or an image.
        white_balance: Multipliers of R, G, B, the same for both frames of a pair; None means as shot.
        demosaic: How colour comes to every pixel; what is no Bayer mosaic is developed LibRaw's own way. `half`
            bins 2x2 blocks, whatever the file is.
        bad_pixels: (N, 2) rows and columns of the visible, not oriented mosaic to repair first.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    halves = demosaic is Demosaic.HALF
    if is_image(path):
        pixels = _half_of_image(path).rgb if halves else _linear_image(path)
        return DevelopedFrame(pixels, FrameFacts(Demosaic.HALF.value if halves else "none"), NO_BALANCE)
    if halves:
        half, facts = _half_of_raw(path, bad_pixels)
        balance = white_balance or half.white_balance
        return DevelopedFrame(apply_white_balance(half, balance), facts, balance)
    with libraw.open_raw(path) as raw:
        flip = raw.sizes.flip  # developing resets it
        repaired = libraw.repair_hot_pixels(raw, bad_pixels)
        facts = libraw.facts_of(raw, demosaic, repaired)
        balance = white_balance or libraw.white_balance(raw)
        codes = libraw.oriented(libraw.develop(raw, balance, demosaic), flip)
    return DevelopedFrame(libraw.to_rgb(codes), facts, balance)


def read_camera(path: Path, bad_pixels: Places | None = None) -> CameraFrame:
    """The whole frame, demosaiced (AHD), in camera RGB: what a DNG of linear RGB holds.

    Args:
        path: A RAW file or an image.
        bad_pixels: (N, 2) rows and columns of the visible, not oriented mosaic to repair first.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    if is_image(path):
        return CameraFrame(_linear_image(path), NO_BALANCE, NO_MATRIX)
    with libraw.open_raw(path) as raw:
        flip = raw.sizes.flip  # developing resets it
        libraw.repair_hot_pixels(raw, bad_pixels)
        balance, matrix = libraw.white_balance(raw), libraw.to_srgb(raw)
        pixels = libraw.oriented(libraw.develop_camera_rgb(raw, balance), flip)
    return CameraFrame(pixels, balance, matrix)


def as_shot_white_balance(path: Path) -> Row:
    """The camera's own multipliers of R, G, B, green = 1; (1, 1, 1) for images and where the file does not say.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    if is_image(path):
        check_is_file(path)
        return NO_BALANCE
    with libraw.open_raw(path) as raw:
        return libraw.white_balance(raw)


def _half_of_raw(path: Path, bad_pixels: Places | None) -> tuple[HalfFrame, FrameFacts]:
    with libraw.open_raw(path) as raw:
        flip = raw.sizes.flip  # developing resets it
        facts = libraw.facts_of(raw, Demosaic.HALF, libraw.repair_hot_pixels(raw, bad_pixels))
        rgb, clipped = (libraw.oriented(plane, flip) for plane in libraw.read_half(raw))
        height, width = rgb.shape[:2]
        size = (2 * height, 2 * width)
        return HalfFrame(rgb, clipped, size, libraw.white_balance(raw), libraw.to_srgb(raw)), facts


def _linear_image(path: Path) -> NDArray[np.float32]:
    codes = _even_codes(path)
    return decode(codes, _encoding_of(codes))


def _half_of_image(path: Path) -> HalfFrame:
    codes = _even_codes(path)
    encoding = _encoding_of(codes)
    clipped = any_in_2x2(codes.max(axis=-1) == encoding.white)
    return HalfFrame(bin_2x2(decode(codes, encoding)), clipped, codes.shape[:2], NO_BALANCE, NO_MATRIX)


def _even_codes(path: Path) -> NDArray[Any]:
    codes = read_image(path)
    return codes[: codes.shape[0] // 2 * 2, : codes.shape[1] // 2 * 2]


def _encoding_of(codes: NDArray[Any]) -> Encoding:
    return Encoding.SRGB8 if codes.dtype == np.uint8 else Encoding.SRGB16


def apply_white_balance(frame: HalfFrame | CameraFrame, white_balance: Row) -> NDArray[np.float32]:
    """A frame of camera RGB in linear light with sRGB primaries, in the level and colour of `frames.develop_frame`.

    White balance is scaled so that its smallest multiplier is 1, as LibRaw does when highlights are clipped: the
    level depends on the white balance only, never on the content.

    Returns:
        (h, w, 3) float32 in [0, 1].
    """
    gains = np.array(white_balance, dtype=np.float32)
    clipped = np.minimum(frame.rgb * (gains / gains.min()), np.float32(1.0))
    matrix = np.array(frame.to_srgb, dtype=np.float32)
    return np.asarray(np.clip(clipped @ matrix.T, 0.0, 1.0), dtype=np.float32)


def preview(frame: HalfFrame | CameraFrame) -> NDArray[np.uint8]:
    """A frame of camera RGB as a person would see it: (h, w, 3) uint8, sRGB."""
    return np.asarray(encode(apply_white_balance(frame, frame.white_balance), Encoding.SRGB8), dtype=np.uint8)
