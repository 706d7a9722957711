"""Decodes PNG, TIFF and JPEG files to arrays of 8 or 16 bits a channel."""

from __future__ import annotations

import io
import logging
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats import jpeg
from sdd_toolkit.formats.colour import check_model, colour_of
from sdd_toolkit.formats.containers import LARGEST_PX, check_is_file, claimed_size
from sdd_toolkit.formats.library_output import LibraryOutput, library_output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any, BinaryIO

    from numpy.typing import NDArray

    from sdd_toolkit.formats.colour import ImageColour
    from sdd_toolkit.imaging.encoding import Codes

# What it has to say of a damaged file, the decoder says too.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
_TIFF_SUFFIXES = (".tif", ".tiff")
# What libtiff says of a directory (an unknown type, a next directory that is not there) does not concern pixels.
_OF_DIRECTORY = r"TIFF(?:Read\w*Directory|Fetch|Advance|VSet|SetField|GetField|FieldWith|Number)"
_TIFF_DAMAGE = re.compile(rf" TIFF_Error (?!{_OF_DIRECTORY})")


def read_image(path: Path) -> Codes:
    """Reads an image as (H, W, 3) RGB in its own bit depth, EXIF orientation applied, grey repeated, alpha dropped.

    Raises:
        RawError: Missing, cut short, not an image, neither 8 nor 16 bits a channel, or CMYK or Lab.
    """
    with _opened(path) as stream:
        return _read_rgb(stream, path)


def read_coloured_image(path: Path) -> tuple[Codes, ImageColour]:
    """Reads an image as `read_image` does, and the colour space that its code values are in.

    Raises:
        RawError: As in `read_image`, or its colours are not those of RGB primaries.
    """
    with _opened(path) as stream:
        return _read_rgb(stream, path), colour_of(stream, path)


def _read_rgb(stream: BinaryIO, path: Path) -> Codes:
    check_model(stream, path)
    if path.suffix.lower() in _TIFF_SUFFIXES and _is_planar(stream):
        raise RawError(f"{path} stores each channel apart", hint="save it again with interleaved channels")
    pixels = _decode(stream, path, cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise RawError(f"{path} holds {pixels.dtype} pixels", hint="convert it to 8 or 16 bits a channel")
    return np.ascontiguousarray(pixels[..., ::-1])


def read_values(path: Path) -> NDArray[Any]:
    """Reads the stored numbers of an image that is a mask, a label map or a depth map.

    Returns:
        (H, W) or (H, W, C) with 3 channels RGB or 4 channels RGBA, of the file's own type; orientation is not applied.

    Raises:
        RawError: Missing, cut short, or not an image of 1, 3 or 4 channels.
    """
    with _opened(path) as stream:
        pixels = _decode(stream, path, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] not in (3, 4):
        raise RawError(f"{path} has {pixels.shape[2]} channels", hint="save 1, 3 or 4 channels")
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def decode_preview(content: bytes, least_px: int) -> NDArray[np.uint8] | None:
    """A JPEG at the smallest of its full, half and quarter size whose longer side has `least_px`, not turned upright.

    Returns:
        (h, w, 3) uint8 RGB; None if it is too small or no JPEG.
    """
    size = claimed_size(io.BytesIO(content))
    if size is None or size[0] * size[1] > LARGEST_PX:
        return None
    data = np.frombuffer(content, dtype=np.uint8)
    for mode in (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_COLOR_BGR):
        pixels = None
        with _decoder_output(), suppress(cv2.error):
            pixels = cv2.imdecode(data, mode | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            return None
        if max(pixels.shape[:2]) >= least_px:
            return np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8)
    return None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """An open image file that does not claim too many pixels: memory is allocated for as many as it claims."""
    check_is_file(path)
    try:
        with path.open("rb") as stream:
            _check_claimed_size(stream, path)
            yield stream
    except OSError as error:
        raise _undecodable(path) from error


def _check_claimed_size(stream: BinaryIO, path: Path) -> None:
    size = claimed_size(stream)
    if size is not None and size[0] * size[1] > LARGEST_PX:
        raise RawError(
            f"{path} claims {size[1]} x {size[0]} pixels, more than {LARGEST_PX}",
            hint="leave it out, or cut it into smaller pictures",
        )


@contextmanager
def _decoder_output() -> Iterator[LibraryOutput]:
    """Captures what OpenCV prints: errors of libtiff are printed and not raised, at a level that may be turned off."""
    with library_output() as said:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
        try:
            yield said
        finally:
            cv2.utils.logging.setLogLevel(level)


def _decode(stream: BinaryIO, path: Path, mode: int) -> NDArray[Any]:
    """Decodes an image by OpenCV, in its order of channels.

    Raises:
        RawError: It cannot be decoded, or a decoder found a part of it damaged and went on with other pixels.
    """
    pixels: NDArray[Any] | None = None
    said = LibraryOutput()
    try:
        stream.seek(0)
        content = stream.read()
        with _decoder_output() as said:
            pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), mode)
        # Zeros at the end are filling, or the data of an even area: one reading that is whole is enough.
        if content.startswith(jpeg.START) and (pixels is None or jpeg.damage(said.summary)):
            with _decoder_output() as said:
                pixels = cv2.imdecode(np.frombuffer(jpeg.plain(content), dtype=np.uint8), mode)
    except (cv2.error, OSError, MemoryError) as error:
        raise _undecodable(path, said) from error
    if pixels is None or pixels.size == 0:
        raise _undecodable(path, said)
    if jpeg.damage(said.summary) or any(map(_TIFF_DAMAGE.search, said.lines)):
        raise RawError(f"{path} is damaged: {said.summary}", hint="copy it from the card again, or leave it out")
    return np.asarray(pixels)


def _undecodable(path: Path, said: LibraryOutput | None = None) -> RawError:
    reason = f": {said.summary}" if said and said.lines else ""
    return RawError(f"cannot decode {path}{reason}", hint="is it a whole PNG, TIFF or JPEG file? try another viewer")


def _is_planar(stream: BinaryIO) -> bool:
    """Whether a TIFF stores one 16-bit plane a channel, which OpenCV decodes wrongly without an error."""
    import tifffile  # slow to import, and most files are no TIFF

    try:
        stream.seek(0)
        with tifffile.TiffFile(stream) as container:
            page = container.pages.first
            separate = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
            return bool(separate and page.samplesperpixel > 1 and page.bitspersample > 8)
    except Exception:  # not TIFF, or damaged: decoding reports it
        return False
