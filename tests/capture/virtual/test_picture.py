from __future__ import annotations

import numpy as np
import pytest

from capture.virtual.compositing import composite
from capture.virtual.config import SimulateConfig
from capture.virtual.picture import Picture, picture_from_distance, picture_from_nearness, slice_photograph
from capture.virtual.render_pair import render_pair

CONFIG = SimulateConfig(width=192, height=128, noise=False, vignetting=0.0)


def two_planes() -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).random((160, 240, 3), dtype=np.float32) * 0.5 + 0.1
    near = np.zeros((160, 240), np.bool_)
    near[50:110, 80:160] = True
    return image, near


@pytest.mark.parametrize("kind", ["focus", "aperture"])
def test_metres_are_kept_and_give_the_radius_of_the_thin_lens(kind: str) -> None:
    image, near = two_planes()
    pair = render_pair(CONFIG, kind, 1, 1, picture=picture_from_distance(image, np.where(near, 1.6, 1.9)))
    shot, f = pair.plan.blur, CONFIG.focal_mm
    expected = [
        f**2 * abs(d - shot.focus_m * 1000) / (shot.f_number * d * (shot.focus_m * 1000 - f)) / 2 / CONFIG.pitch_mm
        for d in (1600, 1900)
    ]
    assert [pair.truth.coc_px[64, 96], pair.truth.coc_px[3, 3]] == pytest.approx(expected, abs=0.01)


def test_a_relative_map_fills_the_depth_the_pair_allows() -> None:
    image, near = two_planes()
    pair = render_pair(CONFIG, "aperture", 1, 1, picture=picture_from_nearness(image, near.astype(np.float32), CONFIG))
    radii = np.abs(pair.plan.blur.signed_radius_px(np.array([pair.plan.near, pair.plan.far]), CONFIG))
    assert pair.truth.coc_px[64, 96] == pytest.approx(radii[0], abs=0.01)
    assert pair.truth.coc_px[3, 3] == pytest.approx(radii[1], abs=0.01)


def test_near_and_far_give_a_relative_map_its_metres() -> None:
    image, near = two_planes()
    picture = picture_from_nearness(
        image, near.astype(np.float32), CONFIG.model_copy(update={"near_m": 1.0, "far_m": 2.0})
    )
    assert picture.depths == (1.0, 0.5)
    assert set(np.unique(picture.inverse_depth)) == {0.5, 1.0}


def test_a_smooth_depth_ramp_leaves_no_seams() -> None:
    ramp = np.tile(np.linspace(0, 1, 240, dtype=np.float32), (160, 1))
    grey = np.full((160, 240, 3), 0.3, np.float32)
    pair = render_pair(CONFIG, "aperture", 1, 1, picture=Picture(grey, ramp, None))
    centre = pair.blur_linear / pair.blur_linear[64, 96]
    assert np.abs(centre[40:-40, 40:-40] - 1).max() < 0.05


RAMP = CONFIG.model_copy(update={"depth": "ramp", "noise": False})


def test_a_continuous_map_stays_one_surface_with_continuous_radii() -> None:
    slope = np.tile(np.linspace(0, 1, 240, dtype=np.float32), (160, 1))
    image = np.random.default_rng(0).random((160, 240, 3), dtype=np.float32) * 0.5 + 0.1
    picture = Picture(image, slope, None)
    pair = render_pair(RAMP, "aperture", 1, 1, picture=picture)
    assert len(picture.scene((200, 300), pair.plan, RAMP).surfaces) == 1
    assert len(picture.scene((200, 300), pair.plan, CONFIG).surfaces) > 4
    assert len(np.unique(pair.truth.coc_px[64])) > 100


def test_a_map_that_jumps_is_cut_where_it_jumps() -> None:
    image, near = two_planes()
    slope = np.tile(np.linspace(0, 0.3, 240, dtype=np.float32), (160, 1))
    picture = Picture(image, np.where(near, 1 - slope, slope).astype(np.float32), None)
    plan = render_pair(RAMP, "aperture", 1, 1, picture=picture).plan
    surfaces = picture.scene((200, 300), plan, RAMP).surfaces
    assert len(surfaces) == 2
    far, close = surfaces
    assert np.ptp(far.depths) > 0.05 * (plan.near - plan.far)
    assert close.depths.min() > far.depths.max()


def test_a_photograph_in_focus_is_itself() -> None:
    rng = np.random.default_rng(6)
    image = rng.random((40, 60, 3), dtype=np.float32)
    depth = np.where(rng.random((40, 60)) < 0.5, 0.3, 0.6).astype(np.float32)
    scene = slice_photograph(image, depth, np.array([0.0, 0.45, 1.0]), 4)
    assert np.allclose(composite(scene), image, atol=1e-6)
    assert np.array_equal(scene.front_depth(), depth)


def test_a_photographs_background_is_continued_behind_a_nearer_thing() -> None:
    image = np.zeros((40, 60, 3), np.float32)
    image[:] = (0.1, 0.5, 0.2)
    depth = np.full((40, 60), 0.3, np.float32)
    image[10:30, 20:40], depth[10:30, 20:40] = 0.9, 0.6
    back = slice_photograph(image, depth, np.array([0.0, 0.45, 1.0]), 4).surfaces[0]
    assert np.allclose(back.rgba[15:25, 25:35, :3], (0.1, 0.5, 0.2), atol=1e-4)
