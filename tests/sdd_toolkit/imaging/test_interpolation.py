"""The filter of the spline, and the sampling of OpenCV that it relies on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sdd_toolkit.imaging import interpolation


def test_opencv_rounds_cubic_and_lanczos_samples_but_not_linear_ones() -> None:
    y, x = np.mgrid[0:96, 0:120].astype(np.float32)
    inside = np.s_[8:-8, 8:-8]
    for channels in (1, 3, 4):
        ramp = np.repeat(x[..., None], channels, axis=2)
        found = cv2.remap(ramp, x + np.float32(0.123), y, cv2.INTER_LINEAR).reshape(ramp.shape)
        assert np.abs(found - ramp - 0.123)[inside].max() < 1e-4
    assert np.abs(cv2.remap(x, x + np.float32(0.123), y, cv2.INTER_LANCZOS4) - x - 0.123)[inside].max() > 0.01


def error_of(taps: np.ndarray, frequency: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(frequency, offset, tap) responses to exp(2πi f x) at x = offset, relative to the exact value."""
    steps = 2 * offset
    rows = np.zeros((len(frequency), len(offset), len(taps)), complex)
    for number, step in enumerate(steps):
        for coefficient in range(int(step) - 2, int(step) + 4):
            near = abs(step - coefficient)
            weight = 2 / 3 - near**2 + near**3 / 2 if near < 1 else max(2 - near, 0) ** 3 / 6
            for tap in range(-len(taps) + 1, len(taps)):
                if (coefficient - tap) % 2 == 0:
                    wave = np.exp(2j * np.pi * frequency * ((coefficient - tap) / 2 - offset[number]))
                    rows[:, number, abs(tap)] += weight * wave
    return rows


def test_the_taps_are_the_least_squares_ones() -> None:
    stored = np.array(interpolation._TAPS)
    low, offset = np.linspace(0, 0.35, 64), np.linspace(0, 0.5, 17)
    trust = np.maximum(low, 0.35 / 128) ** -2.0
    within = trust[:, None, None] * error_of(stored, low, offset)
    pixels = 0.3 * 17 * error_of(stored, np.linspace(0, 0.5, 64), np.zeros(1))
    rows = np.concatenate([within.reshape(-1, 13), pixels.reshape(-1, 13)])
    wanted = np.concatenate([np.repeat(trust, 17), np.full(64, 0.3 * 17)])
    system = np.concatenate([rows.real, rows.imag]), np.concatenate([wanted, np.zeros_like(wanted)])
    found = np.linalg.lstsq(*system, rcond=None)[0]
    np.testing.assert_allclose(stored, found, atol=2e-7)
    assert stored[0] + 2 * stored[2::2].sum() == pytest.approx(1, abs=1e-6)
    assert 2 * stored[1::2].sum() == pytest.approx(1, abs=1e-6)
