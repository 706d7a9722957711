from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from capture.virtual.config import SimulateConfig
from capture.virtual.dead_leaves import dead_leaves
from capture.virtual.motion import move_surfaces
from capture.virtual.picture import picture_from_nearness
from capture.virtual.plan import plan_pair, scale_displacement
from capture.virtual.render_pair import RenderedPair, render_pair
from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging import geometry
from sdd_toolkit.records import PairKind

CAMERA = SimulateConfig(width=288, height=192, max_coc_px=4, mean_displacement_px=4)
MOVING = {
    "parallax": {"parallax_px": 8},
    "leaves": {"moving_leaves": 8, "leaf_motion_px": 6},
    "object": {"object_motion_px": 14},
    "all": {"parallax_px": 6, "moving_leaves": 8, "leaf_motion_px": 4, "object_motion_px": 14},
}


def camera(**values: object) -> SimulateConfig:
    return SimulateConfig.model_validate({**CAMERA.model_dump(), **values})


def warped_sharp(pair: RenderedPair) -> np.ndarray:
    height, width = pair.truth.occlusion.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    flow = pair.truth.displacement
    return cv2.remap(pair.sharp_linear, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_LANCZOS4)


def error(pair: RenderedPair, image: np.ndarray) -> np.ndarray:
    return np.abs(image - pair.truth.aligned).mean(axis=-1)


@pytest.mark.parametrize("kind", ["focus", "aperture"])
@pytest.mark.parametrize("mean_px", [0.0, 2.0, 25.0])
def test_only_the_sharp_frame_depends_on_the_displacement(kind: str, mean_px: float) -> None:
    pair = render_pair(camera(mean_displacement_px=mean_px), kind, 3, 1)
    other = render_pair(CAMERA, kind, 3, 1)
    assert np.hypot(*np.moveaxis(pair.truth.displacement, -1, 0)).mean() == pytest.approx(mean_px, abs=0.01)
    assert np.array_equal(pair.blur_mosaic, other.blur_mosaic)
    assert np.array_equal(pair.truth.aligned, other.truth.aligned)
    assert np.array_equal(pair.truth.coc_px, other.truth.coc_px)
    assert not np.array_equal(pair.sharp_mosaic, other.sharp_mosaic)
    inside = ~pair.truth.occlusion
    inside[:8], inside[-8:], inside[:, :8], inside[:, -8:] = False, False, False, False
    assert error(pair, warped_sharp(pair))[inside].mean() < 0.012


@pytest.mark.parametrize("moving", MOVING)
def test_the_sharp_frame_warped_by_the_truth_is_the_aligned_image_but_where_occluded(moving: str) -> None:
    # Both in focus, so that what remains is geometry.
    pair = render_pair(camera(**MOVING[moving], noise=False, sharp_coc_px=0.4), "aperture", 5, 1)
    inside = np.zeros(CAMERA.size, np.bool_)
    inside[8:-8, 8:-8] = True
    # Pixels beside an edge mix two surfaces.
    seen = cv2.erode((~pair.truth.occlusion).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    errors = error(pair, warped_sharp(pair))
    still = geometry.displacement(pair.truth.homography, CAMERA.size)
    moved = np.hypot(*np.moveaxis(pair.truth.displacement - still, -1, 0)) > 1
    assert moved.mean() > 0.02
    assert np.median(errors[seen & inside & moved]) < 0.01
    assert errors[seen & inside].mean() < 0.02
    assert errors[pair.truth.occlusion & inside].mean() > 3 * errors[seen & inside].mean()
    # The homography alone does not explain it.
    ys, xs = np.mgrid[0 : CAMERA.height, 0 : CAMERA.width].astype(np.float32)
    static = cv2.remap(pair.sharp_linear, xs + still[..., 0], ys + still[..., 1], cv2.INTER_LANCZOS4)
    assert error(pair, static)[seen & inside & moved].mean() > 2 * errors[seen & inside & moved].mean()


def test_parallax_is_in_proportion_to_the_inverse_depth() -> None:
    rng = np.random.default_rng(0)
    plan = plan_pair(CAMERA, PairKind.APERTURE, rng)
    scene = dead_leaves((256, 352), CAMERA.size, plan.near, plan.far, rng)
    moved = move_surfaces(scene, camera(parallax_px=12), plan, rng)
    depths = np.array([surface.inverse_depth for surface in moved.surfaces])
    nearness = (depths - plan.far) / (plan.near - plan.far) - 0.5
    direction = np.linalg.lstsq(nearness[:, None], moved.jumps, rcond=None)[0]
    assert np.hypot(*direction[0]) == pytest.approx(12, abs=0.2)
    assert np.abs(moved.jumps - nearness[:, None] * direction).max() < 0.6


def test_a_photograph_in_layers_moves_too() -> None:
    rng = np.random.default_rng(0)
    nearness = np.zeros((192, 288), np.float32)
    nearness[60:130, 100:200] = 1
    linear = cv2.resize(rng.random((48, 72, 3), np.float32), (288, 192), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    config = camera(parallax_px=10.0, object_motion_px=14.0)
    pair = render_pair(config, "aperture", 1, 1, picture=picture_from_nearness(linear, nearness, config))
    assert 0.02 < pair.truth.occlusion.mean() < 0.4
    assert pair.truth.coc_px.max() > 1


def test_a_camera_that_does_not_move_cannot_be_scaled() -> None:
    with pytest.raises(InputError, match="hardly moves"):
        scale_displacement(lambda _scale: np.eye(3), 2.0, (64, 96))


def test_without_motion_a_scene_is_unchanged() -> None:
    rng = np.random.default_rng(0)
    plan = plan_pair(CAMERA, PairKind.APERTURE, rng)
    scene = dead_leaves((256, 352), CAMERA.size, plan.near, plan.far, rng)
    assert move_surfaces(scene, CAMERA, plan, rng) is scene


@pytest.mark.parametrize("values", [{"depth": "ramp", "parallax_px": 2}, {"focus_roll_mm": 0.1}])
def test_motion_that_cannot_be_rendered_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="need"):
        camera(**values)
