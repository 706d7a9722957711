"""Kernels of a disc and the blur by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from sdd_toolkit.imaging.disc import blur_with_disc, disc_kernel, sampled_disc_kernel


@pytest.mark.parametrize("radius", [0.55, 1.0, 1.49, 2.37, 5.003, 8.0])
def test_every_pixel_has_its_exact_share_of_the_disc(radius: float) -> None:
    kernel = disc_kernel(radius) * (np.pi * radius**2)
    middle = len(kernel) // 2

    def height(x: float, row: int) -> float:
        chord = np.sqrt(max(radius**2 - x**2, 0.0))
        return max(0.0, min(chord, row + 0.5) - max(-chord, row - 0.5))

    for column, row in ((0, 0), (middle, 0), (0, middle), (middle, middle), (middle - 1, middle - 1)):
        kinks = [np.sqrt(max(radius**2 - y**2, 0.0)) for y in (row - 0.5, row + 0.5)]
        ends = (column - 0.5, min(column + 0.5, max(radius, column - 0.5)))
        area = integrate.quad(height, *ends, args=(row,), points=kinks, limit=200)[0]
        assert kernel[middle + row, middle + column] == pytest.approx(area, abs=2e-6)


@given(st.floats(0, 40))
@settings(max_examples=60, deadline=None)
def test_discs_sum_to_one_and_have_every_symmetry(radius: float) -> None:
    kernel = disc_kernel(radius)
    assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(kernel, kernel.T)
    assert np.array_equal(kernel, kernel[::-1])
    assert kernel.shape[0] == 2 * max(0, int(np.ceil(radius - 0.5))) + 1


def test_a_disc_of_three_tenths_lies_within_its_pixel() -> None:
    assert disc_kernel(0.3).tolist() == [[1.0]]


@pytest.mark.parametrize("radius", [-1.0, float("nan")])
def test_impossible_radii_are_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="px"):
        disc_kernel(radius)


@pytest.mark.parametrize("radius_px", [2.5, 4.0, 7.3])
def test_a_sampled_disc_has_unit_sum_and_the_second_moment_of_a_disc(radius_px: float) -> None:
    kernel = sampled_disc_kernel(radius_px).astype(float)
    reach = kernel.shape[0] // 2
    xs = np.arange(-reach, reach + 1)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    # r²/4 along each axis, plus 1/12 for the width of a pixel.
    assert (kernel * xs**2).sum() == pytest.approx(radius_px**2 / 4 + 1 / 12, rel=0.03)
    np.testing.assert_allclose(kernel, kernel.T)


def test_a_disc_within_one_pixel_changes_nothing() -> None:
    image = np.zeros((8, 8), dtype=np.float32)
    assert sampled_disc_kernel(0.5).tolist() == [[1.0]]
    assert blur_with_disc(image, 0.4) is image


@pytest.mark.parametrize("radius_px", [0.8, 2.3, 6.6, 17.5])
def test_a_sampled_disc_is_the_exact_one_to_a_fiftieth_of_a_pixel(radius_px: float) -> None:
    sampled, exact = sampled_disc_kernel(radius_px), disc_kernel(radius_px)
    wider = np.pad(exact, (len(sampled) - len(exact)) // 2)
    assert np.abs(sampled - wider).max() * np.pi * radius_px**2 < 0.05


def test_blur_by_a_disc_keeps_brightness_and_spreads_a_point_to_its_radius() -> None:
    point = np.zeros((21, 21), dtype=np.float32)
    point[10, 10] = 1.0
    blurred = blur_with_disc(point, 4.0)
    assert blurred.sum() == pytest.approx(1.0, abs=1e-5)
    assert blurred[10, 14] > 0 == blurred[10, 15]
