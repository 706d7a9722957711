"""EXIF as tags: read from any TIFF-like data, changed where it describes stored pixels, written as an EXIF block.

All tags are copied as they are, in their byte order, except those that describe how the source stored its pixels. A
MakerNote is placed where it was, counted from the header, because the offsets in most of them count from there.
Source: CIPA DC-008 (Exif 2.31); Adobe, TIFF 6.0.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sdd_toolkit.formats.tiff import ELEMENT_BYTES, first_number, open_tiff, read_directory, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sdd_toolkit.formats.tiff import Entry, Tiff

MAIN, EXIF, GPS, INTEROPERABILITY = "main", "exif", "gps", "interoperability"
_POINTERS = {EXIF: (MAIN, 34665), GPS: (MAIN, 34853), INTEROPERABILITY: (EXIF, 40965)}
_ORIENTATION, _NOTE, _COLOUR_SPACE, _WIDTH, _HEIGHT, _INDEX = 274, 37500, 40961, 40962, 40963, 1
_ASCII, _SHORT, _LONG, _RATIONAL = 2, 3, 4, 5
_TEXTS = frozenset((269, 270, 271, 272, 285, 305, 306, 315, 316, 33432))
_RATIOS, _RESOLUTION_UNIT = frozenset((282, 283, 286, 287)), 296
_SRGB, _SRGB_RULE = 1, b"R98\0"
_LARGEST_KIND = 13  # larger ones are BigTIFF's
_LONGEST_VALUE, _LONGEST_NOTE, _FARTHEST_NOTE = 1 << 18, 1 << 23, 1 << 20
_LONGEST_DIRECTORY = 1 << 24
_FIRST_AT = 8
# Tags of a main directory that describe how pixels are stored, which colours they have, or hold other blocks.
_STORAGE = frozenset(
    (*range(254, 269), 273, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 326), *range(330, 348),
     *range(512, 522), *range(529, 533), 559, 700, 33421, 33422, 33723, 34377, 34665, 34675, 34853, 37398, 37724, 40965)
)  # fmt: skip
_PRIVATE = range(50640, 52700)  # Canon's and DNG's, which describe a mosaic
_KEPT_OF_DNG = frozenset((50735, 50736))  # serial number, lens


@dataclass(frozen=True, slots=True)
class RawTag:
    """A tag as stored: its type, number of elements and bytes, in the byte order of its tree."""

    kind: int
    count: int
    value: bytes


@dataclass(frozen=True, slots=True)
class ExifTree:
    """The tags of an EXIF block.

    Attributes:
        order: Byte order, `<` or `>`.
        directories: Tags by code, of `MAIN`, `EXIF`, `GPS` and `INTEROPERABILITY`.
        note_at: Offset of the MakerNote from the header; None if there is none.
    """

    order: str
    directories: Mapping[str, Mapping[int, RawTag]]
    note_at: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no tag but the orientation."""
        return not any(set(tags) - {_ORIENTATION} for tags in self.directories.values())


def read_tree(tiff: Tiff) -> ExifTree:
    """The tags of TIFF-like data: an EXIF block, a TIFF image or a RAW file; what is damaged is left out."""
    main = _entries(tiff, tiff.first)
    found = {MAIN: main}
    for name, (parent, pointer) in _POINTERS.items():
        at = first_number(tiff, found.get(parent, {}).get(pointer))
        found[name] = _entries(tiff, at) if at else {}
    note = found[EXIF].get(_NOTE)
    return ExifTree(
        tiff.order,
        {
            MAIN: {
                code: tag
                for code, tag in _tags(tiff, main)
                if not _describes_storage(code) and _is_as_defined(code, tag, tiff.order)
            },
            EXIF: {code: tag for code, tag in _tags(tiff, found[EXIF]) if code != _POINTERS[INTEROPERABILITY][1]},
            GPS: dict(_tags(tiff, found[GPS])),
            INTEROPERABILITY: dict(_tags(tiff, found[INTEROPERABILITY])),
        },
        None if note is None else note.offset,
    )


