"""JPEGs as cameras, editors and broken copies leave them: read where every pixel is there, refused where one is not."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import claimed_size, examine, exif_range
from sdd_toolkit.formats.decoding import read_image, read_values
from tests.support.dng_files import scene_rgb

FLAGS = {
    "baseline": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
}
NOISE = np.random.default_rng(5).integers(0, 60, (72, 104, 3))
PIXELS = np.clip(scene_rgb(72, 104) * 255 + NOISE, 0, 255).astype(np.uint8)
APP = b"\xff\xec\x00\x08Ducky\0"


@pytest.fixture(params=FLAGS)
def whole(request: pytest.FixtureRequest) -> bytes:
    return cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_QUALITY, 90, *FLAGS[request.param]])[1].tobytes()


def check(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    assert examine(path).size == (72, 104)
    return read_image(path)


def odd_but_whole(whole: bytes) -> dict[str, bytes]:
    tables, scan = whole.index(b"\xff\xdb"), whole.index(b"\xff\xda")
    return {
        "zeros between segments": whole[:2] + APP + bytes(4) + whole[2:],
        "text between segments": whole[:scan] + b"junk" + whole[scan:],
        "a stuffed byte between segments": whole[:scan] + b"\xff\0\xff\0" + whole[scan:],
        "fill bytes": whole[:tables] + b"\xff" * 7 + whole[tables:],
        "zeros before the end marker": whole[:-2] + bytes(100) + whole[-2:],
        "ones before the end marker": whole[:-2] + b"\xff" * 9 + whole[-2:],
        "no end marker": whole[:-2],
        "half an end marker": whole[:-1],
        "zeros instead of the end marker": whole[:-2] + bytes(700),
        "a second picture": whole + whole,
        "a film behind it": whole + b"\0\0\0\x18ftypmp42" + np.random.default_rng(1).bytes(5000),
        "the start of another picture behind it": whole + b"\xff\xd8\xff\xe1\0\x20Exif\0\0",
    }


@pytest.mark.parametrize("oddity", odd_but_whole(b"\xff\xdb\xff\xda"))
def test_what_every_decoder_reads_is_read_and_gives_the_same_pixels(
    tmp_path: Path, whole: bytes, oddity: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = odd_but_whole(whole)[oddity]
    assert np.array_equal(check(tmp_path / "odd.jpg", content), check(tmp_path / "whole.jpg", whole))
    with (tmp_path / "odd.jpg").open("rb") as stream:
        assert claimed_size(stream) == (72, 104)
    assert capfd.readouterr().err == ""


def test_exif_is_found_behind_stray_bytes(tmp_path: Path, whole: bytes) -> None:
    block = b"\xff\xe1\x00\x10Exif\0\0MM\0*\0\0\0\x08"
    (tmp_path / "a.jpg").write_bytes(whole[:2] + APP + bytes(3) + block + whole[2:])
    with (tmp_path / "a.jpg").open("rb") as stream:
        place = exif_range(stream)
    assert place is not None
    assert (tmp_path / "a.jpg").read_bytes()[place[0] : place[0] + place[1]] == b"MM\0*\0\0\0\x08"


@pytest.mark.parametrize("lost", [3, 5, 40, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("filling", [b"", b"\0", b"\xff"])
def test_a_jpeg_without_its_last_pixels_is_refused_without_being_asked_to_decode(
    tmp_path: Path, whole: bytes, lost: float, filling: bytes
) -> None:
    count = int(lost if lost > 1 else lost * len(whole))
    (tmp_path / "cut.jpg").write_bytes(whole[:-count] + filling * count)
    with pytest.raises(RawError, match="is cut short: its end marker is missing"):
        examine(tmp_path / "cut.jpg")
    for read in (read_image, read_values):
        with pytest.raises(RawError):
            read(tmp_path / "cut.jpg")


def test_a_jpeg_cut_at_a_restart_marker_is_refused(tmp_path: Path) -> None:
    whole = cv2.imencode(".jpg", PIXELS, FLAGS["restarts"])[1].tobytes()
    marks = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", whole)]
    for place in (marks[-1], marks[-1] + 1, marks[-1] + 2, marks[len(marks) // 2]):
        (tmp_path / "cut.jpg").write_bytes(whole[:place])
        with pytest.raises(RawError, match="cut short"):
            examine(tmp_path / "cut.jpg")


def test_a_progressive_jpeg_that_lacks_whole_scans_is_refused(tmp_path: Path) -> None:
    whole = cv2.imencode(".jpg", PIXELS, FLAGS["progressive"])[1].tobytes()
    scans = [match.start() for match in re.finditer(rb"\xff\xda", whole)]
    assert len(scans) > 3
    for place in scans[1:]:
        (tmp_path / "cut.jpg").write_bytes(whole[:place])
        with pytest.raises(RawError, match="cut short"):
            examine(tmp_path / "cut.jpg")


def test_an_end_marker_behind_half_the_data_does_not_make_it_whole(
    tmp_path: Path, whole: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    half, scan = whole[: len(whole) // 2], whole.index(b"\xff\xda")
    for content in (
        half + b"\xff\xd9",
        half + bytes(300) + b"\xff\xd9",
        half[:scan] + b"junk" + half[scan:] + b"\xff\xd9",
    ):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(RawError, match="is damaged: Corrupt JPEG data: "):
            read_image(tmp_path / "a.jpg")
    assert capfd.readouterr().err == ""


def test_a_hole_in_the_data_is_damage(tmp_path: Path, whole: bytes) -> None:
    middle = len(whole) // 2
    (tmp_path / "a.jpg").write_bytes(whole[:middle] + bytes(200) + whole[middle + 200 :])
    with pytest.raises(RawError, match="Corrupt JPEG data"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("level", [0, 90, 128, 255])
@pytest.mark.parametrize("side", [16, 64, 200])
def test_data_of_an_even_area_that_end_with_a_zero_byte_are_whole(tmp_path: Path, level: int, side: int) -> None:
    content = bytes(cv2.imencode(".jpg", np.full((side, side, 3), level, np.uint8))[1])
    (tmp_path / "a.jpg").write_bytes(content)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - level).max() <= 1


@pytest.mark.parametrize("height", [800, 1600])
def test_zeros_that_code_an_even_area_are_no_filling(tmp_path: Path, height: int) -> None:
    pixels = np.full((height, 400, 3), 128, np.uint8)
    pixels[:16] = np.random.default_rng(1).integers(0, 255, (16, 400, 3))
    content = bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1])
    assert content[:-2].endswith(bytes(1000))
    (tmp_path / "a.jpg").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.jpg")[..., ::-1], cv2.imdecode(np.frombuffer(content, np.uint8), 1))
