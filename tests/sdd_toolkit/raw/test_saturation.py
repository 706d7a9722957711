"""Burnt-out areas of frames whose white level is too high, each colour for itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sdd_toolkit.frames.reading import develop_frame, read_half, read_mosaic
from sdd_toolkit.raw.saturation import plateau as plateau_of_planes
from tests.support.dng_files import RGGB, WHITE_DN, X_TRANS, scene_rgb, write_dng, write_linear_dng

RNG = np.random.default_rng(7)
SKY = np.s_[:40]


def sensor(light: np.ndarray, saturation: float, electrons: float = 40_000, scatter: float = 0.0) -> np.ndarray:
    """Codes without black of a sensor with shot noise: 1 = the white level of the file."""
    noisy = RNG.poisson(np.maximum(light, 0) * electrons) / electrons
    return np.minimum(noisy, saturation + scatter * RNG.standard_normal(light.shape))


def codes(light: np.ndarray, black: int = 512) -> np.ndarray:
    return np.clip(np.rint(light * (WHITE_DN - black) + black), 0, 65535).astype(np.uint16)


def plateau(samples: np.ndarray, black: float, white: float) -> int | None:
    return plateau_of_planes([samples.reshape(100, -1)], black, white)


def scene(size: int = 200_000) -> np.ndarray:
    """Light of a photograph: many darks, few highlights."""
    return RNG.gamma(1.5, 0.12, size)


@pytest.mark.parametrize("level", [0.78, 0.9, 0.937, 0.97])
@pytest.mark.parametrize("scatter", [0.0, 0.0006, 0.0013])
@pytest.mark.parametrize("share", [0.001, 0.05, 0.6])
def test_a_plateau_is_found_at_every_level_however_small(level: float, scatter: float, share: float) -> None:
    light = 0.5 * scene()
    light[: int(share * len(light))] = RNG.uniform(1.0, 4.0, int(share * len(light)))
    samples = codes(sensor(light, level, scatter=scatter))
    first = plateau(samples, 512, WHITE_DN)
    assert first is not None
    burnt = samples >= first
    assert abs(burnt.mean() - share) < 0.1 * share + 1e-4
    assert (first - 512) / (WHITE_DN - 512) == pytest.approx(level, abs=0.009)


@pytest.mark.parametrize(
    "light",
    [
        scene(),
        scene() * 0.3,
        np.full(200_000, 0.85),
        np.concatenate([scene(150_000) * 0.5, np.full(50_000, 0.9)]),
        np.concatenate([scene(150_000) * 0.5, RNG.uniform(0.7, 0.92, 50_000)]),
        RNG.normal(0.8, 0.03, 200_000),
        np.zeros(200_000),
    ],
    ids=["scene", "dark", "flat", "white wall", "gradient", "bright cloud", "black"],
)
def test_bright_surfaces_and_dark_frames_have_none(light: np.ndarray) -> None:
    assert plateau(codes(sensor(light, 10.0)), 512, WHITE_DN) is None


def test_eight_bit_steps_and_noiseless_flat_frames_have_none() -> None:
    curve = np.rint((np.arange(256) / 255) ** 2 * (WHITE_DN - 512) + 512).astype(np.uint16)
    light = np.concatenate([scene(150_000), RNG.uniform(0.0, 0.95, 50_000)])
    steps = curve[np.clip(np.sqrt(sensor(light, 0.97)) * 255, 0, 245).astype(int)]
    rising = curve[np.clip(np.sqrt(sensor(np.clip(light, 0, 0.93), 10)) * 255, 0, 255).astype(int)]
    assert plateau(rising, 512, WHITE_DN) is None
    assert plateau(np.full(10_000, 14_000, dtype=np.uint16), 512, WHITE_DN) is None
    assert plateau(steps, 512, WHITE_DN) is None  # neighbouring steps are too far apart to tell


def test_a_right_white_level_is_left_alone_with_a_few_stray_samples() -> None:
    light = scene(2_000_000)
    light[:40_000] = 3.0
    right = codes(sensor(light, 1.0))
    assert plateau(right, 512, WHITE_DN) is None
    low = codes(sensor(light, 0.93))
    low[-2:] = WHITE_DN
    assert plateau(low, 512, WHITE_DN) is not None


@pytest.mark.parametrize("cfa", [RGGB, X_TRANS], ids=["Bayer", "X-Trans"])
@pytest.mark.parametrize("levels", [(0.93, 0.93, 0.93), (0.8, 0.97, 0.88), (0.9, 1.0, 1.0)])
def test_the_sky_is_white_and_saturated_whatever_the_file_says(
    tmp_path: Path, cfa: tuple[int, ...], levels: tuple[float, float, float]
) -> None:
    light = scene_rgb(516, 522)
    light[SKY] = 4.0
    noisy = np.stack([sensor(light[..., channel], level) for channel, level in enumerate(levels)], axis=-1)
    told = write_dng(tmp_path / "high.dng", noisy, cfa)
    half = read_half(told)
    assert half.clipped[1:18].all()
    assert not half.clipped[24:].any()
    np.testing.assert_allclose(develop_frame(told).linear[8:30, 8:-8], 1.0, atol=1e-3)


def test_all_other_samples_keep_their_light(tmp_path: Path) -> None:
    light = scene_rgb(120, 240)
    dim = write_dng(tmp_path / "dim.dng", light)
    light[SKY] = 4.0
    lit = write_dng(tmp_path / "lit.dng", np.minimum(light, 0.93))
    before, after = read_mosaic(dim), read_mosaic(lit)
    assert before is not None
    assert after is not None
    assert np.array_equal(before.samples[40:], after.samples[40:])
    assert (after.samples[SKY] == WHITE_DN).all()


@pytest.mark.parametrize("level", [0.78, 0.85])
def test_an_even_surface_of_a_merged_demosaiced_file_keeps_its_light(tmp_path: Path, level: float) -> None:
    light = np.minimum(scene_rgb(120, 240), 0.6)
    light[SKY] = level
    path = write_linear_dng(tmp_path / "a.dng", sensor(light, 1.0, electrons=1_000_000))
    half = read_half(path)
    assert not half.clipped.any()
    np.testing.assert_allclose(half.rgb[2:18].mean(axis=(0, 1)), level, atol=0.002)


@pytest.mark.parametrize("white", [65535, 65532, 65520])
def test_sixteen_bit_images_of_samples_of_fewer_bits_saturate_at_their_highest_code(tmp_path: Path, white: int) -> None:
    pixels = np.rint(scene_rgb(40, 60) * 60_000).astype(np.uint16)
    pixels[:10] = white
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    clipped = read_half(tmp_path / "a.png").clipped
    assert clipped[:5].all()
    assert not clipped[5:].any()
