"""Writes TIFF directories as bytes, and TIFF files with an Exif directory.

The same input gives the same bytes. Sources: Adobe, TIFF 6.0; CIPA DC-008 (Exif 2.31).
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    # Code, type and elements of a tag; the elements of a rational are numerator, denominator, and so on.
    Tag = tuple[int, int, "str | bytes | Sequence[float]"]

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12
EXIF_POINTER = 34665
_PACKING = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "B", SRATIONAL: "i", DOUBLE: "d"}
_RATIONALS = (RATIONAL, SRATIONAL)
# tifffile refuses to write the pointer; its neighbour takes its place in the sorted directory until it is patched.
_STAND_IN = 34664


def text_tag(code: int, text: str) -> Tag:
    """A tag of text, encoded as UTF-8 with its final zero."""
    return code, ASCII, text.encode("utf-8") + b"\0"


def encode_directory(tags: Iterable[Tag], offset: int) -> bytes:
    """Encodes a TIFF directory, little-endian, without a next one.

    Args:
        tags: In any order; text is given as bytes, its final zero included.
        offset: Position of the directory in its file.

    Returns:
        The sorted entries, and behind them the values that do not fit in an entry.

    Example:
        >>> encode_directory([(274, SHORT, (1,))], 8).hex(" ", 2)
        '0100 1201 0300 0100 0000 0100 0000 0000 0000'
    """
    ordered = sorted(tags, key=lambda tag: tag[0])
    values_at = offset + 2 + 12 * len(ordered) + 4
    table, values = struct.pack("<H", len(ordered)), b""
    for code, kind, elements in ordered:
        content = struct.pack(f"<{len(elements)}{_PACKING[kind]}", *elements)
        if len(content) > 4:
            field = struct.pack("<I", values_at + len(values))
            values += content + b"\0" * (len(content) % 2)
        else:
            field = content.ljust(4, b"\0")
        table += struct.pack("<HHI", code, kind, _count(kind, elements)) + field
    return table + struct.pack("<I", 0) + values


def encode_tiff(
    pixels: NDArray[Any], tags: Iterable[Tag], exif_tags: Iterable[Tag] | None = None, **options: Any
) -> bytes:
    """Encodes a little-endian TIFF file of one page.

    Args:
        pixels: (H, W) or (H, W, C).
        tags: Further tags of its directory; text as `str`.
        exif_tags: Tags of an Exif directory at the end of the file; None: none is written.
        **options: See `tifffile.TiffWriter.write`.
    """
    extra = list(tags) if exif_tags is None else [*tags, (_STAND_IN, LONG, (0,))]
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, byteorder="<") as writer:
        writer.write(
            np.ascontiguousarray(pixels),
            software=False,
            metadata=None,
            extratags=[
                (code, kind, 0 if isinstance(elements, str) else _count(kind, elements), elements, True)
                for code, kind, elements in sorted(extra, key=lambda tag: tag[0])
            ],
            **options,
        )
    content = stream.getvalue()
    return content if exif_tags is None else _append_exif(content, exif_tags)


def _append_exif(content: bytes, tags: Iterable[Tag]) -> bytes:
    """A TIFF file with an Exif directory at its end, and the pointer to it in place of the stand-in."""
    padded = bytearray(content + b"\0" * (len(content) % 2))
    (first,) = struct.unpack_from("<I", padded, 4)
    (count,) = struct.unpack_from("<H", padded, first)
    entries = (first + 2 + 12 * index for index in range(count))
    pointer_at = next(at for at in entries if struct.unpack_from("<H", padded, at)[0] == _STAND_IN)
    struct.pack_into("<HHII", padded, pointer_at, EXIF_POINTER, LONG, 1, len(padded))
    return bytes(padded) + encode_directory(tags, len(padded))


def _count(kind: int, elements: str | bytes | Sequence[float]) -> int:
    return len(elements) // 2 if kind in _RATIONALS else len(elements)
