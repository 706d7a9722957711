"""The global model: parameters, first search, one Gauss-Newton step, choice of the model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment import homography
from sdd_toolkit import geometry

SIZE = (192, 288)


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float32)
    return sum(s * cv2.GaussianBlur(noise, (0, 0), s) for s in (2.0, 5.0, 12.0))


@given(st.lists(st.floats(-0.05, 0.05), min_size=8, max_size=8))
def test_parameters_and_matrix_are_two_forms_of_one_thing(values: list[float]) -> None:
    parameters = np.array(values)
    back = homography.to_parameters(homography.to_matrix(parameters, SIZE), SIZE)
    np.testing.assert_allclose(back, parameters, atol=1e-9)


def test_the_search_finds_zoom_rotation_and_a_large_shift() -> None:
    planted = geometry.normalised(
        np.array([[1, 0, 30], [0, 1, -18], [0, 0, 1.0]]) @ homography._about_centre(1.08, np.radians(2.0), SIZE)
    )
    image = grains()
    moving = geometry.warp(image, np.linalg.inv(planted), SIZE)
    found = homography.search(moving, image, max_zoom_percent=12.0, max_rotation_deg=3.0)
    assert geometry.corner_error_px(found, planted, SIZE) < 4.0


def test_one_step_undoes_a_small_warp() -> None:
    parameters = np.array([2, -1, 2, 1, -2, -2, 0.5, 0.3]) * 1e-3
    planted = homography.to_matrix(parameters, SIZE)
    image = grains()
    moving = geometry.warp(image, np.linalg.inv(planted), SIZE)
    weight = np.zeros(SIZE, np.float32)
    weight[8:-8, 8:-8] = 1.0
    equations = homography.linearise(moving, image, weight, 48)
    found = homography.compose(np.eye(3), equations.step(homography.BASES["homography"]), SIZE)
    assert geometry.corner_error_px(np.eye(3), planted, SIZE) > 0.4
    assert geometry.corner_error_px(found, planted, SIZE) < 0.02


def test_a_gain_between_the_frames_does_not_move_the_step() -> None:
    image = grains()
    weight = np.ones(SIZE, np.float32)
    equations = homography.linearise(np.float32(0.8) * image, image, weight, 48)
    step = equations.step(homography.BASES["homography"])
    assert homography.to_matrix(step, SIZE) == pytest.approx(np.eye(3), abs=1e-3)


def test_the_covariance_tells_the_scatter_of_repeated_estimates() -> None:
    image, basis = grains(), homography.BASES["similarity"]
    weight = np.ones(SIZE, np.float32)
    rng = np.random.default_rng(3)
    steps, told = [], []
    for _ in range(30):
        noisy = [image + rng.normal(0, 0.2, SIZE).astype(np.float32) for _ in range(2)]
        equations = homography.linearise(noisy[0], noisy[1], weight, 32)
        steps.append(equations.step(basis))
        told.append(homography.corner_deviation_px(equations.covariance(basis), basis, SIZE))
    scatter = np.sqrt(
        np.mean([geometry.corner_error_px(homography.to_matrix(step, SIZE), np.eye(3), SIZE) ** 2 for step in steps])
    )
    assert np.median(told) == pytest.approx(scatter, rel=0.5)


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
    noise = np.random.default_rng(0).normal(0, 1e-4, 8)
    covariance = 1e-8 * np.eye(8)
    assert homography.choose_model(np.array(parameters) + noise, covariance, 100) == model


def test_the_nearest_similarity_keeps_angles() -> None:
    parameters = np.array([0.01, -0.002, 0.02, 0.003, 0.012, 0.03, 0.0001, 0.0])
    near = homography.nearest(parameters, np.eye(8), "similarity")
    assert near[0] == near[4]
    assert near[1] == -near[3]
    assert near[6:].tolist() == [0, 0]
    assert homography.nearest(parameters, np.eye(8), "identity").tolist() == [0] * 8
