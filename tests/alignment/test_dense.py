"""What is left after the global model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from alignment import dense
from alignment.blur_match import RadiusMap
from alignment.estimation import Matched


def matched(moving: np.ndarray, fixed: np.ndarray) -> Matched:
    overlap = np.ones(moving.shape, bool)
    radius = RadiusMap(np.zeros((4, 4), np.float32), (0.0, 1.0))
    return Matched(moving, fixed, overlap, radius)


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (160, 240)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.0)


def test_a_shift_shows_in_the_flow_with_its_sign() -> None:
    moving = grains()
    fixed = np.roll(moving, (2, 3), axis=(0, 1))
    found = dense.residual_flow(matched(moving, fixed), noise=1e-3)
    assert np.median(found.flow[20:-20, 20:-20], axis=(0, 1)) == pytest.approx([3, 2], abs=0.1)
    assert found.consistent[20:-20, 20:-20].mean() > 0.95
    assert found.confidence[20:-20, 20:-20].mean() > 0.8


def test_frames_that_share_nothing_give_no_confidence() -> None:
    found = dense.residual_flow(matched(grains(0), grains(1)), noise=1e-3)
    assert found.confidence.mean() < 0.4
    assert found.consistent.mean() < 0.5


def test_noise_without_texture_gives_no_confidence() -> None:
    found = dense.residual_flow(matched(1e-4 * grains(0), 1e-4 * grains(0)), noise=1e-3)
    assert not found.confidence.any()


def test_the_stored_flow_has_half_the_size_rounded_up_and_the_stored_unit() -> None:
    flow = np.full((5, 7, 2), 1.5, np.float32)
    residual = dense.Residual(flow, np.ones((5, 7), np.float32), np.ones((5, 7), bool))
    stored, confidence = dense.quartered(residual, unit_px=2.0)
    assert stored.shape == (3, 4, 2)
    assert stored.dtype == np.float16
    assert (stored == 3.0).all()
    assert confidence.tolist() == [[255] * 4] * 3
