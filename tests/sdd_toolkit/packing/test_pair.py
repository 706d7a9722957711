from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdd_toolkit.errors import ManifestError
from sdd_toolkit.formats.colour import ImageColour
from sdd_toolkit.formats.icc import encode_icc
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.imaging.colour_profile import SRGB_CURVE, ColourProfile, colorants_of, encode_light
from sdd_toolkit.imaging.encoding import Encoding, decode, encode
from sdd_toolkit.imaging.geometry import project
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.pair import pack_pair
from sdd_toolkit.packing.pair_geometry import crop_box
from sdd_toolkit.raw.development import Demosaic, DevelopConfig
from sdd_toolkit.records import Alignment, PairRecord, Reason
from sdd_toolkit.shards.index import Brightness, FailedPair, Warp
from sdd_toolkit.shards.schema import PackedPair
from tests.support.dng_files import scene_rgb, write_dng
from tests.support.small_dataset import SIZE, alignment, pair, texture

SHIFT = ((1.0, 0.0, 8.0), (0.0, 1.0, 4.0), (0.0, 0.0, 1.0))
LINEAR16 = PackConfig(encoding=Encoding.LINEAR16, min_size_px=64)


def linear16(**values: object) -> PackConfig:
    return LINEAR16.model_copy(update=values)


def packed(
    folder: Path, found: Alignment, encoding: Encoding = Encoding.SRGB8, min_size_px: int = 64
) -> PackedPair | FailedPair:
    record = pair(folder, "p", "s", seed=3, found=found)
    return pack_pair(
        record,
        folder / "p_blur.png",
        folder / "p_sharp.png",
        folder,
        PackConfig(encoding=encoding, min_size_px=min_size_px),
    )


def good(result: PackedPair | FailedPair) -> PackedPair:
    assert isinstance(result, PackedPair)
    return result


