"""Our AHD against LibRaw's, sample by sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from sdd_toolkit.frames import reading as frames
from sdd_toolkit.raw import bayer, demosaic
from sdd_toolkit.raw.demosaic import Mosaic, demosaic_ahd
from tests.support.dng_files import BGGR, GBRG, GRBG, RGGB, scene_rgb, write_dng

_RIM_PX = 5
_PATTERNS = [RGGB, GRBG, GBRG, BGGR]


def textured(height: int, width: int, seed: int) -> np.ndarray:
    """Edges in every direction, fine stripes and noise, as linear camera RGB."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[0:height, 0:width]
    light = scene_rgb(height, width)
    for _ in range(6):
        angle, period_px = rng.uniform(0, np.pi), rng.uniform(2.5, 20)
        wave = np.sin((xs * np.cos(angle) + ys * np.sin(angle)) * 2 * np.pi / period_px)
        light += 0.03 * wave[..., None] * rng.uniform(0.3, 1, 3)
    light += (np.hypot(ys - height / 2, xs - width / 3) < min(height, width) / 4)[..., None] * 0.3
    return np.clip(light + rng.normal(0, 0.004, light.shape), 0.01, 1)


def of_libraw(path: Path, space: rawpy.ColorSpace) -> np.ndarray:
    red, green, blue = frames.read_white_balance(path)
    with rawpy.imread(str(path)) as raw:
        return np.asarray(
            raw.postprocess(
                demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
                user_wb=[red, green, blue, green],
                output_color=space,
                output_bps=16,
                user_flip=0,
                gamma=(1, 1),
                no_auto_bright=True,
                adjust_maximum_thr=0.0,
                highlight_mode=rawpy.HighlightMode.Clip,
            )
        )


def of_ours(path: Path, *, convert: bool = False) -> np.ndarray:
    balance = frames.read_white_balance(path)
    with rawpy.imread(str(path)) as raw:
        matrix = bayer.colour_matrix(raw)
        assert matrix is not None
        return demosaic_ahd(bayer.mosaic_of(raw, balance, min(balance)), np.array(matrix), convert=convert)


