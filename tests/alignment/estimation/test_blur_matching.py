"""Blur matching: the disc under which two frames are equally blurred."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from alignment.estimation import blur_matching
from sdd_toolkit.imaging.disc import blur_with_disc

RADII = blur_matching.radii_up_to(8.0)


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (192, 288)).astype(np.float32)
    return noise + 3 * cv2.GaussianBlur(noise, (0, 0), 2.0) + 9 * cv2.GaussianBlur(noise, (0, 0), 6.0)


def bank(image: np.ndarray) -> list[np.ndarray]:
    return [blur_with_disc(image, radius) for radius in RADII]


def test_the_radii_rise_and_end_at_the_largest() -> None:
    assert RADII[0] == 0
    assert RADII[-1] == 8.0
    assert all(a < b for a, b in pairwise(RADII))


@pytest.mark.parametrize("radius_px", [0.0, 1.5, 3.4, 6.0])
def test_the_planted_radius_is_found_with_its_sign(radius_px: float) -> None:
    sharp = grains()
    soft = blur_with_disc(sharp, radius_px)
    everywhere = np.ones(sharp.shape, np.float32)
    forward = blur_matching.choose_radii(bank(soft), bank(sharp), everywhere, RADII)
    backward = blur_matching.choose_radii(bank(sharp), bank(soft), everywhere, RADII)
    assert np.median(forward.radius_px) == pytest.approx(radius_px, abs=0.3)
    assert np.median(backward.radius_px) == pytest.approx(-radius_px, abs=0.3)


def test_a_radius_that_differs_over_the_frame_is_mapped() -> None:
    sharp = grains()
    soft = np.concatenate([sharp[:, :144], blur_with_disc(sharp, 5.2)[:, 144:]], axis=1)
    found = blur_matching.choose_radii(bank(soft), bank(sharp), np.ones(sharp.shape, np.float32), RADII).radius_px
    assert np.median(found[:, :9]) == pytest.approx(0.0, abs=0.3)
    assert np.median(found[:, -9:]) == pytest.approx(5.2, abs=0.3)


def test_blending_takes_the_bank_at_whole_positions_and_mixes_between() -> None:
    images = bank(grains())
    whole = blur_matching.mix_bank(images, np.full((4, 6), 3.0, np.float32), (192, 288))
    between = blur_matching.mix_bank(images, np.full((4, 6), 2.5, np.float32), (192, 288))
    negative = blur_matching.mix_bank(images, np.full((4, 6), -2.0, np.float32), (192, 288))
    np.testing.assert_allclose(whole, images[3])
    np.testing.assert_allclose(between, 0.5 * (images[2] + images[3]), atol=1e-5)
    np.testing.assert_allclose(negative, images[0])


def test_noise_does_not_pass_for_blur() -> None:
    rng = np.random.default_rng(5)
    flat = np.full((192, 288), 0.5, np.float32)
    noisy = [flat + rng.normal(0, 0.02, flat.shape).astype(np.float32) for _ in range(2)]
    banks = [[cv2.GaussianBlur(image, (0, 0), 0.7) for image in bank(frame)] for frame in noisy]
    kept = np.array([blur_matching.noise_gain(radius, 0.7) for radius in RADII])
    noise = 0.02**2 * np.concatenate([kept[:0:-1] + kept[0], kept[0] + kept])
    noise = noise[:, None, None] * np.ones((1, 16, 24), np.float32)
    everywhere = np.ones(flat.shape, np.float32)
    informed = blur_matching.choose_radii(banks[0], banks[1], everywhere, RADII, noise).radius_px
    ignorant = blur_matching.choose_radii(banks[0], banks[1], everywhere, RADII).radius_px
    assert np.mean(np.abs(informed)) < 0.5 * np.mean(np.abs(ignorant))


def test_the_share_of_noise_that_is_kept_is_measured_right() -> None:
    noise = np.random.default_rng(6).normal(0, 1, (600, 600)).astype(np.float32)
    smooth = cv2.GaussianBlur(blur_with_disc(noise, 2.3), (0, 0), 0.7)
    assert blur_matching.noise_gain(2.3, 0.7) == pytest.approx(float(smooth[20:-20, 20:-20].var()), rel=0.05)