def join_tags(main: Tiff, exif: Tiff | None, gps: Tiff | None) -> ExifTree:
    """The tree of a CR3 file, whose directories are blocks of their own; its MakerNote is another and is left out."""
    tree = read_tree(main)
    parts = {EXIF: exif, GPS: gps}
    more = {
        name: _in_order(tree.order, dict(_tags(tiff, _entries(tiff, tiff.first))), tiff.order)
        for name, tiff in parts.items()
        if tiff is not None
    }
    return replace(tree, directories={**tree.directories, **more})


def fit_to_pixels(tree: ExifTree, size: tuple[int, int], *, is_srgb: bool) -> ExifTree:
    """The tree for upright pixels of a size (height, width); with `is_srgb` they are sRGB whatever the source was."""
    directories = {name: dict(tags) for name, tags in tree.directories.items()}

    def change(directory: str, code: int, kind: int, number: int) -> None:
        value = struct.pack(tree.order + ("H2x" if kind == _SHORT else "I"), number)
        directories[directory][code] = RawTag(kind, 1, value[:2] if kind == _SHORT else value)

    change(MAIN, _ORIENTATION, _SHORT, 1)
    for code, side in ((_HEIGHT, size[0]), (_WIDTH, size[1])):
        if code in directories[EXIF]:
            change(EXIF, code, _LONG, side)
    if is_srgb and _COLOUR_SPACE in directories[EXIF]:
        change(EXIF, _COLOUR_SPACE, _SHORT, _SRGB)
        if _INDEX in directories[INTEROPERABILITY]:
            directories[INTEROPERABILITY][_INDEX] = RawTag(_ASCII, len(_SRGB_RULE), _SRGB_RULE)
    return replace(tree, directories=directories)


def complete(tree: ExifTree, block: bytes) -> ExifTree:
    """The tree with the tags of an EXIF block that it does not have, in its own byte order."""
    tiff = open_tiff(reader(io.BytesIO(block)))
    if tiff is None:
        return tree
    more = {name: _in_order(tree.order, tags, tiff.order) for name, tags in read_tree(tiff).directories.items()}
    present = {code for tags in tree.directories.values() for code in tags}
    added = {name: {code: tag for code, tag in more[name].items() if code not in present} for name in more}
    return replace(tree, directories={name: {**added[name], **tags} for name, tags in tree.directories.items()})


def empty_tree() -> ExifTree:
    """A tree without tags, little-endian."""
    return ExifTree("<", {name: {} for name in (MAIN, *_POINTERS)})


def add_texts(tree: ExifTree, texts: Mapping[int, str]) -> ExifTree:
    """The tree with texts in its main directory, where it has none under their codes."""
    tags = {code: text.encode("utf-8") + b"\0" for code, text in texts.items()}
    main = {code: RawTag(_ASCII, len(value), value) for code, value in tags.items()}
    return replace(tree, directories={**tree.directories, MAIN: {**main, **tree.directories[MAIN]}})


def encode_tree(tree: ExifTree, longest: int | None = None) -> bytes | None:
    """An EXIF block; one longer than `longest` bytes loses the place of its MakerNote, the note, long values.

    Returns:
        The block; None if it is too long whatever is left out.
    """
    without_note = _without(tree, lambda code, tag: code == _NOTE)
    short = _without(without_note, lambda code, tag: len(tag.value) > 1024)
    for reduced in (tree, replace(tree, note_at=None), without_note, short):
        block = _encode(reduced)
        if longest is None or len(block) <= longest:
            return block
    return None


def _without(tree: ExifTree, leave_out: Callable[[int, RawTag], bool]) -> ExifTree:
    directories = {
        name: {code: tag for code, tag in tags.items() if not leave_out(code, tag)}
        for name, tags in tree.directories.items()
    }
    return replace(tree, directories=directories)