def bad(result: PackedPair | FailedPair) -> tuple[Reason, str]:
    assert isinstance(result, FailedPair)
    return result.reason, result.detail


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 420, 312), (0, 0, 420, 312)),
        ((1, 5, 419, 311), (4, 8, 416, 308)),
        ((-9, -1, 999, 999), (0, 0, 420, 312)),
        ((8, 8, 11, 8), (8, 8, 8, 8)),
    ],
)
def test_the_box_shrinks_to_multiples_of_four(box: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert crop_box((box[0], box[1], box[2], box[3]), SIZE) == expected


def test_the_sharp_frame_is_cropped_and_otherwise_untouched(tmp_path: Path) -> None:
    result = good(packed(tmp_path, alignment(box=(6, 7, 410, 303))))
    np.testing.assert_array_equal(result.sharp, texture(3)[8:300, 8:408])
    assert result.valid.all()


def test_a_shifted_pair_is_brought_onto_the_sharp_frame(tmp_path: Path) -> None:
    result = good(packed(tmp_path, alignment(SHIFT, box=(16, 12, 416, 308))))
    blurred = cv2.imread(str(tmp_path / "p_blur.png"))[..., ::-1]
    np.testing.assert_array_equal(result.blur, blurred[12 - 4 : 308 - 4, 16 - 8 : 416 - 8])


def test_the_gain_is_applied_in_linear_light(tmp_path: Path) -> None:
    once, twice = (good(packed(tmp_path, alignment(gain=gain), Encoding.LINEAR16)) for gain in (1.0, 0.5))
    np.testing.assert_allclose(twice.blur, once.blur / 2, atol=1)
    np.testing.assert_array_equal(twice.sharp, once.sharp)


def test_16_bit_encodings_agree_with_8_bit(tmp_path: Path) -> None:
    frames = {encoding: good(packed(tmp_path, alignment(), encoding)).sharp for encoding in Encoding}
    linear = {encoding: decode(frame, encoding) for encoding, frame in frames.items()}
    np.testing.assert_allclose(linear[Encoding.SRGB16], linear[Encoding.SRGB8], atol=1e-4)
    np.testing.assert_allclose(linear[Encoding.LINEAR16], linear[Encoding.SRGB8], atol=1e-4)


def test_pixels_without_a_source_are_marked(tmp_path: Path) -> None:
    result = good(packed(tmp_path, alignment(SHIFT, box=(0, 0, 420, 312))))
    assert not result.valid[:, :8].any()
    assert not result.valid[:4].any()
    assert result.valid[20:-20, 20:-20].all()


def test_the_flow_is_cropped_with_the_frames(tmp_path: Path) -> None:
    field = np.random.default_rng(0).normal(size=(78, 105, 2)).astype(np.float16)
    np.savez(tmp_path / "p.npz", flow=field, confidence=np.zeros((78, 105), np.uint8))
    result = good(packed(tmp_path, alignment(box=(6, 7, 410, 303), flow_file="p.npz")))
    np.testing.assert_array_equal(result.flow, field[2:75, 2:102].astype(np.float32))


def test_no_flow_file_is_no_flow(tmp_path: Path) -> None:
    assert not good(packed(tmp_path, alignment())).flow.any()


def test_a_small_overlap_is_too_small(tmp_path: Path) -> None:
    assert bad(packed(tmp_path, alignment(box=(6, 7, 70, 303)), min_size_px=64)) == (
        Reason.TOO_SMALL,
        "overlap 60 x 292 px < 64 px",
    )


def test_frames_of_another_size_than_aligned_are_a_mismatch(tmp_path: Path) -> None:
    assert bad(packed(tmp_path, alignment(size=(624, 840))))[0] is Reason.SIZE_MISMATCH


def test_a_frame_that_cannot_be_decoded_is_unreadable(tmp_path: Path) -> None:
    record = pair(tmp_path, "p", "s", seed=3)
    (tmp_path / "p_blur.png").write_bytes(b"no image")
    result = pack_pair(
        record,
        tmp_path / "p_blur.png",
        tmp_path / "p_sharp.png",
        tmp_path,
        PackConfig(encoding=Encoding.SRGB8, min_size_px=64),
    )
    assert bad(result)[0] is Reason.UNREADABLE


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut", "wrong size", "not finite"])
def test_a_damaged_flow_file_is_unreadable(tmp_path: Path, content: object) -> None:
    path = tmp_path / "p.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "wrong size":
        np.savez(path, flow=np.zeros((7, 7, 2), np.float16))
    elif content == "not finite":
        np.savez(path, flow=np.full((78, 105, 2), np.nan, np.float16))
    reason, detail = bad(packed(tmp_path, alignment(flow_file="p.npz")))
    assert reason is Reason.UNREADABLE
    assert "p.npz" in detail


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf")])
def test_an_unusable_gain_is_not_aligned(tmp_path: Path, gain: float) -> None:
    assert bad(packed(tmp_path, alignment(gain=gain)))[0] is Reason.NOT_ALIGNED


def test_a_singular_homography_is_not_aligned(tmp_path: Path) -> None:
    assert bad(packed(tmp_path, alignment(((1, 0, 0), (0, 0, 0), (0, 0, 1)))))[0] is Reason.NOT_ALIGNED


def test_a_pair_whose_alignment_failed_keeps_that_reason(tmp_path: Path) -> None:
    found = replace(alignment(), failure=Reason.PARALLAX, detail="3 px")
    assert bad(packed(tmp_path, found)) == (Reason.PARALLAX, "3 px")


def test_a_flow_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="leaves its root"):
        packed(tmp_path, alignment(flow_file="../p.npz"))


