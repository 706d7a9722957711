"""MakerNotes of several makers."""

from __future__ import annotations

import io
import json
import math
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.formats.tiff import reader
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.metadata.maker_notes import MakerNote, has_maker_note, read_maker_note

ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7
Value = tuple[int, int, int, bytes]  # tag, type, count, content


def directory(values: list[Value], at: int) -> bytes:
    """A little-endian TIFF directory that starts at `at`, its long values behind it."""
    tail_at = at + 2 + 12 * len(values) + 4
    head, tail = struct.pack("<H", len(values)), b""
    for tag, kind, count, content in sorted(values):
        inline = len(content) <= 4
        head += struct.pack("<HHI", tag, kind, count)
        head += content.ljust(4, b"\0") if inline else struct.pack("<I", tail_at + len(tail))
        tail += b"" if inline else content
    return head + struct.pack("<I", 0) + tail


def words(text: str) -> bytes:
    return text.encode() + b"\0"


def with_note(make: str, note: bytes | None, at_note: list[Value] | None = None) -> bytes:
    """A TIFF file of `make` whose MakerNote is `note`, or a directory counted from the TIFF header."""
    camera = words(make)
    exif_at = 8 + 2 + 3 * 12 + 4 + len(camera) + len(words("Model X"))
    note_at = exif_at + 2 + 12 + 4
    content = directory(at_note, note_at) if at_note is not None else note or b""
    first = [(271, ASCII, len(camera), camera), (272, ASCII, 8, words("Model X"))]
    ifd = directory([*first, (34665, LONG, 1, struct.pack("<I", exif_at))], 8)
    exif = struct.pack("<HHHII", 1, 37500, UNDEFINED, len(content), note_at) + struct.pack("<I", 0)
    return b"II*\0\x08\0\0\0" + ifd + exif + content


def canon(upper_cm: int, lower_cm: int) -> bytes:
    info = struct.pack("<24H", 48, *(0,) * 19, upper_cm, lower_cm, 0, 0)
    lens = words("EF50mm f/1.4 USM")
    values = [(0x0095, ASCII, len(lens), lens), (0x0093, SHORT, 24, info), (0x000C, LONG, 1, struct.pack("<I", 77))]
    return with_note("Canon", None, values)


def olympus(focus_mm: int) -> bytes:
    lens = words("OLYMPUS M.45mm F1.8")
    equipment_at = 12 + 2 + 2 * 12 + 4
    equipment = directory([(0x0203, ASCII, len(lens), lens)], equipment_at)
    focus_at = equipment_at + len(equipment)
    focus = directory([(0x0305, RATIONAL, 1, struct.pack("<2I", focus_mm, 1))], focus_at)
    pointers = [(0x2010, 13, 1, struct.pack("<I", equipment_at)), (0x2050, 13, 1, struct.pack("<I", focus_at))]
    return with_note("OLYMPUS CORPORATION", b"OLYMPUS\0II\x03\0" + directory(pointers, 12) + equipment + focus)


def nikon(code: int) -> bytes:
    lens = struct.pack("<8I", 18, 1, 70, 1, 35, 10, 45, 10)
    data = b"0101" + bytes(5) + bytes([code]) + bytes(10)
    inner = b"II*\0\x08\0\0\0" + directory([(0x0084, RATIONAL, 4, lens), (0x0098, UNDEFINED, 20, data)], 8)
    return with_note("NIKON CORPORATION", b"Nikon\0\x02\x10\0\0" + inner)


def panasonic(lens: str) -> bytes:
    at = 8 + 2 + 3 * 12 + 4 + len(words("Panasonic")) + 8 + 2 + 12 + 4
    values = [(0x0051, ASCII, len(words(lens)), words(lens))]
    return with_note("Panasonic", b"Panasonic\0\0\0" + directory(values, at + 12))


def note_of(content: bytes, make: str) -> MakerNote:
    return read_maker_note(reader(io.BytesIO(content)), (0,), make)


def test_canon_tells_its_lens_serial_number_and_the_middle_of_two_focus_bounds() -> None:
    assert note_of(canon(300, 150), "Canon") == MakerNote("EF50mm f/1.4 USM", pytest.approx(2.0), "0000000077")


@pytest.mark.parametrize(("upper", "lower", "focus_m"), [(0, 0, None), (0xFFFF, 0xFFFF, math.inf), (200, 0, 2.0)])
def test_canon_at_infinity_or_unknown(upper: int, lower: int, focus_m: float | None) -> None:
    assert note_of(canon(upper, lower), "Canon").focus_m == focus_m


@pytest.mark.parametrize(("millimetres", "focus_m"), [(1250, 1.25), (0, None), (0xFFFFFFFF, math.inf)])
def test_olympus_tells_its_lens_and_focus_distance(millimetres: int, focus_m: float | None) -> None:
    assert note_of(olympus(millimetres), "OLYMPUS") == MakerNote("OLYMPUS M.45mm F1.8", focus_m)


def test_nikon_tells_the_range_of_its_lens_and_the_distance_of_old_bodies() -> None:
    assert note_of(nikon(80), "NIKON") == MakerNote("18-70mm f/3.5-4.5", pytest.approx(1.0))
    assert note_of(nikon(0), "NIKON").focus_m is None


def test_panasonic_tells_its_lens_and_dashes_are_none() -> None:
    assert note_of(panasonic("LUMIX G 20/F1.7"), "Panasonic").lens == "LUMIX G 20/F1.7"
    assert note_of(panasonic("---"), "Panasonic") == MakerNote()


def test_a_file_without_a_note_has_none() -> None:
    content = b"II*\0\x08\0\0\0" + directory([(271, ASCII, 6, words("Canon"))], 8)
    assert not has_maker_note(reader(io.BytesIO(content)), (0,))
    assert note_of(content, "Canon") == MakerNote()


@given(st.integers(0, 400), st.sampled_from([canon(300, 150), olympus(1250), nikon(80), panasonic("L")]))
def test_a_note_cut_anywhere_says_less_and_raises_nothing(length: int, content: bytes) -> None:
    for make in ("Canon", "OLYMPUS", "NIKON", "Panasonic"):
        assert isinstance(note_of(content[:length], make), MakerNote)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize(
    ("content", "tag"),
    [(canon(300, 150), None), (olympus(1250), "FocusDistance"), (nikon(80), "FocusDistance"), (panasonic("LX"), None)],
    ids=["canon", "olympus", "nikon", "panasonic"],
)
def test_exiftool_reads_the_same_from_the_same_bytes(tmp_path: Path, content: bytes, tag: str | None) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    names = ("LensModel", "LensType", "Lens", "FocusDistance#", "FocusDistanceUpper#", "FocusDistanceLower#")
    command = ["exiftool", "-json", "-m", *(f"-{name}" for name in names), str(tmp_path / "a.tif")]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]
    meta = read_meta(tmp_path / "a.tif")
    assert meta.lens is not None
    assert meta.lens.partition("mm")[0] in {str(told.get(name)).partition("mm")[0] for name in names[:3]}
    if tag:
        assert meta.exposure.focus_m == pytest.approx(told[tag], rel=1e-3)
    elif "FocusDistanceUpper" in told:
        assert told["FocusDistanceLower"] < meta.exposure.focus_m < told["FocusDistanceUpper"]
