"""Dense motion against the virtual camera, whose truth the aligner never sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import alignment
from alignment.config import AlignConfig
from alignment.estimation import photometry
from alignment.registration.dense_motion import Flow
from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import render_pair
from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.imaging.luminance import luminance
from tests.support.planted_motion import plant_pair

SIZE = (576, 864)
SHALLOW = SimulateConfig(width=864, height=576, pixel_pitch_um=41.7, min_coc_px=4.0, max_coc_px=8.0)
DEEP = SHALLOW.model_copy(update={"max_coc_px": 12.0, "min_coc_px": 8.0, "sharp_coc_px": 6.0})
# Each: camera, kind of pair, seed, planted fault, whether the frames change places.
CASES = {
    "focus": (SHALLOW, "focus", 1, None, False),
    "aperture": (SHALLOW, "aperture", 2, None, False),
    "either softer": (DEEP, "focus", 3, None, False),
    "swapped": (SHALLOW, "aperture", 4, None, True),
    "moving, focus": (SHALLOW, "focus", 5, "moving_object", False),
    "moving, aperture": (SHALLOW, "aperture", 6, "moving_object", False),
}


@dataclass(frozen=True)
class Shown:
    found: Flow
    error_px: NDArray[np.float32]
    occlusion: NDArray[np.bool_]
    textured: NDArray[np.bool_]


@cache
def shown(case: str) -> Shown:
    camera, kind, seed, defect, swapped = CASES[case]
    pair = render_pair(camera, kind, seed=seed, index=0, defect=defect)
    rng = np.random.default_rng(seed)
    blur, sharp = (
        np.clip(light + rng.normal(0, 0.004, light.shape), 0, 1).astype(np.float32)
        for light in (pair.blur_linear, pair.sharp_linear)
    )
    truth, occlusion = pair.truth.displacement, pair.truth.occlusion
    if swapped:
        blur, sharp = sharp, blur
        truth = geometry.displacement(np.linalg.inv(pair.plan.homography), SIZE)
        ys, xs = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] + np.moveaxis(truth, -1, 0)[::-1]
        occlusion = (xs < -0.5) | (ys < -0.5) | (xs > SIZE[1] - 0.5) | (ys > SIZE[0] - 0.5)
    light = luminance(sharp)
    detail = photometry.subtract_local_mean(photometry.to_tone(light, photometry.white_level(light)), 10.0)
    energy = resampling.warp_by_flow(cv2.GaussianBlur(detail**2, (0, 0), 4.0), truth)
    found = alignment.flow(blur, sharp)
    return Shown(found, np.linalg.norm(found.field - truth, axis=2), occlusion, energy > 0.02**2)


def _truth(case: str) -> NDArray[np.bool_]:
    return shown(case).occlusion


def _found(case: str) -> NDArray[np.bool_]:
    return shown(case).found.occlusion


@pytest.mark.parametrize("case", CASES)
def test_motion_of_what_is_seen_in_both_frames_is_right_to_a_small_part_of_a_pixel(case: str) -> None:
    errors_px = shown(case).error_px[shown(case).textured & ~shown(case).occlusion]
    assert errors_px.size > 0.5 * SIZE[0] * SIZE[1]
    assert np.median(errors_px) < 0.1
    assert np.percentile(errors_px, 95) < 0.6


@pytest.mark.parametrize("case", CASES)
def test_content_that_the_sharp_frame_does_not_show_is_marked(case: str) -> None:
    truth, found = shown(case).occlusion, shown(case).found.occlusion
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.7
    assert not shown(case).found.confidence[found].any()


def test_most_of_the_occlusion_is_marked_rightly() -> None:
    truth, found = (np.stack([masks(case) for case in CASES]) for masks in (_truth, _found))
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.85


def test_confidence_is_the_share_of_pixels_that_are_right() -> None:
    confidence = np.concatenate([shown(case).found.confidence.ravel() for case in CASES])
    good = np.concatenate([((shown(case).error_px < 0.5) & ~shown(case).occlusion).ravel() for case in CASES])
    shares = [good[(confidence >= low) & (confidence < high)].mean() for low, high in ((0, 0.3), (0.3, 0.8), (0.8, 2))]
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[2] > 0.97


def test_parallax_of_a_few_pixels_shows_in_the_flow_as_far_as_there_is_evidence() -> None:
    pair = render_pair(SHALLOW, "aperture", seed=7, index=0)
    ys, xs = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    bend = np.stack([2.5 * np.sin(xs / 130) * np.cos(ys / 110), 2.0 * np.cos(xs / 150 + ys / 170)], axis=-1)
    blur = cv2.remap(pair.blur_linear, xs + bend[..., 0], ys + bend[..., 1], cv2.INTER_CUBIC)
    truth = bend + resampling.warp_by_flow(pair.truth.displacement, bend)
    found = alignment.flow(np.clip(blur, 0, 1), np.clip(pair.sharp_linear, 0, 1))
    rigid = geometry.displacement(
        alignment.register(np.clip(blur, 0, 1), np.clip(pair.sharp_linear, 0, 1)).homography, SIZE
    )
    inner = (slice(40, -40), slice(40, -40))
    left_px = np.linalg.norm(found.field - truth, axis=2)[inner]
    before_px = np.linalg.norm(rigid - truth, axis=2)[inner]
    assert np.median(before_px) > 1.0
    assert np.median(left_px) < 0.4
    sure = found.confidence[inner]
    assert np.mean(left_px[sure > 0.8] < 0.5) > np.mean(left_px[sure < 0.5] < 0.5) + 0.2


def test_frames_that_stand_still_do_not_move() -> None:
    pair = render_pair(SHALLOW, "aperture", seed=8, index=0)
    sharp = np.clip(pair.sharp_linear, 0, 1)
    rng = np.random.default_rng(0)
    noisy = [np.clip(sharp + rng.normal(0, 0.01, sharp.shape), 0, 1).astype(np.float32) for _ in range(2)]
    found = alignment.flow(*noisy)
    assert np.abs(found.field).max() < 0.1
    assert found.confidence.min() > 0.5
    assert not found.occlusion[4:-4, 4:-4].any()


def test_the_flow_of_different_scenes_is_nothing() -> None:
    found = alignment.flow(plant_pair(19).blur, plant_pair(20).sharp)
    assert not found.field.any()
    assert not found.confidence.any()
    assert found.occlusion.all()


def test_the_radial_term_is_part_of_the_field() -> None:
    pair = render_pair(SHALLOW, "aperture", seed=9, index=0)
    light = np.clip(pair.sharp_linear, 0, 1)
    ys, xs = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    x, y = xs - (SIZE[1] - 1) / 2, ys - (SIZE[0] - 1) / 2
    # Sharp pixel (x, y) shows what the blurred frame holds at (x, y) (1 + k r²).
    grow = 0.01 * (x**2 + y**2) / float(np.hypot(*SIZE) / 2) ** 2
    push = np.stack([grow * x, grow * y], axis=-1).astype(np.float32)
    sharp = cv2.remap(light, xs + push[..., 0], ys + push[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    found = alignment.flow(light, sharp, AlignConfig(radial=True))
    back = found.field + resampling.warp_by_flow(push, found.field)
    assert np.abs(back[60:-60, 60:-60]).max() < 0.1
