from __future__ import annotations

import numpy as np
import pytest

from capture.virtual.compositing import convolve
from capture.virtual.lens import (
    focus_distance_m,
    image_distance_mm,
    signed_coc_radius_px,
    vignetting,
)
from sdd_toolkit.imaging.disc import disc_kernel


def test_a_subject_at_two_focal_lengths_is_imaged_at_two_focal_lengths() -> None:
    assert image_distance_mm(50.0, 0.1) == pytest.approx(100.0)


def test_focus_and_image_distance_are_inverse() -> None:
    assert focus_distance_m(50.0, image_distance_mm(50.0, 1.7)) == pytest.approx(1.7)


def test_a_subject_within_the_focal_length_has_no_image() -> None:
    with pytest.raises(ValueError, match="no real image"):
        image_distance_mm(50.0, 0.05)


def test_circle_of_confusion_equals_the_textbook_formula() -> None:
    # f = 50 mm at f/2 focused at 2 m, subject at 4 m: c = f² |d - s| / (N d (s - f)) = 0.3205 mm.
    radius = signed_coc_radius_px(1 / 4, focal_mm=50, f_number=2, image_mm=image_distance_mm(50, 2), pitch_mm=0.02)
    assert float(radius) == pytest.approx(50**2 * 2000 / (2 * 4000 * 1950) / (2 * 0.02))


def test_radius_is_negative_before_the_focus_and_zero_in_it() -> None:
    image = image_distance_mm(50, 2)
    radii = signed_coc_radius_px(np.array([1.0, 0.5, 0.0]), focal_mm=50, f_number=2, image_mm=image, pitch_mm=0.02)
    assert radii[0] < 0 < radii[2]
    assert abs(radii[1]) < 1e-9


def image_of_a_point(radius: float) -> np.ndarray:
    point = np.zeros((31, 31, 4), np.float32)
    point[15, 15] = 1
    return convolve(point, disc_kernel(radius))[..., 0].astype(np.float64)


@pytest.mark.parametrize("radius", [0.7, 1.0, 1.37, 2.5, 4.02, 6.66, 8.0])
def test_a_point_source_covers_the_area_of_the_formula(radius: float) -> None:
    assert np.sqrt(1 / (np.pi * image_of_a_point(radius).max())) == pytest.approx(radius, abs=0.02)


@pytest.mark.parametrize("radius", [2.0, 2.5, 3.3, 4.02, 5.5, 6.66, 8.0])
def test_a_point_source_is_as_wide_as_the_formula_says(radius: float) -> None:
    # The variance of a uniform disc along x is r²/4; the pixels add 1/12.
    profile = image_of_a_point(radius).sum(axis=0)
    columns = np.arange(len(profile)) - (len(profile) - 1) / 2
    assert 2 * np.sqrt((profile * columns**2).sum() - 1 / 12) == pytest.approx(radius, abs=0.05)


@pytest.mark.parametrize("radius", [0.0, 0.49, 0.51, 3.3, 8.0])
def test_blur_conserves_energy(radius: float) -> None:
    patch = np.random.default_rng(0).random((20, 24, 4), dtype=np.float32)
    assert convolve(patch, disc_kernel(radius)).sum() == pytest.approx(patch.sum(), rel=1e-5)


def test_kernel_is_symmetric_under_turns_and_mirrors() -> None:
    kernel = disc_kernel(3.21)
    assert np.allclose(kernel, kernel.T, atol=2e-4 * float(kernel.max()))
    assert np.allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


def test_a_negative_radius_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        disc_kernel(-1.0)


def test_corners_are_darker_the_wider_the_lens_is_open() -> None:
    wide, narrow = (
        vignetting((100, 150), image_mm=51, pitch_mm=0.2, f_number=n, f_number_min=1.4, strength=0.3)
        for n in (1.4, 11.0)
    )
    assert wide[50, 75] == pytest.approx(1.0, abs=0.001)
    assert wide[0, 0] < 0.75 * narrow[0, 0] < narrow[0, 0] < 1
