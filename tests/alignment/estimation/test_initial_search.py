"""The first search."""

from __future__ import annotations

import cv2
import numpy as np

from alignment.estimation.initial_search import _similarity_about_centre, search_similarity
from sdd_toolkit.imaging import geometry, resampling
from tests.support.planted_pairs import corner_error_px

SIZE = (192, 288)


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float32)
    return sum(s * cv2.GaussianBlur(noise, (0, 0), s) for s in (2.0, 5.0, 12.0))


def test_the_search_finds_zoom_rotation_and_a_large_shift() -> None:
    planted = geometry.normalise_homography(
        np.array([[1, 0, 30], [0, 1, -18], [0, 0, 1.0]]) @ _similarity_about_centre(1.08, np.radians(2.0), SIZE)
    )
    moving = resampling.warp(grains(), np.linalg.inv(planted), SIZE)
    found, _ = search_similarity(moving, grains(), zooms=(0.88, 1.12), max_rotation_deg=3.0)
    assert corner_error_px(found, planted, SIZE) < 4.0


def test_a_known_zoom_is_all_that_is_tried() -> None:
    moving = resampling.warp(grains(), _similarity_about_centre(1.04, 0.0, SIZE), SIZE)
    found, _ = search_similarity(moving, grains(), zooms=(0.96, 0.96), max_rotation_deg=0.0)
    assert (
        geometry.decompose(found, SIZE).zoom == np.float64(0.96)
        or abs(geometry.decompose(found, SIZE).zoom - 0.96) < 1e-9
    )
