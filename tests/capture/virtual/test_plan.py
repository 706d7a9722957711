from __future__ import annotations

import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.plan import PairPlan, plan_pair, rotation_homography
from sdd_toolkit.imaging.geometry import decompose
from sdd_toolkit.records import PairKind

CONFIG = SimulateConfig()


def plans(kind: PairKind, config: SimulateConfig = CONFIG, count: int = 200) -> list[PairPlan]:
    return [plan_pair(config, kind, np.random.default_rng(seed)) for seed in range(count)]


def radii(plan: PairPlan, config: SimulateConfig = CONFIG) -> tuple[np.ndarray, np.ndarray]:
    depths = np.linspace(plan.far, plan.near, 50)
    return np.abs(plan.blur.signed_radius_px(depths, config)), np.abs(plan.sharp.signed_radius_px(depths, config))


@pytest.mark.parametrize("kind", [PairKind.FOCUS, PairKind.APERTURE])
def test_sharp_frames_are_sharp_and_blurred_ones_reach_the_ordered_radius(kind: PairKind) -> None:
    blurred, sharp = zip(*(radii(plan) for plan in plans(kind)), strict=True)
    assert max(radius.max() for radius in sharp) <= 0.5 + 1e-6
    largest = [radius.max() for radius in blurred]
    assert max(largest) <= 8.0 + 1e-6
    assert max(largest) > 7.5
    assert min(largest) >= 3.0 - 1e-6


def test_focus_pairs_keep_the_opening_and_breathe_by_up_to_two_percent() -> None:
    made = plans(PairKind.FOCUS)
    zooms = np.array([abs(plan.zoom - 1) for plan in made])
    assert all(plan.blur.f_number == plan.sharp.f_number for plan in made)
    assert 0.015 < zooms.max() <= 0.02
    assert {plan.blur.focus_m < plan.sharp.focus_m for plan in made} == {True, False}


def test_aperture_pairs_keep_the_focus_and_do_not_breathe() -> None:
    for plan in plans(PairKind.APERTURE):
        assert plan.blur.focus_m == plan.sharp.focus_m
        assert plan.zoom == 1.0
        assert plan.sharp.f_number > 4 * plan.blur.f_number


def test_depth_changes_the_blur_within_an_aperture_pair_by_pixels() -> None:
    spreads = [np.ptp(radii(plan)[0]) for plan in plans(PairKind.APERTURE, count=30)]
    assert min(spreads) > 2.9


def test_shift_rotation_and_exposure_stay_within_the_configured_limits() -> None:
    for plan in plans(PairKind.FOCUS):
        parts = decompose(plan.homography, CONFIG.size)
        assert np.hypot(*parts.shift_px) <= 8.0
        assert abs(parts.rotation_deg) <= 0.3001
        assert parts.zoom == pytest.approx(plan.zoom, abs=2e-5)
        assert abs(plan.blur.error_ev) <= 0.1


def test_a_turned_camera_moves_the_centre_by_the_given_shift() -> None:
    plan = plans(PairKind.FOCUS, count=1)[0]
    matrix = rotation_homography(plan.blur, plan.sharp, CONFIG, shift_px=(3.0, -2.0), rotation_deg=0.2)
    centre = np.array([(CONFIG.width - 1) / 2, (CONFIG.height - 1) / 2, 1.0])
    moved = matrix @ centre
    assert moved[:2] / moved[2] - centre[:2] == pytest.approx([3.0, -2.0], abs=0.01)


def test_missing_the_focus_twice_leaves_both_frames_blurred_alike() -> None:
    for kind in (PairKind.FOCUS, PairKind.APERTURE):
        plan = plan_pair(CONFIG, kind, np.random.default_rng(3), both_blurred=True)
        blurred, sharp = radii(plan)
        assert sharp.min() > 2.0
        assert np.median(sharp / blurred) > 0.75


def test_given_depths_are_kept_and_the_largest_radius_holds() -> None:
    for kind in (PairKind.FOCUS, PairKind.APERTURE):
        for seed in range(50):
            plan = plan_pair(CONFIG, kind, np.random.default_rng(seed), depths=(0.8, 0.5))
            assert (plan.near, plan.far) == (0.8, 0.5)
            assert radii(plan)[0].max() <= 8.0 + 1e-6


@pytest.mark.parametrize(
    "values",
    [
        {"focal_mm": 4.2, "pixel_pitch_um": 1.4, "f_number_min": 1.8, "focus_min_m": 0.15, "focus_max_m": 0.2},
        {"focal_mm": 200, "pixel_pitch_um": 4.0, "f_number_min": 2.8, "focus_min_m": 3, "focus_max_m": 20},
        {"focal_mm": 12, "pixel_pitch_um": 27.8, "focus_min_m": 1, "focus_max_m": 5},
    ],
)
def test_other_cameras_stay_within_their_limits_too(values: dict[str, float]) -> None:
    config = SimulateConfig.model_validate(values)
    for plan in plans(PairKind.FOCUS, config, 40):
        blurred, sharp = radii(plan, config)
        assert abs(plan.zoom - 1) <= 0.0201
        assert sharp.max() <= 0.51
        assert blurred.max() <= 8.0


def test_only_focus_and_aperture_pairs_can_be_shot() -> None:
    with pytest.raises(ValueError, match="sequence"):
        plan_pair(CONFIG, PairKind.SEQUENCE, np.random.default_rng(0))
