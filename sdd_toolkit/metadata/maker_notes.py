"""Reads lens name, focus distance and serial number from MakerNotes that are not encrypted.

| maker | lens | focus distance |
|---|---|---|
| Canon | 0x0095 | FileInfo (0x0093) 20, 21, else ShotInfo (0x0004) 19, 20: upper and lower bound in cm |
| Nikon | 0x0084 as range | LensData (0x0098) versions 0100 and 0101; later ones are encrypted |
| Olympus, OM | Equipment (0x2010) 0x0203 | FocusInfo (0x2050) 0x0305 in mm |
| Panasonic, Leica | 0x0051 | none is stored |
| Sony, Fujifilm | in Exif only | encrypted or not stored |

Source: the tables of ExifTool (https://exiftool.org/TagNames/), checked against it in the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdd_toolkit.formats.tiff import Tiff, first_number, open_tiff, read_directory, read_numbers, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sdd_toolkit.formats.tiff import Entry, ReadAt

_EXIF, _NOTE = 34665, 37500
_CANON_FAR_CM = (0xFFFF, 0)


@dataclass(frozen=True, slots=True)
class MakerNote:
    """The values of a MakerNote; None if missing.

    Attributes:
        lens: Name of the lens.
        focus_m: Distance the lens was focused at; `math.inf` at infinity.
        serial: Serial number of the body.
    """

    lens: str | None = None
    focus_m: float | None = None
    serial: str | None = None


def read_maker_note(read: ReadAt, blocks: Iterable[int], make: str) -> MakerNote:
    """Reads the MakerNote of a file; an empty one if it is missing, damaged or of an unknown kind.

    Args:
        read: Bytes of the file by offset and count.
        blocks: Offsets of TIFF-like metadata in it.
        make: The maker in EXIF.
    """
    for base in blocks:
        try:
            tiff = open_tiff(read, base)
            if tiff is None:
                continue
            note = _parse_note(tiff, make.lower())
        except (EOFError, ValueError, OverflowError):
            continue
        if note != MakerNote():
            return note
    return MakerNote()


def has_maker_note(read: ReadAt, blocks: Iterable[int]) -> bool:
    """Whether a file has a MakerNote of any kind."""
    for base in blocks:
        try:
            tiff = open_tiff(read, base)
            if tiff is not None and (_NOTE in _exif_entries(tiff) or 0x0001 in read_directory(tiff, tiff.first)[0]):
                return True
        except (EOFError, ValueError, OverflowError):
            continue
    return False


def _exif_entries(tiff: Tiff) -> Mapping[int, Entry]:
    entries, _ = read_directory(tiff, tiff.first)
    pointer = first_number(tiff, entries.get(_EXIF))
    return read_directory(tiff, pointer)[0] if pointer else entries


def _parse_note(tiff: Tiff, make: str) -> MakerNote:
    entries = _exif_entries(tiff)
    note = entries.get(_NOTE)
    if note is None:
        # A CR3 file keeps its MakerNote as a block of its own.
        return _parse_canon(tiff, entries) if make.startswith("canon") and 0x0001 in entries else MakerNote()
    head = tiff.read(tiff.base + note.offset, 16)
    if head.startswith((b"OLYMPUS\0", b"OM SYSTEM\0\0\0")):
        return _parse_olympus(_olympus_tiff(tiff, note, head))
    if head.startswith(b"Panasonic\0"):
        return _parse_panasonic(tiff, read_directory(tiff, note.offset + 12)[0])
    if head.startswith(b"Nikon\0\x02"):
        inner = open_tiff(tiff.read, tiff.base + note.offset + 10)
        return _parse_nikon(inner) if inner is not None else MakerNote()
    return _parse_canon(tiff, read_directory(tiff, note.offset)[0]) if make.startswith("canon") else MakerNote()


def _parse_canon(tiff: Tiff, entries: Mapping[int, Entry]) -> MakerNote:
    serial = first_number(tiff, entries.get(0x000C))
    bounds: tuple[float, ...] = ()
    for tag, index in ((0x0093, 20), (0x0004, 19)):
        values = read_numbers(tiff, entries.get(tag))
        bounds = tuple(int(value) & 0xFFFF for value in values[index : index + 2])
        if len(bounds) == 2 and bounds[0] != 0:
            break
        bounds = ()
    return MakerNote(
        lens=read_text(tiff, entries.get(0x0095)),
        focus_m=_focus_between_m(*bounds) if bounds else None,
        serial=f"{serial:010d}" if serial else None,
    )


def _focus_between_m(upper: float, lower: float) -> float | None:
    """The harmonic mean of Canon's bounds of the distance, which is the middle on the scale of the lens."""
    if upper in _CANON_FAR_CM:
        return math.inf if lower in _CANON_FAR_CM or lower > 5000 else lower / 50
    return 0.02 / (1 / upper + 1 / lower) if lower > 0 else upper / 100


