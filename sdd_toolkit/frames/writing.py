"""Writes PNG, TIFF and JPEG images with 8 or 16 bits a channel, with the metadata of their source."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import tifffile

from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.formats.colour import ImageColour
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES, is_image
from sdd_toolkit.formats.embedding import EmbeddedMetadata, embed_in_jpeg, embed_in_png
from sdd_toolkit.formats.tiff_writer import SHORT, attach_exif, byte_order, encode_tiff, tags_of
from sdd_toolkit.metadata import exif_block
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.metadata.file_metadata import embeddable, read_file_metadata
from sdd_toolkit.storage.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray


_ORIENTATION = 274
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 4)
_JPEG_OPTIONS = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


def write_image(
    path: Path,
    array: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    like: Path | None = None,
    colour: ImageColour = ImageColour(),  # noqa: B008 frozen
    strip: bool = False,
) -> None:
    """Writes an upright RGB image atomically, in the format of the suffix and the bit depth of the array.

    Args:
        path: Ends in `.png`, `.tif`, `.tiff`, `.jpg` or `.jpeg`.
        array: (H, W, 3) uint8 or uint16 RGB; JPEG takes uint8 only.
        like: Photograph (RAW or image) whose metadata are copied: EXIF, XMP, IPTC; the orientation becomes 1.
        colour: Colour space of the pixels, whose profile is embedded; without one they are sRGB.
        strip: Whether nothing is copied but the colour profile.

    Raises:
        InputError: The suffix is none of these, JPEG cannot hold 16 bits, or the disk refuses.
        RawError: `like` cannot be read.
        ValueError: The array is not (H, W, 3) uint8 or uint16.
    """
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype not in (np.uint8, np.uint16) or array.size == 0:
        raise ValueError(f"(H, W, 3) uint8 or uint16 expected, not {array.shape} {array.dtype}")
    suffix = path.suffix.lower()
    copied = EmbeddedMetadata() if like is None or strip else _metadata_of(like, suffix, array, colour)
    embedded = replace(copied, icc=colour.icc, chunks=colour.chunks)
    if suffix in (".tif", ".tiff"):
        content = _tiff(array, embedded)
    elif suffix == ".png" or (suffix in (".jpg", ".jpeg") and array.dtype == np.uint8):
        content = _encode(path, array, embedded)
    elif suffix in IMAGE_SUFFIXES:
        raise InputError(f"JPEG cannot hold the 16 bits of {path}", hint="write .png or .tif")
    else:
        raise InputError(f"cannot write {path}: unknown image suffix {suffix!r}", hint="use .png, .tif or .jpg")
    write_bytes(path, content)


def write_values(path: Path, array: NDArray[Any]) -> None:
    """Writes an array unchanged, atomically and without metadata: a mask, a label map, a depth map.

    Args:
        path: Ends in `.png` (uint8 and uint16) or `.tif` (any type).
        array: (H, W) or (H, W, C) with 3 channels RGB or 4 channels RGBA.

    Raises:
        InputError: The disk refuses.
        ValueError: PNG cannot hold this type.
    """
    if path.suffix.lower() == ".png":
        if array.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"PNG cannot hold {array.dtype}")
        swapped = array if array.ndim == 2 else array[..., [2, 1, 0, 3][: array.shape[2]]]
        _, encoded = cv2.imencode(".png", np.ascontiguousarray(swapped), _PNG_OPTIONS)
        write_bytes(path, bytes(encoded))
        return
    buffer = io.BytesIO()
    colour = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(
        buffer, array, byteorder="<", photometric=colour, compression="zlib", metadata=None, software=False
    )
    write_bytes(path, buffer.getvalue())


def encode_image(
    path: Path,
    array: NDArray[Any],
    exif: bytes | None = None,
    colour: ImageColour = ImageColour(),  # noqa: B008 frozen
) -> bytes:
    """Encodes an (H, W, 3) RGB image as PNG or JPEG by the suffix of `path`, with an EXIF block and a colour profile.

    A block that is too long for one JPEG segment (64 KiB) is left out.

    Raises:
        InputError: The image is too large for the format.
    """
    return _encode(path, array, EmbeddedMetadata(exif=exif, icc=colour.icc, chunks=colour.chunks))


def _encode(path: Path, array: NDArray[Any], embedded: EmbeddedMetadata) -> bytes:
    suffix = path.suffix.lower()
    is_png = suffix == ".png"
    hint = "is the image too large for its format? use .tif"
    try:
        options = _PNG_OPTIONS if is_png else _JPEG_OPTIONS
        done, encoded = cv2.imencode(suffix, np.ascontiguousarray(array[..., ::-1]), options)
    except cv2.error as error:
        raise InputError(f"cannot write {path}: {error.err}", hint=hint) from error
    if not done:
        raise InputError(f"cannot write {path}", hint=hint)
    return embed_in_png(bytes(encoded), embedded) if is_png else embed_in_jpeg(bytes(encoded), embedded)


def _metadata_of(like: Path, suffix: str, array: NDArray[Any], colour: ImageColour) -> EmbeddedMetadata:
    """The metadata of a photograph; of a RAW file also what LibRaw and its MakerNote tell."""
    fallback = None
    if not is_image(like):
        with suppress(RawError):
            fallback = exif_block.build_block(read_meta(like))
    size = (array.shape[0], array.shape[1])
    return embeddable(read_file_metadata(like), suffix, size, is_srgb=colour == ImageColour(), fallback=fallback)


def _tiff(array: NDArray[Any], embedded: EmbeddedMetadata) -> bytes:
    block = embedded.exif
    content = encode_tiff(
        array,
        [(_ORIENTATION, SHORT, (1,)), *tags_of(embedded)],
        byteorder=byte_order(block),
        photometric="rgb",
        compression="zlib",
        predictor=True,
        iccprofile=embedded.icc,
    )
    return content if block is None else attach_exif(content, block)
