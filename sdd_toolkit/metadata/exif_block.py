"""Builds EXIF blocks of a `FrameMeta`, for files whose own tags cannot be copied.

An EXIF block is a small TIFF file of tags. Source: CIPA DC-008 (Exif 2.31).
"""

from __future__ import annotations

import math
import struct
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING

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
    from sdd_toolkit.formats.tiff_writer import Tag
    from sdd_toolkit.records import FrameMeta

_ORIENTATION = 274
_UPRIGHT = 1
_FIRST_AT = 8


def build_block(meta: FrameMeta) -> bytes:
    """A little-endian EXIF block of the known values of `meta`; the orientation is 1, as the pixels are upright."""
    main = [(_ORIENTATION, SHORT, (_UPRIGHT,)), *camera_tags(meta)]
    exif = exif_tags(meta)
    if not exif:
        return b"II*\0" + struct.pack("<I", _FIRST_AT) + encode_directory(main, _FIRST_AT)
    exif_at = _FIRST_AT + len(encode_directory([*main, (EXIF_POINTER, LONG, (0,))], _FIRST_AT))
    head = encode_directory([*main, (EXIF_POINTER, LONG, (exif_at,))], _FIRST_AT)
    return b"II*\0" + struct.pack("<I", _FIRST_AT) + head + encode_directory(exif, exif_at)


def camera_tags(meta: FrameMeta) -> list[Tag]:
    """Maker and model, tags of a main directory."""
    return [text_tag(code, text) for code, text in ((271, meta.make), (272, meta.model)) if text]


def exif_tags(meta: FrameMeta) -> list[Tag]:
    """Exposure, lens and time, tags of an Exif directory."""
    exposure = meta.exposure
    tags: list[Tag] = []
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
    return [(36864, UNDEFINED, b"0231"), *tags] if tags else []


def _ratio(value: float) -> tuple[int, int]:
    """Numerator and denominator that both fit 32 bits; a numerator of all ones means infinity."""
    if value == math.inf:
        return 0xFFFFFFFF, 1
    finest = min(1_000_000, int(0xFFFFFFFE / value)) if value > 0 else 1
    ratio = Fraction(value).limit_denominator(max(finest, 1))
    return min(ratio.numerator, 0xFFFFFFFE), ratio.denominator
