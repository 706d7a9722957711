"""Brightness between two frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from alignment import photometric


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0.1, 0.9, (160, 240)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.0)


def test_the_gain_is_found_between_a_sharp_and_a_blurred_frame() -> None:
    light = grains()
    soft = cv2.blur(light, (11, 11)) * np.float32(0.7)
    everywhere = np.ones(light.shape, bool)
    assert photometric.linear_gain(soft, light, everywhere) == pytest.approx(1 / 0.7, rel=2e-3)


def test_the_gain_ignores_a_part_that_changed_and_pixels_that_may_not_be_used() -> None:
    light = grains()
    other = light * np.float32(0.5)
    other[:60] = 0.9
    usable = np.ones(light.shape, bool)
    usable[:30] = False
    assert photometric.linear_gain(other, light, usable) == pytest.approx(2.0, rel=1e-3)


def test_the_gain_of_a_black_frame_is_one() -> None:
    black = np.zeros((160, 240), np.float32)
    assert photometric.linear_gain(black, grains(), np.ones(black.shape, bool)) == 1.0


def test_the_tone_does_not_depend_on_exposure() -> None:
    light = grains()
    dark = light * np.float32(0.125)
    tones = [photometric.tone(image, photometric.white_of(image)) for image in (light, dark)]
    np.testing.assert_allclose(tones[0], tones[1], rtol=1e-5)


def test_noise_is_measured_through_a_steep_gradient() -> None:
    ramp = np.linspace(0, 5, 300, dtype=np.float32)[None].repeat(200, 0)
    noisy = ramp + np.random.default_rng(1).normal(0, 0.01, ramp.shape).astype(np.float32)
    assert photometric.noise_sigma(noisy) == pytest.approx(0.01, rel=0.1)


def test_a_band_holds_neither_offset_nor_shading() -> None:
    light = grains()
    shading = np.linspace(0, 0.5, light.shape[1], dtype=np.float32)[None]
    plain, shaded = photometric.band(light, 10.0), photometric.band(light + shading + 3, 10.0)
    np.testing.assert_allclose(plain[40:-40, 40:-40], shaded[40:-40, 40:-40], atol=5e-3)
