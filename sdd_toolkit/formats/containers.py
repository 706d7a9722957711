"""Recognises containers of RAW files and images, and finds files that are cut short.

A truncated copy still has its metadata, and LibRaw fills missing pixels of some formats with grey. Every container
implies its length: TIFF-like files by the strips, tiles and values their directories name, ISO media (CR3) by
boxes and sample tables, RAF by its header, RW2 and MRW by the size of their pixels, X3F, IIQ and CRW by a table, JPEG
by its end marker, PNG by its last chunk. Only a JPEG without end marker is decoded: where its last pixel is there, it
is whole.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats import jpeg, maker_raw
from sdd_toolkit.formats import tiff as tiff_directory
from sdd_toolkit.formats.embedding import EXIF_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sdd_toolkit.formats.tiff import ReadAt, Tiff

_MAKERS = (
    "3fr ari arw bay cap cr2 cr3 crw dcr dcs dng drf eip erf fff gpr iiq k25 kdc mdc "
    "mef mos mrw nef nrw orf pef ptx pxn r3d raf raw rw2 rwl rwz sr2 srf srw x3f"
)
RAW_SUFFIXES = frozenset("." + name for name in _MAKERS.split())

_COPY_AGAIN = "copy it from the card again, or leave it out"
_NO_END = "its end marker is missing"
_PANASONIC = b"\x55"
_CANON_METADATA = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_BOXES = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))
_MAX_BOXES = 10_000

LARGEST_PX = 500_000_000
"""No camera makes files with more pixels; a damaged header may claim any number."""


class Kind(StrEnum):
    """A container, recognised by its first bytes."""

    TIFF = "TIFF"
    JPEG = "JPEG"
    PNG = "PNG"
    ISO_MEDIA = "ISO media file"
    RAF = "RAF"
    X3F = "X3F"
    MRW = "MRW"
    IIQ = "IIQ"
    CRW = "CRW"
    FOREIGN = "foreign file"
    UNKNOWN = "unknown"


_IMAGE_KINDS = {
    ".jpg": Kind.JPEG, ".jpeg": Kind.JPEG, ".png": Kind.PNG, ".tif": Kind.TIFF, ".tiff": Kind.TIFF,
}  # fmt: skip
IMAGE_SUFFIXES = frozenset(_IMAGE_KINDS)
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_STARTS = (
    (0, b"\xff\xd8\xff", Kind.JPEG), (0, b"\x89PNG\r\n\x1a\n", Kind.PNG), (0, b"FUJIFILM", Kind.RAF),
    (4, b"ftyp", Kind.ISO_MEDIA), *((0, start, Kind.TIFF) for start in _TIFF_STARTS), (0, b"FOVb", Kind.X3F),
    (0, b"\0MRM", Kind.MRW), (0, b"IIII", Kind.IIQ), (0, b"MMMM", Kind.IIQ), (6, b"HEAPCCDR", Kind.CRW),
)  # fmt: skip
_FOREIGN = {b"GIF8": "GIF", b"%PDF": "PDF", b"BM": "BMP", b"8BPS": "PSD", b"PK\x03\x04": "ZIP archive"}


@dataclass(frozen=True, slots=True)
class Structure:
    """The container of a file, its size and the positions of its metadata.

    Attributes:
        kind: The container.
        size: (height, width) of a JPEG, PNG or TIFF image as stored; None for other containers.
        exif: Offsets of TIFF-like blocks of metadata.
        is_bounded: Whether the file tells where its pixels end.
    """

    kind: Kind
    size: tuple[int, int] | None = None
    exif: tuple[int, ...] = ()
    is_bounded: bool = True


def is_candidate(path: Path | str) -> bool:
    """Whether the suffix of a file is that of a RAW file or image.

    Example:
        >>> is_candidate("IMG_0001.CR3"), is_candidate("notes.txt")
        (True, False)
    """
    suffix = os.path.splitext(path)[1].lower()
    return suffix in RAW_SUFFIXES or suffix in IMAGE_SUFFIXES


def examine(path: Path) -> Structure:
    """Opens a file and reads its structure; see `structure_of`.

    Raises:
        RawError: It cannot be opened, is empty, is cut short, or is not what its suffix says.
    """
    try:
        with path.open("rb") as stream:
            return read_structure(stream, path)
    except OSError as error:
        raise RawError(
            f"cannot read {path}: {error.strerror or error}", hint="check the path and its rights"
        ) from error


def read_structure(stream: BinaryIO, path: Path) -> Structure:
    """The structure of an open file, of which only headers are read (of a JPEG, all of it).

    Args:
        stream: The file's bytes.
        path: Its path, for the suffix and for messages.

    Raises:
        RawError: It is empty, is cut short, or is not what its suffix says.
    """
    length = stream.seek(0, 2)
    if length == 0:
        raise RawError(f"{path} is empty", hint=_COPY_AGAIN)
    read = tiff_directory.reader(stream)
    kind, name = kind_of(read(0, 16))
    _check_suffix(path, kind, name)
    try:
        structure, needed = _EXAMINERS[kind](read, length)
    except (EOFError, struct.error) as error:
        cause = error if isinstance(error, EOFError) else "its header is not whole"
        raise RawError(f"{path} is cut short: {cause}", hint=_COPY_AGAIN) from error
    except ValueError as error:
        raise RawError(f"{path} is damaged: {error}", hint=_COPY_AGAIN) from error
    if needed > length:
        raise RawError(f"{path} is cut short: {length} of {needed} bytes", hint=_COPY_AGAIN)
    return structure


def claimed_size(stream: BinaryIO) -> tuple[int, int] | None:
    """(height, width) in the header of a JPEG, PNG or TIFF, however damaged the rest is; None if there is none."""
    length = stream.seek(0, 2)
    read = tiff_directory.reader(stream)
    kind, _ = kind_of(read(0, 16))
    try:
        if kind is Kind.JPEG:
            header = jpeg.frame_header(read, length)
            return None if header is None else struct.unpack(">HH", header[5:9])
        if kind is Kind.PNG:
            width, height = struct.unpack(">II", read(16, 8))
            return height, width
        tiff = tiff_directory.open_tiff(read) if kind is Kind.TIFF else None
        return None if tiff is None else _tiff_size(tiff)
    except (EOFError, struct.error, ValueError, OverflowError):
        return None


def exif_range(stream: BinaryIO) -> tuple[int, int] | None:
    """Offset and length of the EXIF block of a JPEG or PNG; None if it has none or is damaged before it."""
    length = stream.seek(0, 2)
    read = tiff_directory.reader(stream)
    kind, _ = kind_of(read(0, 16))
    try:
        if kind is Kind.JPEG:
            for code, position, head in jpeg.segments(read, length):
                if code == jpeg.SCAN:
                    break
                if code == jpeg.APP1 and head[4:] == EXIF_HEAD:
                    return position + 10, int.from_bytes(head[2:4], "big") - 8
        elif kind is Kind.PNG:
            for name, start, end in png_chunks(read, length):
                if name == b"eXIf":
                    return start, end - start
    except ValueError:
        pass
    return None


def kind_of(head: bytes) -> tuple[Kind, str]:
    """The container of a file by its first 16 bytes, and the name of its format."""
    for position, start, kind in _STARTS:
        if head[position : position + len(start)] == start:
            return kind, kind.value
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind.FOREIGN, "WebP"
    for start, name in _FOREIGN.items():
        if head.startswith(start):
            return Kind.FOREIGN, name
    return Kind.UNKNOWN, "file of an unknown kind"


def boxes(read: ReadAt, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start of the content and end of every box of an ISO media file; inner boxes follow their outer one.

    Raises:
        ValueError: A box is shorter than its own header.
    """
    pending, count = [(start, end)], 0
    while pending:
        position, stop = pending.pop()
        while position + 8 <= stop and (count := count + 1) < _MAX_BOXES:
            head = read(position, 32)
            if len(head) < 8:
                break
            size, name, header = int.from_bytes(head[:4], "big"), head[4:8], 8
            if size == 1 and len(head) >= 16:
                size, header = int.from_bytes(head[8:16], "big"), 16
            size = size or stop - position
            if size < header:
                raise ValueError(f"a box of {size} bytes")
            yield name, position + header, position + size
            if name in _BOXES:
                pending.append((position + header, min(position + size, stop)))
            elif name == b"uuid" and head[header : header + 16] == _CANON_METADATA:
                pending.append((position + header + 16, min(position + size, stop)))
            position += size


