"""Exact sampling between pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.estimation import spline
from sdd_toolkit.imaging import resampling

SIZE = (120, 160)
INNER = (slice(16, -16), slice(16, -16))


def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(0.7 * x + 0.2) * np.cos(0.5 * y) + 0.5 * np.sin(0.3 * x - 0.4 * y)


def grid() -> tuple[np.ndarray, np.ndarray]:
    ys, xs = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(float)
    return xs, ys


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_a_shift_of_any_fraction_is_exact(dx: float, dy: float) -> None:
    xs, ys = grid()
    coefficients = spline.coefficients(wave(xs, ys).astype(np.float32))
    moved = spline.sample_cubic(coefficients, np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]]), SIZE)
    np.testing.assert_allclose(moved[INNER], wave(xs - dx, ys - dy)[INNER], atol=2e-3)


def test_opencvs_cubic_would_not_do() -> None:
    xs, ys = grid()
    shift = np.array([[1, 0, 0.3], [0, 1, 0.0]])
    image = wave(xs, ys).astype(np.float32)
    moved = cv2.warpAffine(image, shift, SIZE[::-1], flags=cv2.INTER_CUBIC)
    assert np.abs(moved - wave(xs - 0.3, ys))[INNER].max() > 0.02


@pytest.mark.parametrize("radial", [0.0, 0.01])
def test_it_samples_where_the_packer_samples(radial: float) -> None:
    xs, ys = grid()
    image = wave(xs, ys).astype(np.float32)
    matrix = np.array([[1.02, 0.01, 2.3], [-0.01, 1.02, -1.7], [1e-5, -2e-5, 1.0]])
    found = spline.sample_cubic(spline.coefficients(image), matrix, SIZE, radial=radial)
    expected = resampling.warp(image, matrix, SIZE, radial=radial)
    np.testing.assert_allclose(found[INNER], expected[INNER], atol=3e-3)


def test_pixels_themselves_are_kept() -> None:
    image = np.random.default_rng(0).normal(0, 1, SIZE).astype(np.float32)
    kept = spline.sample_cubic(spline.coefficients(image), np.eye(3), SIZE)
    np.testing.assert_allclose(kept[INNER], image[INNER], atol=1e-4)
