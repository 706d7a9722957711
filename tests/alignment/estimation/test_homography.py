"""The global models: parameters, how they move the frame, choice of the model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.estimation import homography
from sdd_toolkit.imaging import geometry

SIZE = (192, 288)


@given(st.lists(st.floats(-0.05, 0.05), min_size=9, max_size=9))
def test_parameters_and_matrix_are_two_forms_of_one_thing(values: list[float]) -> None:
    parameters = np.array(values)
    back = homography.to_parameters(homography.to_matrix(parameters, SIZE), parameters[8], SIZE)
    np.testing.assert_allclose(back, parameters, atol=1e-9)


@given(st.lists(st.floats(-1e-4, 1e-4), min_size=8, max_size=8))
def test_the_jacobian_is_the_derivative_of_the_matrix(values: list[float]) -> None:
    parameters = np.append(values, 0.0)
    points = geometry.corners(SIZE)
    moved = geometry.project(homography.to_matrix(parameters, SIZE), points) - points
    np.testing.assert_allclose(homography.jacobian(points, SIZE) @ parameters, moved, atol=2e-4)


def test_the_radial_parameter_moves_a_corner_by_half_a_diagonal() -> None:
    moved = homography.jacobian(geometry.corners(SIZE), SIZE)[:, :, 8]
    assert np.linalg.norm(moved, axis=1) == pytest.approx(np.hypot(*SIZE) / 2, rel=0.02)
    assert (moved[0] < 0).all()


def test_tiles_lie_where_their_pixels_lie() -> None:
    tiled = homography.tile_jacobian(SIZE, (4, 6), (48, 48))
    centre = np.array([[2 * 48 + 23.5, 48 + 23.5]])
    np.testing.assert_allclose(tiled[1, 2], homography.jacobian(centre, SIZE)[0])


@pytest.mark.parametrize(
    ("parameters", "model"),
    [
        ([0, 0, 0, 0, 0, 0, 0, 0], "identity"),
        ([0.01, -0.002, 0.02, 0.002, 0.01, 0.03, 0, 0], "similarity"),
        ([0.01, 0.004, 0.02, 0.002, -0.01, 0.03, 0, 0], "affine"),
        ([0.01, -0.002, 0.02, 0.002, 0.01, 0.03, 0.004, 0], "homography"),
    ],
)
def test_the_simplest_model_that_the_evidence_allows_is_chosen(parameters: list[float], model: str) -> None:
    noise = np.append(np.random.default_rng(0).normal(0, 1e-4, 8), 0.0)
    covariance = 1e-8 * np.eye(8)
    assert homography.simplest_model(np.array([*parameters, 0]) + noise, covariance, "homography", 100) == model


@pytest.mark.parametrize(("radial", "model"), [(0.004, "similarity+radial"), (2e-4, "similarity")])
def test_a_radial_term_must_be_clear(radial: float, model: str) -> None:
    parameters = np.array([0.01, -0.002, 0.02, 0.002, 0.01, 0.03, 0, 0, radial])
    assert homography.simplest_model(parameters, 1e-8 * np.eye(9), "homography+radial", 100) == model


def test_the_nearest_similarity_keeps_angles() -> None:
    parameters = np.array([0.01, -0.002, 0.02, 0.003, 0.012, 0.03, 0.0001, 0.0, 0.0])
    near = homography.project_onto_model(parameters, np.eye(8), "homography", "similarity")
    assert near[0] == near[4] == pytest.approx(0.011)
    assert near[1] == -near[3] == pytest.approx(-0.0025)
    assert near[6:].tolist() == [0, 0, 0]
    assert homography.project_onto_model(parameters, np.eye(8), "homography", "identity").tolist() == [0] * 9


@pytest.mark.parametrize(("deviations", "model"), [(2.0, "affine"), (4.0, "affine"), (5.5, "homography")])
def test_the_evidence_for_a_model_is_weighed_by_the_true_error(deviations: float, model: str) -> None:
    """Of 100 tiles, two parameters must reduce the cost by 2 ln 100: by 3.0 deviations of 1.6 times the scatter."""
    parameters = np.array([0.01, -0.02, 0.02, 0.03, 0.015, 0.03, deviations * 1e-4, 0, 0])
    assert homography.choose_model(parameters, 1e-8 * np.eye(8), "homography", 100).model == model


def test_deviation_and_misfit_add_in_quadrature_at_the_corners() -> None:
    reach_px = float(np.hypot(*SIZE)) / 2
    nothing, shift = np.zeros((8, 8)), np.array([0, 0, 4, 0, 0, 3, 0, 0]) / reach_px

    def error_px(deviation: np.ndarray, misfit: np.ndarray) -> float:
        return homography.corner_error_px(deviation, misfit, "homography", SIZE)

    by_misfit = error_px(nothing, shift)
    assert by_misfit == pytest.approx(1.6 * 5, rel=1e-3)
    by_chance = error_px(np.diag([0, 0, 1, 0, 0, 1, 0, 0]) * (6 / reach_px) ** 2, np.zeros(8))
    assert by_misfit / by_chance == pytest.approx(5 / np.hypot(6, 6))
    assert error_px(np.diag([0, 0, 1, 0, 0, 1, 0, 0]) * (6 / reach_px) ** 2, shift) == pytest.approx(
        np.hypot(by_misfit, by_chance)
    )
