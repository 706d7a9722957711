"""Embeds metadata and colour profiles in encoded JPEG and PNG images.

JPEG: EXIF and XMP in APP1 segments, ICC in APP2, IPTC in APP13. PNG: chunks eXIf, iCCP, iTXt, and for IPTC a text chunk
in ImageMagick's form, as PNG defines none. Sources: CIPA DC-008 (Exif 2.31); Adobe, XMP Specification Part 3;
ICC.1:2022, annex B; IPTC-NAA IIM 4.2; PNG 3rd edition.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

from sdd_toolkit.formats import jpeg

LONGEST_JPEG_EXIF = 0xFFFF - 2 - 6
_LONGEST_SEGMENT = 0xFFFF - 2
EXIF_HEAD = b"Exif\0\0"
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
XMP_EXTENSION_HEAD = b"http://ns.adobe.com/xmp/extension/\0"
ICC_HEAD = b"ICC_PROFILE\0"
PHOTOSHOP_HEAD = b"Photoshop 3.0\0"
XMP_KEYWORD, IPTC_KEYWORD = b"XML:com.adobe.xmp", b"Raw profile type iptc"
_PNG_START = 8 + 4 + 4 + 13 + 4  # signature and IHDR
_MOST_ICC_PARTS = 255
_IPTC_RESOURCE = 0x0404


@dataclass(frozen=True, slots=True)
class EmbeddedMetadata:
    """Metadata of an image file, each block as its standard defines it, independent of the container.

    Attributes:
        exif: An EXIF block, a TIFF file of tags.
        xmp: An XMP packet.
        iptc: IPTC datasets (IIM).
        icc: An ICC profile of the pixels.
        chunks: Colour chunks of PNG, name and content; only PNG can hold them.
        texts: Text chunks of PNG, likewise.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    icc: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    texts: tuple[tuple[bytes, bytes], ...] = ()


def embed_in_jpeg(image: bytes, metadata: EmbeddedMetadata) -> bytes:
    """A JPEG file with metadata, behind its JFIF segment; an EXIF block over 64 KiB and a huge profile are left out."""
    segments = b""
    if metadata.exif and len(metadata.exif) <= LONGEST_JPEG_EXIF:
        segments += _segment(jpeg.APP1, EXIF_HEAD + metadata.exif)
    if metadata.xmp:
        segments += _xmp_segments(metadata.xmp)
    if metadata.icc:
        segments += _icc_segments(metadata.icc)
    if metadata.iptc:
        segments += b"".join(
            _segment(jpeg.APP13, PHOTOSHOP_HEAD + part)
            for part in _parts(photoshop_resource(metadata.iptc), _LONGEST_SEGMENT - len(PHOTOSHOP_HEAD))
        )
    start = 4 + int.from_bytes(image[4:6], "big") if image[2:4] == b"\xff\xe0" else 2
    return image[:start] + segments + image[start:]


def embed_in_png(image: bytes, metadata: EmbeddedMetadata) -> bytes:
    """A PNG file with metadata, between its header and its pixels; its own colour chunks win over the ICC profile."""
    chunks = b"".join(_chunk(name, content) for name, content in metadata.chunks)
    if metadata.icc and not metadata.chunks:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9))
    if metadata.exif:
        chunks += _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        chunks += _chunk(b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
    if metadata.iptc:
        chunks += _chunk(b"zTXt", IPTC_KEYWORD + b"\0\0" + zlib.compress(_raw_profile(metadata.iptc), 9))
    chunks += b"".join(_chunk(name, content) for name, content in metadata.texts)
    return image[:_PNG_START] + chunks + image[_PNG_START:]


def photoshop_resource(iptc: bytes) -> bytes:
    """IPTC datasets as an image resource of Photoshop."""
    padded = iptc + b"\0" * (len(iptc) % 2)
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + padded


def find_iptc(resources: bytes) -> bytes | None:
    """The IPTC datasets among image resources of Photoshop; None if there are none, or before them a damaged one."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (code,) = struct.unpack_from(">H", resources, at + 4)
        name_bytes = resources[at + 6] + 1
        start = at + 6 + name_bytes + name_bytes % 2 + 4
        length = int.from_bytes(resources[start - 4 : start], "big")
        if code == _IPTC_RESOURCE:
            return resources[start : start + length] or None
        at = start + length + length % 2
    return None


def _segment(code: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(content) + 2) + content


def _parts(content: bytes, length: int) -> list[bytes]:
    return [content[start : start + length] for start in range(0, len(content), length)]


def _icc_segments(icc: bytes) -> bytes:
    parts = _parts(icc, _LONGEST_SEGMENT - len(ICC_HEAD) - 2)
    if len(parts) > _MOST_ICC_PARTS:
        return b""
    return b"".join(
        _segment(jpeg.APP2, ICC_HEAD + bytes((number, len(parts))) + part) for number, part in enumerate(parts, 1)
    )


def _xmp_segments(xmp: bytes) -> bytes:
    """A packet in one segment; a longer one as an extension, named by its MD5 in a packet that says only that."""
    if len(xmp) <= _LONGEST_SEGMENT - len(XMP_HEAD):
        return _segment(jpeg.APP1, XMP_HEAD + xmp)
    name = hashlib.md5(xmp, usedforsecurity=False).hexdigest().upper().encode()
    main = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="'
        + name
        + b'"/></rdf:RDF></x:xmpmeta>'
    )
    segments, at = _segment(jpeg.APP1, XMP_HEAD + main), 0
    for part in _parts(xmp, _LONGEST_SEGMENT - len(XMP_EXTENSION_HEAD) - 40):
        segments += _segment(jpeg.APP1, XMP_EXTENSION_HEAD + name + struct.pack(">II", len(xmp), at) + part)
        at += len(part)
    return segments


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _raw_profile(iptc: bytes) -> bytes:
    """IPTC in ImageMagick's form: a name, a length and hexadecimal digits."""
    content = photoshop_resource(iptc).hex().encode()
    lines = b"\n".join(_parts(content, 72))
    return b"\niptc\n%8d\n%s\n" % (len(content) // 2, lines)
