"""EXIF blocks of files this toolkit writes: copied from the source image, or built from a `FrameMeta`.

An EXIF block is a small TIFF file of tags, carried by JPEG in an APP1 segment, by PNG in an eXIf chunk and by TIFF
in a directory of its own. OpenCV embeds blocks; reading one is done here, as OpenCV returns metadata only together
with decoded pixels. Sources: CIPA DC-008 (Exif 2.31); TIFF 6.0; PNG 3rd edition, 11.3.4.5.
"""

from __future__ import annotations

import math
import struct
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING

from sdd_toolkit.formats.containers import exif_range
from sdd_toolkit.formats.tiff import reader
from sdd_toolkit.formats.tiff_writer import (
    EXIF_POINTER,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    encode_directory,
    text_tag,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.formats.tiff_writer import Tag
    from sdd_toolkit.records import FrameMeta

_ORIENTATION = 274
_UPRIGHT = 1
_FIRST_AT = 8


def read_block(path: Path) -> bytes | None:
    """Reads the EXIF block of a JPEG or PNG file; None if it has none or is damaged before it."""
    with path.open("rb") as stream:
        position = exif_range(stream)
        return None if position is None else reader(stream)(*position)


def build_block(meta: FrameMeta) -> bytes:
    """A little-endian EXIF block of the known values of `meta`; the orientation is 1, as the pixels are upright."""
    main = [(_ORIENTATION, SHORT, (_UPRIGHT,)), *camera_tags(meta)]
    exif_at = _FIRST_AT + len(encode_directory([*main, (EXIF_POINTER, LONG, (0,))], _FIRST_AT))
    head = encode_directory([*main, (EXIF_POINTER, LONG, (exif_at,))], _FIRST_AT)
    return b"II*\0" + struct.pack("<I", _FIRST_AT) + head + encode_directory(exif_tags(meta), exif_at)


def camera_tags(meta: FrameMeta) -> list[Tag]:
    """Maker and model, tags of a main directory."""
    return [text_tag(code, text) for code, text in ((271, meta.make), (272, meta.model)) if text]


def exif_tags(meta: FrameMeta) -> list[Tag]:
    """Exposure, lens and time, tags of an Exif directory."""
    exposure = meta.exposure
    tags: list[Tag] = [(36864, UNDEFINED, b"0231")]
    numbers = {
        33434: exposure.shutter_s,
        33437: exposure.f_number,
        37382: exposure.focus_m,
        37386: exposure.focal_mm,
    }
    tags += [(code, RATIONAL, _ratio(value)) for code, value in numbers.items() if value is not None]
    if exposure.iso is not None:
        tags.append((34855, SHORT, (min(round(exposure.iso), 0xFFFF),)))
    if meta.lens:
        tags.append(text_tag(42036, meta.lens))
    if meta.taken_at is not None:
        taken = datetime.fromisoformat(meta.taken_at)
        tags.append(text_tag(36867, f"{taken:%Y:%m:%d %H:%M:%S}"))
        if taken.microsecond:
            tags.append(text_tag(37521, f"{taken.microsecond:06d}".rstrip("0")))
    return tags


def turn_upright(block: bytes) -> bytes | None:
    """`block` with orientation 1 and without a link to its thumbnail, which no longer fits; None if it is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    changed = bytearray(block)
    try:
        if order is None:
            return None
        (first,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, first)
        for entry_at in range(first + 2, first + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}H", block, entry_at)[0] == _ORIENTATION:
                struct.pack_into(f"{order}HIHH", changed, entry_at + 2, SHORT, 1, _UPRIGHT, 0)
        struct.pack_into(f"{order}I", changed, first + 2 + 12 * count, 0)
    except struct.error:
        return None
    return bytes(changed)


def _ratio(value: float) -> tuple[int, int]:
    """Numerator and denominator that both fit 32 bits; a numerator of all ones means infinity."""
    if value == math.inf:
        return 0xFFFFFFFF, 1
    finest = min(1_000_000, int(0xFFFFFFFE / value)) if value > 0 else 1
    ratio = Fraction(value).limit_denominator(max(finest, 1))
    return min(ratio.numerator, 0xFFFFFFFE), ratio.denominator
