"""Judging a pair tile by tile."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from alignment.estimation.blur_matching import RadiusMap
from alignment.estimation.global_model import BlurMatchedFrames
from alignment.registration import tile_statistics
from alignment.residual_flow.estimate import ResidualFlow


def matched(moving: np.ndarray, fixed: np.ndarray) -> BlurMatchedFrames:
    overlap = np.ones(moving.shape, bool)
    radius = RadiusMap(np.zeros((4, 4), np.float32), (0.0, 1.0))
    return BlurMatchedFrames(moving, fixed, overlap, radius)


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.3, (160, 224)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.0)


def flowing(size: tuple[int, int], x_px: float = 0.0) -> ResidualFlow:
    flow = np.zeros((*size, 2), np.float32)
    flow[..., 0] = x_px
    return ResidualFlow(flow, np.ones(size, np.float32), np.ones(size, bool), np.zeros(size, bool))


def judge(moving: np.ndarray, fixed: np.ndarray, x_px: float = 0.0) -> tile_statistics.TileStatistics:
    pair = matched(moving, fixed)
    textured = tile_statistics.textured_tiles(fixed, 1e-3)
    residual = flowing((160, 224), x_px)
    return tile_statistics.measure_tiles(pair, residual, textured, noise=1e-3, explained_shift_px=3.0)


def test_equal_frames_are_explained() -> None:
    tiles = judge(grains(), grains())
    assert tiles.textured.all()
    assert tiles.unexplained_fraction == 0.0
    assert tiles.median_ncc > 0.999


def test_a_small_shift_is_explained() -> None:
    assert judge(grains(), np.roll(grains(), 2, axis=1), 2.0).unexplained_fraction < 0.15


def test_a_large_shift_is_not() -> None:
    assert judge(grains(), np.roll(grains(), 9, axis=1), 9.0).unexplained_fraction > 0.9


def test_a_replaced_part_is_not_explained() -> None:
    fixed = grains()
    fixed[:64, :96] = grains(1)[:64, :96]
    found = judge(grains(), fixed).unexplained_fraction
    assert found == pytest.approx(6 / 35, abs=0.06)


def test_noise_is_not_texture() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (160, 224)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 0.7)
    assert tile_statistics.textured_tiles(smooth, 0.01).sum() == 0
    assert tile_statistics.textured_tiles(grains(), 0.01).all()


def test_displacement_before_is_motion_plus_residual_and_after_is_residual_alone() -> None:
    residual = flowing((64, 96), 0.5)
    moved = np.array([[1, 0, 3], [0, 1, 0], [0, 0, 1.0]])
    before, after = tile_statistics.displacements_px(moved, residual, np.ones((2, 3), bool))
    assert before == pytest.approx((3.5, 3.5), abs=1e-4)
    assert after == pytest.approx((0.5, 0.5))


def test_nothing_textured_gives_zeros() -> None:
    assert tile_statistics.median_and_p95(np.zeros(0)) == (0.0, 0.0)
