"""PNG, TIFF and JPEG with 8 or 16 bits a channel, written with the metadata of their source."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import tifffile

from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES
from sdd_toolkit.metadata import exif_block
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.storage.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.records import FrameMeta

_JPEG_SETTINGS = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
_EXIF_IFD = 34665
# tifffile refuses to write that pointer; its neighbour keeps the place in the sorted directory until it is patched.
_STAND_IN = 34664


def write_image(path: Path, array: NDArray[np.uint8] | NDArray[np.uint16], *, like: Path | None = None) -> None:
    """Writes an upright RGB image atomically, in the format of the suffix and the bit depth of the array.

    Args:
        path: Ends in `.png`, `.tif`, `.tiff`, `.jpg` or `.jpeg`.
        array: (H, W, 3) uint8 or uint16 RGB; JPEG takes uint8 only.
        like: Photograph (RAW or image) whose EXIF goes along; its orientation becomes 1.

    Raises:
        InputError: The suffix is none of these, JPEG cannot hold 16 bits, or the disk refuses.
        RawError: `like` cannot be read.
        ValueError: The array is not (H, W, 3) uint8 or uint16.
    """
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype not in (np.uint8, np.uint16) or array.size == 0:
        raise ValueError(f"(H, W, 3) uint8 or uint16 expected, not {array.shape} {array.dtype}")
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        content = _tiff(array, read_meta(like) if like else None)
    elif suffix == ".png":
        content = _with_exif(_encoded(path, array, (cv2.IMWRITE_PNG_COMPRESSION, 4)), like)
    elif suffix in (".jpg", ".jpeg") and array.dtype == np.uint8:
        content = _with_exif(_encoded(path, array, _JPEG_SETTINGS), like)
    elif suffix in IMAGE_SUFFIXES:
        raise InputError(f"JPEG cannot hold the 16 bits of {path}", hint="write .png or .tif")
    else:
        raise InputError(f"cannot write {path}: unknown image suffix {suffix!r}", hint="use .png, .tif or .jpg")
    write_bytes(path, content)


def write_values(path: Path, array: NDArray[Any]) -> None:
    """Writes numbers as they are, atomically and without metadata: a mask, a label map, a depth map.

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
        _, encoded = cv2.imencode(".png", np.ascontiguousarray(swapped), (cv2.IMWRITE_PNG_COMPRESSION, 4))
        write_bytes(path, bytes(encoded))
        return
    buffer = io.BytesIO()
    colour = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(
        buffer, array, byteorder="<", photometric=colour, compression="zlib", metadata=None, software=False
    )
    write_bytes(path, buffer.getvalue())


def _encoded(path: Path, array: NDArray[Any], settings: tuple[int, ...]) -> bytes:
    try:
        done, encoded = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(array[..., ::-1]), settings)
    except cv2.error as error:
        raise InputError(f"cannot write {path}: {error.err}", hint="is the image too large for it? use .tif") from error
    if not done:
        raise InputError(f"cannot write {path}", hint="is the image too large for its format? use .tif")
    return bytes(encoded)


def _with_exif(content: bytes, like: Path | None) -> bytes:
    block = _block_of(like) if like else None
    return exif_block.embed(content, block) if block else content


def _block_of(like: Path) -> bytes | None:
    """The whole EXIF of a JPEG or PNG; what `read_meta` knows of anything else."""
    meta = read_meta(like)
    original = exif_block.extract(like.read_bytes()) if like.suffix.lower() in IMAGE_SUFFIXES else None
    block = exif_block.upright(original) if original else None
    return block or (exif_block.build(meta) if _says_something(meta) else None)


def _says_something(meta: FrameMeta) -> bool:
    blank = type(meta)()
    return replace(meta, orientation=1, size=None) != blank


def _tiff(array: NDArray[Any], meta: FrameMeta | None) -> bytes:
    buffer = io.BytesIO()
    tags: list[tuple[int, str, int, object, bool]] = [(274, "H", 1, 1, True)]
    if meta is not None and _says_something(meta):
        tags += [(code, "s", 0, text, True) for code, text in ((271, meta.make), (272, meta.model)) if text]
        tags.append((_STAND_IN, "I", 1, 0, True))
    tifffile.imwrite(
        buffer,
        array,
        byteorder="<",
        photometric="rgb",
        compression="zlib",
        predictor=True,
        metadata=None,
        software=False,
        extratags=tags,
    )
    content = bytearray(buffer.getvalue())
    if tags[-1][0] == _STAND_IN and meta is not None:
        content += b"\0" * (len(content) % 2)
        with tifffile.TiffFile(io.BytesIO(content)) as written:
            place = written.pages.first.tags[_STAND_IN].offset
        struct.pack_into("<HHII", content, place, _EXIF_IFD, 4, 1, len(content))
        content += exif_block.details(meta, len(content))
    return bytes(content)
