"""Reads images and masks of imported data sets, sRGB values unchanged: 8 or 16 bits, three channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import Kind, examine
from sdd_toolkit.formats.decoding import read_coloured_image, read_image, read_values
from sdd_toolkit.formats.image_frames import to_linear_srgb
from sdd_toolkit.imaging.encoding import Encoding, encode

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_HEAD_BYTES = 1 << 16


def bit_depth(path: Path) -> int:
    """8 or 16: bits a channel after decoding, from the header.

    Raises:
        RawError: The file is cut short, is not what its suffix says, or has other bits.
    """
    kind = examine(path).kind
    if kind is Kind.PNG:
        return 16 if _read_head(path)[24:25] == b"\x10" else 8
    if kind is Kind.TIFF:
        bits = _tiff_facts(path)[0]
        if bits not in (8, 16):
            raise RawError(f"{path} has {bits} bits a channel", hint="convert it to 8 or 16")
        return bits
    return 8


def read_frame(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """An image as (H, W, 3) RGB, upright, its values unchanged; grey and palettes become three channels.

    Raises:
        RawError: It cannot be decoded, has other than 8 or 16 bits, or has transparent pixels.
    """
    _check_is_opaque(path)
    return read_image(path)


def read_encoded(path: Path, encoding: Encoding) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], float]:
    """The values of `read_frame`, in `encoding` if the file has another colour profile than sRGB.

    Returns:
        The values, and the share of pixels outside of sRGB, which were clipped.

    Raises:
        RawError: See `read_frame`; or its colours cannot be converted.
    """
    _check_is_opaque(path)
    codes, colour = read_coloured_image(path)
    if colour.profile is None:
        return codes, 0.0
    image = to_linear_srgb(codes, colour.profile)
    return encode(image.linear, encoding if codes.dtype == np.uint16 else Encoding.SRGB8), image.out_of_gamut


def _check_is_opaque(path: Path) -> None:
    if _may_be_transparent(path):
        values = read_values(path)
        if values.ndim == 3 and values.shape[2] == 4 and (values[..., 3] != np.iinfo(values.dtype).max).any():
            raise RawError(f"{path} has transparent pixels", hint="save it without an alpha channel")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask as (H, W): True where it is not black.

    Raises:
        RawError: It cannot be decoded, or has more than one channel.
    """
    values = read_values(path)
    if values.ndim != 2:
        raise RawError(f"{path} is no mask: {values.shape}", hint="save one channel")
    return np.asarray(values > 0)


def _may_be_transparent(path: Path) -> bool:
    kind = examine(path).kind
    if kind is Kind.PNG:
        head = _read_head(path)
        # Colour types 4 and 6 have alpha; a palette's lies in the chunk tRNS before the pixels.
        return head[25:26] in (b"\x04", b"\x06") or b"tRNS" in head
    return kind is Kind.TIFF and _tiff_facts(path)[1] in (2, 4)


def _read_head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _tiff_facts(path: Path) -> tuple[int, int]:
    """Bits a sample and samples a pixel."""
    import tifffile  # slow to load, and few files are TIFF

    try:
        with tifffile.TiffFile(path) as container:
            page = container.pages.first
            return int(page.bitspersample), int(page.samplesperpixel)
    except Exception as error:  # tifffile may raise anything
        raise RawError(f"cannot decode {path}", hint="is it a whole TIFF file? try another viewer") from error
