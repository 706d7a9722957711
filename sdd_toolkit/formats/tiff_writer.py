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
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, Literal

    from numpy.typing import NDArray

    from sdd_toolkit.formats.embedding import EmbeddedMetadata

    # Code, type and elements of a tag; the elements of a rational are numerator, denominator, and so on.
    Tag = tuple[int, int, "str | bytes | Sequence[float]"]

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12
EXIF_POINTER = 34665
_PACKING = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "B", SRATIONAL: "i", DOUBLE: "d"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_XMP, _IPTC = 700, 33723
_HEADER_BYTES, _STRIP_OFFSETS, _RESOLUTION = 8, 273, (282, 283, 296)
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
    pixels: NDArray[Any],
    tags: Iterable[Tag],
    exif_tags: Iterable[Tag] | None = None,
    byteorder: Literal["<", ">"] = "<",
    **options: Any,
) -> bytes:
    """Encodes a TIFF file of one page.

    Args:
        pixels: (H, W) or (H, W, C).
        tags: Further tags of its directory; text as `str`.
        exif_tags: Tags of an Exif directory at the end of a little-endian file; None: none is written.
        byteorder: `<` or `>`.
        **options: See `tifffile.TiffWriter.write`.
    """
    extra = list(tags) if exif_tags is None else [*tags, (_STAND_IN, LONG, (0,))]
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, byteorder=byteorder) as writer:
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


def tags_of(metadata: EmbeddedMetadata) -> list[Tag]:
    """The tags of an XMP packet and of IPTC datasets, as far as there are any."""
    return [(code, BYTE, value) for code, value in ((_XMP, metadata.xmp), (_IPTC, metadata.iptc)) if value]


def byte_order(block: bytes | None) -> Literal["<", ">"]:
    """The byte order of an EXIF block, little-endian without one."""
    return ">" if block is not None and block.startswith(b"MM") else "<"


def attach_exif(content: bytes, block: bytes) -> bytes:
    """A TIFF file of one page, just encoded in strips, with an EXIF block of the same byte order as its beginning.

    All tags of the block keep their offsets from the header, so that a MakerNote remains readable. The tags of its main
    directory join those of the page, which win except for the resolution.
    """
    order = ">" if content[:2] == b"MM" else "<"
    start = len(block) + len(block) % 2
    shift = start - _HEADER_BYTES
    joined = bytearray(block.ljust(start, b"\0") + content[_HEADER_BYTES:])
    merged = {}
    for code, kind, count, at in _entries(content, order):
        if code == _STRIP_OFFSETS:
            _shift_numbers(joined, order, kind, count, shift, at)
        elif _SIZES[kind] * count > 4:
            struct.pack_into(order + "I", joined, at + shift, struct.unpack_from(order + "I", content, at)[0] + shift)
        merged[code] = bytes(joined[at + shift - 8 : at + shift + 4])
    for code, _, _, at in _entries(block, order):
        if code not in merged or code in _RESOLUTION:
            merged[code] = block[at - 8 : at + 4]
    joined += b"\0" * (len(joined) % 2)
    struct.pack_into(order + "I", joined, 4, len(joined))
    table = b"".join(merged[code] for code in sorted(merged))
    return bytes(joined) + struct.pack(order + "H", len(merged)) + table + struct.pack(order + "I", 0)


def _entries(content: bytes, order: str) -> Iterator[tuple[int, int, int, int]]:
    """Code, type, count and position of the value field of the entries of the first directory."""
    (first,) = struct.unpack_from(order + "I", content, 4)
    (number,) = struct.unpack_from(order + "H", content, first)
    for at in range(first + 2, first + 2 + 12 * number, 12):
        yield (*struct.unpack_from(order + "HHI", content, at), at + 8)


def _shift_numbers(joined: bytearray, order: str, kind: int, count: int, shift: int, at: int) -> None:
    """Adds `shift` to the numbers of an entry, whose value field was at `at` before the shift."""
    code = order + str(count) + _PACKING[kind]
    values_at = at + shift
    if struct.calcsize(code) > 4:
        values_at = struct.unpack_from(order + "I", joined, values_at)[0] + shift
        struct.pack_into(order + "I", joined, at + shift, values_at)
    struct.pack_into(code, joined, values_at, *(v + shift for v in struct.unpack_from(code, joined, values_at)))


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
