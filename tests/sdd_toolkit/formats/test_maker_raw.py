"""RAW files of makers whose directory does not tell their length: whole ones pass, cut ones are refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import Kind, examine
from sdd_toolkit.formats.tiff_writer import ASCII, LONG, SHORT, UNDEFINED, encode_directory
from sdd_toolkit.frames.reading import read_half, read_mosaic

WIDTH, HEIGHT = 1120, 642
PAGE, SPLIT = 0x4000, 0x2008


def panasonic(encoding: int, bits: int, pixel_bytes: int, strip_bytes: int = 0, width: int = WIDTH) -> bytes:
    """A header of a Panasonic RW2."""
    tags = [
        (0x01, UNDEFINED, b"0310"), (0x02, SHORT, (width,)), (0x03, SHORT, (HEIGHT,)),
        (0x04, SHORT, (0,)), (0x05, SHORT, (0,)), (0x06, SHORT, (HEIGHT,)), (0x07, SHORT, (width,)),
        (0x09, SHORT, (4,)), (0x0A, SHORT, (bits,)),
        (0x0E, SHORT, (4095,)), (0x17, SHORT, (100,)), (0x2D, SHORT, (encoding,)), (0x10F, ASCII, b"Panasonic\0"),
        (0x110, ASCII, b"DMC-GF1\0"), (0x111, LONG, (0xFFFFFFFF,)), (0x117, LONG, (strip_bytes,)),
        (0x118, LONG, (4096,)),
    ]  # fmt: skip
    directory = encode_directory(tags, 8)
    return (b"IIU\0" + struct.pack("<I", 8) + directory).ljust(4096, b"\0") + bytes(pixel_bytes)


def coded(rows: np.ndarray) -> bytes:
    """(H, W / 14) 12-bit values as pixels of encoding 4: pages with both parts exchanged."""
    values = rows.astype(np.uint64)
    units = np.zeros((*rows.shape, 2), dtype="<u8")
    units[..., 1] = values << np.uint64(52) | values << np.uint64(40)
    content = units.tobytes()
    content += bytes(-len(content) % PAGE)
    pages = (content[at : at + PAGE] for at in range(0, len(content), PAGE))
    return b"".join(page[SPLIT:] + page[:SPLIT] for page in pages)


def in_pages(size: int) -> int:
    """Bytes of a file in pages that hold the first `size` bytes of pixels."""
    return size // PAGE * PAGE + (PAGE - SPLIT) + min(size % PAGE, SPLIT)


@pytest.fixture(scope="module")
def rw2() -> bytes:
    rows = np.random.default_rng(3).integers(300, 3000, (HEIGHT, WIDTH // 14))
    return panasonic(4, 12, 0) + coded(rows)


def test_a_cut_rw2_is_refused_down_to_the_first_byte_that_counts(tmp_path: Path, rw2: bytes) -> None:
    (tmp_path / "whole.rw2").write_bytes(rw2)
    whole = read_mosaic(tmp_path / "whole.rw2")
    assert whole is not None
    needed = 4096 + in_pages(WIDTH // 14 * 16 * HEIGHT)
    assert needed < len(rw2)
    (tmp_path / "enough.rw2").write_bytes(rw2[:needed])
    enough = read_mosaic(tmp_path / "enough.rw2")
    assert enough is not None
    assert np.array_equal(enough.samples, whole.samples)
    for length in (needed - 1, needed - 20_000, int(len(rw2) * 0.95), len(rw2) // 2, 5000):
        (tmp_path / "cut.rw2").write_bytes(rw2[:length])
        with pytest.raises(RawError, match=rf"is cut short: {length} of {needed} bytes"):
            examine(tmp_path / "cut.rw2")
        with pytest.raises(RawError, match="is cut short"):
            read_half(tmp_path / "cut.rw2")


def test_an_rw2_of_its_full_length_whose_second_half_is_missing_is_refused(tmp_path: Path, rw2: bytes) -> None:
    (tmp_path / "a.rw2").write_bytes(rw2[: len(rw2) // 2] + bytes(len(rw2) - len(rw2) // 2))
    with pytest.raises(RawError, match=r"is cut short: rows \d+ to 641 of 642 hold no light"):
        read_half(tmp_path / "a.rw2")


@pytest.mark.parametrize(
    ("encoding", "bits", "unit", "strip_bytes"),
    [(5, 12, 10, 0), (5, 14, 9, 0), (6, 14, 11, 1), (7, 14, 9, 1), (7, 12, 10, 1)],
)
def test_newer_encodings_of_panasonic_have_units_of_their_own(
    tmp_path: Path, encoding: int, bits: int, unit: int, strip_bytes: int
) -> None:
    width = unit * 112
    size = width // unit * 16 * HEIGHT
    whole = panasonic(encoding, bits, in_pages(size) if encoding == 5 else size, strip_bytes * size, width)
    (tmp_path / "a.rw2").write_bytes(whole)
    assert examine(tmp_path / "a.rw2").is_bounded
    (tmp_path / "a.rw2").write_bytes(whole[:-1])
    with pytest.raises(RawError, match=f"is cut short: {len(whole) - 1} of {len(whole)} bytes"):
        examine(tmp_path / "a.rw2")


def minolta() -> bytes:
    block = b"\0PRD" + struct.pack(">I8sHHHHBB6x", 24, b"27820001", 40, 60, 38, 58, 12, 12)
    return b"\0MRM" + struct.pack(">I", len(block)) + block + bytes(40 * 60 * 12 // 8)


def sigma() -> bytes:
    content = b"FOVb" + bytes(36) + bytes(500)
    return content + struct.pack("<4sIIIII", b"SECd", 0x20000, 1, 40, 500, 0) + struct.pack("<I", len(content))


def phase_one() -> bytes:
    return (
        struct.pack("<4sIIIII", b"IIII", 0x52617754, 12, 1, 0, 0x10F)[:12]
        + struct.pack("<IIIIII", 1, 0, 0x10F, 4, 600, 36)
        + bytes(600)
    )


def canon() -> bytes:
    heap = bytes(300) + struct.pack("<HHII", 1, 0x2005, 300, 0) + struct.pack("<I", 300)
    return b"II" + struct.pack("<I", 26) + b"HEAPCCDR" + bytes(12) + heap


@pytest.mark.parametrize(
    ("suffix", "kind", "whole"),
    [
        (".mrw", Kind.MRW, minolta()),
        (".x3f", Kind.X3F, sigma()),
        (".iiq", Kind.IIQ, phase_one()),
        (".crw", Kind.CRW, canon()),
    ],
)
def test_other_makers_files_end_where_their_tables_say(tmp_path: Path, suffix: str, kind: Kind, whole: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole)
    assert examine(path).kind is kind
    for length in (len(whole) - 1, len(whole) * 3 // 4, len(whole) // 2, 20):
        path.write_bytes(whole[:length])
        with pytest.raises(RawError, match="is cut short"):
            examine(path)


def test_uncompressed_pixels_of_a_tiff_without_their_number_of_bytes_end_where_its_size_says(tmp_path: Path) -> None:
    tags = [(256, SHORT, (50,)), (257, SHORT, (40,)), (258, SHORT, (16,)), (259, SHORT, (1,)), (262, SHORT, (32803,)),
            (273, LONG, (512,)), (277, SHORT, (1,))]  # fmt: skip
    whole = (b"II*\0" + struct.pack("<I", 8) + encode_directory(tags, 8)).ljust(512, b"\0") + bytes(50 * 40 * 2)
    path = tmp_path / "a.orf"
    path.write_bytes(whole)
    assert examine(path).is_bounded
    path.write_bytes(whole[:-1])
    with pytest.raises(RawError, match=f"is cut short: {len(whole) - 1} of {len(whole)} bytes"):
        examine(path)
    compressed = whole.replace(
        struct.pack("<HHIHH", 259, SHORT, 1, 1, 0), struct.pack("<HHIHH", 259, SHORT, 1, 34713, 0)
    )
    path.write_bytes(compressed)
    assert not examine(path).is_bounded
