"""Registering two arrays: planted truth and honest verdicts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import alignment
from alignment import AlignConfig
from alignment.estimation import photometry
from alignment.registration.alignment_record import scale_alignment
from alignment.registration.register import compute_registration
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.imaging.geometry import project
from sdd_toolkit.records import Reason
from tests.support.planted_motion import dead_leaves, plant_pair
from tests.support.planted_pairs import corner_error_px


@pytest.mark.parametrize(("radius_px", "limit_px"), [(0.0, 0.05), (2.0, 0.05), (4.0, 0.1), (8.0, 0.25)])
def test_a_planted_homography_is_found_under_a_disc_of_unknown_radius(radius_px, limit_px) -> None:
    pair = plant_pair(1, radius_px=radius_px, perspective=3e-6)
    found = alignment.register(pair.blur, pair.sharp)
    assert found.failure is None
    assert corner_error_px(found.homography, pair.homography, found.size) < limit_px


def test_ten_percent_of_zoom_a_large_shift_and_two_degrees_are_survived() -> None:
    pair = plant_pair(2, zoom=0.91, rotation_deg=2.0, shift_px=(34.0, -27.0))
    found = alignment.register(pair.blur, pair.sharp)
    assert found.failure is None
    assert corner_error_px(found.homography, pair.homography, found.size) < 0.25


def test_every_field_says_what_was_planted() -> None:
    pair = plant_pair(3, radius_px=4.0, gain=0.8, zoom=1.015, rotation_deg=0.3)
    found = alignment.register(pair.blur, pair.sharp)
    assert found.gain == pytest.approx(1.25, rel=0.01)
    assert found.zoom == pytest.approx(1.015, abs=5e-4)
    assert found.rotation_deg == pytest.approx(0.3, abs=0.02)
    assert found.coc_px == pytest.approx(4.0, abs=0.4)
    assert found.before_px > 3.0
    assert found.residual_px < 0.15
    assert found.ncc > 0.95
    assert found.unexplained_fraction < 0.01
    assert found.texture_fraction > 0.9
    assert found.error_px is not None
    assert 0 < found.error_px < 0.3


def test_the_box_is_where_the_warped_blurred_frame_is_valid() -> None:
    pair = plant_pair(4, zoom=0.95, rotation_deg=0.0, shift_px=(0.0, 0.0))
    left, top, right, bottom = alignment.register(pair.blur, pair.sharp).box
    inside = project(pair.homography, np.array([[0.0, 0.0], [431.0, 319.0]]))
    assert inside[0, 0] < left < inside[0, 0] + 8
    assert inside[0, 1] < top < inside[0, 1] + 8
    assert inside[1, 0] - 8 < right - 1 < inside[1, 0]
    assert inside[1, 1] - 8 < bottom - 1 < inside[1, 1]


def test_the_evidence_chooses_the_simplest_model_that_explains() -> None:
    still = plant_pair(5, zoom=1.0, rotation_deg=0.0, shift_px=(0.0, 0.0))
    turned = plant_pair(5)
    tilted = plant_pair(5, perspective=3e-5)
    assert alignment.register(still.blur, still.sharp).model == "identity"
    assert alignment.register(turned.blur, turned.sharp).model == "similarity"
    assert alignment.register(tilted.blur, tilted.sharp).model == "homography"


def test_a_moving_object_is_seen_and_does_not_pull_the_homography() -> None:
    pair = plant_pair(10, moved_px=40)
    found = alignment.register(pair.blur, pair.sharp)
    assert found.unexplained_fraction > 0.05
    assert corner_error_px(found.homography, pair.homography, found.size) < 0.15


def test_blur_that_differs_over_the_frame_is_matched_place_by_place() -> None:
    near, far = plant_pair(11, radius_px=1.0), plant_pair(11, radius_px=5.0)
    half = near.blur.shape[1] // 2
    mixed = np.concatenate([near.blur[:, :half], far.blur[:, half:]], axis=1)
    found = alignment.register(mixed, near.sharp)
    assert corner_error_px(found.homography, near.homography, found.size) < 0.1
    assert found.coc_p95_px > 4.0
    assert found.unexplained_fraction < 0.02


def test_frames_blurred_in_different_places_are_matched_both_ways() -> None:
    near, far = plant_pair(12, radius_px=0.0), plant_pair(12, radius_px=4.0)
    half = near.blur.shape[1] // 2
    left_soft = np.concatenate([far.blur[:, :half], near.blur[:, half:]], axis=1)
    right_soft = plant_pair(12, radius_px=4.0, zoom=1.0, rotation_deg=0.0, shift_px=(0, 0), gain=1.0).blur
    sharp = np.concatenate([near.sharp[:, :half], right_soft[:, half:]], axis=1)
    found = alignment.register(left_soft, sharp)
    assert found.failure is None
    assert corner_error_px(found.homography, near.homography, found.size) < 0.2
    assert found.unexplained_fraction < 0.05


@pytest.mark.parametrize("dark", ["blur", "sharp"])
def test_a_black_frame_has_no_texture(dark: str) -> None:
    pair = plant_pair(13)
    noise = np.random.default_rng(0).normal(0, 0.002, pair.blur.shape)
    pair = replace(pair, **{dark: np.maximum(noise, 0).astype(np.float32)})
    found = alignment.register(pair.blur, pair.sharp)
    assert found.failure is Reason.NO_TEXTURE
    assert found.detail == "0 textured tiles < 12"
    assert found.error_px is None
    assert found.rows == ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_two_different_scenes_are_told_apart() -> None:
    found = alignment.register(plant_pair(14).blur, plant_pair(15).sharp)
    assert found.failure is Reason.DIFFERENT_SCENE
    assert re.match(r"median tile correlation 0\.\d+ < 0\.5|\d+% of the textured tiles match no", found.detail)
    assert found.error_px is None


def test_constant_frames_raise_nothing() -> None:
    grey = np.full((200, 300, 3), 0.4, np.float32)
    assert alignment.register(grey, grey).failure is Reason.NO_TEXTURE


def test_large_frames_are_registered_on_reduced_ones_and_reported_in_their_own_pixels() -> None:
    pair = plant_pair(16, radius_px=4.0)
    config = alignment.AlignConfig(working_megapixels=0.05)
    found = alignment.register(pair.blur, pair.sharp, config)
    assert found.size == (320, 432)
    assert corner_error_px(found.homography, pair.homography, found.size) < 0.2
    assert found.coc_px == pytest.approx(4.0, abs=0.7)


@pytest.mark.parametrize(("tolerance_px", "reduction"), [(0.0, 1), (1e-6, 1), (0.1, 2)])
def test_no_finer_level_is_used_than_the_tolerance_requires(tolerance_px: float, reduction: int) -> None:
    pair = plant_pair(21, image=dead_leaves(21, (700, 1000)))
    found = compute_registration(pair.blur, pair.sharp, AlignConfig(), tolerance_px=tolerance_px)
    assert found.estimate is not None
    assert found.estimate.reduction == reduction
    assert found.alignment.failure is None
    assert found.alignment.error_px is not None
    assert found.alignment.error_px < 0.1
    assert corner_error_px(found.alignment.homography, pair.homography, found.alignment.size) < 0.1


def test_saturated_pixels_may_be_given_instead_of_detected() -> None:
    pair = plant_pair(22, gain=1.5)
    clipped = [photometry.unsaturated_mask(frame) == 0 for frame in (pair.blur, pair.sharp)]
    assert clipped[0].any()
    given = compute_registration(pair.blur, pair.sharp, AlignConfig(), clipped=(clipped[0], clipped[1]))
    assert given.alignment == alignment.register(pair.blur, pair.sharp)


def test_enlarging_doubles_lengths_and_keeps_ratios() -> None:
    pair = plant_pair(17)
    half = alignment.register(pair.blur, pair.sharp)
    full = scale_alignment(half, 2, (640, 864))
    assert full.box == tuple(2 * edge for edge in half.box)
    assert full.before_px == 2 * half.before_px
    assert full.zoom == half.zoom
    corner = project(full.homography, np.array([[100.5, 60.5]]))
    assert corner == pytest.approx(2 * project(half.homography, np.array([[50.0, 30.0]])) + 0.5)


def test_the_dense_flow_holds_the_planted_motion() -> None:
    pair = plant_pair(18)
    flow = alignment.flow(pair.blur, pair.sharp)
    ys, xs = np.mgrid[40:280:20, 40:390:20]
    points = np.stack([xs.ravel(), ys.ravel()], axis=1).astype(float)
    truth = project(pair.homography, points) - points
    gap = np.linalg.norm(flow.field[ys.ravel(), xs.ravel()] - truth, axis=1)
    assert np.median(gap) < 0.15
    assert flow.confidence[160, 216] > 0.3


def test_the_dense_flow_of_different_scenes_is_zero_without_confidence() -> None:
    flow = alignment.flow(plant_pair(19).blur, plant_pair(20).sharp)
    assert not flow.field.any()
    assert not flow.confidence.any()


@pytest.mark.parametrize("shape", [(100, 120, 4), (100, 120), (40, 120, 3)])
def test_arrays_of_another_form_are_a_mistake(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        alignment.register(np.zeros(shape, np.float32), np.zeros(shape, np.float32))


def test_values_that_are_not_finite_are_a_mistake() -> None:
    frame = np.full((100, 120, 3), np.nan, np.float32)
    with pytest.raises(ValueError, match="finite"):
        alignment.register(frame, frame)


def test_integers_of_the_srgb_curve_are_aligned_as_their_linear_light() -> None:
    pair = plant_pair(21)
    blur, sharp = (encode(frame, Encoding.SRGB16) for frame in (pair.blur, pair.sharp))
    linear, decoded = alignment.register(pair.blur, pair.sharp), alignment.register(blur, sharp)
    assert corner_error_px(linear.homography, decoded.homography, pair.sharp.shape[:2]) < 0.02
    field = alignment.flow(blur, sharp).field
    assert np.median(np.abs(field - alignment.flow(pair.blur, pair.sharp).field)) < 0.02


@pytest.mark.parametrize("estimate", [alignment.register, alignment.flow])
def test_codes_as_floats_and_masks_of_numbers_are_a_mistake(estimate: Callable[..., object]) -> None:
    pair = plant_pair(22)
    codes = [encode(frame, Encoding.SRGB8) for frame in (pair.blur, pair.sharp)]
    with pytest.raises(ValueError, match="divide by the white level"):
        estimate(*(frame.astype(np.float32) for frame in codes))
    with pytest.raises(TypeError, match="int64"):
        estimate(*(frame.astype(np.int64) for frame in codes))
    with pytest.raises(TypeError, match="mask > 0"):
        estimate(*codes, mask=np.full(codes[0].shape[:2], 255, np.uint8))
