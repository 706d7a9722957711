"""Brightness between two frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from alignment.estimation import photometry
from alignment.estimation.photometry import Noise
from sdd_toolkit.imaging.luminance import luminance
from tests.support.planted_motion import dead_leaves


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0.1, 0.9, (160, 240)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.0)


PLACE = np.linspace(0, 1, 400)


def cells(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 0.8, PLACE.size)


def noisy(values: np.ndarray) -> np.ndarray:
    return values * (1 + np.random.default_rng(9).normal(0, 0.004, values.shape))


def test_a_gain_alone_is_fitted_as_a_gain_alone() -> None:
    found = photometry.fit_brightness(cells(), noisy(1.3 * cells()), PLACE)
    assert found.gain == pytest.approx(1.3, rel=2e-3)
    assert found.offset == 0
    assert found.falloff == (0, 0)


def test_an_offset_is_found() -> None:
    found = photometry.fit_brightness(cells(), noisy(1.3 * cells() + 0.03), PLACE)
    assert found.gain == pytest.approx(1.3, rel=5e-3)
    assert found.offset == pytest.approx(0.03, abs=1e-3)


def test_a_difference_of_vignetting_is_found() -> None:
    truth = 0.8 * (1 + 0.35 * PLACE - 0.1 * PLACE**2)
    found = photometry.fit_brightness(cells(), noisy(truth * cells()), PLACE)
    a, b = found.falloff
    assert found.gain == pytest.approx(0.8, rel=5e-3)
    assert found.gain * (1 + a * PLACE + b * PLACE**2) == pytest.approx(truth, rel=0.01)


def test_cells_that_changed_do_not_count() -> None:
    fixed = noisy(2.0 * cells())
    fixed[:100] = 0.9
    assert photometry.fit_brightness(cells(), fixed, PLACE).gain == pytest.approx(2.0, rel=5e-3)


def test_a_black_frame_says_nothing() -> None:
    assert photometry.fit_brightness(np.zeros(PLACE.size), cells(), PLACE) == photometry.Photometry()


def test_a_photometry_is_applied_as_it_is_defined() -> None:
    light = grains()
    bright = photometry.Photometry(1.5, 0.02, (-0.3, 0.1)).apply(light)
    assert bright[80, 120] == pytest.approx(1.5 * light[80, 120] + 0.02, rel=1e-3)
    assert bright[0, 0] == pytest.approx(1.5 * (1 - 0.3 + 0.1) * light[0, 0] + 0.02, rel=0.01)


def test_the_tone_does_not_depend_on_exposure() -> None:
    light = grains()
    dark = light * np.float32(0.125)
    tones = [photometry.to_tone(image, photometry.white_level(image)) for image in (light, dark)]
    np.testing.assert_allclose(tones[0], tones[1], rtol=1e-5)


def test_a_band_holds_neither_offset_nor_shading() -> None:
    light = grains()
    shading = np.linspace(0, 0.5, light.shape[1], dtype=np.float32)[None]
    plain, shaded = (
        photometry.subtract_local_mean(light, 10.0),
        photometry.subtract_local_mean(light + shading + 3, 10.0),
    )
    np.testing.assert_allclose(plain[40:-40, 40:-40], shaded[40:-40, 40:-40], atol=5e-3)


def calm(seed: int) -> np.ndarray:
    """Smooth shading over a wide range of brightness."""
    wide = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 1, (320, 432)), (0, 0), 25.0)
    return (0.02 + 0.7 * (wide - wide.min()) / np.ptp(wide)).astype(np.float32)


def defocused(seed: int) -> np.ndarray:
    return cv2.GaussianBlur(luminance(dead_leaves(seed, (320, 432))), (0, 0), 2.0)


@pytest.mark.parametrize("scene", [calm, defocused])
@pytest.mark.parametrize(
    "noise", [photometry.Noise(1e-5, 0.0), photometry.Noise(0.0, 2e-4), photometry.Noise(1e-5, 1e-4)]
)
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_estimated_at_every_brightness(scene, noise: Noise, seed: int) -> None:
    light = scene(seed)
    drawn = np.random.default_rng(seed).normal(0, 1, light.shape) * np.sqrt(noise.variance(light))
    found = photometry.estimate_noise((light + drawn).astype(np.float32))
    levels = np.array([0.1, 0.3, 0.5], dtype=np.float32)
    deviation = np.sqrt(found.variance(levels) / noise.variance(levels))
    assert deviation == pytest.approx(np.ones(3), abs=0.2)


def test_noise_of_a_frame_without_any_is_next_to_nothing() -> None:
    assert photometry.estimate_noise(np.full((320, 432), 0.3, np.float32)).variance(np.float32(0.3)) < 1e-12
    assert photometry.estimate_noise(calm(0)).variance(np.float32(0.3)) < 1e-10


def test_noise_of_a_frame_of_few_cells_is_taken_as_the_same_everywhere() -> None:
    flat = 0.3 + np.random.default_rng(0).normal(0, 0.01, (72, 72)).astype(np.float32)
    found = photometry.estimate_noise(flat)
    assert found.per_light == 0
    assert np.sqrt(found.floor) == pytest.approx(0.01, rel=0.15)