def _encode(tree: ExifTree) -> bytes:
    note = tree.directories[EXIF].get(_NOTE)
    content = _Allocation()
    is_placed = tree.note_at is not None and _FIRST_AT < tree.note_at <= _FARTHEST_NOTE
    if note is not None and tree.note_at is not None and is_placed and len(note.value) > 4:
        content.reserve(tree.note_at, note.value)
    present = [name for name in (MAIN, EXIF, GPS, INTEROPERABILITY) if name == MAIN or tree.directories[name]]
    sizes = {name: 6 + 12 * (len(tree.directories[name]) + _pointer_count(name, present)) for name in present}
    positions = {name: content.place(b"\0" * sizes[name]) for name in present}
    for name in present:
        tags = dict(tree.directories[name])
        for child, (parent, pointer) in _POINTERS.items():
            if parent == name and child in present:
                tags[pointer] = RawTag(_LONG, 1, struct.pack(tree.order + "I", positions[child]))
        table = struct.pack(tree.order + "H", len(tags))
        for code in sorted(tags):
            tag = tags[code]
            field = tag.value.ljust(4, b"\0")
            if len(tag.value) > 4:
                at = content.reserved[0] if tag is note and content.reserved else content.place(tag.value)
                field = struct.pack(tree.order + "I", at)
            table += struct.pack(tree.order + "HHI", code, tag.kind, tag.count) + field
        content.write(positions[name], table + b"\0\0\0\0")
    mark = b"II*\0" if tree.order == "<" else b"MM\0*"
    content.write(0, mark + struct.pack(tree.order + "I", positions[MAIN]))
    return bytes(content.data)


class _Allocation:
    """Bytes that grow behind a header of 8, around a reserved range."""

    def __init__(self) -> None:
        self.data = bytearray(_FIRST_AT)
        self.reserved: tuple[int, int] | None = None
        self._end = _FIRST_AT

    def reserve(self, start: int, value: bytes) -> None:
        self.reserved = start, start + len(value)
        self.write(start, value)

    def place(self, value: bytes) -> int:
        """Places bytes at the next even position where they fit; returns it."""
        start = self._end + self._end % 2
        if self.reserved is not None and start < self.reserved[1] and start + len(value) > self.reserved[0]:
            start = self.reserved[1] + self.reserved[1] % 2
        self._end = start + len(value)
        self.write(start, value)
        return start

    def write(self, start: int, value: bytes) -> None:
        missing = start + len(value) - len(self.data)
        if missing > 0:
            self.data += bytes(missing)
        self.data[start : start + len(value)] = value


def _pointer_count(name: str, present: Iterable[str]) -> int:
    return sum(parent == name and child in present for child, (parent, _) in _POINTERS.items())


def _entries(tiff: Tiff, offset: int) -> Mapping[int, Entry]:
    try:
        return read_directory(tiff, offset)[0]
    except (EOFError, ValueError, OverflowError):
        return {}


def _tags(tiff: Tiff, entries: Mapping[int, Entry]) -> Iterable[tuple[int, RawTag]]:
    """The tags that can be read and are not unreasonably long, alone or together: many may name the same bytes."""
    left = _LONGEST_DIRECTORY
    for code, entry in entries.items():
        longest = _LONGEST_NOTE if code == _NOTE else _LONGEST_VALUE
        if entry.kind > _LARGEST_KIND or not 0 < entry.bytes <= min(longest, left):
            continue
        left -= entry.bytes
        value = tiff.read(tiff.base + entry.offset, entry.bytes)
        if len(value) == entry.bytes:
            yield code, RawTag(entry.kind, entry.count, value)


def _in_order(order: str, tags: Mapping[int, RawTag], of_tags: str) -> Mapping[int, RawTag]:
    """Tags of one byte order in another."""
    return tags if order == of_tags else {code: _swap(tag) for code, tag in tags.items()}


def _swap(tag: RawTag) -> RawTag:
    width, swapped = ELEMENT_BYTES.get(tag.kind, 1), bytearray(tag.value)
    for at in range(width):
        swapped[at::width] = tag.value[width - 1 - at :: width]
    return replace(tag, value=bytes(swapped))


def _is_as_defined(code: int, tag: RawTag, order: str) -> bool:
    """Whether a tag has the type of its definition; decoders refuse a TIFF where it has another."""
    if code in _TEXTS:
        return tag.kind == _ASCII
    if code in _RATIOS:
        return (tag.kind, tag.count) == (_RATIONAL, 1)
    if code == _RESOLUTION_UNIT:
        return (tag.kind, tag.count) == (_SHORT, 1) and struct.unpack(order + "H", tag.value)[0] in (1, 2, 3)
    return True


def _describes_storage(code: int) -> bool:
    return code < min(_STORAGE) or code in _STORAGE or (code in _PRIVATE and code not in _KEPT_OF_DNG)
