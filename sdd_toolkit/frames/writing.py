"""Writes PNG, TIFF and JPEG images with 8 or 16 bits a channel, with the EXIF of their source."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import tifffile

from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.colour import ImageColour
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES, is_image
from sdd_toolkit.formats.embedding import EmbeddedMetadata, embed_in_jpeg, embed_in_png
from sdd_toolkit.formats.tiff_writer import SHORT, encode_tiff
from sdd_toolkit.metadata import exif_block
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.storage.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.records import FrameMeta

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
) -> None:
    """Writes an upright RGB image atomically, in the format of the suffix and the bit depth of the array.

    Args:
        path: Ends in `.png`, `.tif`, `.tiff`, `.jpg` or `.jpeg`.
        array: (H, W, 3) uint8 or uint16 RGB; JPEG takes uint8 only.
        like: Photograph (RAW or image) whose EXIF is copied; its orientation becomes 1.
        colour: Colour space of the pixels, whose profile is embedded; without one they are sRGB.

    Raises:
        InputError: The suffix is none of these, JPEG cannot hold 16 bits, or the disk refuses.
        RawError: `like` cannot be read.
        ValueError: The array is not (H, W, 3) uint8 or uint16.
    """
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype not in (np.uint8, np.uint16) or array.size == 0:
        raise ValueError(f"(H, W, 3) uint8 or uint16 expected, not {array.shape} {array.dtype}")
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        content = _tiff(array, read_meta(like) if like else None, colour.icc)
    elif suffix == ".png" or (suffix in (".jpg", ".jpeg") and array.dtype == np.uint8):
        content = encode_image(path, array, _exif_of(like), colour)
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
    embedded = EmbeddedMetadata(exif=exif, icc=colour.icc, chunks=colour.chunks)
    return embed_in_png(bytes(encoded), embedded) if is_png else embed_in_jpeg(bytes(encoded), embedded)


def _exif_of(like: Path | None) -> bytes | None:
    """The whole EXIF block of a JPEG or PNG, turned upright; a new one of the metadata of any other file."""
    if like is None:
        return None
    meta = read_meta(like)
    original = exif_block.read_block(like) if is_image(like) else None
    block = exif_block.turn_upright(original) if original else None
    return block or (exif_block.build_block(meta) if _has_values(meta) else None)


def _has_values(meta: FrameMeta) -> bool:
    """Whether there is any metadata but the size and the orientation."""
    return replace(meta, orientation=1, size=None) != type(meta)()


def _tiff(array: NDArray[Any], meta: FrameMeta | None, icc: bytes | None) -> bytes:
    known = meta if meta is not None and _has_values(meta) else None
    return encode_tiff(
        array,
        [(274, SHORT, (1,)), *(exif_block.camera_tags(known) if known else [])],
        exif_block.exif_tags(known) if known else None,
        photometric="rgb",
        compression="zlib",
        predictor=True,
        iccprofile=icc,
    )
