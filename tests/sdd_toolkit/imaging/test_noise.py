"""White noise of an image by Immerkaer's operator."""

from __future__ import annotations

import numpy as np
import pytest

from sdd_toolkit.imaging import noise
from sdd_toolkit.imaging.noise import noise_sigma, noise_variance

SIZE = (192, 288)


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    return image + (sigma * np.random.default_rng(1).standard_normal(image.shape)).astype(np.float32)


def test_white_noise_is_measured_and_structure_is_not() -> None:
    flat = np.full(SIZE, 0.5, np.float32)
    assert noise_variance(noisy(flat, 0.02)) == pytest.approx(0.02**2, rel=0.15)
    ramp = np.linspace(0, 1, SIZE[1], dtype=np.float32)[None, :] * np.ones((SIZE[0], 1), np.float32)
    assert noise_variance(ramp) < 1e-12


def test_noise_is_measured_through_a_steep_gradient() -> None:
    ramp = np.linspace(0, 5, 300, dtype=np.float32)[None].repeat(200, 0)
    assert noise_sigma(noisy(ramp, 0.01)) == pytest.approx(0.01, rel=0.1)


def test_an_image_smaller_than_a_cell_has_no_noise() -> None:
    small = np.ones((15, 15), dtype=np.float32)
    assert (noise_sigma(small), noise_variance(small)) == (0.0, 0.0)


def test_the_noise_rests_on_the_median_of_each_tile() -> None:
    image = np.random.default_rng(1).random((100, 130), dtype=np.float32)
    tiles = [[np.median(image[r : r + 24, c : c + 24]) for c in range(0, 120, 24)] for r in range(0, 96, 24)]
    assert np.array_equal(noise._cell_medians(image), np.array(tiles, dtype=np.float64))
