"""Length of RAW files whose directory does not tell it: from width, height and packing, or a table at the end.

Sources: ExifTool's tables (PanasonicRaw, MinoltaRaw, SigmaRaw, PhaseOne, CanonRaw); dcraw and LibRaw, decoders of the
same formats.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from sdd_toolkit.formats.tiff import first_number, read_directory

if TYPE_CHECKING:
    from sdd_toolkit.formats.tiff import ReadAt, Tiff

_WIDTH, _HEIGHT, _BITS, _ENCODING, _STRIP_BYTES, _RAW_OFFSET = 0x02, 0x03, 0x0A, 0x2D, 0x117, 0x118
_PAGE, _SPLIT = 0x4000, 0x2008
_MAX_ENTRIES = 10_000


def panasonic_bytes(tiff: Tiff) -> int:
    """Bytes that the pixels of a Panasonic or Leica RW2 need; 0 if its directory names no place for them.

    Pixels are stored in units of 16 bytes: 14 of them, in newer encodings 9 to 14. Most encodings write pages of 16 KiB
    with both parts exchanged.
    """
    entries, _ = read_directory(tiff, tiff.first)

    def first(tag: int) -> int:
        return first_number(tiff, entries.get(tag))

    width, height, encoding, start = first(_WIDTH), first(_HEIGHT), first(_ENCODING), first(_RAW_OFFSET)
    if not (width and height and start):
        return 0
    units = {5: (10,) if first(_BITS) == 12 else (9,), 6: (11, 14), 7: (9, 10), 8: ()}.get(encoding, (14,))
    lengths = [width // unit * 16 * height for unit in units]
    if encoding in (6, 7):
        # Two sizes of units exist; the directory's number of bytes tells which.
        return start + (first(_STRIP_BYTES) if first(_STRIP_BYTES) in lengths else min(lengths))
    if not lengths:  # its own tables of stripes, which LibRaw checks
        return start
    pages, rest = divmod(lengths[0], _PAGE)
    return start + pages * _PAGE + (_PAGE - _SPLIT + min(rest, _SPLIT) if rest else 0)


def minolta_bytes(read: ReadAt, length: int) -> int:
    """Bytes that a Minolta MRW needs."""
    pixels_at = 8 + _unpack(read, ">I", 4)[0]
    position = 8
    while position + 8 <= min(pixels_at, length):
        (size,) = _unpack(read, ">4xI", position)
        if read(position, 4) == b"\0PRD":
            height, width, bits = _unpack(read, ">8xHH4xB", position + 8)
            return int(pixels_at + width * height * bits // 8)
        position += 8 + size
    return int(pixels_at)


def sigma_bytes(read: ReadAt, length: int) -> int:
    """Bytes that a Sigma X3F needs; its last four tell where its directory is."""
    (at,) = _unpack(read, "<I", length - 4)
    if not 0 < at < length - 16 or read(at, 4) != b"SECd":
        raise EOFError("its directory is missing")
    (count,) = _unpack(read, "<I", at + 8)
    sections = _table(read, "<III", at + 12, count)
    return max([length, *(start + size for start, size, _ in sections)])


def phase_one_bytes(read: ReadAt, length: int) -> int:
    """Bytes that a Phase One IIQ needs."""
    order = "<" if read(0, 1) == b"I" else ">"
    (at,) = _unpack(read, order + "I", 8)
    (count,) = _unpack(read, order + "I", at)
    values = _table(read, order + "IIII", at + 8, count)
    return max([at + 8 + 16 * count, *(place + size for _, _, size, place in values if size > 4)])


def canon_heap_bytes(read: ReadAt, length: int) -> int:
    """Bytes that a Canon CRW needs; its last four tell where its table is."""
    order = "<" if read(0, 2) == b"II" else ">"
    (heap,) = _unpack(read, order + "I", 2)
    (at,) = _unpack(read, order + "I", length - 4)
    if not 0 < at < length - heap - 6:
        raise EOFError("its directory is missing")
    (count,) = _unpack(read, order + "H", heap + at)
    if not count:
        raise EOFError("its directory is missing")
    entries = _table(read, order + "HII", heap + at + 2, count)
    # Values of up to eight bytes lie in the table itself.
    ends = (place + size for tag, size, place in entries if not tag & 0x4000)
    if max(ends, default=0) > at:
        raise EOFError("its directory is missing")
    return int(heap + at + 2 + 10 * count + 4)


def _table(read: ReadAt, code: str, at: int, count: int) -> list[tuple[int, ...]]:
    if count > _MAX_ENTRIES:
        raise ValueError(f"a table of {count} entries")
    step = struct.calcsize(code)
    content = read(at, count * step)
    if len(content) < count * step:
        raise EOFError("its directory is not whole")
    return list(struct.iter_unpack(code, content))


def _unpack(read: ReadAt, code: str, at: int) -> tuple[int, ...]:
    content = read(at, struct.calcsize(code))
    if at < 0 or len(content) < struct.calcsize(code):
        raise EOFError("its header is not whole")
    return struct.unpack(code, content)