def _check_suffix(path: Path, kind: Kind, name: str) -> None:
    """Raises RawError unless the container is one that the suffix of a file stands for."""
    suffix = path.suffix.lower()
    expected = _IMAGE_KINDS.get(suffix)
    if kind is expected or (expected is None and kind not in (Kind.JPEG, Kind.PNG, Kind.FOREIGN)):
        return
    mismatch = f"is a {name} named {suffix}" if kind is not Kind.UNKNOWN else f"is no {expected}, though named {suffix}"
    raise RawError(f"{path} {mismatch}", hint="give it the suffix of what it is")


def _tiff(read: ReadAt, length: int) -> tuple[Structure, int]:
    tiff = tiff_directory.open_tiff(read)
    if tiff is None:
        raise ValueError("its TIFF header makes no sense")
    needed = tiff_directory.needed_bytes(tiff)
    if read(2, 1) == _PANASONIC:
        pixels = maker_raw.panasonic_bytes(tiff)
        return Structure(Kind.TIFF, exif=(0,), is_bounded=pixels > 0), max(needed, pixels)
    if needed > length:
        return Structure(Kind.TIFF, exif=(0,)), needed
    if tiff_directory.ends_in_zeros(tiff):
        raise EOFError("zeros stand for the end of its pixels")
    return Structure(Kind.TIFF, _tiff_size(tiff), (0,), not tiff_directory.has_open_end(tiff)), needed


