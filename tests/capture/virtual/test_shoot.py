from __future__ import annotations

import cv2
import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.shoot import RenderedPair, render_pair
from sdd_toolkit import geometry

CONFIG = SimulateConfig(width=384, height=256)


@pytest.fixture(scope="module")
def focus_pair() -> RenderedPair:
    return render_pair(CONFIG, "focus", seed=7, index=1)


def psnr(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((first[mask] - second[mask]) ** 2)))


def test_displacement_is_the_homography_of_a_scene_that_stands_still(focus_pair: RenderedPair) -> None:
    expected = geometry.displacement(focus_pair.truth.homography, CONFIG.size)
    assert np.abs(focus_pair.truth.displacement - expected).max() < 1e-4
    assert np.abs(expected).max() > 1


def test_the_sharp_frame_warped_by_the_truth_is_the_aligned_image(focus_pair: RenderedPair) -> None:
    truth = focus_pair.truth
    ys, xs = np.mgrid[0:256, 0:384].astype(np.float32)
    x, y = xs + truth.displacement[..., 0], ys + truth.displacement[..., 1]
    warped = cv2.remap(focus_pair.sharp_linear, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
    inside = np.zeros(CONFIG.size, np.bool_)
    inside[20:-20, 20:-20] = True
    assert psnr(warped, truth.aligned, inside) > 45
    wrong = cv2.remap(focus_pair.sharp_linear, x + 0.5, y, cv2.INTER_LANCZOS4)
    assert psnr(wrong, truth.aligned, inside) < 35


def test_the_aligned_image_blurred_by_the_true_radius_is_the_blurred_frame(focus_pair: RenderedPair) -> None:
    truth = focus_pair.truth
    radius = float(np.median(truth.coc_px))
    grid = np.arange(-9, 10)
    disc = (np.hypot(*np.meshgrid(grid, grid)) <= radius).astype(np.float32)
    blurred = cv2.filter2D(truth.aligned, -1, disc / disc.sum()) * 2**focus_pair.plan.blur.error_ev
    inside = np.zeros(CONFIG.size, np.bool_)
    inside[20:-20, 20:-20] = True
    assert psnr(blurred, focus_pair.blur_linear, inside) > psnr(truth.aligned, focus_pair.blur_linear, inside) + 8


def test_radii_in_the_truth_are_those_of_the_thin_lens(focus_pair: RenderedPair) -> None:
    blur, coc = focus_pair.plan.blur, focus_pair.truth.coc_px
    f, pitch = CONFIG.focal_mm, CONFIG.pitch_mm
    ends = []
    for depth_mm in (1000 / focus_pair.plan.near, 1000 / focus_pair.plan.far):
        s = blur.focus_m * 1000
        ends.append(f**2 * abs(depth_mm - s) / (blur.f_number * depth_mm * (s - f)) / 2 / pitch)
    assert coc.min() >= min(ends) - 0.01
    assert coc.max() <= max(ends) + 0.01
    assert coc.std() > 0.1


def test_the_same_numbers_give_the_same_pair_and_others_another(focus_pair: RenderedPair) -> None:
    again, other = (render_pair(CONFIG, "focus", seed=7, index=index) for index in (1, 2))
    assert np.array_equal(again.blur_mosaic, focus_pair.blur_mosaic)
    assert np.array_equal(again.truth.aligned, focus_pair.truth.aligned)
    assert not np.array_equal(other.blur_mosaic, focus_pair.blur_mosaic)


def test_an_aperture_pair_varies_its_blur_with_depth() -> None:
    pair = render_pair(CONFIG, "aperture", seed=7, index=3)
    assert np.percentile(pair.truth.coc_px, 5) < 2
    assert np.percentile(pair.truth.coc_px, 95) > 2.5
    assert pair.plan.sharp.f_number > pair.plan.blur.f_number


def test_exposures_differ_by_the_hidden_error_only(focus_pair: RenderedPair) -> None:
    ratio = focus_pair.blur_linear[64:-64, 64:-64].mean() / focus_pair.truth.aligned[64:-64, 64:-64].mean()
    assert np.log2(ratio) == pytest.approx(focus_pair.plan.blur.error_ev, abs=0.03)


@pytest.mark.parametrize("kind", ["focus", "aperture"])
def test_a_black_frame_is_black(kind: str) -> None:
    pair = render_pair(CONFIG, kind, 7, 1, "black_frame")
    assert pair.sharp_mosaic.mean() == pytest.approx(512, abs=1)
    assert pair.blur_mosaic.mean() > 800


def test_another_scene_has_nothing_in_common(focus_pair: RenderedPair) -> None:
    pair = render_pair(CONFIG, "focus", 7, 1, "different_scene")
    correlation = np.corrcoef(pair.sharp_linear[..., 1].ravel(), focus_pair.sharp_linear[..., 1].ravel())[0, 1]
    assert abs(correlation) < 0.2
    assert np.array_equal(pair.blur_linear, focus_pair.blur_linear)
    assert pair.truth.occlusion.all()


def test_overexposure_saturates_large_areas() -> None:
    pair = render_pair(CONFIG, "focus", 7, 1, "clipped")
    for mosaic in (pair.blur_mosaic, pair.sharp_mosaic):
        assert (mosaic[0::2, 1::2] == 16383).mean() > 0.3


def test_a_moving_object_is_told_by_displacement_and_occlusion(focus_pair: RenderedPair) -> None:
    pair = render_pair(CONFIG, "focus", 7, 1, "moving_object")
    gap = pair.truth.displacement - focus_pair.truth.displacement
    moved = np.hypot(gap[..., 0], gap[..., 1]) > 1
    assert 0.05 < moved.mean() < 0.12
    assert not (pair.truth.occlusion & moved).any()
    assert pair.truth.occlusion.sum() > focus_pair.truth.occlusion.sum() + 200


def test_both_blurred_frames_lack_the_same_detail(focus_pair: RenderedPair) -> None:
    pair = render_pair(CONFIG, "focus", 7, 1, "both_blurred")

    def detail(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image[..., 1], axis=1)).mean())

    assert detail(pair.sharp_linear) < 1.4 * detail(pair.blur_linear)
    assert detail(focus_pair.sharp_linear) > 2 * detail(focus_pair.blur_linear)


def test_an_unknown_defect_is_refused() -> None:
    with pytest.raises(ValueError, match="rainy"):
        render_pair(CONFIG, "focus", 0, 1, "rainy")
