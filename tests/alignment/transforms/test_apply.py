"""Files in, files out: kinds and depths of files, sizes, what is never overwritten, and one bad file among many."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from alignment.transforms.apply import ApplyOptions, apply_to_files
from alignment.transforms.transform import Transform
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.colour import ImageColour, read_colour
from sdd_toolkit.formats.decoding import read_image, read_values
from sdd_toolkit.formats.icc import encode_icc
from sdd_toolkit.frames.reading import read_full
from sdd_toolkit.frames.writing import write_image, write_values
from sdd_toolkit.imaging.colour_profile import ColourProfile, Curve, colorants_of
from sdd_toolkit.metadata.exif import read_meta
from tests.support.dng_files import scene_rgb, write_dng

SIZE = (60, 90)
SHIFT = Transform("b", "s", SIZE, ((1.0, 0.0, 7.0), (0.0, 1.0, -4.0), (0.0, 0.0, 1.0)), "similarity")
TURNED = Transform("b", "s", SIZE, ((1.01, -0.01, 1.3), (0.01, 1.01, 0.6), (0.0, 0.0, 1.0)), "similarity")


def picture(dtype: type[np.generic] = np.uint8, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    return rng.integers(0, np.iinfo(dtype).max, (*size, 3), dtype=dtype, endpoint=True)  # type: ignore[type-var]


def photograph(path: Path, dtype: type[np.generic] = np.uint8, size: tuple[int, int] = SIZE) -> Path:
    write_image(path, picture(dtype, size))
    return path


def test_an_eight_bit_image_becomes_an_eight_bit_png_moved_by_the_shift(tmp_path: Path) -> None:
    source = photograph(tmp_path / "a.png")
    report, failures = apply_to_files(SHIFT, [source], tmp_path / "out")
    assert (report.done, failures) == (1, ())
    moved = read_image(tmp_path / "out" / "a_aligned.png")
    assert moved.dtype == np.uint8
    assert np.array_equal(moved[:56, 7:], picture()[4:, :83])
    valid = read_values(tmp_path / "out" / "a_aligned_valid.png")
    assert valid.shape == SIZE
    assert (valid[:56, 7:] == 255).all()
    assert not valid[56:].any()
    assert not valid[:, :7].any()


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    source = photograph(tmp_path / "a.png", np.uint16)
    apply_to_files(SHIFT, [source], tmp_path / "out")
    moved = read_image(tmp_path / "out" / "a_aligned.tif")
    assert moved.dtype == np.uint16
    assert np.array_equal(moved[:56, 7:], picture(np.uint16)[4:, :83])


@pytest.mark.parametrize(
    ("name", "dtype", "result"), [("a.png", np.uint8, "a_aligned.png"), ("a.jpg", np.uint8, "a_aligned.png"),
                                  ("a.tif", np.uint16, "a_aligned.tif"), ("a.png", np.uint16, "a_aligned.tif")],
)  # fmt: skip
def test_the_colour_profile_stays_and_with_it_the_code_values(
    tmp_path: Path, name: str, dtype: type[np.generic], result: str
) -> None:
    profile = ColourProfile("wide", (Curve(2.2),) * 3, colorants_of(((0.7, 0.29), (0.17, 0.8), (0.13, 0.05))))
    colour = ImageColour(profile, encode_icc(profile))
    write_image(tmp_path / name, picture(dtype), colour=colour)
    apply_to_files(SHIFT, [tmp_path / name], tmp_path / "out")
    assert read_colour(tmp_path / "out" / result).icc == colour.icc
    stored = read_image(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / "out" / result)[:56, 7:], stored[4:, :83])


def test_light_is_interpolated_not_its_code(tmp_path: Path) -> None:
    columns = np.where(np.arange(90) % 2, 255, 0).astype(np.uint8)
    write_image(tmp_path / "a.png", np.broadcast_to(columns[None, :, None], (*SIZE, 3)).copy())
    half = Transform("b", "s", SIZE, ((1.0, 0.0, 0.5), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "similarity")
    apply_to_files(half, [tmp_path / "a.png"], tmp_path / "out")
    # Half of the light is code 188, half of the codes would be 128.
    assert abs(int(np.median(read_image(tmp_path / "out" / "a_aligned.png")[20:40, 20:70])) - 188) <= 1


def test_a_raw_file_becomes_a_sixteen_bit_tiff_with_its_metadata(tmp_path: Path) -> None:
    source = write_dng(tmp_path / "a.dng", scene_rgb(*SIZE), exif={"iso": 200, "f_number": 2.8})
    apply_to_files(SHIFT, [source], tmp_path / "out")
    moved = read_image(tmp_path / "out" / "a_aligned.tif")
    assert moved.dtype == np.uint16
    linear = read_full(source)[4:, :83]
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    assert float(np.abs(moved[:56, 7:] - 65535 * srgb).max()) < 2
    assert read_meta(tmp_path / "out" / "a_aligned.tif").make == "Planted"


def test_the_inverse_undoes_it(tmp_path: Path) -> None:
    ramp = np.linspace(20, 220, 90).astype(np.uint8)
    write_image(tmp_path / "a.png", np.broadcast_to(ramp[None, :, None], (*SIZE, 3)).copy())
    apply_to_files(TURNED, [tmp_path / "a.png"], tmp_path / "there")
    apply_to_files(
        TURNED, [tmp_path / "there" / "a_aligned.png"], tmp_path / "back", options=ApplyOptions(inverse=True)
    )
    back = read_image(tmp_path / "back" / "a_aligned_aligned.png").astype(int)
    assert np.abs(back - read_image(tmp_path / "a.png"))[12:-12, 12:-12].max() <= 1


@pytest.mark.parametrize(("name", "dtype"), [("m.png", np.uint8), ("m.png", np.uint16), ("m.tif", np.float32)])
def test_numbers_are_copied_by_nearest(tmp_path: Path, name: str, dtype: type[np.generic]) -> None:
    depth = (np.arange(60 * 90).reshape(SIZE) % 251 + 1).astype(dtype)
    write_values(tmp_path / name, depth)
    apply_to_files(SHIFT, [tmp_path / name], tmp_path / "out", options=ApplyOptions(nearest=True))
    target = tmp_path / "out" / ("m_aligned.png" if dtype is np.uint8 else "m_aligned.tif")
    moved = read_values(target)
    assert (moved.dtype, moved.shape) == (dtype, SIZE)
    assert np.array_equal(moved[:56, 7:], depth[4:, :83])
    assert not moved[56:].any()


def test_a_file_of_half_the_size_is_moved_by_half_as_much(tmp_path: Path) -> None:
    even = Transform("b", "s", SIZE, ((1.0, 0.0, 8.0), (0.0, 1.0, -4.0), (0.0, 0.0, 1.0)), "similarity")
    small = photograph(tmp_path / "a.png", size=(30, 45))
    apply_to_files(even, [small], tmp_path / "out")
    moved = read_image(tmp_path / "out" / "a_aligned.png")
    assert np.array_equal(moved[:28, 4:], picture(size=(30, 45))[2:, :41])


def test_an_odd_last_row_is_left_out_as_development_does(tmp_path: Path) -> None:
    source = photograph(tmp_path / "a.png", size=(61, 91))
    apply_to_files(SHIFT, [source], tmp_path / "out")
    assert read_image(tmp_path / "out" / "a_aligned.png").shape == (*SIZE, 3)


def test_one_bad_file_stops_none_of_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    files = [
        tmp_path / "broken.png",
        tmp_path / "missing.tif",
        tmp_path / "notes.txt",
        photograph(tmp_path / "other.png", size=(45, 90)),
        photograph(tmp_path / "good.png"),
    ]
    report, failures = apply_to_files(SHIFT, files, tmp_path / "out")
    assert (report.total, report.done, sum(report.rejected.values())) == (5, 1, 4)
    assert [Path(failure.path).name for failure in failures] == [path.name for path in files[:4]]
    assert "90x45 px, the transform is for 90x60 px" in failures[3].reason
    assert len(caplog.records) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good_aligned.png", "good_aligned_valid.png"]


def test_existing_files_are_replaced_only_with_overwrite(tmp_path: Path) -> None:
    source = photograph(tmp_path / "a.png")
    apply_to_files(SHIFT, [source], tmp_path / "out")
    first = (tmp_path / "out" / "a_aligned.png").read_bytes()
    with pytest.raises(InputError, match="exist already") as caught:
        apply_to_files(TURNED, [source], tmp_path / "out")
    assert "--overwrite" in caught.value.hint
    assert (tmp_path / "out" / "a_aligned.png").read_bytes() == first
    assert apply_to_files(TURNED, [source], tmp_path / "out", overwrite=True)[0].done == 1
    assert (tmp_path / "out" / "a_aligned.png").read_bytes() != first


def test_an_input_is_never_replaced_nor_the_result_of_another_one(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    names = ("a.png", "a_aligned.png", "a_aligned_valid.png", "c.png", "more/c.png")
    files = [photograph(tmp_path / name) for name in names]
    before = {path: path.read_bytes() for path in files}
    for chosen, message in ((files[:3], "would replace an input"), (files[3:], "the result of two files")):
        with pytest.raises(InputError, match=message):
            apply_to_files(SHIFT, chosen, tmp_path, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    source = photograph(tmp_path / "a.png", np.uint16)
    for name in ("one", "two"):
        apply_to_files(TURNED, [source], tmp_path / name)
    assert (tmp_path / "one" / "a_aligned.tif").read_bytes() == (tmp_path / "two" / "a_aligned.tif").read_bytes()


def stored_flow(path: Path, shape: tuple[int, ...] = (15, 23, 2), confidence: int = 255) -> Path:
    np.savez(path, flow=np.full(shape, 2.0, np.float16), confidence=np.full(shape[:2], confidence, np.uint8))
    return path


def test_the_flow_is_applied_with_the_homography_in_one_go(tmp_path: Path) -> None:
    source = photograph(tmp_path / "a.png")
    apply_to_files(SHIFT, [source], tmp_path / "out", flow_file=stored_flow(tmp_path / "f.npz"))
    moved = read_image(tmp_path / "out" / "a_aligned.png")
    assert np.array_equal(moved[:58, 9:], picture()[2:, :81])


def test_a_flow_without_confidence_moves_nothing(tmp_path: Path) -> None:
    source = photograph(tmp_path / "a.png")
    apply_to_files(SHIFT, [source], tmp_path / "out", flow_file=stored_flow(tmp_path / "f.npz", confidence=0))
    assert np.array_equal(read_image(tmp_path / "out" / "a_aligned.png")[:56, 7:], picture()[4:, :83])


def test_what_the_sharp_frame_hides_is_not_valid(tmp_path: Path) -> None:
    hidden = np.zeros((15, 23), np.uint8)
    hidden[6:9, 10:14] = 1
    zero = np.zeros((15, 23, 2), np.float16)
    np.savez(tmp_path / "f.npz", flow=zero, confidence=np.full((15, 23), 255, np.uint8), occlusion=hidden)
    apply_to_files(SHIFT, [photograph(tmp_path / "a.png")], tmp_path / "out", flow_file=tmp_path / "f.npz")
    valid = read_values(tmp_path / "out" / "a_aligned_valid.png")
    assert not valid[25:35, 41:55].any()
    assert valid[10:22, 20:80].all()


def test_a_flow_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    files, out = [photograph(tmp_path / "a.png")], tmp_path / "out"
    with pytest.raises(InputError, match="expected finite values"):
        apply_to_files(SHIFT, files, out, flow_file=stored_flow(tmp_path / "f.npz", (15, 22, 2)))
    with pytest.raises(InputError, match="no residual flow"):
        apply_to_files(SHIFT, files, out, flow_file=tmp_path / "missing.npz")


def test_a_four_channel_file_keeps_its_alpha(tmp_path: Path) -> None:
    rgba = np.dstack([picture(), np.full(SIZE, 77, np.uint8)])
    assert cv2.imwrite(str(tmp_path / "a.png"), rgba[..., [2, 1, 0, 3]])
    apply_to_files(SHIFT, [tmp_path / "a.png"], tmp_path / "out", options=ApplyOptions(nearest=True))
    assert np.array_equal(read_values(tmp_path / "out" / "a_aligned.png")[:56, 7:], rgba[4:, :83])


def test_planes_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((*SIZE, 2), np.uint16), photometric="minisblack")
    assert (
        apply_to_files(SHIFT, [tmp_path / "a.tif"], tmp_path / "out", options=ApplyOptions(nearest=True))[0].done == 0
    )
