"""DNG files: every sample, level and tag is read back by LibRaw, tifffile and exifread."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import exifread
import numpy as np
import pytest
import rawpy
import tifffile

from capture.virtual import sensor
from capture.virtual.config import SimulateConfig
from sdd_toolkit.raw.dng import RawTags, colour_matrix, encode

CONFIG = SimulateConfig(width=96, height=64, noise=False)
TAGS = RawTags(
    make="SDD", model="Virtual Camera", lens="SDD 50mm F1.2", f_number=2.8, shutter_s=1 / 250, iso=200,
    focal_mm=50.0, focal_35mm=50, focus_m=1.2345, pitch_mm=0.0278,
    taken_at=datetime(2026, 1, 1, 10, 2, 3, 45000), cfa="RGGB", black_level=512, white_level=16383,
    neutral=sensor.NEUTRAL, colour_matrix=sensor.COLOUR_MATRIX, noise_profile=(1e-4, 1e-8),
)  # fmt: skip


def random_mosaic() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 16384, (64, 96), dtype=np.uint16)


def opened(content: bytes) -> rawpy.RawPy:
    return rawpy.imread(io.BytesIO(content))


def test_the_mosaic_comes_back_bit_for_bit() -> None:
    with opened(encode(random_mosaic(), TAGS)) as raw:
        assert np.array_equal(raw.raw_image_visible, random_mosaic())
        assert raw.black_level_per_channel == [512] * 4
        assert raw.white_level == 16383


@pytest.mark.parametrize("cfa", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (130, 98), (22, 1002)])
@pytest.mark.parametrize("levels", [(0, 1023), (513, 16381), (2047, 16383)])
def test_every_bit_survives_whatever_pattern_size_and_levels(
    cfa: str, size: tuple[int, int], levels: tuple[int, int]
) -> None:
    black, white = levels
    mosaic = np.random.default_rng(size[0]).integers(0, white + 1, size, dtype=np.uint16)
    content = encode(mosaic, replace(TAGS, cfa=cfa, black_level=black, white_level=white))
    with opened(content) as raw:
        assert np.array_equal(raw.raw_image_visible, mosaic)
        assert (raw.black_level_per_channel, raw.white_level) == ([black] * 4, white)
        assert "".join("RGBG"[number] for number in raw.raw_pattern.ravel()) == cfa
    assert np.array_equal(tifffile.imread(io.BytesIO(content)), mosaic)


@pytest.mark.parametrize("cfa", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_patches_develop_to_their_colours(cfa: str) -> None:
    config = CONFIG.model_copy(update={"cfa": cfa})
    colours = np.array([[0.5, 0.5, 0.5], [0.4, 0.3, 0.2], [0.05, 0.2, 0.3], [1.0, 1.0, 1.0]], np.float32)
    linear = np.repeat(np.repeat(colours[None], 24, axis=1), 64, axis=0)
    with opened(encode(sensor.expose(linear, config, None), replace(TAGS, cfa=cfa))) as raw:
        developed = raw.postprocess(use_camera_wb=True, no_auto_bright=True, gamma=(1, 1), output_bps=16)
    for number, colour in enumerate(colours):
        assert developed[32, 24 * number + 12] / 65535 == pytest.approx(colour, abs=0.002)


def test_exifread_sees_every_tag() -> None:
    read = {key: str(value) for key, value in exifread.process_file(io.BytesIO(encode(random_mosaic(), TAGS))).items()}
    expected = {
        "Image Make": "SDD", "Image Model": "Virtual Camera", "EXIF LensModel": "SDD 50mm F1.2",
        "EXIF FNumber": "14/5", "EXIF ExposureTime": "1/250", "EXIF ISOSpeedRatings": "200",
        "EXIF FocalLength": "50", "EXIF SubjectDistance": "2469/2000", "Image Orientation": "Horizontal (normal)",
        "EXIF DateTimeOriginal": "2026:01:01 10:02:03", "EXIF SubSecTimeOriginal": "045",
        "Image BlackLevel": "512", "Image Tag 0xC61D": "16383", "Image CFAPattern": "[0, 1, 1, 2]",
        "Image Tag 0xC628": "[1/2, 1, 13/20]", "Image Tag 0xC614": "SDD Virtual Camera", "Image Tag 0xC65A": "21",
    }  # fmt: skip
    assert {key: read.get(key) for key in expected} == expected
    assert "Image Tag 0xC621" in read


@pytest.mark.parametrize(("seconds", "text"), [(0.004, "1/250"), (1 / 122, "1/122"), (0.5, "1/2"), (2.5, "5/2")])
def test_exposure_times_are_simple_fractions(seconds: float, text: str) -> None:
    content = encode(random_mosaic(), replace(TAGS, shutter_s=seconds))
    assert str(exifread.process_file(io.BytesIO(content))["EXIF ExposureTime"]) == text


def test_pixels_lie_in_one_uncompressed_strip() -> None:
    content = encode(random_mosaic(), TAGS)
    tags = exifread.process_file(io.BytesIO(content))
    start = tags["Image StripOffsets"].values
    assert len(start) == 1
    assert content[start[0] : start[0] + 64 * 96 * 2] == random_mosaic().tobytes()


def test_same_shot_same_bytes() -> None:
    assert encode(random_mosaic(), TAGS) == encode(random_mosaic(), TAGS)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(encode(random_mosaic(), TAGS))
    command = ["exiftool", "-validate", "-warning", "-error", "-a", "-s3", str(tmp_path / "a.dng")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "OK"


@pytest.mark.skipif(shutil.which("dcraw_emu") is None, reason="dcraw_emu is not installed")
def test_libraws_own_program_develops_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(encode(random_mosaic(), TAGS))
    done = subprocess.run(["dcraw_emu", "-T", str(tmp_path / "a.dng")], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert (tmp_path / "a.dng.tiff").stat().st_size > 64 * 96 * 3


def test_linear_rgb_comes_back_with_its_white_balance_and_colours() -> None:
    colours = np.array([[0.5, 0.5, 0.5], [0.4, 0.3, 0.2], [0.05, 0.2, 0.3]], np.float32)
    linear = np.repeat(np.repeat(colours[None], 32, axis=1), 64, axis=0) @ sensor.CAMERA_FROM_SRGB.T
    tags = replace(TAGS, black_level=0, white_level=65535)
    with opened(encode(np.rint(linear * 65535).astype(np.uint16), tags)) as raw:
        assert raw.camera_whitebalance[:3] == pytest.approx([2.0, 1.0, 1 / 0.65], rel=1e-4)
        developed = raw.postprocess(use_camera_wb=True, no_auto_bright=True, gamma=(1, 1), output_bps=16)
    for number, colour in enumerate(colours):
        assert developed[32, 32 * number + 16] / 65535 == pytest.approx(colour, abs=0.001)


def test_the_colour_matrix_of_a_camera_follows_from_its_white_balance_and_its_way_to_srgb() -> None:
    to_srgb = np.linalg.inv(np.diag(1 / np.array(sensor.NEUTRAL)) @ sensor.CAMERA_FROM_SRGB)
    matrix = colour_matrix(to_srgb, 1 / np.array(sensor.NEUTRAL))
    assert matrix == pytest.approx(sensor.COLOUR_MATRIX, abs=1e-9)


def test_what_is_not_known_is_left_out_of_the_file() -> None:
    bare = RawTags("SDD", "Camera", 0, 65535, (1.0, 1.0, 1.0), sensor.COLOUR_MATRIX)
    read = exifread.process_file(io.BytesIO(encode(random_mosaic(), bare)))
    unknown = ("FNumber", "ExposureTime", "ISOSpeedRatings", "FocalLength", "DateTimeOriginal", "LensModel")
    assert not [name for name in unknown if f"EXIF {name}" in read]
    assert str(read["Image Make"]) == "SDD"
