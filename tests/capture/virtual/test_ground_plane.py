from __future__ import annotations

import numpy as np

from capture.virtual.compositing import blur_surface
from capture.virtual.config import SimulateConfig
from capture.virtual.ground_plane import depth_ramp, ground_scene
from capture.virtual.optics import THIN_LENS
from capture.virtual.render_pair import render_pair

RAMP = SimulateConfig(width=384, height=256, depth="ramp", noise=False)


def test_a_tilted_plane_is_linear_in_inverse_depth_from_far_to_near() -> None:
    plane = depth_ramp((200, 300), 0.8, 0.4, 0.3)
    assert (plane.min(), plane.max()) == (np.float32(0.4), np.float32(0.8))
    assert np.abs(np.diff(plane, 2, axis=0)).max() < 1e-6
    assert np.all(np.diff(plane, axis=0) > 0)


def test_standing_leaves_have_the_depth_of_their_foot() -> None:
    scene = ground_scene((300, 400), (260, 360), 0.8, 0.4, np.random.default_rng(0))
    ground, *standing = scene.surfaces
    assert len(standing) > 10
    depths = [leaf.inverse_depth for leaf in standing]
    assert depths == sorted(depths)
    for leaf in standing:
        foot = np.flatnonzero((leaf.rgba[..., 3] > 0.5).any(axis=1)).max() + leaf.top
        if 5 < foot < 295:
            assert abs(leaf.inverse_depth - np.interp(foot, [0, 299], [0.4, 0.8])) < 0.12
    assert np.ptp(ground.depths) > 0.39


def test_the_true_radius_is_continuous_on_the_ground() -> None:
    pair = render_pair(RAMP, "aperture", 3, 1)
    steps = np.abs(np.diff(pair.truth.coc_px, axis=0))
    assert np.percentile(steps, 90) < 0.05
    assert np.ptp(pair.truth.coc_px) > 2.5
    assert pair.sharp_coc_px <= 0.5 + 1e-6


def test_a_ramp_of_radii_leaves_no_bands() -> None:
    rng = np.random.default_rng(1)
    rgba = np.ones((400, 200, 4), np.float32)
    rgba[..., :3] = rng.random((400, 200, 1))
    radii = np.linspace(-2.0, 6.0, 400)[:, None]
    drawn = blur_surface(rgba, radii, THIN_LENS, (0, 0), opaque=True)[..., 0]
    edge = (drawn.shape[0] - 400) // 2
    rough = drawn[edge + 20 : edge + 380, 20:180].std(axis=1)
    # White noise through a disc keeps 1/(π r²) of its variance, whether r is on a slice or between two.
    expected = rng.random(100000).std() / np.sqrt(np.pi) / np.abs(radii[20:380, 0])
    away = np.abs(radii[20:380, 0]) > 1.5
    ratio = (rough / expected)[away]
    assert 0.93 < np.median(ratio) < 1.05
    on_slice = np.abs(radii[20:380, 0][away] / 0.25 % 1 - 0.5) > 0.4
    between = np.abs(radii[20:380, 0][away] / 0.25 % 1 - 0.5) < 0.1
    assert abs(ratio[on_slice].mean() / ratio[between].mean() - 1) < 0.04


def test_a_uniform_ramp_stays_uniform() -> None:
    rgba = np.full((300, 100, 4), 0.4, np.float32)
    rgba[..., 3] = 1
    drawn = blur_surface(rgba, np.linspace(-3.0, 9.0, 300)[:, None], THIN_LENS, (0, 0), opaque=True)
    edge = (drawn.shape[0] - 300) // 2 + 12
    assert np.abs(drawn[edge:-edge, edge:-edge, :3] - 0.4).max() < 0.003 * 0.4 + 1e-5


def test_a_plane_of_one_pixel_lies_half_way() -> None:
    assert depth_ramp((1, 1), 0.8, 0.4, 0.3) == np.float32(0.6)
