"""Homographies, boxes and flow enlargement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.imaging import geometry, resampling
from tests.support.planted_pairs import corner_error_px

SIZE = (120, 160)


def similarity(shift: tuple[float, float], zoom: float, rotation_deg: float) -> np.ndarray:
    """About the frame centre."""
    angle = np.radians(rotation_deg)
    a = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = a, centre - a @ centre + shift
    return matrix


def smooth(size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    return np.stack([np.sin(x / 7), np.cos(y / 9), np.sin((x + y) / 11)], axis=-1).astype(np.float32)


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0.9, 1.1), st.floats(-3, 3))
def test_a_similarity_is_decomposed_into_what_it_was_made_of(dx: float, dy: float, zoom: float, turn: float) -> None:
    parts = geometry.decompose(similarity((dx, dy), zoom, turn), SIZE)
    np.testing.assert_allclose([*parts.shift_px, parts.zoom, parts.rotation_deg], [dx, dy, zoom, turn], atol=1e-9)
    assert parts.perspective_px < 1e-9


def test_perspective_is_what_no_similarity_explains() -> None:
    matrix = np.eye(3)
    matrix[2, 0] = 1e-4
    assert geometry.decompose(matrix, SIZE).perspective_px > 0.5


def test_a_half_size_estimate_scales_to_full_size_pixel_centres() -> None:
    half = similarity((3.0, -2.0), 1.02, 0.5)
    full = geometry.rescale_homography(half, 2.0)
    points = np.array([[0.0, 0.0], [50.0, 70.0]])
    np.testing.assert_allclose(
        geometry.project(full, 2 * points + 0.5), 2 * geometry.project(half, points) + 0.5, atol=1e-9
    )
    np.testing.assert_allclose(geometry.rescale_homography(full, 0.5), geometry.normalise_homography(half), atol=1e-12)


def test_binning_commutes_with_the_scaled_homography() -> None:
    full = geometry.rescale_homography(similarity((2.0, 1.0), 1.01, 0.2), 2.0)
    image = smooth((240, 320))
    binned = image.reshape(120, 2, 160, 2, 3).mean(axis=(1, 3))
    one = resampling.warp(image, full, (240, 320)).reshape(120, 2, 160, 2, 3).mean(axis=(1, 3))
    other = resampling.warp(binned, geometry.rescale_homography(full, 0.5), (120, 160))
    assert np.abs(one - other)[8:-8, 8:-8].max() < 3e-3


def test_the_displacement_field_is_the_homography_minus_the_identity() -> None:
    matrix = similarity((4.0, 1.0), 0.98, -1.0)
    field = geometry.displacement(matrix, SIZE)
    there = geometry.project(matrix, np.array([[30.0, 20.0]]))[0] - [30, 20]
    np.testing.assert_allclose(field[20, 30], there, atol=1e-5)


def naive_box_area(mask: np.ndarray) -> int:
    best = 0
    for top in range(mask.shape[0]):
        for bottom in range(top + 1, mask.shape[0] + 1):
            run = 0
            for column in mask[top:bottom].all(axis=0):
                run = run + 1 if column else 0
                best = max(best, run * (bottom - top))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_the_inner_box_is_the_largest_rectangle_of_valid_pixels(seed: int) -> None:
    mask = np.random.default_rng(seed).random((9, 13)) < 0.75
    left, top, right, bottom = geometry.largest_box(mask)
    assert mask[top:bottom, left:right].all()
    assert (right - left) * (bottom - top) == naive_box_area(mask)


def test_no_valid_pixel_gives_an_empty_box() -> None:
    assert geometry.largest_box(np.zeros((4, 5), bool)) == (0, 0, 0, 0)


def test_a_linear_flow_is_enlarged_exactly_inside_any_window() -> None:
    y, x = np.mgrid[0:40, 0:60].astype(np.float32)
    full = np.stack([0.1 * x, -0.2 * y], axis=-1)
    coarse = full.reshape(10, 4, 15, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(geometry.enlarge_flow(coarse, 4, (7, 9, 20, 30)), full[7:27, 9:39], atol=2e-2)


def test_the_corner_error_of_a_pure_shift_is_its_length() -> None:
    assert corner_error_px(np.eye(3), similarity((3.0, 4.0), 1.0, 0.0), SIZE) == pytest.approx(5.0)