def differing(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    assert ours.shape == theirs.shape
    return np.any(ours != theirs, axis=-1)


@pytest.mark.parametrize("cfa", _PATTERNS)
def test_it_gives_libraws_numbers(tmp_path: Path, cfa: tuple[int, ...]) -> None:
    path = write_dng(tmp_path / "a.dng", textured(700, 1300, seed=1), cfa)
    differs = differing(of_ours(path), of_libraw(path, rawpy.ColorSpace.raw))
    assert differs.mean() < 2e-3  # both directions are as good as each other there, to within rounding
    differs[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX] = False
    assert not differs.any()


def test_where_it_differs_it_shows_the_other_direction_or_the_mean_of_both(tmp_path: Path) -> None:
    light = textured(700, 1300, seed=2)
    path = write_dng(tmp_path / "a.dng", light)
    ours, theirs = of_ours(path).astype(float), of_libraw(path, rawpy.ColorSpace.raw).astype(float)
    rows, columns = np.nonzero(differing(ours, theirs))
    assert len(rows) > 0
    truth = light * 65535 / np.array([0.5, 1.0, 0.625])  # white-balanced, green = 1
    errors = [np.abs(image[rows, columns] - truth[rows, columns]).mean() for image in (ours, theirs)]
    assert errors[0] < 1.1 * errors[1]


def test_its_colours_are_libraws_rounded_instead_of_cut_off(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", textured(300, 400, seed=3))
    same = ~differing(of_ours(path), of_libraw(path, rawpy.ColorSpace.raw))
    ours, theirs = of_ours(path, convert=True)[same], of_libraw(path, rawpy.ColorSpace.sRGB)[same]
    gap = ours.astype(int) - theirs
    assert set(np.unique(gap)) <= {0, 1}
    assert 0.3 < gap.mean() < 0.7


@settings(max_examples=40, deadline=None)
@given(
    st.integers(24, 60),  # LibRaw takes no smaller ones
    st.integers(24, 60),
    st.sampled_from(_PATTERNS),
    st.floats(0.4, 3.0),
    st.floats(0.4, 3.0),
    st.integers(0, 2**32 - 1),
)
def test_any_size_pattern_and_balance(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    cfa: tuple[int, ...],
    red: float,
    blue: float,
    seed: int,
) -> None:
    light = np.random.default_rng(seed).uniform(0.01, 1, (height, width, 3))
    neutral = (min(1.0, 1 / red), 1.0, min(1.0, 1 / blue))
    path = write_dng(tmp_path_factory.mktemp("any") / "a.dng", light, cfa, neutral=neutral)
    differs = differing(of_ours(path), of_libraw(path, rawpy.ColorSpace.raw))
    assert differs.sum() <= 2 + 0.01 * differs.size
    differs[_RIM_PX : max(_RIM_PX, height - _RIM_PX), _RIM_PX : max(_RIM_PX, width - _RIM_PX)] = False
    assert not differs.any()


def test_tiles_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(4).integers(1, 4000, (150, 190)).astype(np.uint16)
    mosaic = Mosaic(samples, RGGB, (64.0,) * 4, (16.0, 17.0, 17.0, 18.0))
    whole = demosaic_ahd(mosaic, np.eye(3))
    monkeypatch.setattr(demosaic, "_TILE_PX", (22, 34))
    np.testing.assert_array_equal(demosaic_ahd(mosaic, np.eye(3)), whole)


def test_a_plain_surface_stays_plain() -> None:
    mosaic = Mosaic(np.full((64, 80), 1000, dtype=np.uint16), RGGB, (200.0,) * 4, (10.0, 20.0, 20.0, 30.0))
    np.testing.assert_array_equal(demosaic_ahd(mosaic, np.eye(3)), np.broadcast_to([8000, 16000, 24000], (64, 80, 3)))


@given(st.integers(2, 13), st.integers(2, 13), st.sampled_from(_PATTERNS))
def test_the_smallest_mosaics_too(height: int, width: int, cfa: tuple[int, int, int, int]) -> None:
    samples = np.where(np.reshape(cfa, (2, 2)) == 1, 300, 500).astype(np.uint16)
    mosaic = Mosaic(np.tile(samples, (7, 7))[:height, :width], cfa, (0.0,) * 4, (1.0,) * 4)
    found = demosaic_ahd(mosaic, np.eye(3))
    np.testing.assert_array_equal(found, np.broadcast_to([500, 300, 500], (height, width, 3)))


def test_highlights_are_clipped_and_what_is_below_black_is_none() -> None:
    samples = np.full((40, 40), 100, dtype=np.uint16)
    samples[20:] = 4000
    found = demosaic_ahd(Mosaic(samples, GRBG, (200.0,) * 4, (20.0,) * 4), np.eye(3))
    assert set(np.unique(found[:18])) == {0}
    assert set(np.unique(found[22:])) == {65535}


def test_a_maker_whose_files_bring_no_matrix_gets_libraws_colours(tmp_path: Path) -> None:
    light = textured(400, 600, seed=5)
    ys, xs = np.mgrid[0:400, 0:600]
    samples = np.rint(600 + 14000 * light[ys, xs, np.reshape(RGGB, (2, 2))[ys % 2, xs % 2]]).astype(np.uint16)
    path = tmp_path / "a.pef"
    tags = [
        (271, "s", 0, "PENTAX", True),
        (272, "s", 0, "PENTAX K-5", True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes(RGGB), True),
    ]
    tifffile.imwrite(path, samples, photometric=32803, extratags=tags, metadata=None, software=False)
    with rawpy.imread(str(path)) as raw:
        assert not np.any(raw.color_matrix)
    same = ~differing(of_ours(path), of_libraw(path, rawpy.ColorSpace.raw))
    assert same.mean() > 0.995
    gap = of_ours(path, convert=True)[same].astype(int) - of_libraw(path, rawpy.ColorSpace.sRGB)[same]
    assert set(np.unique(gap)) <= {-1, 0, 1}
    half = frames.read_half(path)
    assert abs(np.array(half.to_srgb).sum(axis=1) - 1).max() < 1e-6
    assert abs(np.array(half.to_srgb) - np.eye(3)).max() > 0.3


def test_a_mosaic_with_zeros_is_left_to_libraw(tmp_path: Path) -> None:
    def spoil(samples: np.ndarray) -> None:
        samples[40, 50] = 0

    path = write_dng(tmp_path / "a.dng", textured(120, 160, seed=6), spoil=spoil)
    light = frames.develop_frame(path).light
    np.testing.assert_array_equal(light, of_libraw(path, rawpy.ColorSpace.sRGB))


def test_a_2x2_mosaic_that_is_no_bayer_pattern_is_left_to_libraw(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", textured(120, 160, seed=7), (0, 2, 1, 1))
    light = frames.develop_frame(path).light
    np.testing.assert_array_equal(light, of_libraw(path, rawpy.ColorSpace.sRGB))


def test_unequal_black_levels_each_count(tmp_path: Path) -> None:
    light = np.full((64, 64, 3), 0.25)
    path = write_dng(tmp_path / "a.dng", light, black_dn=(500, 700, 600, 400))
    found = of_ours(path)
    expected = 0.25 * 65535 / np.array([0.5, 1.0, 0.625])
    assert abs(found - expected).max() < 12  # a sample is a whole number: half a step is 4 to 8
