"""EXIF of real and planted files."""

from __future__ import annotations

import io
import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import exifread
import numpy as np
import pytest
from exifread.utils import Ratio
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import read_structure
from sdd_toolkit.metadata.exif import complete_with_exiftool, parse_tags, read_exif, read_meta
from sdd_toolkit.metadata.exif_block import build_block
from sdd_toolkit.records import Exposure, FileProvenance, FrameMeta
from tests.support.dng_files import scene_rgb, write_dng


def tag(values: object) -> SimpleNamespace:
    return SimpleNamespace(values=values)


def test_zero_blank_infinite_and_undefined_mean_unknown() -> None:
    tags = {
        "EXIF FNumber": tag([Ratio(0, 1)]),
        "EXIF ExposureTime": tag([Ratio(0, 0)]),
        "EXIF ISOSpeedRatings": tag([0]),
        "EXIF FocalLength": tag([Ratio(0xFFFFFFFF, 1)]),
        "EXIF DateTimeOriginal": tag("    :  :     :  :  "),
        "EXIF LensModel": tag("  \0"),
        "Image Orientation": tag([0]),
    }
    assert parse_tags(tags) == FrameMeta()


def test_the_time_has_the_sub_seconds_of_its_own_tag() -> None:
    tags = {
        "Image DateTime": tag("2026:05:02 00:00:00"),
        "EXIF DateTimeOriginal": tag("2026:05:01 10:00:00"),
        "EXIF SubSecTimeOriginal": tag("25"),
    }
    assert parse_tags(tags).taken_at == "2026-05-01T10:00:00.250000"


def test_the_zone_of_the_time_and_the_serial_number_are_kept() -> None:
    tags = {
        "EXIF DateTimeOriginal": tag("2026:05:01 10:00:00"),
        "EXIF OffsetTimeOriginal": tag("+02:00"),
        "EXIF OffsetTime": tag("+01:00"),
        "EXIF BodySerialNumber": tag(" 0123 "),
    }
    assert (parse_tags(tags).utc_offset, parse_tags(tags).serial) == ("+02:00", "0123")


@pytest.mark.parametrize("zone", ["", "   :  ", "+25:00", "2", "+02:0"])
def test_a_zone_that_is_none_is_unknown(zone: str) -> None:
    tags = {"EXIF DateTimeOriginal": tag("2026:05:01 10:00:00"), "EXIF OffsetTimeOriginal": tag(zone)}
    assert parse_tags(tags).utc_offset is None


def test_a_blank_time_falls_back_to_the_next_tag() -> None:
    tags = {"EXIF DateTimeOriginal": tag("0000:00:00 00:00:00"), "Image DateTime": tag("2026:05:01 10:00:00")}
    assert parse_tags(tags).taken_at == "2026-05-01T10:00:00"


