"""Metadata of a photograph as blocks that any image file can carry: EXIF, XMP, IPTC, and text of PNG.

Read from JPEG, PNG, TIFF, DNG and other RAW files like TIFF, CR3 and RAF. Files are untrusted: compressed text is
decompressed up to a limit, and what is damaged is left out. Sources: see `formats.embedding` and `metadata.exif_tree`.
"""

from __future__ import annotations

import io
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats import jpeg
from sdd_toolkit.formats.containers import Kind, boxes, inflate_chunk, kind_of, png_chunks
from sdd_toolkit.formats.embedding import (
    EXIF_HEAD,
    IPTC_KEYWORD,
    LONGEST_JPEG_EXIF,
    PHOTOSHOP_HEAD,
    XMP_EXTENSION_HEAD,
    XMP_HEAD,
    XMP_KEYWORD,
    EmbeddedMetadata,
    find_iptc,
)
from sdd_toolkit.formats.tiff import open_tiff, read_directory, reader
from sdd_toolkit.metadata.exif_tree import (
    ExifTree,
    add_texts,
    complete,
    empty_tree,
    encode_tree,
    fit_to_pixels,
    join_tags,
    read_tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sdd_toolkit.formats.tiff import ReadAt

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 16 << 20
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_TEXT_TAGS = {b"Description": 270, b"Software": 305, b"Author": 315, b"Copyright": 33432}
_EXTENSION_NAME = re.compile(rb"""\s?xmpNote:HasExtendedXMP=["'][0-9A-Fa-f]*["']""")
_XMP_SIZES = {b"tiff:ImageLength": 0, b"exif:PixelYDimension": 0, b"tiff:ImageWidth": 1, b"exif:PixelXDimension": 1}


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """The metadata of a file as it was read.

    Attributes:
        tree: The tags of EXIF; None if there are none.
        xmp: An XMP packet.
        iptc: IPTC datasets.
        texts: Text of a PNG, chunk name and content, without the blocks above.
    """

    tree: ExifTree | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(slots=True)
class _Found:
    """What has been found of a file's metadata so far; the first of each kind counts."""

    tree: ExifTree | None = None
    xmp: bytes = b""
    extension: dict[int, bytes] = field(default_factory=dict)
    resources: bytes = b""
    iptc: bytes = b""
    texts: list[tuple[bytes, bytes]] = field(default_factory=list)


def read_file_metadata(path: Path) -> FileMetadata:
    """The metadata of a photograph, RAW or image.

    Raises:
        RawError: The file cannot be opened.
    """
    found = _Found()
    try:
        with path.open("rb") as stream:
            read, length = reader(stream), stream.seek(0, 2)
            kind, _ = kind_of(read(0, 16))
            try:
                _READERS.get(kind, _read_tiff)(read, length, found)
            except (EOFError, ValueError, OverflowError) as error:
                _LOG.debug("%s: metadata are damaged: %s", path, error)
    except OSError as error:
        raise RawError(
            f"cannot read {path}: {error.strerror or error}", hint="check the path and its rights"
        ) from error
    iptc = found.iptc or find_iptc(found.resources)
    return FileMetadata(found.tree, found.xmp or None, iptc or None, tuple(found.texts))


def embeddable(
    metadata: FileMetadata, suffix: str, size: tuple[int, int], *, is_srgb: bool, fallback: bytes | None = None
) -> EmbeddedMetadata:
    """The blocks for an upright picture made of the file.

    Args:
        metadata: Of the file.
        suffix: Of the picture, lower case.
        size: (height, width) of the picture.
        is_srgb: Whether its pixels are sRGB whatever the file says of its own.
        fallback: An EXIF block of what is known otherwise; its tags are added where the file has none.
    """
    is_png, is_jpeg = suffix == ".png", suffix in (".jpg", ".jpeg")
    tree = metadata.tree
    texts = {} if is_png else _texts_as_tags(metadata.texts)
    if texts:
        tree = add_texts(tree or empty_tree(), texts)
    if fallback is not None:
        tree = complete(tree or empty_tree(), fallback)
    exif = None
    if tree is not None and not tree.is_empty:
        fitting = fit_to_pixels(tree, size, is_srgb=is_srgb)
        exif = encode_tree(fitting)
        if is_jpeg and exif is not None and len(exif) > LONGEST_JPEG_EXIF:
            _LOG.warning("the EXIF block is longer than a JPEG takes: its MakerNote or long values are left out")
            exif = encode_tree(fitting, LONGEST_JPEG_EXIF)
    xmp = None if metadata.xmp is None else _fit_xmp(metadata.xmp, size)
    return EmbeddedMetadata(exif=exif, xmp=xmp, iptc=metadata.iptc, texts=metadata.texts if is_png else ())


def _read_tiff(read: ReadAt, length: int, found: _Found) -> None:
    tiff = open_tiff(read)
    if tiff is None:
        return
    found.tree = read_tree(tiff)
    entries, _ = read_directory(tiff, tiff.first)

    def value(code: int) -> bytes:
        entry = entries.get(code)
        if entry is None or entry.bytes > _MAX_BYTES:
            return b""
        return tiff.read(tiff.base + entry.offset, entry.bytes)

    # Some programs write IPTC as 32-bit numbers, padded with zeros, and in their byte order.
    datasets = value(_IPTC)
    if datasets[3:4] == b"\x1c" != datasets[:1]:
        datasets = b"".join(datasets[at : at + 4][::-1] for at in range(0, len(datasets), 4))
    found.xmp, found.resources, found.iptc = value(_XMP), value(_PHOTOSHOP), datasets.rstrip(b"\0")


def _read_jpeg(read: ReadAt, length: int, found: _Found) -> None:
    for code, position, head in jpeg.segments(read, length):
        if code == jpeg.SCAN:
            break
        if code in (jpeg.APP1, jpeg.APP13):
            content = read(position + 4, max(int.from_bytes(head[2:4], "big") - 2, 0))
            _read_segment(content, found)
    if found.extension:
        extended = b"".join(part for _, part in sorted(found.extension.items()))
        found.xmp = _merge_extension(found.xmp, extended)


def _read_segment(content: bytes, found: _Found) -> None:
    if content.startswith(EXIF_HEAD):
        _read_block(content[len(EXIF_HEAD) :], found)
    elif content.startswith(XMP_HEAD):
        found.xmp = found.xmp or content[len(XMP_HEAD) :]
    elif content.startswith(XMP_EXTENSION_HEAD):
        body = content[len(XMP_EXTENSION_HEAD) :]
        if sum(map(len, found.extension.values())) < _MAX_BYTES:
            found.extension.setdefault(int.from_bytes(body[36:40], "big"), body[40:])
    elif content.startswith(PHOTOSHOP_HEAD) and len(found.resources) < _MAX_BYTES:
        found.resources += content[len(PHOTOSHOP_HEAD) :]


def _read_block(block: bytes, found: _Found) -> None:
    tiff = open_tiff(reader(io.BytesIO(block)))
    if tiff is not None and found.tree is None:
        found.tree = read_tree(tiff)


def _read_png(read: ReadAt, length: int, found: _Found) -> None:
    for name, start, end in png_chunks(read, length):
        if name not in (b"eXIf", *_TEXT_CHUNKS) or end - start > _MAX_BYTES:
            continue
        content = read(start, end - start)
        if name == b"eXIf":
            _read_block(content, found)
            continue
        try:
            _read_text(name, content, found)
        except ValueError:
            continue


def _read_text(name: bytes, content: bytes, found: _Found) -> None:
    keyword, text = _text_of_chunk(name, content)
    if keyword == XMP_KEYWORD:
        found.xmp = found.xmp or text
    elif keyword.startswith(b"Raw profile type "):
        _read_raw_profile(keyword, text, found)
    else:
        found.texts.append((name, content))


def _read_raw_profile(keyword: bytes, text: bytes, found: _Found) -> None:
    """A block in ImageMagick's form: its name, its length and hexadecimal digits."""
    _, _, rest = text.lstrip().partition(b"\n")
    _, _, digits = rest.lstrip().partition(b"\n")
    content = bytes.fromhex(digits.decode("ascii"))
    if keyword == IPTC_KEYWORD:
        found.iptc = found.iptc or find_iptc(content) or (content if content[:1] == b"\x1c" else b"")
    elif content.startswith((EXIF_HEAD, XMP_HEAD)):
        _read_segment(content, found)
    elif keyword.endswith(b" xmp"):
        found.xmp = found.xmp or content


def _text_of_chunk(name: bytes, content: bytes) -> tuple[bytes, bytes]:
    """Keyword and text of a text chunk of PNG."""
    keyword, _, rest = content.partition(b"\0")
    if name == b"tEXt":
        return keyword, rest
    if name == b"zTXt":
        return keyword, inflate_chunk(rest[1:], _MAX_BYTES)
    is_compressed, (_, _, text) = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    return keyword, inflate_chunk(text, _MAX_BYTES) if is_compressed else text


def _texts_as_tags(texts: tuple[tuple[bytes, bytes], ...]) -> dict[int, str]:
    """Text of a PNG by the tags of EXIF that mean the same."""
    tags: dict[int, str] = {}
    for name, content in texts:
        keyword, text = _text_of_chunk(name, content)
        if keyword in _TEXT_TAGS:
            encoding = "utf-8" if name == b"iTXt" else "latin-1"
            tags.setdefault(_TEXT_TAGS[keyword], text.decode(encoding, "replace").replace("\0", " "))
    return tags


def _read_cr3(read: ReadAt, length: int, found: _Found) -> None:
    blocks = {}
    for name, start, end in boxes(read, 0, length):
        if name in (b"CMT1", b"CMT2", b"CMT4"):
            blocks[name] = open_tiff(read, start)
        elif name == b"uuid" and end - start <= _MAX_BYTES and read(start, 16) == _XMP_BOX:
            found.xmp = read(start + 16, end - start - 16).rstrip(b"\0")
    main = blocks.get(b"CMT1")
    if main is not None:
        found.tree = join_tags(main, blocks.get(b"CMT2"), blocks.get(b"CMT4"))


def _read_raf(read: ReadAt, length: int, found: _Found) -> None:
    """The metadata of the JPEG that a RAF file starts with."""
    start, size = (int.from_bytes(read(at, 4), "big") for at in (84, 88))
    _read_jpeg(lambda offset, count: read(start + offset, min(count, max(size - offset, 0))), size, found)


def _merge_extension(main: bytes, extended: bytes) -> bytes:
    """An XMP packet with the descriptions of its extension; without them if either is not as expected."""
    _, _, opened = extended.partition(b"<rdf:RDF")
    _, _, content = opened.partition(b">")
    inner, closing, _ = content.rpartition(b"</rdf:RDF>")
    start, end, rest = main.rpartition(b"</rdf:RDF>")
    return _EXTENSION_NAME.sub(b"", start) + inner + end + rest if closing and end else main


def _fit_xmp(xmp: bytes, size: tuple[int, int]) -> bytes:
    """An XMP packet that says what holds for upright pixels of a size (height, width), where it says it at all."""
    numbers = {b"tiff:Orientation": 1, **{name: size[side] for name, side in _XMP_SIZES.items()}}
    for name, number in numbers.items():
        value = str(number).encode()
        xmp = re.sub(rb"(" + name + rb"""\s*=\s*["'])\d+(?=["'])""", rb"\g<1>" + value, xmp)
        xmp = re.sub(rb"(<" + name + rb"\s*>)\s*\d+\s*(?=</)", rb"\g<1>" + value, xmp)
    return xmp


_READERS: dict[Kind, Callable[[ReadAt, int, _Found], None]] = {
    Kind.JPEG: _read_jpeg,
    Kind.PNG: _read_png,
    Kind.ISO_MEDIA: _read_cr3,
    Kind.RAF: _read_raf,
}
