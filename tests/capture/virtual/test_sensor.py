from __future__ import annotations

import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.sensor import CAMERA_FROM_SRGB, NEUTRAL, expose, noise_profile, to_mosaic


def flat(level: float) -> np.ndarray:
    return np.full((200, 300, 3), level, np.float32)


def test_white_saturates_green_and_meets_the_neutral_in_red_and_blue() -> None:
    assert CAMERA_FROM_SRGB.sum(axis=1) == pytest.approx(NEUTRAL)
    numbers = expose(flat(1.0), SimulateConfig(noise=False), None)
    assert numbers[0, 1] == 16383
    assert numbers[0, 0] == pytest.approx(512 + 0.5 * 15871, abs=0.51)


def test_no_light_is_the_black_level() -> None:
    assert np.all(expose(flat(0.0), SimulateConfig(noise=False), None) == 512)


@pytest.mark.parametrize("iso", [100, 400, 3200])
@pytest.mark.parametrize("cfa", ["RGGB", "GBRG"])
def test_the_photon_transfer_line_has_the_gain_as_slope_and_the_read_noise_as_intercept(iso: int, cfa: str) -> None:
    config = SimulateConfig(iso=iso, cfa=cfa, read_noise_e=5.0)
    gain = 15871 / (30000 * 100 / iso)
    levels = np.array([0.0, 0.0, 0.0, 0.002, 0.01, 0.05, 0.2, 0.5, 0.7])
    shots = [
        expose(np.full((600, 600, 3), level, np.float32), config, np.random.default_rng(number)).astype(np.float64)
        for number, level in enumerate(levels)
    ]
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        patches = [shot[row::2, column::2] for shot in shots]
        mean, variance = np.array([(patch.mean() - 512, patch.var()) for patch in patches]).T
        slope, intercept = np.polyfit(mean, variance, 1, w=1 / variance)
        assert slope == pytest.approx(gain, rel=0.03)
        assert intercept == pytest.approx((gain * 5.0) ** 2 + 1 / 12, rel=0.03)


def test_few_photons_follow_poissons_law_to_its_skewness() -> None:
    config = SimulateConfig(iso=400, read_noise_e=0.0)
    electrons = (expose(flat(20 / 7500), config, np.random.default_rng(5))[0::2, 1::2] - 512.0) / (15871 / 7500)
    skewness = np.mean((electrons - electrons.mean()) ** 3) / electrons.std() ** 3
    assert skewness == pytest.approx(20**-0.5, abs=0.06)


def test_the_noise_profile_is_the_variance_of_the_signal() -> None:
    config = SimulateConfig()
    slope, offset = noise_profile(config)
    green = expose(flat(0.5), config, np.random.default_rng(9))[0::2, 1::2]
    assert np.var((green - 512.0) / 15871) == pytest.approx(0.5 * slope + offset, rel=0.05)


def test_read_noise_goes_below_the_black_level() -> None:
    dark = expose(flat(0.0), SimulateConfig(), np.random.default_rng(1))
    assert dark.min() < 512 < dark.max()
    assert dark.mean() == pytest.approx(512, abs=0.1)


@pytest.mark.parametrize("cfa", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_each_pixel_keeps_the_colour_of_its_filter(cfa: str) -> None:
    image = np.broadcast_to(np.array([1, 2, 3], np.float32), (4, 6, 3))
    block = to_mosaic(image, cfa)[:2, :2].ravel()
    assert "".join("_RGB"[int(value)] for value in block) == cfa
