from __future__ import annotations

import cv2
import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import RenderedPair, render_pair
from sdd_toolkit.imaging import geometry

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


def test_a_moving_object_appears_in_displacement_and_occlusion(focus_pair: RenderedPair) -> None:
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


ROLLING = CONFIG.model_copy(update={"focus_roll_mm": 0.2, "noise": False})


def test_rolling_focus_changes_the_radius_from_row_to_row_by_the_lens_equation() -> None:
    pair = render_pair(ROLLING, "focus", 7, 1)
    other = render_pair(ROLLING.model_copy(update={"focus_roll_mm": -0.2}), "focus", 7, 1)
    change = np.median(pair.truth.coc_px - other.truth.coc_px, axis=1)
    # r = f/(2 N p) |v (1/f - 1/d) - 1|: half of 0.2 mm more at one end, half less at the other.
    step = 0.2 / pair.plan.blur.image_mm * 50 / (2 * pair.plan.blur.f_number * CONFIG.pitch_mm)
    assert abs(change[-1]) == pytest.approx(step, rel=0.05)
    assert change[-1] == pytest.approx(-change[0], rel=0.1)
    assert abs(change[127] + change[128]) < 0.02 * step


def test_rolling_focus_breathes_from_row_to_row_and_the_truth_knows() -> None:
    pair = render_pair(ROLLING, "focus", 7, 1)
    truth = pair.truth
    smooth = geometry.displacement(truth.homography, CONFIG.size)
    assert np.abs(truth.displacement - smooth)[127:129].max() < 0.01
    assert np.abs(truth.displacement - smooth)[0].max() == pytest.approx(192 * 0.1 / 52, rel=0.1)
    ys, xs = np.mgrid[0:256, 0:384].astype(np.float32)
    x, y = xs + truth.displacement[..., 0], ys + truth.displacement[..., 1]
    warped = cv2.remap(pair.sharp_linear, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
    inside = np.zeros(CONFIG.size, np.bool_)
    inside[20:-20, 20:-20] = True
    assert psnr(warped, truth.aligned, inside) > 45


def test_a_cats_eye_darkens_the_corners_by_what_it_cuts() -> None:
    lens = CONFIG.model_copy(update={"cat_eye": 0.5, "noise": False, "vignetting": 0.0})
    cut, full = (render_pair(c, "aperture", 7, 1) for c in (lens, lens.model_copy(update={"cat_eye": 0.0})))
    corner = np.s_[:12, :12]
    shared = 2 * np.arccos(0.25) - 0.5 * np.sqrt(1 - 0.0625)
    if cut.plan.blur.f_number == CONFIG.f_number_min:
        ratio = cut.blur_linear[corner].mean() / full.blur_linear[corner].mean()
        assert ratio == pytest.approx(shared / np.pi, abs=0.05)
    assert cut.sharp_linear[corner].mean() == pytest.approx(full.sharp_linear[corner].mean(), rel=0.02)


EVERYTHING = CONFIG.model_copy(
    update={
        "blades": 7, "cat_eye": 0.4, "spherical_aberration_px": 1.5, "longitudinal_ca": (0.0005, 0.0005),
        "focus_roll_mm": 0.05, "depth": "ramp",
    }
)  # fmt: skip


@pytest.mark.parametrize("kind", ["focus", "aperture"])
def test_all_faults_of_a_lens_together_give_a_picture_without_holes(kind: str) -> None:
    pair = render_pair(EVERYTHING, kind, 3, 1)
    assert np.isfinite(pair.blur_linear).all()
    assert pair.blur_linear.min() > -0.02
    blurred, sharp = pair.truth.aligned, pair.sharp_linear
    assert abs(np.log2(pair.blur_linear[20:-20, 20:-20].mean() / blurred[20:-20, 20:-20].mean())) < 0.2
    assert sharp.mean() > 0.02
