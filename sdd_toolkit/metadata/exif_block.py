"""EXIF for files this toolkit writes: taken over from the source, or built anew from a `FrameMeta`.

An EXIF block is a small TIFF file of tags, carried by JPEG in an APP1 segment, by PNG in an eXIf chunk and by TIFF
in a directory of its own. Sources: CIPA DC-008 (Exif 2.31); TIFF 6.0; PNG 3rd edition, 11.3.4.5.
"""

from __future__ import annotations

import math
import struct
import zlib
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdd_toolkit.records import FrameMeta

_HEADER = b"Exif\0\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_ORIENTATION, _EXIF_IFD = 274, 34665
_UPRIGHT = 1
_LONGEST_SEGMENT = 0xFFFF - 2

Entry = tuple[int, int, int, bytes]  # tag, type, count, value


def build(meta: FrameMeta) -> bytes:
    """A little-endian EXIF block with what `meta` knows; the orientation is 1, as the pixels are upright."""
    main = [_short(_ORIENTATION, _UPRIGHT), *_texts({271: meta.make, 272: meta.model})]
    start = 8
    details_at = start + len(_directory([*main, _long(_EXIF_IFD, 0)], start))
    head = _directory([*main, _long(_EXIF_IFD, details_at)], start)
    return b"II*\0" + struct.pack("<I", start) + head + details(meta, details_at)


def details(meta: FrameMeta, at: int) -> bytes:
    """The Exif directory (exposure, lens, time) as bytes meant for offset `at` of their file."""
    exposure = meta.exposure
    entries = [(36864, _UNDEFINED, 4, b"0231")]
    numbers = {
        33434: exposure.shutter_s,
        33437: exposure.f_number,
        37382: exposure.focus_m,
        37386: exposure.focal_mm,
    }
    entries += [_rational(tag, value) for tag, value in numbers.items() if value is not None]
    if exposure.iso is not None:
        entries.append(_short(34855, min(round(exposure.iso), 0xFFFF)))
    entries += _texts({42036: meta.lens})
    if meta.taken_at is not None:
        taken = datetime.fromisoformat(meta.taken_at)
        fraction = f"{taken.microsecond:06d}".rstrip("0") or None
        entries += _texts({36867: f"{taken:%Y:%m:%d %H:%M:%S}", 37521: fraction})
    return _directory(entries, at)


def extract(content: bytes) -> bytes | None:
    """The EXIF block of a JPEG or PNG file; None if it has none."""
    if content.startswith(_PNG):
        return _of_png(content)
    return _of_jpeg(content) if content.startswith(b"\xff\xd8") else None


def upright(block: bytes) -> bytes | None:
    """`block` with its orientation 1 and its thumbnail, which no longer fits, unlinked; None if it is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    changed = bytearray(block)
    try:
        if order is None:
            return None
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for index in range(count):
            place = start + 2 + 12 * index
            if struct.unpack_from(f"{order}H", block, place)[0] == _ORIENTATION:
                struct.pack_into(f"{order}HIHH", changed, place + 2, _SHORT, 1, _UPRIGHT, 0)
        struct.pack_into(f"{order}I", changed, start + 2 + 12 * count, 0)
    except struct.error:
        return None
    return bytes(changed)


def embed(content: bytes, block: bytes) -> bytes:
    """A JPEG or PNG file with `block` put in where readers look for it.

    A block too long for one JPEG segment (64 KiB) is left out.
    """
    if content.startswith(_PNG):
        header_end = len(_PNG) + 25
        return content[:header_end] + _chunk(b"eXIf", block) + content[header_end:]
    payload = _HEADER + block
    if len(payload) > _LONGEST_SEGMENT:
        return content
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + content[2:]


def _directory(entries: list[Entry], at: int) -> bytes:
    """A TIFF directory for offset `at`: sorted entries, no next one, long values behind it."""
    table = struct.pack("<H", len(entries))
    values = b""
    values_at = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in sorted(entries):
        if len(value) <= 4:
            field = value.ljust(4, b"\0")
        else:
            field = struct.pack("<I", values_at + len(values))
            values += value + b"\0" * (len(value) % 2)
        table += struct.pack("<HHI", tag, kind, count) + field
    return table + b"\0\0\0\0" + values


def _short(tag: int, value: int) -> Entry:
    return tag, _SHORT, 1, struct.pack("<H", value)


def _long(tag: int, value: int) -> Entry:
    return tag, _LONG, 1, struct.pack("<I", value)


def _rational(tag: int, value: float) -> Entry:
    # Numerator and denominator must both fit 32 bits; all ones mean infinity.
    if value == math.inf:
        return tag, _RATIONAL, 1, struct.pack("<II", 0xFFFFFFFF, 1)
    finest = min(1_000_000, int(0xFFFFFFFE / value)) if value > 0 else 1
    ratio = Fraction(value).limit_denominator(max(finest, 1))
    return tag, _RATIONAL, 1, struct.pack("<II", min(ratio.numerator, 0xFFFFFFFE), ratio.denominator)


def _texts(values: dict[int, str | None]) -> list[Entry]:
    raw = {tag: value.encode("utf-8") + b"\0" for tag, value in values.items() if value}
    return [(tag, _ASCII, len(value), value) for tag, value in raw.items()]


def _of_jpeg(content: bytes) -> bytes | None:
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", content, place + 2)
        payload = content[place + 4 : place + 2 + length]
        if content[place + 1] == 0xE1 and payload.startswith(_HEADER):
            return payload[len(_HEADER) :]
        place += 2 + length
    return None


def _of_png(content: bytes) -> bytes | None:
    place = len(_PNG)
    while place + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        if name == b"eXIf":
            return content[place + 8 : place + 8 + length]
        place += 12 + length
    return None


def _chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))