def _parse_nikon(tiff: Tiff) -> MakerNote:
    entries, _ = read_directory(tiff, tiff.first)
    data = bytes(int(value) & 0xFF for value in read_numbers(tiff, entries.get(0x0098), 64))
    index = {b"0100": None, b"0101": 9}.get(data[:4])
    focus_m = 0.01 * 10 ** (data[index] / 40) if index and len(data) > index and data[index] else None
    return MakerNote(
        _lens_range(read_numbers(tiff, entries.get(0x0084), 4)), focus_m, read_text(tiff, entries.get(0x001D))
    )


def _lens_range(values: tuple[float, ...]) -> str | None:
    """`18-70mm f/3.5-4.5` from the shortest and longest focal length and their f-numbers."""
    if len(values) != 4 or values[0] <= 0:
        return None
    short, long, wide, narrow = values
    focal = f"{short:g}mm" if short == long else f"{short:g}-{long:g}mm"
    if wide <= 0:
        return focal
    return f"{focal} f/{wide:g}" if wide == narrow else f"{focal} f/{wide:g}-{narrow:g}"


def _olympus_tiff(tiff: Tiff, note: Entry, head: bytes) -> Tiff:
    """The TIFF data of an Olympus note: offsets count from the note, whose header ends in its own byte order."""
    mark = 12 if head.startswith(b"OM SYSTEM") else 8
    order = {b"II": "<", b"MM": ">"}.get(head[mark : mark + 2])
    if order is None:
        return Tiff(tiff.read, tiff.base, tiff.order, False, note.offset + 8)
    return Tiff(tiff.read, tiff.base + note.offset, order, False, mark + 4)


def _parse_olympus(tiff: Tiff) -> MakerNote:
    entries, _ = read_directory(tiff, tiff.first)
    equipment, focus = (_sub_directory(tiff, entries.get(tag)) for tag in (0x2010, 0x2050))
    distance = read_numbers(tiff, focus.get(0x0305), 1)
    pair = _read_ratio(tiff, focus.get(0x0305))
    focus_m = math.inf if pair[:1] == (0xFFFFFFFF,) else distance[0] / 1000 if distance and distance[0] > 0 else None
    return MakerNote(read_text(tiff, equipment.get(0x0203)), focus_m, read_text(tiff, equipment.get(0x0101)))


def _sub_directory(tiff: Tiff, entry: Entry | None) -> Mapping[int, Entry]:
    if entry is None:
        return {}
    # Old bodies wrap the sub-directory as a value, newer ones point to it.
    offset = entry.offset if entry.kind == 7 else first_number(tiff, entry)
    return read_directory(tiff, offset)[0]


def _read_ratio(tiff: Tiff, entry: Entry | None) -> tuple[int, ...]:
    return tiff.unpack("II", entry.offset) if entry is not None and entry.kind == 5 else ()


def _parse_panasonic(tiff: Tiff, entries: Mapping[int, Entry]) -> MakerNote:
    lens = read_text(tiff, entries.get(0x0051))
    return MakerNote(lens if lens and lens.strip("- ") else None, None, read_text(tiff, entries.get(0x0025)))
