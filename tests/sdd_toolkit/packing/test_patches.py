from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sdd_toolkit.packing.patches import APERTURES_PX, Sampler, patch_starts, patches_of, patching_of, relative_sharpness
from sdd_toolkit.shards.schema import PackedPair
from tests.support.small_dataset import texture


def packed(height: int, width: int) -> PackedPair:
    image = texture(0, (height, width))
    flow = np.zeros((-(-height // 4), -(-width // 4), 2), np.float32)
    return PackedPair("p", image, image, np.ones((height, width), np.bool_), flow, record=None)  # type: ignore[arg-type]


def test_patches_of_dpdd_start_every_204_pixels_and_end_with_the_frame() -> None:
    assert patch_starts(1120, 512, 204) == [0, 204, 408, 608]


def test_a_frame_as_long_as_one_patch_has_one() -> None:
    assert patch_starts(512, 512, 204) == [0]
    assert patch_starts(511, 512, 204) == []


def test_a_pair_smaller_than_a_patch_has_none() -> None:
    assert patches_of(packed(100, 200), 128, 0.6) == ()


def test_without_overlap_patches_tile_the_frame() -> None:
    found = [(patch.top, patch.left) for patch in patches_of(packed(128, 192), 64, 0.0)]
    assert found == [(0, 0), (0, 64), (0, 128), (64, 0), (64, 64), (64, 128)]


def test_patches_with_invalid_pixels_are_left_out_unless_allowed() -> None:
    pair = packed(128, 128)
    valid = pair.valid.copy()
    valid[:16, :64] = False
    pair = replace(pair, valid=valid)
    assert [(patch.top, patch.left) for patch in patches_of(pair, 64, 0.0)] == [(0, 64), (64, 0), (64, 64)]
    assert patches_of(pair, 64, 0.0, min_valid_fraction=0.7)[0].valid_fraction == 0.75


def test_the_patch_with_detail_scores_one_and_the_flat_one_zero() -> None:
    image = np.full((64, 192, 3), 128, np.uint8)
    image[:, 64:128] = texture(1, (64, 64))
    image[:, 128:] = (texture(2, (64, 64)) // 4 + 96).astype(np.uint8)
    flat, detailed, between = relative_sharpness(image, [(0, 0), (0, 64), (0, 128)], 64)
    assert flat == 0.0
    assert detailed == 1.0
    assert 0.0 < between < 0.5


def test_equal_patches_all_score_one() -> None:
    assert relative_sharpness(np.full((64, 128, 3), 9, np.uint16), [(0, 0), (0, 64)], 64) == [1.0, 1.0]


def dpdd_by_the_book(image: np.ndarray, size: int, stride: int) -> list[tuple[int, int]]:
    """What DPDD's `image_to_patch_filter.py` keeps, as its text says: patch by patch, in float64."""
    corners = [
        (top, left)
        for top in patch_starts(len(image), size, stride)
        for left in patch_starts(image.shape[1], size, stride)
    ]
    fitness = np.ones(len(corners))
    for aperture in (3, 7, 11, 15):
        sums = []
        for top, left in corners:
            grey = cv2.cvtColor(image[top : top + size, left : left + size].copy(), cv2.COLOR_RGB2GRAY)
            x, y = (cv2.Sobel(grey, cv2.CV_64F, *order, ksize=aperture) for order in ((1, 0), (0, 1)))
            sums.append(np.sqrt(x * x + y * y).sum())
        least = min(sums)
        fitness *= (np.array(sums) - least) / (max(sums) - least)
    for _ in range(int(0.3 * len(corners))):
        fitness[np.argmin(fitness)] = 2
    return [corner for corner, kept in zip(corners, fitness, strict=True) if kept != 2]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_dpdd_sampler_keeps_the_patches_that_dpdds_own_script_keeps(dtype: type) -> None:
    image = texture(3, (360, 500)).astype(dtype) * (257 if dtype is np.uint16 else 1)
    image[100:200] //= 3
    pair = replace(packed(360, 500), blur=image, sharp=image)
    found = [(patch.top, patch.left) for patch in patching_of("train", Sampler.DPDD, 128, 0.6).patches(pair)]
    assert len(found) == 54 - 16
    assert found == dpdd_by_the_book(image, 128, 51)


def test_the_dpdd_sampler_drops_nothing_of_other_splits() -> None:
    pair = packed(256, 300)
    val = [(patch.top, patch.left) for patch in patching_of("val", Sampler.DPDD, 128, 0.6).patches(pair)]
    assert val == [(top, left) for top in (0, 126, 128) for left in (0, 126, 172)]
    assert len(patching_of("test", Sampler.DPDD, 128, 0.6).patches(pair)) == 2 * 3


def test_the_grid_sampler_drops_nothing() -> None:
    pair = packed(256, 300)
    assert patching_of("train", Sampler.GRID, 128, 0.6).patches(pair) == patches_of(pair, 128, 0.6)
    assert patching_of("val", Sampler.GRID, 128, 0.6).patches(pair) == patches_of(pair, 128, 0.0)


def test_overlapping_patches_score_what_the_whole_frame_filtered_at_once_gives_them() -> None:
    image = texture(5, (301, 407))
    corners = [(0, 0), (37, 60), (101, 207), (173, 279), (37, 279)]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    expected = np.ones(len(corners))
    for aperture in APERTURES_PX:
        slopes = np.hypot(*(cv2.Sobel(grey, cv2.CV_64F, *order, ksize=aperture) for order in ((1, 0), (0, 1))))
        sums = np.array([slopes[top : top + 128, left : left + 128].sum() for top, left in corners])
        expected *= (sums - sums.min()) / np.ptp(sums)
    np.testing.assert_allclose(relative_sharpness(image, corners, 128), expected, rtol=1e-4, atol=1e-6)
