"""Drift on scenes with depth: the perfect truth has none, and what is planted is found in spite of occlusion."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import render_pair
from jdrl.metrics.drift import estimate_drift, pool_neighbours

SCENES = [("focus", 41, 4), ("aperture", 41, 2)]


def as_tensor(image: NDArray[np.float32]) -> Tensor:
    """Linear light, clipped and rounded to 8-bit codes as the files of a data set are."""
    codes = np.rint(255 * np.clip(image, 0, 1) ** (1 / 2.2))
    return torch.from_numpy(np.ascontiguousarray(((codes / 255) ** 2.2).astype(np.float32).transpose(2, 0, 1)))[None]


@cache
def scene(kind: str, seed: int, index: int) -> tuple[NDArray[np.float32], Tensor]:
    """The truth on the blurred frame's grid, and the blurred frame."""
    pair = render_pair(SimulateConfig(width=672, height=480, max_coc_px=5.0), kind, seed, index)
    return pair.truth.aligned, as_tensor(pair.blur_linear)


@pytest.mark.parametrize("name", SCENES, ids=str)
def test_the_truth_has_no_drift_although_depth_edges_fit_no_kernel(name: tuple[str, int, int]) -> None:
    truth, blurred = scene(*name)
    found = estimate_drift(as_tensor(truth), blurred)
    assert found.mean_px is not None
    assert found.mean_px <= 0.03
    assert found.p95_px is not None
    assert found.p95_px <= 0.08
    assert np.isfinite(found.field[..., 0]).mean() >= 0.6


@pytest.mark.parametrize("name", SCENES, ids=str)
@pytest.mark.parametrize(("shift_px", "zoom"), [((0.2, 0.15), 1.0), ((3.2, 2.4), 1.001)], ids=str)
def test_a_planted_shift_or_zoom_is_found_on_scenes_with_depth(
    name: tuple[str, int, int], shift_px: tuple[float, float], zoom: float
) -> None:
    truth, blurred = scene(*name)
    centre = [(side - 1) / 2 for side in truth.shape[1::-1]]
    y, x = np.mgrid[0 : truth.shape[0], 0 : truth.shape[1]].astype(np.float32)
    places = [(axis - c - d) / zoom + c for axis, c, d in zip((x, y), centre, shift_px, strict=True)]
    moved = cv2.remap(truth, places[0], places[1], cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    field = estimate_drift(as_tensor(moved), blurred).field
    rows, columns = np.mgrid[0 : field.shape[0], 0 : field.shape[1]] * 96 + 47.5
    expected = np.array(shift_px) + (zoom - 1) * np.stack([columns - centre[0], rows - centre[1]], -1)
    errors = np.hypot(*(field - expected).transpose(2, 0, 1))
    assert np.nanmean(errors) <= 0.03
    assert np.isfinite(errors).mean() >= 0.6


def test_a_block_that_really_moved_is_not_averaged_away() -> None:
    field, error = np.zeros((5, 6, 2)), np.full((5, 6), 0.01)
    field[2, 3] = (0.4, 0)
    pooled = pool_neighbours(field, error)
    assert pooled[2, 3] == pytest.approx([0.4, 0])
    assert np.abs(np.delete(pooled.reshape(-1, 2), 2 * 6 + 3, 0)).max() < 0.06


def test_noise_of_a_smooth_field_is_averaged_and_a_plane_is_kept() -> None:
    rows, columns = np.mgrid[0:6, 0:8]
    plane = np.stack([0.3 * columns - 1, 0.2 * rows], -1)
    noise = 0.02 * np.random.default_rng(1).standard_normal(plane.shape)
    pooled = pool_neighbours(plane + noise, np.full(plane.shape[:2], 0.02))
    assert np.hypot(*(pooled - plane).transpose(2, 0, 1)).mean() < 0.7 * np.hypot(*noise.transpose(2, 0, 1)).mean()


def test_a_field_that_is_not_smooth_is_not_pooled_and_blocks_that_abstain_stay_so() -> None:
    field = np.random.default_rng(2).normal(0, 1, (5, 6, 2))
    field[1, 1] = np.nan
    pooled = pool_neighbours(field, np.full((5, 6), 0.01))
    assert np.array_equal(pooled, field, equal_nan=True)
    assert np.isnan(pool_neighbours(field * 0, np.full((5, 6), 0.01))[1, 1]).all()
