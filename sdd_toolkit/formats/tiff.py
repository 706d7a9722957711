"""Reads directories of TIFF-like data (TIFF, Exif, DNG, most makers' RAW), each once, without decoding pixels.

The data is untrusted: every count is bounded, and pointers that form a circle are followed once.

Sources: Adobe, TIFF 6.0; BigTIFF; CIPA DC-008 (Exif 2.31); Adobe, Digital Negative Specification 1.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ReadAt: TypeAlias = "Callable[[int, int], bytes]"
Number: TypeAlias = "int | float"

SUB_DIRECTORIES = (330, 34665, 34853, 40965)  # SubIFDs, Exif, GPS, Interoperability
_MOSAIC, _LINEAR_RAW = 32803, 34892  # photometric interpretations of a DNG
_STRIPS, _TILES, _PREVIEW = (273, 279), (324, 325), (513, 514)
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _DNG_VERSION = 256, 257, 258, 259, 262, 277, 50706
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d",
            13: "I", 16: "Q", 17: "q", 18: "Q"}  # fmt: skip
_SIZES = {kind: struct.calcsize("<" + code) for kind, code in _FORMATS.items()}
ELEMENT_BYTES = {kind: struct.calcsize("<" + code[0]) for kind, code in _FORMATS.items()}
"""Bytes of a number by type, of a ratio's numerator or denominator: what is swapped between byte orders."""
_MAGIC = {42: False, 43: True, 0x4F52: False, 0x5352: False, 0x55: False}  # TIFF, BigTIFF, Olympus twice, Panasonic
_MAX_ENTRIES, _MAX_DIRECTORIES, _MAX_VALUES = 4096, 256, 1_000_000
_FARTHEST = 1 << 62
_NO_OFFSETS = (0, 0xFFFFFFFF)  # written by Panasonic and Kodak where there is no value
_ROWS_PER_STRIP = 278
_OPTIONAL, _PRIVATE = (700, 33723, 34377), 50000  # XMP, IPTC, Photoshop, programs' own: no decoder needs them
_ZEROS = 4096
_MIN_BYTES_PER_PIXEL = 1 / 256  # of compressed data; a header that implies less is false


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory: type, number of elements and offset of its value, counted from the TIFF header."""

    kind: int
    count: int
    offset: int

    @property
    def bytes(self) -> int:
        """Length of the value; 0 for an unknown type."""
        return _SIZES.get(self.kind, 0) * self.count


@dataclass(frozen=True, slots=True)
class Tiff:
    """TIFF-like data.

    Attributes:
        read: Bytes of the file by offset and count; fewer where it ends.
        base: Position in the file that all offsets count from.
        order: `<` or `>`.
        big: Whether offsets have 64 bits.
        first: Offset of the first directory.
    """

    read: ReadAt
    base: int
    order: str
    big: bool
    first: int

    def unpack(self, code: str, offset: int) -> tuple[int, ...]:
        """Numbers at `offset`; raises EOFError if the data ends before."""
        needed = struct.calcsize(self.order + code)
        content = self.read(self.base + offset, needed)
        if len(content) < needed:
            raise EOFError(self.base + offset + needed)
        return struct.unpack(self.order + code, content)


def reader(stream: BinaryIO) -> ReadAt:
    """Random access to `stream`."""

    def read(offset: int, count: int) -> bytes:
        if not 0 <= offset < _FARTHEST:
            return b""
        stream.seek(offset)
        return stream.read(count)

    return read


def open_tiff(read: ReadAt, base: int = 0) -> Tiff | None:
    """The TIFF-like data at `base`; None if there is none."""
    head = read(base, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return None
    big = _MAGIC.get(struct.unpack(order + "H", head[2:4])[0])
    if big is None or (big and len(head) < 16):
        return None
    first = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
    return Tiff(read, base, order, big, first)


def read_directory(tiff: Tiff, offset: int) -> tuple[dict[int, Entry], int]:
    """Reads the directory at `offset`: its entries by tag, and the offset of the next one (0: none).

    Raises:
        EOFError: The directory extends beyond the end of the data; its argument is the first byte not needed.
        ValueError: It is no directory.
    """
    (count,) = tiff.unpack("Q" if tiff.big else "H", offset)
    if not 0 < count <= _MAX_ENTRIES:
        raise ValueError(f"a directory of {count} entries")
    header, step, inline = (8, 20, 8) if tiff.big else (2, 12, 4)
    content = tiff.read(tiff.base + offset + header, count * step)
    if len(content) < count * step:
        raise EOFError(tiff.base + offset + header + count * step)
    entries = {}
    for index, (tag, kind, number, value) in enumerate(
        struct.iter_unpack(tiff.order + ("HHQQ" if tiff.big else "HHII"), content)
    ):
        is_inline = _SIZES.get(kind, 0) * number <= inline
        value_at = offset + header + index * step + step - inline if is_inline else value
        entries[tag] = Entry(kind, number, value_at)
    try:
        (following,) = tiff.unpack("Q" if tiff.big else "I", offset + header + count * step)
    except EOFError:
        following = 0
    return entries, following


def read_numbers(tiff: Tiff, entry: Entry | None, max_count: int = _MAX_VALUES) -> tuple[Number, ...]:
    """Reads the elements of a value: ratios as one number, 0 if the denominator is 0; empty if missing or cut short."""
    if entry is None or entry.kind not in _FORMATS:
        return ()
    count = min(entry.count, max_count)
    code = _FORMATS[entry.kind]
    content = tiff.read(tiff.base + entry.offset, _SIZES[entry.kind] * count)
    if len(content) < _SIZES[entry.kind] * count:
        return ()
    if code == "s":
        return tuple(content)
    values = struct.unpack(f"{tiff.order}{len(code) * count}{code[0]}", content)
    if len(code) == 1:
        return values
    return tuple(high / low if low else 0.0 for high, low in zip(values[::2], values[1::2], strict=True))


def first_number(tiff: Tiff, entry: Entry | None, default: int = 0) -> int:
    """The first element of a value as a whole number; `default` if the value is missing or cut short."""
    return int(next(iter(read_numbers(tiff, entry, 1)), default))


def read_text(tiff: Tiff, entry: Entry | None) -> str | None:
    """Reads a value as text without padding; None if it is missing or blank."""
    if entry is None or _SIZES.get(entry.kind) != 1 or entry.count > _MAX_ENTRIES:
        return None
    content = tiff.read(tiff.base + entry.offset, entry.count).split(b"\0")[0]
    return " ".join(content.decode("utf-8", "replace").split()) or None


def iterate_directories(tiff: Tiff) -> Iterator[Mapping[int, Entry]]:
    """Reads every directory once, sub-directories included, even if pointers form a circle.

    Raises:
        EOFError: The first directory or a sub-directory extends beyond the end; its argument is the position.
    """
    for _, entries in walk_directories(tiff):
        yield entries


def walk_directories(tiff: Tiff) -> Iterator[tuple[int, Mapping[int, Entry]]]:
    """Reads every directory as `iterate_directories` does, and its offset."""
    pending = [(tiff.first, True)]
    visited: set[int] = set()
    while pending and len(visited) < _MAX_DIRECTORIES:
        offset, needed = pending.pop()
        if offset in visited or (offset in _NO_OFFSETS and visited):
            continue
        visited.add(offset)
        try:
            entries, following = read_directory(tiff, offset)
        except ValueError:
            continue
        except EOFError:
            # Some makers leave an invalid pointer to a next directory.
            if needed:
                raise
            continue
        yield offset, entries
        pending.append((following, False))
        for tag in SUB_DIRECTORIES:
            pending += [(int(value), True) for value in read_numbers(tiff, entries.get(tag), _MAX_DIRECTORIES)]


def is_demosaiced(read: ReadAt) -> bool:
    """Whether TIFF-like data is a DNG that holds linear pixels of all colours and no mosaic."""
    tiff = open_tiff(read)
    if tiff is None:
        return False
    kinds: set[Number] = set()
    try:
        for entries in iterate_directories(tiff):
            kinds.update(read_numbers(tiff, entries.get(_PHOTOMETRIC), 1))
    except EOFError:
        pass
    return _LINEAR_RAW in kinds and _MOSAIC not in kinds


def needed_bytes(tiff: Tiff) -> int:
    """Number of bytes the data needs: the end of the last value, strip, tile or preview that a directory names.

    Raises:
        ValueError: A DNG or TIFF image claims more pixels than its bytes can hold.
    """
    needed, is_dng = 8, False
    try:
        for entries in iterate_directories(tiff):
            is_dng = is_dng or _DNG_VERSION in entries
            for tag, entry in entries.items():
                if entry.offset not in _NO_OFFSETS and (is_dng or not (tag in _OPTIONAL or tag >= _PRIVATE)):
                    needed = max(needed, tiff.base + entry.offset + entry.bytes)
            pixel_bytes = 0
            for tags in (_STRIPS, _TILES, _PREVIEW):
                for offset, count in _pieces(tiff, entries, tags):
                    needed = max(needed, tiff.base + offset + count)
                    pixel_bytes += count if tags != _PREVIEW else 0
            _check_claimed_size(tiff, entries, pixel_bytes, is_dng)
            if not pixel_bytes:
                needed = max(needed, _uncompressed_end(tiff, entries))
    except EOFError as error:
        needed = max(needed, int(error.args[0]))
    return needed


def ends_in_zeros(tiff: Tiff) -> bool:
    """Whether the last piece of a compressed mosaic ends in many zeros: what a copy left out, not coded noise."""
    last, is_coded = 0, False
    for entries in iterate_directories(tiff):
        kinds = [first_number(tiff, entries.get(tag)) for tag in (_PHOTOMETRIC, _COMPRESSION)]
        for tags in (_STRIPS, _TILES):
            end = max(
                (offset + count for offset, count in _pieces(tiff, entries, tags) if count > 2 * _ZEROS), default=0
            )
            if end > last:
                last, is_coded = end, kinds[0] in (_MOSAIC, _LINEAR_RAW) and kinds[1] != 1
    return is_coded and not any(tiff.read(tiff.base + last - _ZEROS, _ZEROS))


def _pieces(tiff: Tiff, entries: Mapping[int, Entry], tags: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Offset and number of bytes of the strips, tiles or preview of a directory; no more than plain rows have."""
    most = _uncompressed_strip(tiff, entries) if tags == _STRIPS else None
    offsets, counts = (read_numbers(tiff, entries.get(tag)) for tag in tags)
    for offset, count in zip(offsets, counts, strict=False):
        if offset not in _NO_OFFSETS and count not in _NO_OFFSETS:
            yield int(offset), int(count if most is None else min(count, most))


