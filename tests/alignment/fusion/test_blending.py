from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.fusion import blending
from alignment.registration import register as registration
from sdd_toolkit.imaging import resampling
from tests.support.planted_motion import blur_exactly, dead_leaves
from tests.support.planted_stacks import REFERENCE, SIZE, planted_stack, psnr_db, thirds


def aligned_stack(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The planted frames on the reference frame's grid, by our own registration."""
    truth, frames = planted_stack(seed)
    found = [registration.register(frame, frames[REFERENCE]) for frame in frames]
    return truth, [resampling.warp(f, one.homography, SIZE) for f, one in zip(frames, found, strict=True)]


def maps_of(frames: list[np.ndarray]) -> list[blending.Sharpness]:
    return [blending.measure_sharpness(frame, np.ones(frame.shape[:2], bool)) for frame in frames]


def fused(frames: list[np.ndarray], origin: np.ndarray) -> np.ndarray:
    blend = blending.empty_blend(origin.shape)
    for number, frame in enumerate(frames):
        blending.add_frame(blend, frame, (origin == number).astype(np.float32))
    return blending.collapse(blend)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_region_comes_from_the_frame_that_is_in_focus_there(seed: int) -> None:
    _, frames = aligned_stack(seed)
    origin = blending.choose_sharpest(maps_of(frames))
    inner = np.s_[24:-24, 24:-24]
    assert np.mean(origin[inner] == thirds()[inner]) > 0.93


@pytest.mark.parametrize("seed", [0, 1])
def test_the_fused_picture_is_far_nearer_to_the_truth_than_any_frame(seed: int) -> None:
    truth, frames = aligned_stack(seed)
    best_db = max(psnr_db(frame, truth) for frame in frames)
    assert psnr_db(fused(frames, blending.choose_sharpest(maps_of(frames))), truth, 24) > best_db + 6


def test_away_from_seams_the_picture_is_one_frame_to_the_last_digit() -> None:
    frames = [dead_leaves(seed, (200, 300)) for seed in (0, 1)]
    origin = np.zeros((200, 300), np.uint8)
    origin[:, 200:] = 1
    picture = fused(frames, origin)
    assert np.abs(picture[:, :72] - frames[0][:, :72]).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(17, 90), st.integers(17, 90))
def test_joining_equal_frames_along_any_map_changes_nothing(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.random((height, width, 3)).astype(np.float32)
    origin = rng.integers(0, 4, (height, width)).astype(np.uint8)
    assert np.abs(fused([frame] * 4, origin) - frame).max() < 1e-5


def test_the_order_of_the_frames_does_not_matter() -> None:
    maps = maps_of(planted_stack(2)[1])
    turned = blending.choose_sharpest([maps[2], maps[0], maps[1]])
    agree = np.array([2, 0, 1])[turned] == blending.choose_sharpest(maps)
    assert agree.mean() > 0.9999


def test_a_flat_place_follows_what_surrounds_it() -> None:
    rng = np.random.default_rng(0)
    busy = dead_leaves(0, (240, 320))
    busy[80:160, 120:200] = 0.4
    crisp, soft = (busy + rng.normal(0, 0.003, busy.shape) for _ in range(2))
    soft[:] = 0.4 + rng.normal(0, 0.003, busy.shape)
    origin = blending.choose_sharpest(maps_of([soft.astype(np.float32), crisp.astype(np.float32)]))
    assert np.mean(origin[80:160, 120:200] == 1) > 0.97


def test_a_frame_is_never_chosen_where_it_has_no_content() -> None:
    frames = [dead_leaves(seed, (120, 160)) for seed in (0, 1)]
    frames[0][:] = 0.5
    missing = np.ones((120, 160), bool)
    missing[:, :60] = False
    maps = [maps_of(frames)[0], blending.measure_sharpness(frames[1], missing)]
    assert not blending.choose_sharpest(maps)[:, :60].any()


@pytest.mark.parametrize("count", [0, 256])
def test_a_stack_of_no_frame_or_too_many_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        blending.choose_sharpest([blending.Sharpness(np.zeros((4, 4), np.float32), 0.0)] * count)


def test_a_frame_sharp_everywhere_beats_blurred_and_resampled_ones_of_less_noise() -> None:
    rng = np.random.default_rng(4)
    scene = dead_leaves(6, (320, 400))
    moved = np.array([[1, 0, 0.4], [0, 1, 0.3], [0, 0, 1]], dtype=np.float64)
    frames = [scene, blur_exactly(scene, 1.5), blur_exactly(scene, 4.0)]
    frames = [(frame + rng.normal(0, 0.004, frame.shape)).astype(np.float32) for frame in frames]
    frames[1:] = [resampling.warp(frame, moved, (320, 400)) for frame in frames[1:]]
    assert np.mean(blending.choose_sharpest(maps_of(frames)) == 0) > 0.99


def test_where_two_frames_are_equally_sharp_one_of_them_is_taken_not_what_wins_around() -> None:
    rng = np.random.default_rng(7)
    scene = dead_leaves(8, (360, 360))
    island = np.s_[150:210, 150:210]
    near, far = scene.copy(), blur_exactly(scene, 4.0)
    near[island], far[island] = blur_exactly(scene, 3.0)[island], scene[island]
    frames = [(frame + rng.normal(0, 0.002, frame.shape)).astype(np.float32) for frame in (near, far, far)]
    origin = blending.choose_sharpest(maps_of(frames))
    assert np.mean(origin[156:204, 156:204] > 0) > 0.97
    assert np.mean(origin[:130] == 0) > 0.97
