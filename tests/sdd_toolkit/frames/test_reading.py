"""RAW files and images as linear frames: planted light, orientation, levels and refusals."""

from __future__ import annotations

import struct
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdd_toolkit.errors import RawError, SddError
from sdd_toolkit.formats.containers import is_candidate
from sdd_toolkit.frames.reading import develop_frame, read_full, read_half, read_mosaic, read_white_balance
from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.imaging.encoding import Encoding, decode, encode
from sdd_toolkit.imaging.frame import HalfFrame, preview
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.raw.development import Demosaic
from sdd_toolkit.raw.reading import read_metadata
from tests.support.dng_files import (
    BGGR,
    GBRG,
    GRBG,
    RGGB,
    WHITE_DN,
    X_TRANS,
    ratios,
    scene_rgb,
    write_dng,
    write_linear_dng,
)

UNEVEN_BLACK_DN = (500, 520, 540, 560)
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def developed(half: HalfFrame) -> np.ndarray:
    return decode(preview(half), Encoding.SRGB8)


@pytest.mark.parametrize("cfa", [RGGB, GRBG, GBRG, BGGR])
def test_half_size_gives_the_planted_light_for_every_bayer_order_and_channel_black_level(
    tmp_path: Path, cfa: tuple[int, ...]
) -> None:
    rgb = scene_rgb(60, 80)
    half = read_half(write_dng(tmp_path / "a.dng", rgb, cfa, UNEVEN_BLACK_DN))
    assert half.size == (60, 80)
    np.testing.assert_allclose(half.rgb, bin_2x2(rgb), atol=0.004)


@pytest.mark.parametrize("cfa", [RGGB, GRBG, GBRG, BGGR])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_half_and_full_size_agree_in_colour_level_and_orientation(
    tmp_path: Path, cfa: tuple[int, ...], orientation: int
) -> None:
    rgb = scene_rgb(120, 160)
    path = write_dng(tmp_path / "a.dng", rgb, cfa, orientation=orientation)
    half, full = read_half(path), read_full(path)
    assert half.size == full.shape[:2] == TURNED[orientation](rgb).shape[:2]
    np.testing.assert_allclose(half.rgb, TURNED[orientation](bin_2x2(rgb)), atol=0.004)
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(developed(half)[inner], bin_2x2(full)[inner], atol=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_an_image_is_turned_upright_once_in_both_sizes(tmp_path: Path, orientation: int, suffix: str) -> None:
    codes = encode(scene_rgb(120, 160).astype(np.float32), Encoding.SRGB8)
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(codes).save(path, exif=exif, **({"quality": 98, "subsampling": 0} if suffix == ".jpg" else {}))
    upright = TURNED[orientation](scene_rgb(120, 160))
    np.testing.assert_allclose(read_full(path), upright, atol=0.02)
    np.testing.assert_allclose(read_half(path).rgb, bin_2x2(upright), atol=0.02)


@pytest.mark.parametrize("cfa", [RGGB, GRBG])
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (3, 5)])
def test_an_active_area_with_an_odd_corner_starts_at_the_next_whole_block(
    tmp_path: Path, cfa: tuple[int, ...], corner: tuple[int, int]
) -> None:
    rgb, (top, left) = scene_rgb(120, 160), corner
    # DNG: the pattern is the one seen at the corner of the active area.
    pattern = np.roll(np.reshape(cfa, (2, 2)), (-top, -left), (0, 1)).ravel().tolist()
    extra = ((50829, "I", 4, (top, left, 112, 152), True), (33422, "B", 4, bytes(pattern), True))
    path = write_dng(tmp_path / "a.dng", rgb, cfa, extra=extra)
    seen = rgb[top + top % 2 : 112, left + left % 2 : 152]
    half, full = read_half(path), read_full(path)
    assert half.size == full.shape[:2] == read_metadata(path).size == seen.shape[:2]
    np.testing.assert_allclose(half.rgb, bin_2x2(seen), atol=0.004)
    np.testing.assert_allclose(developed(half)[2:-2, 2:-2], bin_2x2(full)[2:-2, 2:-2], atol=0.02)


@pytest.mark.parametrize(("dim", "black"), [((1, 1), (700,)), ((1, 2), (500, 900)), ((2, 1), (500, 900))])
def test_black_levels_of_every_period_up_to_two_are_subtracted(
    tmp_path: Path, dim: tuple[int, int], black: tuple[int, ...]
) -> None:
    rgb = scene_rgb(120, 160)
    planted = np.broadcast_to(np.reshape(black, dim), (2, 2)).ravel()
    extra = ((50713, "H", 2, dim, True), (50714, "H", len(black), black, True))
    path = write_dng(tmp_path / "a.dng", rgb, black_dn=tuple(planted.tolist()), extra=extra)
    np.testing.assert_allclose(read_half(path).rgb, bin_2x2(rgb), atol=0.004)
    half = develop_frame(path, demosaic=Demosaic.HALF).linear
    np.testing.assert_allclose(bin_2x2(read_full(path))[2:-2, 2:-2], half[2:-2, 2:-2], atol=0.008)


