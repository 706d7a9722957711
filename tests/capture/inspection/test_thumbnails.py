from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import tifffile

from capture.inspection.inspect_files import InspectionTask
from capture.inspection.thumbnails import read_thumbnail, thumbnail_of
from sdd_toolkit.imaging.content_similarity import LONG_SIDE_PX, similarity
from sdd_toolkit.raw.reading import read_preview
from tests.support.dead_leaves import leaves_picture
from tests.support.dng_files import write_dng


def colour(seed: int, height: int, width: int) -> np.ndarray:
    return np.repeat(leaves_picture(seed, height, width)[..., None], 3, axis=-1)


def test_exposure_and_orientation_fall_out_of_a_thumbnail(tmp_path: Path) -> None:
    scene = colour(3, 216, 324)
    write_dng(tmp_path / "a.dng", scene * 0.8)
    write_dng(tmp_path / "b.dng", np.ascontiguousarray(np.rot90(scene)) * 0.1, orientation=6)
    first, second = (read_thumbnail(InspectionTask(tmp_path / name, name)) for name in ("a.dng", "b.dng"))
    assert first.band.shape == second.band.shape == (128, LONG_SIDE_PX)
    assert similarity(first.band, second.band) > 0.9
    assert first.level / second.level > 7


def test_a_sharper_frame_holds_more_detail() -> None:
    sharp = colour(1, 216, 324)
    soft = cv2.GaussianBlur(sharp, (0, 0), 3.0)
    assert thumbnail_of("a", sharp, "pixels").detail > 3 * thumbnail_of("b", soft, "pixels").detail


def test_a_black_frame_has_nothing_to_compare() -> None:
    black = np.abs(np.random.default_rng(0).normal(0, 2e-4, (216, 324, 3))).astype(np.float32)
    assert thumbnail_of("a", black, "pixels").band is None


def test_a_file_that_cannot_be_decoded_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    assert read_thumbnail(InspectionTask(tmp_path / "a.png", "a.png")).failure.startswith("cannot decode a.png")


def test_a_large_preview_is_used_in_place_of_the_pixels(tmp_path: Path) -> None:
    content = bytearray(write_dng(tmp_path / "a.dng", colour(2, 1024, 1536) * 0.5).read_bytes())
    tones = (np.sqrt(colour(2, 1024, 1536)) * 255).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", tones)[1].tobytes()
    entries = ((254, 1), (256, 1536), (257, 1024), (259, 7), (262, 6), (273, len(content)), (277, 3), (279, len(jpeg)))
    with tifffile.TiffFile(tmp_path / "a.dng") as source:
        first, count = source.pages.first.offset, len(source.pages.first.tags)
    struct.pack_into("<I", content, first + 2 + 12 * count, len(content) + len(jpeg))
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    content += jpeg + struct.pack("<H", len(entries)) + directory + bytes(4)
    (tmp_path / "a.dng").write_bytes(content)
    found = read_preview(tmp_path / "a.dng", 500)
    assert found.shape == (512, 768, 3)
    assert read_thumbnail(InspectionTask(tmp_path / "a.dng", "a.dng")).source == "preview"
    assert read_preview(tmp_path / "a.dng", 1000).shape == (1024, 1536, 3)


def test_a_raw_file_without_preview_has_none(tmp_path: Path) -> None:
    assert read_preview(write_dng(tmp_path / "a.dng", colour(2, 64, 96)), 1000) is None


def test_a_picture_of_a_pixel_has_too_little_texture(tmp_path: Path) -> None:
    for name, size in (("a.png", (1, 1)), ("b.png", (1, 60)), ("c.png", (60, 1)), ("d.png", (2, 2))):
        cv2.imwrite(str(tmp_path / name), np.full((*size, 3), 90, np.uint8))
        found = read_thumbnail(InspectionTask(tmp_path / name, name))
        assert (found.band, found.failure) == (None, "")
