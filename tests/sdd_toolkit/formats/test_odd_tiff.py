"""TIFF files with odd directories, which every decoder reads, and whole-length ones whose pixels end early."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import examine
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.formats.tiff_writer import LONG, SHORT, UNDEFINED, encode_directory

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
STRIP_BYTES = 279


def entries() -> tuple[bytes, list[bytes]]:
    """A TIFF of one uncompressed strip, and the entries of its directory."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, PIXELS, photometric="rgb", rowsperstrip=64, metadata=None, software=False)
    content = stream.getvalue()
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    return content, [content[first + 2 + 12 * number : first + 14 + 12 * number] for number in range(count)]


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def with_directory(items: list[bytes], following: int = 0) -> bytes:
    content = bytearray(entries()[0])
    struct.pack_into("<I", content, 4, len(content))
    return bytes(content) + struct.pack("<H", len(items)) + b"".join(items) + struct.pack("<I", following)


def without(tag: int) -> list[bytes]:
    return [item for item in entries()[1] if struct.unpack_from("<H", item)[0] != tag]


ODD = {
    "no number of bytes": with_directory(without(STRIP_BYTES)),
    "no bytes": with_directory([*without(STRIP_BYTES), entry(STRIP_BYTES, LONG, 1, 0)]),
    "too many bytes": with_directory([*without(STRIP_BYTES), entry(STRIP_BYTES, LONG, 1, 5_000_000)]),
    "not sorted": with_directory(entries()[1][::-1]),
    "a next directory that is not there": with_directory(entries()[1], 0x7FFFFFFF),
    "a circle": with_directory(entries()[1], 8),
    "a program's own value that is not there": with_directory([*entries()[1], entry(50_000, UNDEFINED, 99, 1 << 30)]),
    "an unknown type": with_directory([*entries()[1], entry(50_000, 99, 100, 1 << 30)]),
    "more behind it": with_directory(entries()[1]) + b"x" * 5000,
}


@pytest.mark.parametrize("oddity", ODD)
def test_what_every_decoder_reads_is_read(tmp_path: Path, oddity: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(ODD[oddity])
    assert examine(path).size == (64, 80)
    assert np.array_equal(read_image(path), PIXELS)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("count", [0, 64 * 80 * 3, 5_000_000])
def test_pixels_that_are_not_there_are_missed_whatever_their_number_of_bytes(tmp_path: Path, count: int) -> None:
    tags = [(256, SHORT, (80,)), (257, SHORT, (64,)), (258, SHORT, (8,)), (259, SHORT, (1,)), (262, SHORT, (2,)),
            (273, LONG, (512,)), (277, SHORT, (3,)), (278, SHORT, (64,)), (279, LONG, (count,))]  # fmt: skip
    whole = (b"II*\0" + struct.pack("<I", 8) + encode_directory(tags, 8)).ljust(512, b"\0") + PIXELS.tobytes()
    path = tmp_path / "a.tif"
    path.write_bytes(whole)
    examine(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(RawError, match=f"is cut short: {len(whole) - 1} of {len(whole)} bytes"):
        examine(path)


@pytest.mark.parametrize(("zeros", "is_whole"), [(0, True), (1000, True), (6000, False)])
def test_a_compressed_mosaic_of_its_full_length_that_ends_in_zeros_is_cut_short(
    tmp_path: Path, zeros: int, is_whole: bool
) -> None:
    coded = np.random.default_rng(1).bytes(20_000 - zeros) + bytes(zeros)
    tags = [(256, SHORT, (160,)), (257, SHORT, (120,)), (258, SHORT, (14,)), (259, SHORT, (7,)),
            (262, SHORT, (32803,)), (273, LONG, (512,)), (277, SHORT, (1,)), (279, LONG, (20_000,))]  # fmt: skip
    path = tmp_path / "a.dng"
    path.write_bytes((b"II*\0" + struct.pack("<I", 8) + encode_directory(tags, 8)).ljust(512, b"\0") + coded)
    if is_whole:
        assert examine(path).is_bounded
        return
    with pytest.raises(RawError, match="is cut short: zeros stand for the end of its pixels"):
        examine(path)