def _uncompressed_strip(tiff: Tiff, entries: Mapping[int, Entry]) -> int | None:
    """Bytes of a whole strip of an uncompressed image; None for anything else. Some programs write a larger number."""

    def first(tag: int, default: int) -> int:
        return first_number(tiff, entries.get(tag), default)

    if first(_COMPRESSION, 0) != 1 or first(_PHOTOMETRIC, -1) not in (0, 1, 2):
        return None
    row = -(-first(_WIDTH, 0) * first(_SAMPLES, 1) * first(_BITS, 1) // 8)
    return row * min(first(_ROWS_PER_STRIP, 1 << 32), first(_HEIGHT, 0)) or None


def has_open_end(tiff: Tiff) -> bool:
    """Whether a directory names the place of pixels, but neither their number of bytes nor a packing that tells it."""
    for entries in iterate_directories(tiff):
        for offset_tag, count_tag in (_STRIPS, _TILES):
            places, counts = (read_numbers(tiff, entries.get(tag)) for tag in (offset_tag, count_tag))
            if any(place not in _NO_OFFSETS for place in places) and not any(counts):
                return not _uncompressed_end(tiff, entries)
    return False


def _uncompressed_end(tiff: Tiff, entries: Mapping[int, Entry]) -> int:
    """Least end of uncompressed pixels in one strip whose number of bytes is not given; 0 if that is not known."""
    place, compression, width, height, bits, samples = (
        first_number(tiff, entries.get(tag), default)
        for tag, default in ((_STRIPS[0], 0), (_COMPRESSION, 0), (_WIDTH, 0), (_HEIGHT, 0), (_BITS, 0), (_SAMPLES, 1))
    )
    strips = entries.get(_STRIPS[0])
    if place in _NO_OFFSETS or compression != 1 or strips is None or strips.count != 1:
        return 0
    size = width * height * samples * bits // 8
    return tiff.base + place + size if size else 0


def _check_claimed_size(tiff: Tiff, entries: Mapping[int, Entry], pixel_bytes: int, is_dng: bool) -> None:
    """Raises ValueError if the pixels of a directory cannot fit in its bytes; makers' own formats are not checked."""

    def first(tag: int, default: int) -> int:
        return first_number(tiff, entries.get(tag), default)

    if not pixel_bytes or not (is_dng or first(_PHOTOMETRIC, 0) in (0, 1, 2)):
        return
    width, height, samples = first(_WIDTH, 0), first(_HEIGHT, 0), first(_SAMPLES, 1)
    is_plain = first(_COMPRESSION, 1) == 1 and is_dng
    claimed = width * height * samples * (first(_BITS, 1) / 8 if is_plain else _MIN_BYTES_PER_PIXEL)
    if claimed > pixel_bytes + width:
        raise ValueError(f"{width} x {height} pixels are claimed, {pixel_bytes} bytes of them are there")
