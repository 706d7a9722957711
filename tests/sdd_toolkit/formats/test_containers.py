"""Containers by their first bytes, and files that are cut short."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import Kind, Structure, boxes, claimed_size, examine
from sdd_toolkit.formats.decoding import decode_preview, read_image, read_values
from sdd_toolkit.frames.reading import read_half
from tests.support.dng_files import scene_rgb, write_dng

PIXELS = (scene_rgb(24, 36) * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One small whole file of each kind, by suffix."""
    folder = tmp_path_factory.mktemp("whole")
    write_dng(folder / "a.dng", scene_rgb(24, 36), exif={"f_number": 2.0, "taken_at": "2026:05:01 10:00:00"})
    for name in ("a.jpg", "a.png"):
        cv2.imwrite(str(folder / name), PIXELS)
    tifffile.imwrite(folder / "a.tif", PIXELS, photometric="rgb", compression="deflate")
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(RawError) as caught:
        examine(path)
    return caught.value.what.replace(str(path), "it")


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".dng", Kind.TIFF), (".jpg", Kind.JPEG), (".png", Kind.PNG), (".tif", Kind.TIFF)]
)
def test_a_whole_file_tells_its_kind_and_size(tmp_path: Path, whole: dict[str, bytes], suffix: str, kind: Kind) -> None:
    (tmp_path / f"a{suffix}").write_bytes(whole[suffix])
    found = examine(tmp_path / f"a{suffix}")
    assert (found.kind, found.size) == (kind, (24, 36))


@pytest.mark.parametrize(
    ("content", "name", "word"),
    [
        (".jpg", "x.CR2", "it is a JPEG named .cr2"),
        (".jpg", "x.nef", "it is a JPEG named .nef"),
        (".png", "x.jpg", "it is a PNG named .jpg"),
        (".dng", "x.png", "it is a TIFF named .png"),
    ],
)
def test_a_file_under_a_false_name_is_told(
    tmp_path: Path, whole: dict[str, bytes], content: str, name: str, word: str
) -> None:
    assert refusal(tmp_path / name, whole[content]) == word


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_noise_under_an_images_name_is_no_image(tmp_path: Path, suffix: str) -> None:
    assert refusal(tmp_path / f"x{suffix}", b"no photograph at all").startswith("it is no ")


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.dng", b"") == "it is empty"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RawError, match="cannot read"):
        examine(tmp_path / "none.dng")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from([".jpg", ".png", ".tif", ".dng"]))
def test_a_file_cut_anywhere_is_refused_or_decodes_to_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], data: st.DataObject, suffix: str
) -> None:
    length = data.draw(st.integers(0, len(whole[suffix]) - 1))
    folder = tmp_path_factory.mktemp("cut")
    (folder / f"whole{suffix}").write_bytes(whole[suffix])
    (folder / f"cut{suffix}").write_bytes(whole[suffix][:length])
    with suppress(RawError):
        examine(folder / f"cut{suffix}")
        assert np.array_equal(read_half(folder / f"cut{suffix}").rgb, read_half(folder / f"whole{suffix}").rgb)


def test_a_raf_header_that_points_behind_the_end_is_cut_short(tmp_path: Path) -> None:
    head = b"FUJIFILMCCD-RAW ".ljust(84, b"\0")
    good = head + struct.pack(">6I", 108, 4, 112, 4, 116, 4) + bytes(12)
    (tmp_path / "a.raf").write_bytes(good)
    assert examine(tmp_path / "a.raf").kind is Kind.RAF
    assert refusal(tmp_path / "b.raf", good[:-1]) == "it is cut short: 119 of 120 bytes"
    assert refusal(tmp_path / "c.raf", head) == "it is cut short: its header is not whole"


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def test_boxes_of_iso_media_must_end_within_the_file_and_hold_media(tmp_path: Path) -> None:
    head = box(b"ftyp", b"crx ") + box(b"moov", box(b"trak", b""))
    good = head + box(b"mdat", bytes(40))
    (tmp_path / "a.cr3").write_bytes(good)
    assert examine(tmp_path / "a.cr3") == Structure(Kind.ISO_MEDIA)
    assert refusal(tmp_path / "b.cr3", good[:-1]) == f"it is cut short: {len(good) - 1} of {len(good)} bytes"
    assert refusal(tmp_path / "c.cr3", head) == "it is damaged: it holds no media data"


def test_a_box_shorter_than_its_header_ends_the_walk() -> None:
    content = struct.pack(">I4s", 4, b"free")
    with pytest.raises(ValueError, match="a box of 4 bytes"):
        list(boxes(lambda offset, count: content[offset : offset + count], 0, 8))


def test_every_broken_raw_file_is_found_without_decoding(real_data: Path) -> None:
    for path in sorted((real_data / "raw/broken").iterdir()):
        with pytest.raises(RawError):
            examine(path)


def test_every_real_file_that_decodes_is_whole(real_data: Path) -> None:
    files = [path for path in (real_data / "raw").rglob("*") if path.is_file() and path.parent.name != "broken"]
    assert {examine(path).kind for path in files} == {Kind.TIFF}


def claiming(suffix: str, height: int, width: int) -> bytes:
    """A small picture whose header claims another size."""
    content = bytearray(cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1])
    if suffix == ".png":
        content[16:24] = struct.pack(">II", width, height)
    elif suffix == ".jpg":
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", height, width)
    else:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.zeros((8, 8, 3), np.uint8), photometric="rgb")
        content = bytearray(buffer.getvalue())
        for code, side in ((256, width), (257, height)):
            place = content.index(struct.pack("<HH", code, 3)) if struct.pack("<HH", code, 3) in content else -1
            place = place if place >= 0 else content.index(struct.pack("<HH", code, 4))
            content[place : place + 12] = struct.pack("<HHII", code, 4, 1, side)
    return bytes(content)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_an_image_that_claims_more_pixels_than_any_has_is_refused_before_memory_is_taken(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(claiming(suffix, 60_000, 60_000))
    for read in (read_image, read_values):
        with pytest.raises(RawError, match="claims 60000 x 60000 pixels"):
            read(path)
    path.write_bytes(claiming(suffix, 8, 8)[:-20])
    with path.open("rb") as stream:
        assert claimed_size(stream) == (8, 8)
    assert decode_preview(claiming(".jpg", 60_000, 60_000), 8) is None