def test_one_black_level_for_all_gives_the_light_of_unequal_ones(tmp_path: Path) -> None:
    rgb = scene_rgb(96, 128)
    one, two = (
        develop_frame(write_dng(tmp_path / f"{n}.dng", rgb, black_dn=black))
        for n, black in enumerate([(512, 512, 512, 512), (512, 512, 513, 512)])
    )
    assert one.light.dtype == np.uint16
    assert one.white_balance == two.white_balance
    assert np.abs(one.linear - two.linear).mean() < 2e-4


def test_black_levels_of_a_longer_period_are_refused(tmp_path: Path) -> None:
    extra = ((50713, "H", 2, (4, 4), True), (50714, "H", 16, tuple(range(500, 516)), True))
    path = write_dng(tmp_path / "a.dng", scene_rgb(60, 80), extra=extra)
    with pytest.raises(RawError, match="repeat every 4 samples"):
        read_half(path)


NEUTRALS = st.tuples(st.floats(0.3, 0.9), st.just(1.0), st.floats(0.3, 0.9))
# Ranges of a multiple of 59, as the first file's: so many 59ths of light are a whole number in both, and exact.
EXACT_BLACKS = st.tuples(*[st.integers(227, 277).map(lambda times: WHITE_DN - 59 * times)] * 4)


