"""Images written and read back: pixels, bit depth and EXIF."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.formats.containers import exif_range
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.formats.tiff import reader
from sdd_toolkit.frames.writing import encode_image, write_image
from sdd_toolkit.metadata.exif import read_meta
from tests.support.dng_files import scene_rgb, write_dng

SHOT = {"f_number": 2.8, "shutter_s": 0.0125, "iso": 400, "taken_at": "2026:05:01 10:00:00"}


def noise(dtype: type, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, 3)).astype(dtype)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_written_without_loss_is_read_back_in_its_bit_depth(tmp_path: Path, suffix: str, dtype: type) -> None:
    pixels = noise(dtype)
    write_image(tmp_path / f"ü{suffix}", pixels)
    again = read_image(tmp_path / f"ü{suffix}")
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, pixels)


def test_jpeg_keeps_colours_and_refuses_sixteen_bits(tmp_path: Path) -> None:
    pixels = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    write_image(tmp_path / "a.jpg", pixels)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg"), pixels, atol=2)
    with pytest.raises(InputError, match="16 bits"):
        write_image(tmp_path / "b.jpg", noise(np.uint16))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_the_exif_of_a_raw_file_goes_along_upright(tmp_path: Path, suffix: str) -> None:
    source = write_dng(tmp_path / "a.dng", scene_rgb(40, 60), orientation=6, exif=SHOT)
    write_image(tmp_path / f"b{suffix}", noise(np.uint8), like=source)
    meta = read_meta(tmp_path / f"b{suffix}")
    assert (meta.make, meta.model, meta.orientation) == ("Planted", "Camera One", 1)
    assert meta.taken_at == "2026-05-01T10:00:00"
    assert (meta.exposure.f_number, meta.exposure.shutter_s, meta.exposure.iso) == (2.8, 0.0125, 400.0)


def test_the_exif_of_an_image_is_copied_whole_but_turned_upright(tmp_path: Path) -> None:
    source = write_dng(tmp_path / "a.dng", scene_rgb(40, 60), exif=SHOT)
    write_image(tmp_path / "b.jpg", noise(np.uint8), like=source)
    content = (tmp_path / "b.jpg").read_bytes()
    turned = content.replace(b"\x12\x01\x03\x00\x01\x00\x00\x00\x01", b"\x12\x01\x03\x00\x01\x00\x00\x00\x06", 1)
    (tmp_path / "c.jpg").write_bytes(turned)
    assert read_meta(tmp_path / "c.jpg").orientation == 6
    assert read_image(tmp_path / "c.jpg").shape == (32, 24, 3)
    write_image(tmp_path / "d.png", read_image(tmp_path / "c.jpg"), like=tmp_path / "c.jpg")
    assert read_meta(tmp_path / "d.png") == replace(read_meta(tmp_path / "b.jpg"), size=(32, 24))


def test_a_source_that_says_nothing_adds_nothing(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(np.uint8))
    write_image(tmp_path / "b.png", noise(np.uint8), like=tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_grey_is_repeated_and_alpha_dropped(tmp_path: Path) -> None:
    pixels = noise(np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), pixels[..., 0])
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([pixels[..., ::-1], pixels[..., 0]]))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), pixels[..., [0, 0, 0]])
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), pixels)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_tiff_lying_on_its_side_is_turned(tmp_path: Path, orientation: int) -> None:
    pixels = noise(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    quarters = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.rot90(pixels, quarters))


def test_pixels_no_curve_is_known_for_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((8, 8, 3), np.float32), photometric="rgb")
    planes = np.moveaxis(noise(np.uint16), -1, 0)
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    for name in ("float.tif", "planes.tif"):
        with pytest.raises(RawError, match=name):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_an_image_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, noise(np.uint8, 100, 100))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(RawError, match=path.name):
        read_image(path)


def test_a_name_without_a_known_suffix_and_a_wrong_array_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="suffix"):
        write_image(tmp_path / "a.webp", noise(np.uint8))
    with pytest.raises(ValueError, match="expected"):
        write_image(tmp_path / "a.png", noise(np.uint8)[..., 0])


@given(st.binary(max_size=200))
def test_any_bytes_can_ride_along_without_harming_the_pixels(block: bytes) -> None:
    pixels = np.full((8, 8, 3), 77, dtype=np.uint8)
    for suffix in (".png", ".jpg"):
        content = encode_image(Path(f"a{suffix}"), pixels, block)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), flags), pixels)


def read_block(path: Path) -> bytes | None:
    with path.open("rb") as stream:
        position = exif_range(stream)
        return None if position is None else reader(stream)(*position)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_block_is_read_back_from_the_image_it_was_embedded_in(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    block = b"II*\0" + bytes(range(256)) * 200
    path.write_bytes(encode_image(path, noise(np.uint8), block))
    assert read_block(path) == block
    path.write_bytes(encode_image(path, noise(np.uint8)))
    assert read_block(path) is None


def test_a_block_longer_than_a_jpeg_segment_is_left_out(tmp_path: Path) -> None:
    for length, kept in ((65527, True), (65528, False)):
        path = tmp_path / f"{length}.jpg"
        path.write_bytes(encode_image(path, noise(np.uint8), b"x" * length))
        assert (read_block(path) is not None) is kept
