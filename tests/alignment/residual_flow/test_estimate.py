"""Residual flow: motion layers, small motion, and the encoding for storage."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from alignment.estimation import photometry
from alignment.residual_flow import estimate as dense
from alignment.residual_flow import far_motion, local_motion, motion_layers
from alignment.residual_flow.blur_hypotheses import BlurHypotheses

SIZE = (200, 300)


def grains(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.3, SIZE).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def hypotheses(moving: np.ndarray, fixed: np.ndarray) -> BlurHypotheses:
    moving, fixed = (photometry.subtract_local_mean(image, 5.0) for image in (moving, fixed))
    return BlurHypotheses([moving, moving], [fixed, fixed], (0.0, 0.8), np.ones(SIZE, bool), 1e-3, 1)


def with_square(scene: np.ndarray, left: int) -> np.ndarray:
    frame = scene.copy()
    frame[60:140, left : left + 80] = 0.6 + grains(99)[:80, :80]
    return frame


MOVED = hypotheses(with_square(grains(), 60), with_square(grains(), 75))


def test_an_object_that_jumped_is_found_with_its_motion() -> None:
    assert far_motion.find_displacements(MOVED)[0].shift_px == pytest.approx((15, 0), abs=0.05)


def test_its_layer_is_where_it_was_and_hides_what_stood_where_it_went() -> None:
    found = motion_layers.find_layers(MOVED)
    square = np.zeros(SIZE, bool)
    square[60:140, 60:140] = True
    assert ((found.label == 1) & square).sum() / ((found.label == 1) | square).sum() > 0.9
    covered = np.zeros(SIZE, bool)
    covered[60:140, 140:155] = True
    assert (found.occluded() & covered).sum() / (found.occluded() | covered).sum() > 0.7
    assert found.motion()[100, 100] == pytest.approx([15, 0], abs=0.05)
    assert found.return_motion()[100, 150] == pytest.approx([-15, 0], abs=0.05)


def test_nothing_jumps_in_equal_frames() -> None:
    static = hypotheses(grains(), grains())
    assert far_motion.find_displacements(static) == []
    found = motion_layers.find_layers(static)
    assert not found.label.any()
    assert not found.occluded().any()


def test_frames_that_share_nothing_hold_no_layer() -> None:
    assert not motion_layers.find_layers(hypotheses(grains(0), grains(1))).label.any()


def test_a_small_shift_shows_in_the_flow_with_its_sign() -> None:
    ys, xs = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    fixed = cv2.remap(grains(), xs - 1.5, ys + 0.75, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    found = local_motion.estimate_motion(hypotheses(grains(), fixed), np.zeros((*SIZE, 2), np.float32))
    assert np.median(found.flow[20:-20, 20:-20], axis=(0, 1)) == pytest.approx([1.5, -0.75], abs=0.05)
    assert np.median(found.mismatch) < 0.05
    assert np.median(found.deviation_px) < 0.2


def test_noise_does_not_move() -> None:
    rng = np.random.default_rng(5)
    noisy = [grains() + rng.normal(0, 0.02, SIZE).astype(np.float32) for _ in range(2)]
    found = local_motion.estimate_motion(hypotheses(*noisy), np.zeros((*SIZE, 2), np.float32))
    assert np.abs(found.flow).max() < 0.02


def test_the_stored_flow_has_half_the_size_rounded_up_and_the_stored_unit() -> None:
    flow = np.full((5, 7, 2), 1.5, np.float32)
    hidden = np.zeros((5, 7), bool)
    hidden[:2, :3] = True
    residual = dense.ResidualFlow(flow, np.ones((5, 7), np.float32), np.ones((5, 7), bool), hidden)
    encoded = dense.encode_at_quarter_size(residual, unit_px=2.0)
    assert encoded.flow.shape == (3, 4, 2)
    assert encoded.flow.dtype == np.float16
    assert (encoded.flow == 3.0).all()
    assert encoded.confidence.tolist() == [[255] * 4] * 3
    assert encoded.occlusion.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_an_enlarged_flow_doubles_its_lengths_and_keeps_the_rest() -> None:
    hidden = np.zeros((4, 6), bool)
    hidden[:, :3] = True
    residual = dense.ResidualFlow(np.ones((4, 6, 2), np.float32), np.full((4, 6), 0.5, np.float32), ~hidden, hidden)
    larger = dense.upsample(residual, (9, 12))
    assert larger.flow.shape == (9, 12, 2)
    assert (larger.flow == 2.0).all()
    assert (larger.confidence == 0.5).all()
    assert larger.occlusion[:, :6].all()
    assert not larger.occlusion[:, 6:].any()
    assert (larger.consistent == ~larger.occlusion).all()


@pytest.mark.parametrize("size", [(40, 60), (41, 63), (43, 61)])
def test_a_flow_found_on_reduced_frames_is_stored_as_if_it_were_enlarged_first(size: tuple[int, int]) -> None:
    sizes = [size]
    for _ in range(2):
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    rng = np.random.default_rng(1)
    small = sizes[-1]
    hidden = np.zeros(small, bool)
    hidden[:4] = True
    flow = cv2.GaussianBlur(rng.normal(0, 3, (*small, 2)).astype(np.float32), (0, 0), 2.0)
    residual = dense.ResidualFlow(flow, rng.uniform(0, 1, small).astype(np.float32), ~hidden, hidden)
    encoded = dense.encode_flow(residual, tuple(sizes), unit_px=2.0)
    whole = dense.encode_at_quarter_size(dense.upsample(dense.upsample(residual, sizes[1]), size), unit_px=2.0)
    assert encoded.flow.shape == whole.flow.shape == ((size[0] + 1) // 2, (size[1] + 1) // 2, 2)
    # Enlarged and averaged again is a little smoother.
    assert np.abs(encoded.flow.astype(float) - whole.flow.astype(float)).max() < 0.05 * np.abs(encoded.flow).max()
    assert np.abs(encoded.confidence.astype(int) - whole.confidence.astype(int)).max() < 30
    assert (encoded.occlusion == whole.occlusion).mean() > 0.97


def test_a_flow_without_any_motion_is_stored_as_zeros_with_its_confidence() -> None:
    static = np.zeros((10, 15), bool)
    residual = dense.ResidualFlow(
        np.zeros((10, 15, 2), np.float32), np.full((10, 15), 0.8, np.float32), ~static, static
    )
    encoded = dense.encode_flow(residual, ((41, 61), (20, 30), (10, 15)), unit_px=2.0)
    assert encoded.flow.shape == (21, 31, 2)
    assert not encoded.flow.any()
    assert (encoded.confidence == 204).all()
    assert not encoded.occlusion.any()
