from __future__ import annotations

import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.sensor import CAMERA_FROM_SRGB, NEUTRAL, expose, full_well_e, mosaic, noise_profile


def flat(level: float) -> np.ndarray:
    return np.full((200, 300, 3), level, np.float32)


def test_white_saturates_green_and_meets_the_neutral_in_red_and_blue() -> None:
    assert CAMERA_FROM_SRGB.sum(axis=1) == pytest.approx(NEUTRAL)
    numbers = expose(flat(1.0), SimulateConfig(noise=False), None)
    assert numbers[0, 1] == 16383
    assert numbers[0, 0] == pytest.approx(512 + 0.5 * 15871, abs=0.51)


def test_no_light_is_the_black_level() -> None:
    assert np.all(expose(flat(0.0), SimulateConfig(noise=False), None) == 512)


def test_noise_follows_the_photon_transfer_line() -> None:
    config = SimulateConfig(iso=400, read_noise_e=6.0)
    gain = 15871 / full_well_e(config)
    for number, level in enumerate((0.02, 0.1, 0.3, 0.8)):
        green = expose(flat(level), config, np.random.default_rng(number))[0::2, 1::2].astype(np.float64)
        expected = gain * level * 15871 + (gain * 6.0) ** 2 + 1 / 12
        assert green.mean() - 512 == pytest.approx(level * 15871, rel=0.01)
        assert green.var() == pytest.approx(expected, rel=0.05)


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
    block = mosaic(image, cfa)[:2, :2].ravel()
    assert "".join("_RGB"[int(value)] for value in block) == cfa
