from __future__ import annotations

import cv2
import numpy as np
import pytest

from sdd_toolkit.imaging import noise
from sdd_toolkit.quality import sharpness

SIZE = (240, 360)


def leaves(seed: int = 0) -> np.ndarray:
    """(h, w, 3) float32: overlapping discs of many sizes and fine texture, about 0.05 … 0.6."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((*SIZE, 3), np.float32)
    for radius in sorted(rng.pareto(1.5, 1500) * 3 + 2, reverse=True):
        centre = (int(rng.integers(SIZE[1])), int(rng.integers(SIZE[0])))
        cv2.circle(canvas, centre, min(int(radius), 80), rng.uniform(0.05, 0.6, 3).tolist(), -1, cv2.LINE_AA)
    return canvas * (1 + 0.1 * rng.standard_normal(SIZE).astype(np.float32)[..., None])


def disc(image: np.ndarray, radius_px: float) -> np.ndarray:
    reach = int(np.ceil(radius_px)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius_px + 0.5 - np.hypot(x, y), 0, 1)
    return cv2.filter2D(image, -1, (kernel / kernel.sum()).astype(np.float32), borderType=cv2.BORDER_REFLECT)


def noisy(image: np.ndarray, sigma: float, seed: int = 1) -> np.ndarray:
    return image + (sigma * np.random.default_rng(seed).standard_normal(image.shape)).astype(np.float32)


@pytest.mark.parametrize("radius_px", [1.5, 3.0, 6.0])
def test_a_defocused_frame_has_lost_detail_and_the_sharp_one_gained_it(radius_px: float) -> None:
    sharp = leaves()
    facts = sharpness.measure_quality(noisy(disc(sharp, radius_px), 0.003), noisy(sharp, 0.003, 2), 0.0, None)
    assert facts.sharpness_gain > 1.5
    assert facts.sharper_fraction > 0.8
    assert facts.softer_fraction < 0.02


def test_swapped_roles_show_as_softer_tiles() -> None:
    sharp = leaves()
    facts = sharpness.measure_quality(sharp, disc(sharp, 3.0), 0.0, None)
    assert facts.softer_fraction > 0.8


def test_acuity_falls_with_the_circle_of_confusion_whatever_the_noise() -> None:
    sharp = leaves()
    found = [sharpness.acuity(sharpness.measure_detail(noisy(disc(sharp, r), 0.004))) for r in (0.3, 1.0, 2.0, 4.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 5 * found[2]


def test_two_equal_frames_gain_nothing() -> None:
    frame = leaves()
    facts = sharpness.measure_quality(noisy(frame, 0.003, 1), noisy(frame, 0.003, 2), 0.0, None)
    assert facts.sharpness_gain == pytest.approx(1.0, abs=0.03)
    assert (facts.sharper_fraction, facts.softer_fraction) == (0.0, 0.0)


def test_the_measured_exposure_is_the_planted_one() -> None:
    frame = leaves()
    facts = sharpness.measure_quality(frame * np.float32(0.5), frame, 0.0, None)
    assert facts.exposure_ev == pytest.approx(1.0, abs=0.01)


def test_a_flat_frame_has_no_texture_and_a_black_one_no_level() -> None:
    flat = noisy(np.full((*SIZE, 3), 0.3, np.float32), 0.005)
    black = noisy(np.zeros((*SIZE, 3), np.float32), 0.001)
    facts = sharpness.measure_quality(black, flat, 0.0, None)
    assert facts.texture_fraction < 0.05
    assert facts.blur_level < 0.01
    assert facts.sharp_acuity == 0.0


def test_a_frame_smaller_than_a_tile_has_no_texture_and_no_acuity() -> None:
    tiny = leaves()[:20, :30]
    facts = sharpness.measure_quality(tiny, tiny, 0.0, None)
    assert (facts.texture_fraction, facts.sharp_acuity, facts.sharpness_gain) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("size", [(97, 150), (240, 131), (24, 24)])
def test_the_wide_gaussian_made_at_half_size_is_the_one_made_at_full_size(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    tone = cv2.GaussianBlur(rng.random(size, dtype=np.float32), (0, 0), 0.7)
    soft, softer = sharpness._smooth_twice(tone)
    wide = cv2.GaussianBlur(tone, (0, 0), sharpness.MEDIUM_SIGMA_PX)
    assert float(np.std(softer - wide)) < 0.01 * float(np.std(soft - wide))


@pytest.mark.parametrize("size", [(97, 60), (241, 131), (433, 75), (200, 49)])
def test_detail_and_noise_do_not_show_the_bands_they_are_computed_in(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    light = cv2.GaussianBlur(np.random.default_rng(3).random((*size, 3), dtype=np.float32), (0, 0), 0.8)
    monkeypatch.setattr(sharpness, "_BAND_ROWS", 2 * sharpness.TILE_PX)
    banded = sharpness.measure_detail(light)
    monkeypatch.setattr(sharpness, "_BAND_ROWS", 1000 * sharpness.TILE_PX)
    monkeypatch.setattr(noise, "_MEDIAN_ROWS", 1000 * noise.MEDIAN_CELL_PX)
    whole = sharpness.measure_detail(light)
    assert np.array_equal(banded.fine, whole.fine)
    assert np.array_equal(banded.medium, whole.medium)
    assert (banded.fine_noise, banded.medium_noise) == (whole.fine_noise, whole.medium_noise)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 60), (400, 300)])
@pytest.mark.parametrize("levels", [1, 3, 65536])
def test_the_bright_level_is_the_percentile_of_all_pixels(size: tuple[int, int], levels: int) -> None:
    light = (np.random.default_rng(2).integers(levels, size=size) / 65536).astype(np.float32) ** 2
    light[0, 0] = 0.9  # the sample sees this pixel, whatever the others are
    expected = np.percentile(light, sharpness.BRIGHT_PERCENTILE)
    assert sharpness.bright_level(light) == pytest.approx(expected, rel=1e-5)


def test_the_bright_level_is_right_where_the_sample_misses_the_dark() -> None:
    light = np.random.default_rng(3).random((100, 100), dtype=np.float32) * np.float32(0.1)
    light[::4, ::4] = 1.0
    assert sharpness.bright_level(light) == pytest.approx(np.percentile(light, sharpness.BRIGHT_PERCENTILE), rel=1e-5)
    light[::4, ::4] = np.float32(0.0)
    assert sharpness.bright_level(light) == pytest.approx(np.percentile(light, sharpness.BRIGHT_PERCENTILE), rel=1e-5)
