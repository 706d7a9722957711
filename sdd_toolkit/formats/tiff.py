"""Directories of TIFF-like data (TIFF, Exif, DNG, most makers' RAW), read without decoding and never twice.

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
_STRIPS, _TILES, _PREVIEW = (273, 279), (324, 325), (513, 514)
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _DNG_VERSION = 256, 257, 258, 259, 262, 277, 50706
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d",
            13: "I", 16: "Q", 17: "q", 18: "Q"}  # fmt: skip
_SIZES = {kind: struct.calcsize("<" + code) for kind, code in _FORMATS.items()}
_MAGIC = {42: False, 43: True, 0x4F52: False, 0x5352: False, 0x55: False}  # TIFF, BigTIFF, Olympus twice, Panasonic
_MOST_ENTRIES, _MOST_DIRECTORIES, _MOST_VALUES = 4096, 256, 1_000_000
_FARTHEST = 1 << 62
_NOWHERE = (0, 0xFFFFFFFF)  # what Panasonic and Kodak write where there is nothing
_LEAST_BYTES_A_PIXEL = 1 / 256  # of compressed data; below it the size is a lie


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory: its value's type, number of elements and place (relative to the TIFF header)."""

    kind: int
    count: int
    place: int

    @property
    def bytes(self) -> int:
        """Length of the value; 0 for a type nobody knows."""
        return _SIZES.get(self.kind, 0) * self.count


@dataclass(frozen=True, slots=True)
class Tiff:
    """TIFF-like data.

    Attributes:
        read: Bytes of the file by offset and count; fewer where it ends.
        base: Where all offsets count from.
        order: `<` or `>`.
        big: Whether offsets have 64 bits.
        first: Offset of the first directory.
    """

    read: ReadAt
    base: int
    order: str
    big: bool
    first: int

    def unpack(self, code: str, place: int) -> tuple[int, ...]:
        """Numbers at `place`; raises EOFError where the data ends before."""
        wanted = struct.calcsize(self.order + code)
        content = self.read(self.base + place, wanted)
        if len(content) < wanted:
            raise EOFError(self.base + place + wanted)
        return struct.unpack(self.order + code, content)


def reader(stream: BinaryIO) -> ReadAt:
    """`stream` read at any place."""

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


def read_directory(tiff: Tiff, place: int) -> tuple[dict[int, Entry], int]:
    """The entries of the directory at `place` by tag, and the place of the next one (0: none).

    Raises:
        EOFError: The directory goes on behind the end of the data; its argument is the first byte not needed.
        ValueError: It is no directory.
    """
    (count,) = tiff.unpack("Q" if tiff.big else "H", place)
    if not 0 < count <= _MOST_ENTRIES:
        raise ValueError(f"a directory of {count} entries")
    lead, step, inline = (8, 20, 8) if tiff.big else (2, 12, 4)
    content = tiff.read(tiff.base + place + lead, count * step)
    if len(content) < count * step:
        raise EOFError(tiff.base + place + lead + count * step)
    entries = {}
    for index, (tag, kind, number, value) in enumerate(
        struct.iter_unpack(tiff.order + ("HHQQ" if tiff.big else "HHII"), content)
    ):
        inside = _SIZES.get(kind, 0) * number <= inline
        entries[tag] = Entry(kind, number, place + lead + index * step + step - inline if inside else value)
    try:
        (following,) = tiff.unpack("Q" if tiff.big else "I", place + lead + count * step)
    except EOFError:
        following = 0
    return entries, following


def read_numbers(tiff: Tiff, entry: Entry | None, most: int = _MOST_VALUES) -> tuple[Number, ...]:
    """The elements of a value; a ratio counts as one, and is 0 where its denominator is. Empty if missing or cut."""
    if entry is None or entry.kind not in _FORMATS:
        return ()
    count = min(entry.count, most)
    code = _FORMATS[entry.kind]
    content = tiff.read(tiff.base + entry.place, _SIZES[entry.kind] * count)
    if len(content) < _SIZES[entry.kind] * count:
        return ()
    if code == "s":
        return tuple(content)
    values = struct.unpack(f"{tiff.order}{len(code) * count}{code[0]}", content)
    if len(code) == 1:
        return values
    return tuple(high / low if low else 0.0 for high, low in zip(values[::2], values[1::2], strict=True))


def read_text(tiff: Tiff, entry: Entry | None) -> str | None:
    """A value as text without padding; None if it is missing or blank."""
    if entry is None or _SIZES.get(entry.kind) != 1 or entry.count > _MOST_ENTRIES:
        return None
    content = tiff.read(tiff.base + entry.place, entry.count).split(b"\0")[0]
    return " ".join(content.decode("utf-8", "replace").split()) or None


def iterate_directories(tiff: Tiff) -> Iterator[Mapping[int, Entry]]:
    """Every directory once, sub-directories included, however the pointers run in circles.

    Raises:
        EOFError: The first directory or a sub-directory goes on behind the end; its argument tells where.
    """
    waiting = [(tiff.first, True)]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        place, needed = waiting.pop()
        if place in seen or (place in _NOWHERE and seen):
            continue
        seen.add(place)
        try:
            entries, following = read_directory(tiff, place)
        except ValueError:
            continue
        except EOFError:
            # Some makers leave rubbish in the pointer to a next directory.
            if needed:
                raise
            continue
        yield entries
        waiting.append((following, False))
        for tag in SUB_DIRECTORIES:
            waiting += [(int(value), True) for value in read_numbers(tiff, entries.get(tag), _MOST_DIRECTORIES)]


def needed_bytes(tiff: Tiff) -> int:
    """How many bytes the data needs: the end of the farthest value, strip, tile or preview any directory names.

    Raises:
        ValueError: A DNG or TIFF image claims more pixels than its bytes can hold.
    """
    needed, is_dng = 8, False
    try:
        for entries in iterate_directories(tiff):
            is_dng = is_dng or _DNG_VERSION in entries
            held = 0
            for entry in entries.values():
                if entry.place not in _NOWHERE:
                    needed = max(needed, tiff.base + entry.place + entry.bytes)
            for where, how_many in (_STRIPS, _TILES, _PREVIEW):
                pieces = read_numbers(tiff, entries.get(where)), read_numbers(tiff, entries.get(how_many))
                for offset, count in zip(*pieces, strict=False):
                    if offset not in _NOWHERE and count not in _NOWHERE:
                        needed = max(needed, tiff.base + int(offset) + int(count))
                        held += int(count) if where != _PREVIEW[0] else 0
            _check_claim(tiff, entries, held, is_dng)
    except EOFError as error:
        needed = max(needed, int(error.args[0]))
    return needed


def _check_claim(tiff: Tiff, entries: Mapping[int, Entry], held: int, is_dng: bool) -> None:
    """Raises ValueError where a directory's pixels cannot fit into its bytes; makers' own formats may say anything."""

    def first(tag: int, default: int) -> int:
        found = read_numbers(tiff, entries.get(tag), 1)
        return int(found[0]) if found else default

    if not held or not (is_dng or first(_PHOTOMETRIC, 0) in (0, 1, 2)):
        return
    width, height, samples = first(_WIDTH, 0), first(_HEIGHT, 0), first(_SAMPLES, 1)
    plain = first(_COMPRESSION, 1) == 1 and is_dng
    wanted = width * height * samples * (first(_BITS, 1) / 8 if plain else _LEAST_BYTES_A_PIXEL)
    if wanted > held + width:
        raise ValueError(f"{width} x {height} pixels are claimed, {held} bytes of them are there")