def _tiff_size(tiff: Tiff) -> tuple[int, int] | None:
    entries, _ = tiff_directory.read_directory(tiff, tiff.first)
    height, width = (tiff_directory.first_number(tiff, entries.get(tag), -1) for tag in (257, 256))
    return (height, width) if min(height, width) >= 0 else None


def _jpeg(read: ReadAt, length: int) -> tuple[Structure, int]:
    size = None
    exif: tuple[int, ...] = ()
    codes = set()
    for code, position, head in jpeg.segments(read, length):
        codes.add(code)
        if code == jpeg.APP1 and head[4:8] == EXIF_HEAD[:4]:
            exif = exif or (position + 10,)
        elif code in jpeg.FRAMES and jpeg.SCAN not in codes:
            height, width = struct.unpack(">HH", head[5:9])
            size = height, width
    if jpeg.SCAN not in codes or size is None:
        raise EOFError(_NO_END)
    if jpeg.END not in codes and (size[0] * size[1] > LARGEST_PX or not jpeg.has_all_pixels(read(0, length))):
        raise EOFError(_NO_END)
    return Structure(Kind.JPEG, size, exif), 0


def png_chunks(read: ReadAt, length: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and its end of the chunks of a PNG."""
    position = 8
    while position < length:
        head = read(position, 8)
        start = position + 8
        end = start + int.from_bytes(head[:4], "big")
        yield head[4:8], start, end
        position = end + 4


def inflate_chunk(compressed: bytes, longest: int) -> bytes:
    """Decompresses the content of a chunk of PNG.

    Raises:
        ValueError: It is damaged, or longer than `longest` bytes.
    """
    try:
        content = zlib.decompressobj().decompress(compressed, longest + 1)
    except zlib.error as error:
        raise ValueError("it cannot be decompressed") from error
    if len(content) > longest:
        raise ValueError(f"it is longer than {longest} bytes")
    return content


def _png(read: ReadAt, length: int) -> tuple[Structure, int]:
    size = None
    for name, start, end in png_chunks(read, length):
        if name == b"IHDR" and len(header := read(start, 8)) == 8:
            width, height = struct.unpack(">II", header)
            size = height, width
        elif name == b"IEND":
            return Structure(Kind.PNG, size), end + 4
    raise EOFError(_NO_END)


def _iso_media(read: ReadAt, length: int) -> tuple[Structure, int]:
    needed, names, exif = 0, set(), []
    sizes: list[int] = []
    for name, start, end in boxes(read, 0, length):
        names.add(name)
        needed = max(needed, end)
        if name in (b"CMT1", b"CMT2", b"CMT3"):
            exif.append(start)
        elif name == b"stsz":
            fixed, count = struct.unpack(">4xII", read(start, 12))
            sizes = [fixed] if fixed else list(struct.unpack(f">{min(count, 1)}I", read(start + 12, 4 * min(count, 1))))
        elif name in (b"co64", b"stco"):
            (offset,) = struct.unpack(">8xQ" if name == b"co64" else ">8xI", read(start, 16 if name == b"co64" else 12))
            needed = max(needed, offset + (sizes[0] if sizes else 0))
    if b"mdat" not in names and needed <= length:
        raise ValueError("it holds no media data")
    return Structure(Kind.ISO_MEDIA, exif=tuple(exif)), needed


def _raf(read: ReadAt, length: int) -> tuple[Structure, int]:
    jpeg, jpeg_bytes, header, header_bytes, mosaic, mosaic_bytes = struct.unpack(">6I", read(84, 24))
    needed = max(jpeg + jpeg_bytes, header + header_bytes, mosaic + mosaic_bytes)
    exif = (jpeg + 12,) if read(jpeg + 6, 4) == b"Exif" else ()
    return Structure(Kind.RAF, exif=exif), needed


_EXAMINERS: dict[Kind, Callable[[ReadAt, int], tuple[Structure, int]]] = {
    Kind.TIFF: _tiff,
    Kind.JPEG: _jpeg,
    Kind.PNG: _png,
    Kind.ISO_MEDIA: _iso_media,
    Kind.RAF: _raf,
    Kind.X3F: lambda read, length: (Structure(Kind.X3F), maker_raw.sigma_bytes(read, length)),
    Kind.MRW: lambda read, length: (Structure(Kind.MRW), maker_raw.minolta_bytes(read, length)),
    Kind.IIQ: lambda read, length: (Structure(Kind.IIQ), maker_raw.phase_one_bytes(read, length)),
    Kind.CRW: lambda read, length: (Structure(Kind.CRW), maker_raw.canon_heap_bytes(read, length)),
    Kind.FOREIGN: lambda read, length: (Structure(Kind.FOREIGN), 0),
    Kind.UNKNOWN: lambda read, length: (Structure(Kind.UNKNOWN, is_bounded=False), 0),
}


def check_is_file(path: Path) -> None:
    """Raises RawError unless `path` is a file."""
    if not path.is_file():
        raise RawError(f"there is no file {path}", hint="check the path")


def is_image(path: Path) -> bool:
    """Whether the suffix of a file is that of an image format rather than of a RAW format."""
    return path.suffix.lower() in IMAGE_SUFFIXES
