"""Planted displacements under planted blur: the estimate must not depend on the blur."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import drift as planted
from jdrl.metrics.drift import estimate_drift

SIZE = (288, 384)


@cache
def scene(seed: int = 0) -> NDArray[np.float32]:
    return planted.scene(SIZE, seed)


def photograph(
    radius_px: float = 0.0, shift_px: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0, noise: float = 0.0
) -> Tensor:
    """The scene shifted right and down, magnified about the centre, blurred by a disc and rounded to 8 bits."""
    y, x = np.mgrid[0 : SIZE[0] + 2 * planted.MARGIN_PX, 0 : SIZE[1] + 2 * planted.MARGIN_PX].astype(np.float32)
    middle = (x[-1, -1] / 2, y[-1, -1] / 2)
    places = [(axis - c - d) / zoom + c for axis, c, d in zip((x, y), middle, shift_px, strict=True)]
    moved = cv2.remap(scene(), 2 * places[0], 2 * places[1], cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
    if radius_px:
        grid = (np.arange(8 * (2 * int(radius_px) + 3)) + 0.5) / 8 - (2 * int(radius_px) + 3) / 2
        fine = (np.hypot(grid[:, None], grid) <= radius_px).astype(np.float32)
        side = len(grid) // 8
        kernel = fine.reshape(side, 8, side, 8).mean((1, 3))
        moved = cv2.filter2D(moved, -1, kernel / kernel.sum())
    cut = moved[planted.MARGIN_PX : -planted.MARGIN_PX, planted.MARGIN_PX : -planted.MARGIN_PX]
    cut = cut + noise * np.random.default_rng(5).standard_normal(cut.shape)
    codes = np.rint(255 * np.clip(cut, 0, 1) ** (1 / 2.2))
    light = ((codes / 255) ** 2.2).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(light.transpose(2, 0, 1)))[None]


@pytest.mark.parametrize("radius_px", [0.0, 2.0, 5.0, 8.0])
@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (0.25, 0.0), (1.5, -0.7), (-4.8, 3.6)])
def test_a_planted_shift_is_found_to_a_tenth_of_a_pixel_whatever_the_blur(
    radius_px: float, shift_px: tuple[float, float]
) -> None:
    found = estimate_drift(photograph(shift_px=shift_px), photograph(radius_px))
    errors = np.hypot(*(found.field - np.float32(shift_px)).transpose(2, 0, 1))
    assert np.isfinite(errors).mean() > 0.9
    assert np.nanmean(errors) < 0.1
    assert found.mean_px == pytest.approx(math.hypot(*shift_px), abs=0.1)


def test_a_zoom_of_one_per_cent_is_found_block_by_block() -> None:
    found = estimate_drift(photograph(zoom=1.01), photograph(4.0))
    rows, columns = np.mgrid[0:3, 0:4] * 96 + 47.5
    expected = 0.01 * np.stack([columns - 191.5, rows - 143.5], -1)
    assert found.field.shape == (3, 4, 2)
    assert np.nanmean(np.hypot(*(found.field - expected).transpose(2, 0, 1))) < 0.1
    assert found.p95_px == pytest.approx(np.percentile(np.hypot(*expected.transpose(2, 0, 1)), 95), abs=0.15)


def test_an_image_against_itself_has_no_drift() -> None:
    found = estimate_drift(photograph(2.0), photograph(2.0))
    assert found.p95_px is not None
    assert found.p95_px < 0.01


def test_a_block_without_texture_abstains() -> None:
    output, blurred = photograph(shift_px=(1, 0)), photograph(2.0)
    flat = blurred[..., :100, :100].mean()
    noise = 0.002 * torch.randn(1, 3, 100, 100, generator=torch.Generator().manual_seed(1))
    blurred[..., :100, :100], output[..., :100, :100] = flat + noise, flat + noise.flip(-1)
    found = estimate_drift(output, blurred)
    assert np.isnan(found.field[0, 0]).all()
    assert np.isfinite(found.field[2, 3]).all()


def test_invalid_pixels_have_no_influence_and_a_block_of_them_abstains() -> None:
    output, blurred = photograph(shift_px=(1, 0)), photograph(2.0)
    blurred[..., 20:50, 120:180] = 1.0
    valid = torch.ones(1, 1, *SIZE)
    valid[..., 20:50, 120:180] = 0
    valid[..., 96:192, 100:180] = 0
    field = estimate_drift(output, blurred, valid).field
    assert field[0, 1] == pytest.approx([1, 0], abs=0.05)
    assert np.isnan(field[1, 1]).all()
    assert estimate_drift(output, blurred, torch.zeros(1, 1, *SIZE)).mean_px is None


def test_another_picture_has_no_displacement() -> None:
    found = estimate_drift(photograph().flip(-1), photograph(2.0))
    assert np.isnan(found.field[..., 0]).mean() > 0.8


def test_a_frame_smaller_than_a_block_has_none() -> None:
    found = estimate_drift(photograph()[..., :90, :], photograph()[..., :90, :])
    assert found.field.size == 0
    assert (found.mean_px, found.p95_px) == (None, None)


@pytest.mark.parametrize("block", [0, -8, 50, 100])
def test_blocks_of_a_side_that_cannot_be_halved_are_refused(block: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        estimate_drift(photograph(), photograph(), block=block)
