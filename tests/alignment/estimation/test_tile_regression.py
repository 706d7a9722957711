"""Tile displacements and the regression over them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from alignment.estimation import homography, spline, tile_regression
from tests.support.planted_pairs import corner_error_px

SIZE = (192, 288)


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float32)
    return sum(s * cv2.GaussianBlur(noise, (0, 0), s) for s in (2.0, 5.0, 12.0)).astype(np.float32)


def softening(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 1.0) - image


def framed() -> np.ndarray:
    weight = np.zeros(SIZE, np.float32)
    weight[8:-8, 8:-8] = 1.0
    return weight


def systems(moving: np.ndarray, fixed: np.ndarray, side: int = 32) -> tile_regression.TileSystems:
    return tile_regression.linearise(moving, fixed, softening(fixed), framed(), side)


def test_one_step_undoes_a_small_warp() -> None:
    planted = homography.to_matrix(np.array([2, -1, 2, 1, -2, -2, 0.5, 0.3, 0]) * 1e-3, SIZE)
    image = grains()
    moving = spline.sample_cubic(spline.coefficients(image), np.linalg.inv(planted), SIZE)
    found = tile_regression.fit_motion(systems(moving, image), homography.BASES["homography"])
    matrix = homography.compose(np.eye(3), found.step, SIZE)
    assert corner_error_px(np.eye(3), planted, SIZE) > 0.4
    assert corner_error_px(matrix, planted, SIZE) < 0.02


@pytest.mark.parametrize("change", ["gain", "offset", "softer"])
def test_brightness_and_softness_do_not_move_the_step(change: str) -> None:
    image = grains()
    moving = {
        "gain": np.float32(0.8) * image,
        "offset": image + np.float32(3),
        "softer": cv2.GaussianBlur(image, (0, 0), 0.5),
    }[change]
    step = tile_regression.fit_motion(systems(moving, image), homography.BASES["homography"]).step
    assert homography.to_matrix(step, SIZE) == pytest.approx(np.eye(3), abs=3e-3)


def test_a_tile_measures_its_displacement() -> None:
    image = grains()
    shift = np.array([[1, 0, -0.4], [0, 1, 0.25], [0, 0, 1.0]])
    moving = spline.sample_cubic(spline.coefficients(image), shift, SIZE)
    tiles = systems(moving, image)
    displacement = np.linalg.solve(tiles.information + 1e-9 * np.eye(2), tiles.pull[..., None])
    inner = displacement.reshape(6, 9, 2)[1:-1, 1:-1].reshape(-1, 2)
    # moving(x + d) = fixed(x)
    assert np.median(inner, axis=0) == pytest.approx([-0.4, 0.25], abs=0.01)


def test_a_part_that_moves_otherwise_does_not_pull() -> None:
    image = grains()
    moving = image.copy()
    moving[40:136, 40:136] = np.roll(image, 2, axis=1)[40:136, 40:136]
    found = tile_regression.fit_motion(systems(moving, image), homography.BASES["similarity"])
    assert corner_error_px(homography.to_matrix(found.step, SIZE), np.eye(3), SIZE) < 0.05
    assert found.weight.reshape(6, 9)[2, 2] < 0.1


def scattered(spread_px: float, seed: int) -> tile_regression.TileSystems:
    """Tiles that measure their displacement to 0.01 … 0.3 px and scatter by `spread_px` in addition."""
    rng = np.random.default_rng(seed)
    grid = (12, 18)
    jacobian = homography.tile_jacobian(SIZE, grid, (16, 16)).reshape(-1, 2, 9)
    own = np.exp(rng.uniform(np.log(0.01), np.log(0.3), len(jacobian)))
    displaced = rng.normal(0, 1, (len(jacobian), 2)) * np.hypot(own, spread_px)[:, None]
    information = np.eye(2)[None] / own[:, None, None] ** 2
    return tile_regression.TileSystems(information, displaced / own[:, None] ** 2, jacobian, grid)


@pytest.mark.parametrize("spread_px", [0.0, 0.2, 1.0])
def test_the_spread_that_tiles_do_not_explain_is_found(spread_px: float) -> None:
    basis = homography.BASES["similarity"]
    estimated = [tile_regression.fit_motion(scattered(spread_px, seed), basis).spread_px for seed in range(20)]
    assert np.median(estimated) == pytest.approx(spread_px, abs=0.15 * spread_px + 0.005)


@pytest.mark.parametrize("kind", ["covariance", "deviation"])
@pytest.mark.parametrize("spread_px", [0.0, 0.5])
def test_both_covariances_match_the_scatter_of_repeated_estimates(spread_px: float, kind: str) -> None:
    basis = homography.BASES["homography"]
    found = [tile_regression.fit_motion(scattered(spread_px, seed), basis) for seed in range(40)]
    errors = [corner_error_px(homography.to_matrix(fit.step, SIZE), np.eye(3), SIZE) for fit in found]
    estimated = [homography.corner_deviation_px(getattr(fit, kind), basis, SIZE) for fit in found]
    assert np.median(estimated) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.4)


def test_prior_information_holds_what_the_pixels_leave_open() -> None:
    nothing = tile_regression.TileSystems(np.zeros((4, 2, 2)), np.zeros((4, 2)), np.zeros((4, 2, 9)), (2, 2))
    along = np.zeros(9)
    along[[0, 4]] = 0.5
    found = tile_regression.fit_motion(
        nothing, homography.BASES["similarity"], (1e6 * np.outer(along, along), 1e6 * 0.03 * along)
    )
    assert found.step[0] == pytest.approx(0.03, rel=1e-3)


def test_flat_frames_measure_nothing_and_move_nothing() -> None:
    flat = np.full(SIZE, 0.3, np.float32)
    found = tile_regression.fit_motion(systems(flat, flat), homography.BASES["homography"])
    assert np.abs(found.step).max() < 1e-6


def bent(seed: int) -> tile_regression.TileSystems:
    """Tiles of one texture a region, displaced region by region, as by depth that a homography does not fit."""
    rng = np.random.default_rng(seed)
    plain = scattered(0.0, seed)

    def smooth(channels: int) -> np.ndarray:
        coarse = rng.normal(0, 1, (4, 6, channels))
        return cv2.resize(coarse, plain.grid[::-1], interpolation=cv2.INTER_CUBIC).reshape(-1, channels)

    own = 0.03 * np.exp(smooth(1)[:, :1])
    displaced = 0.3 * smooth(2) + rng.normal(0, 1, (len(own), 2)) * own
    return tile_regression.TileSystems(
        np.eye(2)[None] / own[:, None] ** 2, displaced / own**2, plain.jacobian, plain.grid
    )


def test_the_estimated_error_contains_a_misfit_that_tiles_share() -> None:
    basis = homography.BASES["homography"]
    found = [tile_regression.fit_motion(bent(seed), basis) for seed in range(60)]
    errors = [corner_error_px(homography.to_matrix(fit.step, SIZE), np.eye(3), SIZE) for fit in found]
    estimates = [homography.corner_error_px(fit.deviation, fit.by_texture, "homography", SIZE) for fit in found]
    scatter = [homography.corner_error_px(fit.deviation, 0 * fit.by_texture, "homography", SIZE) for fit in found]
    within, within_twice = (np.mean(np.less(errors, factor * np.array(estimates))) for factor in (1, 2))
    assert 0.55 < within < 0.9
    assert within_twice > 0.9
    assert np.mean(np.less(errors, scatter)) < 0.4


def test_without_a_spread_both_weightings_agree() -> None:
    found = [tile_regression.fit_motion(scattered(0.0, seed), homography.BASES["homography"]) for seed in range(40)]
    assert np.median([np.abs(fit.by_texture).max() for fit in found]) < 1e-4
    errors = [corner_error_px(homography.to_matrix(fit.step, SIZE), np.eye(3), SIZE) for fit in found]
    estimated = [homography.corner_deviation_px(fit.deviation, homography.BASES["homography"], SIZE) for fit in found]
    assert np.median(estimated) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.4)