def ripple(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A parallax of up to 3 px, full-size pixels."""
    return np.stack([2 + np.sin(x / 25), np.cos(y / 30)], axis=-1)


def parallax_pair(folder: Path, confidence: int = 255, **more: np.ndarray) -> tuple[PairRecord, Path, Path]:
    """A smooth sharp frame; the blurred one is it moved by a tilted homography and a planted flow. Linear 16 bits."""
    height, width = SIZE

    def scene(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        waves = [np.sin(x / 3 + y / 7), np.cos(y / 4 - x / 9), np.sin((x + y) / 6)]
        return 0.5 + 0.4 * np.stack(waves, axis=-1)

    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    shown_x, shown_y = project(np.array(TILTED), np.column_stack([x.ravel(), y.ravel()])).T.reshape(2, height, width)
    flow = ripple(shown_x, shown_y)
    for name, picture in (("blur", scene(shown_x + flow[..., 0], shown_y + flow[..., 1])), ("sharp", scene(x, y))):
        codes = encode(picture.astype(np.float32), Encoding.SRGB16)
        assert cv2.imwrite(str(folder / f"w_{name}.png"), codes[..., ::-1])
    stored = ripple(x, y).reshape(height // 4, 4, width // 4, 4, 2).mean(axis=(1, 3)).astype(np.float16)
    np.savez(folder / "w.npz", flow=stored, confidence=np.full(stored.shape[:2], confidence, np.uint8), **more)
    record = replace(pair(folder, "p", "s", seed=0), alignment=alignment(TILTED, box=INNER, flow_file="w.npz"))
    return record, folder / "w_blur.png", folder / "w_sharp.png"


TILTED = ((1.01, 0.003, 2.3), (-0.002, 0.995, 3.4), (1e-5, -1e-5, 1.0))
INNER = (16, 16, 404, 296)


def packed_parallax(folder: Path, warp_by: Warp, confidence: int = 255, **more: np.ndarray) -> PackedPair:
    record, blur, sharp = parallax_pair(folder, confidence, **more)
    return good(pack_pair(record, blur, sharp, folder, linear16(warp=warp_by)))


def apart(result: PackedPair) -> float:
    """Largest difference of the two packed frames on valid pixels, in linear light."""
    gap = np.abs(result.blur.astype(np.float64) - result.sharp.astype(np.float64))[result.valid] / 65535
    return float(gap.max())


def test_the_flow_is_applied_in_the_same_resampling(tmp_path: Path) -> None:
    plain = packed_parallax(tmp_path, Warp.HOMOGRAPHY)
    flowed = packed_parallax(tmp_path, Warp.HOMOGRAPHY_FLOW)
    assert apart(plain) > 0.3
    assert apart(flowed) < 5e-3
    assert plain.flow.max() > 2.5
    assert not flowed.flow.any()
    # Shrunk by the flow at the rim, 3 px, to multiples of 4; nothing else is lost.
    assert plain.valid.shape == (280, 388)
    assert flowed.valid.shape == (272, 380)
    assert flowed.valid.all()
    assert (plain.box, flowed.box) == ((16, 16, 404, 296), (20, 20, 400, 292))


def test_a_flow_without_confidence_is_not_applied_but_left(tmp_path: Path) -> None:
    plain = packed_parallax(tmp_path, Warp.HOMOGRAPHY, confidence=0)
    flowed = packed_parallax(tmp_path, Warp.HOMOGRAPHY_FLOW, confidence=0)
    np.testing.assert_array_equal(flowed.blur, plain.blur)
    np.testing.assert_array_equal(flowed.flow, plain.flow)


def test_hidden_pixels_are_not_valid_where_the_flow_carries_them(tmp_path: Path) -> None:
    occlusion = np.zeros((SIZE[0] // 4, SIZE[1] // 4), np.uint8)
    occlusion[40:50, 40:50] = 1
    flowed = packed_parallax(tmp_path, Warp.HOMOGRAPHY_FLOW, occlusion=occlusion)
    top, left = 20, 20  # the crop's first pixel on the sharp frame
    assert not flowed.valid[164 - top : 198 - top, 166 - left : 200 - left].any()
    assert flowed.valid[: 150 - top].all()
    assert packed_parallax(tmp_path, Warp.HOMOGRAPHY, occlusion=occlusion).valid.all()


def test_the_radial_term_is_applied(tmp_path: Path) -> None:
    record, blur, sharp = parallax_pair(tmp_path)
    assert record.alignment is not None
    bent = replace(record, alignment=replace(record.alignment, radial=0.01))
    straight, moved = (good(pack_pair(each, blur, sharp, tmp_path, LINEAR16)).blur for each in (record, bent))
    y, x = (SIZE[0] - 1) / 2 - 16, (SIZE[1] - 1) / 2 - 16
    gap = np.abs(straight.astype(int) - moved.astype(int)).max(axis=2)
    assert gap[int(y), int(x)] < 100
    assert gap[:20, :20].max() > 10_000


def test_the_whole_photometric_model_is_applied_once(tmp_path: Path) -> None:
    model = {"offset": 0.01, "colour_gain": (1.1, 1.0, 0.9), "vignetting": (0.2, -0.1)}
    found = replace(alignment(gain=0.8), **model)
    record = pair(tmp_path, "p", "s", seed=3, found=found)
    paths = tmp_path / "p_blur.png", tmp_path / "p_sharp.png"
    gain, full = (
        decode(good(pack_pair(record, *paths, tmp_path, linear16(brightness=each))).blur, Encoding.LINEAR16)
        for each in (Brightness.GAIN, Brightness.FULL)
    )
    y, x = np.mgrid[8:300, 8:408].astype(np.float64)
    rho = np.hypot(x - (SIZE[1] - 1) / 2, y - (SIZE[0] - 1) / 2) / (np.hypot(*SIZE) / 2)
    expected = gain * (1 + 0.2 * rho**2 - 0.1 * rho**4)[..., None] * np.array([1.1, 1.0, 0.9]) + 0.01
    np.testing.assert_allclose(full, np.clip(expected, 0, 1), atol=4e-5)


@pytest.mark.parametrize("fault", [{"radial": np.nan}, {"colour_gain": (1.0, 0.0, 1.0)}, {"offset": np.inf}])
def test_an_unusable_model_is_not_aligned(tmp_path: Path, fault: dict[str, object]) -> None:
    assert bad(packed(tmp_path, replace(alignment(), **fault)))[0] is Reason.NOT_ALIGNED


HALF = DevelopConfig(demosaic=Demosaic.HALF)


def test_a_pair_packed_at_half_size_is_the_binned_pair_moved_by_half_the_shift(tmp_path: Path) -> None:
    record = pair(tmp_path, "p", "s", seed=3, found=alignment(SHIFT, box=(17, 12, 416, 307)))
    paths = tmp_path / "p_blur.png", tmp_path / "p_sharp.png"
    result = good(pack_pair(record, *paths, tmp_path, LINEAR16, develop=HALF))
    # 17 … 416 holds the half-size pixels 9 … 207, 12 … 307 holds 6 … 152; then multiples of 4.
    assert result.box == (12, 8, 208, 152)
    blurred, sharp = (bin_2x2(decode(cv2.imread(str(path))[..., ::-1], Encoding.SRGB8)) for path in paths)
    np.testing.assert_array_equal(result.sharp, encode(sharp[8:152, 12:208], Encoding.LINEAR16))
    np.testing.assert_array_equal(result.blur, encode(blurred[6:150, 8:204], Encoding.LINEAR16))
    assert result.flow.shape == (36, 49, 2)
    assert result.record == record
    assert result.development is not None
    assert (result.development.blur.demosaic, result.development.sharp.demosaic) == ("half", "half")


@pytest.mark.parametrize("warp_by", Warp)
def test_homography_radial_term_and_flow_fit_at_half_size_too(tmp_path: Path, warp_by: Warp) -> None:
    record, blur, sharp = parallax_pair(tmp_path)
    full, half = (
        good(pack_pair(record, blur, sharp, tmp_path, linear16(warp=warp_by), develop=develop))
        for develop in (DevelopConfig(), HALF)
    )
    assert full.box is not None
    assert half.box is not None
    left, top, right, bottom = (2 * edge for edge in half.box)
    cut = np.s_[top - full.box[1] : bottom - full.box[1], left - full.box[0] : right - full.box[0]]
    shown = bin_2x2(decode(full.blur, Encoding.LINEAR16)[cut])
    gap = np.abs(decode(half.blur, Encoding.LINEAR16) - shown)[half.valid]
    # Binning before and after a warp differ in the finest detail only; half a pixel off would be 0.1.
    assert np.percentile(gap, 99) < 0.012
    y, x = np.mgrid[half.box[1] : half.box[3] : 4, half.box[0] : half.box[2] : 4] + 1.5
    expected = ripple(2 * x + 0.5, 2 * y + 0.5) / 2 if warp_by is Warp.HOMOGRAPHY else np.zeros((*x.shape, 2))
    np.testing.assert_allclose(half.flow, expected, atol=0.02)


@pytest.mark.parametrize("encoding", [Encoding.LINEAR16, Encoding.SRGB16])
def test_the_gain_is_applied_in_linear_light_before_the_curve(tmp_path: Path, encoding: Encoding) -> None:
    once, twice = (good(packed(tmp_path, alignment(gain=gain), encoding)).blur for gain in (0.5, 1.0))
    light = decode(twice, encoding)
    np.testing.assert_allclose(decode(once, encoding), 0.5 * light, atol=2e-5)


@pytest.mark.parametrize("demosaic", Demosaic)
def test_a_raw_pair_of_two_balances_and_black_levels_is_packed_in_one_tone(tmp_path: Path, demosaic: Demosaic) -> None:
    light = scene_rgb(312, 420)
    sharp = write_dng(tmp_path / "sharp.dng", light)
    blur = write_dng(tmp_path / "blur.dng", light / 2, black_dn=(300, 800, 500, 100), neutral=(0.8, 1.0, 0.4))
    record = pair(tmp_path, "p", "s", seed=3, found=alignment(gain=2.0))
    develop = DevelopConfig(demosaic=demosaic)
    result = good(
        pack_pair(record, blur, sharp, tmp_path, PackConfig(encoding=Encoding.SRGB16, min_size_px=64), develop=develop)
    )
    gap = np.abs(result.blur.astype(int) - result.sharp.astype(int))
    assert gap.mean() < 65535 * 0.0005
    assert gap.max() < 65535 * 0.004
    assert result.development is not None
    assert result.development.white_balance == pytest.approx((2.0, 1.0, 1.6), abs=1e-3)
    assert result.development.blur.black_dn == (300.0, 800.0, 100.0, 500.0)


def test_frames_of_different_colour_profiles_are_packed_with_the_same_primaries(tmp_path: Path) -> None:
    record = pair(tmp_path, "p", "s", seed=3, found=alignment(box=(0, 0, SIZE[1], SIZE[0])))
    profile = ColourProfile(
        "Display P3", (SRGB_CURVE,) * 3, colorants_of(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))
    )
    sharp = tmp_path / "p_sharp.png"
    light = decode(texture(3), Encoding.SRGB8) @ np.linalg.inv(profile.to_srgb).T.astype(np.float32)
    codes = encode_light(np.clip(light, 0, 1).astype(np.float32), profile, np.uint16)
    codes[:20] = (0, 65535, 0)
    write_image(sharp, codes, colour=ImageColour(profile, encode_icc(profile)))
    result = good(pack_pair(record, tmp_path / "p_blur.png", sharp, tmp_path, PackConfig(min_size_px=64)))
    assert np.abs(result.sharp[20:].astype(int) - texture(3)[20 : len(result.sharp)]).max() <= 1
    assert result.development is not None
    assert (result.development.sharp.colour, result.development.blur.colour) == ("Display P3", None)
    assert result.development.sharp.out_of_gamut == pytest.approx(20 / SIZE[0], abs=0.02)
