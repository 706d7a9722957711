"""Options of the registration: a radial term, a mask, a prior of the zoom."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import alignment
from alignment import AlignConfig
from sdd_toolkit.calibration.breathing_model import ZoomPrior
from sdd_toolkit.imaging import resampling
from tests.support.planted_motion import PlantedPair, blur_exactly, camera_motion, dead_leaves, plant_pair
from tests.support.planted_pairs import corner_error_px

RADIAL = AlignConfig(radial=True)


def distorted(seed: int, radial: float) -> PlantedPair:
    """The sharp frame shows the blurred one through a homography and a radial term, nowhere beyond its edge."""
    scene = dead_leaves(seed)
    matrix = camera_motion(1.02, 0.2, (2.0, -1.5), 0.0)
    size = (scene.shape[0], scene.shape[1])
    frames = blur_exactly(scene, 3.0), resampling.warp(scene, matrix, size, radial=radial)
    rng = np.random.default_rng(seed)
    blur, sharp = (np.asarray(frame + rng.normal(0, 0.002, frame.shape), dtype=np.float32) for frame in frames)
    return PlantedPair(blur, sharp, matrix)


@pytest.mark.parametrize("radial", [0.004, -0.004, 0.001])
def test_a_radial_term_is_estimated_if_enabled(radial: float) -> None:
    pair = distorted(1, radial)
    found = alignment.register(pair.blur, pair.sharp, RADIAL)
    assert found.model == "similarity+radial"
    assert found.radial == pytest.approx(radial, abs=1e-4)
    assert corner_error_px(found.homography, pair.homography, found.size) < 0.02


def test_a_radial_term_is_left_out_unless_enabled() -> None:
    pair = distorted(1, 0.004)
    found = alignment.register(pair.blur, pair.sharp)
    assert found.radial == 0
    assert not found.model.endswith("radial")
    # 0.004 of the half diagonal, less what a zoom takes up, stays.
    assert corner_error_px(found.homography, pair.homography, found.size) > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_no_radial_term_is_found_where_there_is_none(seed: int) -> None:
    pair = distorted(seed, 0.0)
    found = alignment.register(pair.blur, pair.sharp, RADIAL)
    assert found.radial == 0
    assert found.model == "similarity"


def halves() -> NDArray[np.bool_]:
    """(H, W) the left half, less a strip along the middle that the disc and the motion reach."""
    left = np.zeros((320, 432), dtype=bool)
    left[:, :204] = True
    return left


@pytest.mark.parametrize("used", ["left", "right"])
def test_only_what_the_mask_leaves_decides(used: str) -> None:
    of_left, of_right = plant_pair(1, shift_px=(5.3, -1.1)), plant_pair(1, shift_px=(3.3, -2.1))
    blur = np.concatenate([of_left.blur[:, :216], of_right.blur[:, 216:]], axis=1)
    mask, truth = (halves(), of_left) if used == "left" else (halves()[:, ::-1], of_right)
    found = alignment.register(blur, of_left.sharp, mask=mask)
    assert found.failure is None
    assert corner_error_px(found.homography, truth.homography, found.size) < 0.05
    open_to_all = alignment.register(blur, of_left.sharp)
    assert corner_error_px(open_to_all.homography, truth.homography, found.size) > 0.5


def test_most_of_the_frame_may_be_anything_if_it_is_masked() -> None:
    pair = plant_pair(2)
    blur = pair.blur.copy()
    blur[:, :260] = plant_pair(3).blur[:, :260]
    mask = np.ones(blur.shape[:2], dtype=bool)
    mask[:, :276] = False
    found = alignment.register(blur, pair.sharp, mask=mask)
    assert found.failure is None
    assert corner_error_px(found.homography, pair.homography, found.size) < 0.05
    assert found.unexplained_fraction == 0
    assert alignment.register(blur, pair.sharp).unexplained_fraction > 0.3


def test_a_mask_that_leaves_all_changes_nothing() -> None:
    pair = plant_pair(4)
    everywhere = np.ones(pair.sharp.shape[:2], dtype=bool)
    assert alignment.register(pair.blur, pair.sharp, mask=everywhere) == alignment.register(pair.blur, pair.sharp)


def test_a_mask_of_another_size_is_a_mistake() -> None:
    pair = plant_pair(4)
    with pytest.raises(ValueError, match=r"mask has shape \(432, 320\), not \(320, 432\)"):
        alignment.register(pair.blur, pair.sharp, mask=np.ones((432, 320), dtype=bool))


def poor(seed: int) -> PlantedPair:
    """Texture in a small patch only, and much noise: its zoom is hard to estimate."""
    scene = dead_leaves(seed)
    patch = np.zeros(scene.shape[:2], dtype=np.float32)
    rows, columns = patch.shape
    patch[rows // 2 - 40 : rows // 2 + 40, columns // 2 - 40 : columns // 2 + 40] = 1
    share = cv2.GaussianBlur(patch, (0, 0), 6.0)[..., None]
    image = (0.4 * (1 - share) + scene * share).astype(np.float32)
    return plant_pair(seed, image=image, radius_px=5.0, noise=0.01)


# A patch says little about the corners of the frame, and the estimated error says so.
FEW_TILES = AlignConfig(min_textured_tiles=4, max_error_px=3.0)


def test_a_prior_decides_what_the_pixels_leave_open() -> None:
    gaps = []
    for seed in range(4):
        pair = poor(seed)
        alone, with_prior = (
            alignment.register(pair.blur, pair.sharp, FEW_TILES, prior=prior)
            for prior in (None, ZoomPrior(1.012, 2e-5))
        )
        assert with_prior.failure is None
        assert with_prior.zoom == pytest.approx(1.012, abs=5e-4)
        gaps.append((abs(alone.zoom - 1.012), abs(with_prior.zoom - 1.012)))
    alone_gap, told_gap = np.mean(gaps, axis=0)
    assert told_gap < 0.5 * alone_gap


def test_pixels_outweigh_a_prior_that_is_three_deviations_off() -> None:
    pair = plant_pair(5)
    plain = alignment.register(pair.blur, pair.sharp)
    for prior in (ZoomPrior(1.015, 1e-3), ZoomPrior(1.003, 3e-3), ZoomPrior(1.0123, 1e-4)):
        found = alignment.register(pair.blur, pair.sharp, prior=prior)
        assert corner_error_px(found.homography, plain.homography, plain.size) < 0.005
        assert found.model == plain.model


def test_a_vague_prior_says_nothing() -> None:
    pair = plant_pair(6)
    plain = alignment.register(pair.blur, pair.sharp)
    found = alignment.register(pair.blur, pair.sharp, prior=ZoomPrior(1.0, 0.1))
    assert corner_error_px(found.homography, plain.homography, plain.size) < 1e-3