def gaps(
    folder: Path, light: float, black: tuple[int, ...], neutral: tuple[float, float, float], surround: float
) -> dict[Demosaic, float]:
    """How far equal light in two files lies apart: levels, as-shot balance and the rest of the frame differ."""
    plain = np.full((40, 60, 3), light)
    other = np.full((40, 60, 3), surround)
    other[10:30, 20:40] = light
    first = write_dng(folder / "a.dng", plain)
    second = write_dng(folder / "b.dng", other, black_dn=black, neutral=neutral)
    balance = read_white_balance(first)
    found = {}
    for demosaic in Demosaic:
        one, two = (develop_frame(path, balance, demosaic).linear for path in (first, second))
        middle = np.s_[len(one) // 2, one.shape[1] // 2]
        found[demosaic] = float(np.abs(one[middle] - two[middle]).max())
    return found


@settings(deadline=None, max_examples=12)
@given(light=st.integers(1, 26), black=EXACT_BLACKS, neutral=NEUTRALS, surround=st.floats(0, 1))
def test_equal_light_gets_equal_codes_whatever_the_levels_the_balance_and_the_rest_of_a_frame(
    tmp_path_factory: pytest.TempPathFactory,
    light: int,
    black: tuple[int, ...],
    neutral: tuple[float, float, float],
    surround: float,
) -> None:
    found = gaps(tmp_path_factory.mktemp("pair"), light / 59, black, neutral, surround)
    assert found[Demosaic.AHD] == 0
    assert found[Demosaic.HALF] < 0.1 / 65535
    assert found[Demosaic.DHT] < 3.5 / 65535


@settings(deadline=None, max_examples=12)
@given(
    light=st.floats(0.02, 0.45),
    black=st.tuples(*[st.integers(0, 3000)] * 4),
    neutral=NEUTRALS,
    surround=st.floats(0, 1),
)
def test_light_between_two_steps_is_no_further_apart_than_three_of_them(
    tmp_path_factory: pytest.TempPathFactory,
    light: float,
    black: tuple[int, ...],
    neutral: tuple[float, float, float],
    surround: float,
) -> None:
    found = gaps(tmp_path_factory.mktemp("pair"), light, black, neutral, surround)
    # DHT multiplies by ratios of neighbours, each rounded by the camera for itself: no bound but the exact one above.
    assert max(found[Demosaic.AHD], found[Demosaic.HALF]) < 3 / (WHITE_DN - max(black))


@pytest.mark.parametrize("demosaic", Demosaic)
def test_every_demosaic_gives_the_planted_colour(tmp_path: Path, demosaic: Demosaic) -> None:
    path = write_dng(tmp_path / "a.dng", scene_rgb(120, 160))
    frame = develop_frame(path, demosaic=demosaic)
    reference = develop_frame(path, demosaic=Demosaic.HALF).linear
    light = frame.linear if demosaic is Demosaic.HALF else bin_2x2(frame.linear)
    np.testing.assert_allclose(light[3:-3, 3:-3], reference[3:-3, 3:-3], atol=0.006)
    assert (frame.facts.demosaic, frame.facts.white_dn) == (demosaic.value, WHITE_DN)


@pytest.mark.parametrize(("demosaic", "size"), [(Demosaic.DHT, (516, 522)), (Demosaic.HALF, (258, 261))])
def test_an_x_trans_mosaic_goes_its_own_way_and_says_so(
    tmp_path: Path, demosaic: Demosaic, size: tuple[int, int]
) -> None:
    frame = develop_frame(write_dng(tmp_path / "a.dng", scene_rgb(516, 522), X_TRANS), demosaic=demosaic)
    assert frame.facts.demosaic == "x-trans"
    assert frame.linear.shape[:2] == size


def test_a_header_that_claims_a_billion_pixels_is_refused_before_they_are_allocated(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", scene_rgb(60, 80))
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    for at in (first + 2 + 12 * number for number in range(count)):
        if struct.unpack_from("<H", content, at)[0] in (256, 257):
            struct.pack_into("<HII", content, at + 2, 4, 1, 40000)
    path.write_bytes(content)
    for read in (read_half, read_full, read_mosaic, read_metadata):
        with pytest.raises(RawError, match="40000 x 40000 pixels"):
            read(path)


def test_a_quad_bayer_mosaic_and_one_of_four_colours_are_refused(tmp_path: Path) -> None:
    quad = write_dng(tmp_path / "quad.dng", scene_rgb(40, 60), (0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 2, 2, 1, 1, 2, 2))
    four = ((50710, "B", 4, bytes([0, 1, 2, 3]), True), (50721, "2i", 12, ratios(*[0.5] * 12), True))
    four += ((50728, "2I", 4, ratios(0.5, 1, 0.6, 1), True),)
    emerald = write_dng(tmp_path / "four.dng", np.full((40, 60, 4), 0.3), (0, 1, 2, 3), extra=four)
    for read in (read_half, read_full):
        with pytest.raises(RawError, match="neither Bayer nor X-Trans"):
            read(quad)
        with pytest.raises(RawError, match="4 colours"):
            read(emerald)


@pytest.mark.parametrize("suffix", [".x3f", ".raf", ".nef"])
def test_a_foveon_stub_and_other_bare_headers_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"FOVb" + struct.pack("<I", 0x00020003) + bytes(400))
    with pytest.raises(RawError, match="is cut short: its directory is missing"):
        read_half(path)


def test_the_level_of_a_frame_does_not_depend_on_what_it_shows(tmp_path: Path) -> None:
    plain = np.full((40, 60, 3), (0.1, 0.2, 0.125))
    bright = plain.copy()
    bright[:, 40:] = 1.0
    dim, lit = (read_full(write_dng(tmp_path / "a.dng", rgb)) for rgb in (plain, bright))
    np.testing.assert_allclose(lit[4:-4, 4:30], dim[4:-4, 4:30], atol=1e-4)
    np.testing.assert_allclose(dim[20, 10], [0.2, 0.2, 0.2], atol=0.003)


def test_a_given_white_balance_replaces_the_one_of_the_file(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", np.full((40, 60, 3), (0.2, 0.2, 0.2)))
    assert read_white_balance(path) == pytest.approx((2.0, 1.0, 1.6), abs=1e-3)
    np.testing.assert_allclose(read_full(path, (1.0, 1.0, 1.0))[20, 20], [0.2, 0.2, 0.2], atol=0.003)


def test_a_block_is_clipped_if_one_of_its_samples_is(tmp_path: Path) -> None:
    rgb = np.full((40, 40, 3), 0.3)
    rgb[7, 4] = 1.0
    clipped = read_half(write_dng(tmp_path / "a.dng", rgb)).clipped
    assert np.argwhere(clipped).tolist() == [[3, 2]]


def test_light_below_the_black_level_counts_as_black(tmp_path: Path) -> None:
    half = read_half(write_dng(tmp_path / "a.dng", np.full((40, 40, 3), -0.02)))
    assert half.rgb.max() == 0.0


def test_an_odd_edge_is_left_out_in_both_sizes(tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(0, 256, (31, 41, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), codes[..., ::-1])
    half, full = read_half(tmp_path / "a.png"), read_full(tmp_path / "a.png")
    assert half.size == full.shape[:2] == (30, 40)
    np.testing.assert_allclose(half.rgb, bin_2x2(full), atol=1e-6)
    assert read_meta(tmp_path / "a.png").size == (30, 40)


def test_a_linear_dng_is_averaged_to_half_size(tmp_path: Path) -> None:
    rgb = scene_rgb(40, 60)
    half = read_half(write_linear_dng(tmp_path / "a.dng", rgb))
    np.testing.assert_allclose(half.rgb, bin_2x2(rgb), atol=0.002)
    assert read_full(tmp_path / "a.dng").shape == (40, 60, 3)


def test_an_x_trans_mosaic_is_averaged_to_half_size(tmp_path: Path) -> None:
    rgb = scene_rgb(516, 522)
    half = read_half(write_dng(tmp_path / "a.dng", rgb, X_TRANS, orientation=6))
    assert half.size == (522, 516)
    np.testing.assert_allclose(half.rgb[4:-4, 4:-4], np.rot90(bin_2x2(rgb), -1)[4:-4, 4:-4], atol=0.001)


def test_a_sensor_without_colours_gives_three_equal_channels(tmp_path: Path) -> None:
    light = scene_rgb(40, 60)[..., 1]
    tags = [(50706, "B", 4, bytes([1, 4, 0, 0]), True), (50708, "s", 0, "Planted Grey", True)]
    codes = np.rint(light * 65535).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.dng", codes, photometric="minisblack", extratags=tags, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.dng", mode="r+b") as container:
        container.pages.first.tags[262].overwrite(34892)  # LinearRaw, which tifffile writes in colour only
    half = read_half(tmp_path / "a.dng")
    np.testing.assert_allclose(half.rgb, np.dstack([bin_2x2(light)] * 3), atol=0.001)
    np.testing.assert_allclose(read_full(tmp_path / "a.dng"), np.dstack([light] * 3), atol=0.001)


def test_an_image_is_srgb_and_needs_no_white_balance(tmp_path: Path) -> None:
    codes = encode(np.full((8, 8, 3), 0.25, dtype=np.float32), Encoding.SRGB16)
    cv2.imwrite(str(tmp_path / "a.png"), codes)
    half = read_half(tmp_path / "a.png")
    np.testing.assert_allclose(half.rgb, 0.25, atol=1e-4)
    assert half.white_balance == read_white_balance(tmp_path / "a.png") == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(read_full(tmp_path / "a.png", (2.0, 1.0, 2.0)), 0.25, atol=1e-4)


def test_a_name_that_is_not_ascii_can_be_read(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "déjà 場景.dng", scene_rgb(40, 60))
    assert read_half(path).size == read_metadata(path).size == (40, 60)
    assert is_candidate(Path("A.DNG"))
    assert not is_candidate(Path("truth.npz"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("read", [read_half, read_full, read_white_balance])
def test_a_file_cut_short_is_refused_by_name(tmp_path: Path, share: float, read: object) -> None:
    whole = write_dng(tmp_path / "whole.dng", scene_rgb(60, 80)).read_bytes()
    path = tmp_path / "cut.dng"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RawError, match=r"cut\.dng"):
        read(path)  # type: ignore[operator]


def test_what_is_known_without_unpacking_the_pixels_is_the_same(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", scene_rgb(60, 80))
    whole, quick = read_metadata(path), read_metadata(path, shot=False)
    assert quick == replace(whole, exposure=quick.exposure, lens=None, taken_at=None)
    assert set(asdict(quick.exposure).values()) == {None}


@pytest.mark.parametrize("name", ["noise.dng", "noise.cr3", "noise.png", "noise.jpg", "noise.tif", "missing.nef"])
def test_what_is_no_photograph_is_a_raw_error(tmp_path: Path, name: str) -> None:
    if name.startswith("noise"):
        (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(5000))
    for read in (read_half, read_full, read_metadata):
        with pytest.raises(RawError):
            read(tmp_path / name)


def test_real_raw_files_are_read_alike_in_both_sizes_or_refused(real_data: Path) -> None:
    read = []
    for path in sorted(path for path in (real_data / "raw").rglob("*") if path.is_file()):
        try:
            half = read_half(path)
        except SddError:
            continue
        assert half.rgb.dtype == np.float32
        assert 0.0 <= half.rgb.min() <= half.rgb.max() <= 1.0
        assert (half.rgb.shape[0] * 2, half.rgb.shape[1] * 2) == half.size == read_metadata(path).size
        read.append(path.name)
    assert len(read) == 9


@pytest.mark.parametrize("name", ["canon_kiss_x4_colorchart.dng", "canon_eos_6d_linear.dng"])
def test_both_sizes_of_a_real_raw_file_have_the_same_mean_colour(real_data: Path, name: str) -> None:
    half, full = developed(read_half(real_data / "raw" / name)), read_full(real_data / "raw" / name)
    np.testing.assert_allclose(half.mean(axis=(0, 1)), full.mean(axis=(0, 1)), rtol=0.01)