def test_an_image_tells_its_size_without_being_decoded(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.tif"):
        cv2.imwrite(str(tmp_path / name), np.zeros((31, 42, 3), np.uint8))
        assert read_meta(tmp_path / name).size == (30, 42)


def test_exiftool_fills_only_what_is_unknown() -> None:
    known = FrameMeta(make="Canon", exposure=Exposure(f_number=2.0))
    tags = {"Make": "Other", "FNumber": 8, "ISO": 100, "FocusDistance": 0, "DateTimeOriginal": "2026:05:01 10:00:00.5"}
    told = complete_with_exiftool(known, tags)
    assert (told.make, told.taken_at) == ("Canon", "2026-05-01T10:00:00.500000")
    assert told.exposure == Exposure(iso=100.0, f_number=2.0)


def test_an_iso_too_large_for_its_tag_is_looked_up_in_the_next() -> None:
    tags = {"EXIF ISOSpeedRatings": tag([65535]), "EXIF RecommendedExposureIndex": tag([102400])}
    assert parse_tags(tags).exposure.iso == 102400.0


@pytest.mark.parametrize(
    ("numerator", "denominator", "focus_m"),
    [(12345, 10000, 1.2345), (0xFFFFFFFF, 1, math.inf), (0xFFFFFFFF, 100, math.inf), (0, 1, None), (0, 0, None)],
)
def test_a_subject_may_be_at_infinity_or_unknown(numerator: int, denominator: int, focus_m: float | None) -> None:
    tags = {"EXIF SubjectDistance": tag([Ratio(numerator, denominator)])}
    assert parse_tags(tags).exposure.focus_m == focus_m


@pytest.mark.parametrize("focus_m", [0.25, 3.2, math.inf])
def test_a_focus_distance_is_written_and_read_back(focus_m: float) -> None:
    block = build_block(FrameMeta(exposure=Exposure(focus_m=focus_m)))
    assert parse_tags(exifread.process_file(io.BytesIO(block), details=False)).exposure.focus_m == focus_m


def test_zeros_in_exif_are_not_filled_by_the_placeholders_of_libraw(real_data: Path) -> None:
    meta = read_meta(real_data / "raw/canon_kiss_x4_colorchart.dng")
    assert (meta.make, meta.model) == ("Canon", "Canon EOS Kiss X4")
    assert meta.exposure == Exposure()
    assert meta.taken_at is None
    assert meta.size == (1156, 1734)


def test_libraw_tells_what_exifread_cannot_find(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", scene_rgb(40, 60), exif={"f_number": 2.0, "iso": 100})
    meta = read_meta(path)
    assert meta.size == (40, 60)
    assert meta.exposure.f_number == 2.0
    assert meta.exposure.focal_mm is None


def test_real_files_say_what_their_exif_says(real_data: Path) -> None:
    meta = read_meta(real_data / "raw/canon_eos_6d_linear.dng")
    assert meta.lens == "EF24-105mm f/4L IS USM"
    assert meta.taken_at == "2019-06-06T07:29:51"
    assert meta.exposure == Exposure(iso=1000.0, shutter_s=1 / 60, f_number=5.6, focal_mm=65.0)
    old = read_meta(real_data / "raw/RAW_KODAK_DC50_é.KDC")
    assert old.exposure == Exposure(iso=84.0, shutter_s=87 / 20000, f_number=6.2, focal_mm=37.0, focus_m=8.2)


def test_an_unreadable_file_is_a_raw_error(tmp_path: Path) -> None:
    (tmp_path / "a.nef").write_bytes(b"no photograph")
    for name in ("a.nef", "missing.jpg"):
        with pytest.raises(RawError, match=name[:-4]):
            read_meta(tmp_path / name)


positive = st.floats(1e-4, 1e4)
texts = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=40)


@given(texts, texts, positive, positive, st.integers(1, 60000), st.integers(0, 999999))
def test_a_block_that_was_built_is_read_back(
    make: str, lens: str, shutter_s: float, f_number: float, iso: int, microsecond: int
) -> None:
    taken_at = f"2026-05-01T10:00:00.{microsecond:06d}" if microsecond else "2026-05-01T10:00:00"
    meta = FrameMeta(make, "M", lens, taken_at, exposure=Exposure(float(iso), shutter_s, f_number))
    again = parse_tags(exifread.process_file(io.BytesIO(build_block(meta)), details=False))
    assert (again.make, again.lens, again.taken_at) == (make, lens, taken_at)
    assert again.exposure.iso == iso
    assert again.exposure.shutter_s == pytest.approx(shutter_s, rel=0.01)
    assert again.exposure.f_number == pytest.approx(f_number, rel=0.01)


def test_a_file_tells_what_it_was_made_of(tmp_path: Path) -> None:
    camera = provenance(write_dng(tmp_path / "camera.dng", scene_rgb(40, 60), exif={"taken_at": "2026:05:01 10:00:00"}))
    assert camera == FileProvenance()
    extra = ((305, "s", 0, "Converter 1", True), (306, "s", 0, "2026:06:01 10:00:00", True))
    names = ((50827, "s", 0, "IMG_1.CR2", True), (50827, "B", 10, b"IMG_1.CR2\0", True))
    for name in names:
        converted = write_dng(tmp_path / "converted.dng", scene_rgb(40, 60), extra=(*extra, name))
        assert provenance(converted) == FileProvenance("Converter 1", "IMG_1.CR2", has_shot_time=False)


def test_a_demosaiced_dng_is_told_from_a_mosaic(real_data: Path) -> None:
    assert provenance(real_data / "raw/canon_eos_6d_linear.dng").is_demosaiced
    assert not provenance(real_data / "raw/canon_kiss_x4_colorchart.dng").is_demosaiced


def provenance(path: Path) -> FileProvenance:
    with path.open("rb") as stream:
        return read_exif(path, stream, read_structure(stream, path)).provenance
