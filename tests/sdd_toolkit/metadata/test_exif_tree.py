"""Trees of EXIF tags: completed, bounded, and as the beginning of a TIFF file."""

from __future__ import annotations

import io
import struct

import exifread
import numpy as np
import tifffile

from sdd_toolkit.formats.tiff import open_tiff, reader
from sdd_toolkit.formats.tiff_writer import attach_exif, encode_tiff
from sdd_toolkit.metadata.exif import parse_tags
from sdd_toolkit.metadata.exif_block import build_block
from sdd_toolkit.metadata.exif_tree import (
    EXIF,
    GPS,
    INTEROPERABILITY,
    MAIN,
    ExifTree,
    RawTag,
    complete,
    encode_tree,
    read_tree,
)
from sdd_toolkit.records import Exposure, FrameMeta


def test_what_is_known_otherwise_joins_tags_of_either_byte_order() -> None:
    known = build_block(FrameMeta(lens="Lens 50", exposure=Exposure(f_number=2.8, iso=200.0, shutter_s=0.01)))
    for order in "<>":
        own = ExifTree(order, {MAIN: {315: RawTag(2, 3, b"Me\0")}, EXIF: {}, GPS: {}, INTEROPERABILITY: {}})
        block = encode_tree(complete(own, known))
        assert block is not None
        tags = exifread.process_file(io.BytesIO(block), details=False)
        found = parse_tags(tags)
        assert (found.lens, found.exposure.f_number, found.exposure.iso) == ("Lens 50", 2.8, 200)
        assert (str(tags["Image Artist"]), found.exposure.shutter_s) == ("Me", 0.01)


def test_many_tags_that_name_the_same_bytes_are_bounded() -> None:
    entries = b"".join(struct.pack("<HHII", 60_000 + number, 7, 1 << 18, 8) for number in range(1000))
    block = b"II*\0" + struct.pack("<I", 1 << 18) + bytes(1 << 18)
    block = block[: 1 << 18] + struct.pack("<H", 1000) + entries + bytes(4)
    tiff = open_tiff(reader(io.BytesIO(block)))
    assert tiff is not None
    assert 1 << 23 < sum(len(tag.value) for tag in read_tree(tiff).directories[MAIN].values()) <= 1 << 24


def test_the_tags_of_the_page_win_over_those_of_a_block_but_for_the_resolution() -> None:
    order = {MAIN: {256: RawTag(4, 1, struct.pack("<I", 9999)), 315: RawTag(2, 3, b"Me\0"),
                    282: RawTag(5, 1, struct.pack("<II", 300, 1))}}  # fmt: skip
    block = encode_tree(ExifTree("<", {name: {} for name in (EXIF, GPS, INTEROPERABILITY)} | order))
    assert block is not None
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    with tifffile.TiffFile(io.BytesIO(attach_exif(encode_tiff(pixels, [], photometric="rgb"), block))) as file:
        tags = file.pages.first.tags
        assert (tags["ImageWidth"].value, tags["Artist"].value) == (32, "Me")
        assert tags["XResolution"].value == (300, 1)
        np.testing.assert_array_equal(file.asarray(), pixels)
