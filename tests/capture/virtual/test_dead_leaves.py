from __future__ import annotations

import numpy as np

from capture.virtual.compositing import composite
from capture.virtual.dead_leaves import add_moving_object, dead_leaves


def test_leaf_radii_follow_the_inverse_cube_law() -> None:
    scene = dead_leaves((1000, 1000), (864, 1296), 1.0, 0.5, np.random.default_rng(0))
    areas = np.array([surface.rgba[..., 3].sum() for surface in scene.surfaces[1:]])
    radii = np.sqrt(areas / np.pi)
    # Density r⁻³ means that the number above r falls as r⁻²: doubling r leaves a quarter.
    assert 0.19 < np.sum(radii > 40) / np.sum(radii > 20) < 0.31


def test_every_leaf_has_its_own_depth_and_nearer_ones_lie_in_front() -> None:
    scene = dead_leaves((300, 400), (260, 360), 0.8, 0.4, np.random.default_rng(1))
    depths = [surface.inverse_depth for surface in scene.surfaces]
    assert depths == sorted(depths)
    assert len(set(depths[1:])) == len(depths) - 1
    assert (min(depths), max(depths)) == (0.4, 0.8)


def test_visible_area_is_spread_over_the_depths() -> None:
    scene = dead_leaves((700, 700), (864, 1296), 1.0, 0.0, np.random.default_rng(2))
    quarters, _ = np.histogram(scene.front_depth(), bins=4, range=(0, 1), density=True)
    assert quarters.min() > 0.5
    assert quarters.max() < 1.8


def test_the_canvas_is_colourful_and_finely_textured() -> None:
    image = composite(dead_leaves((300, 400), (260, 360), 0.8, 0.4, np.random.default_rng(1)))
    assert image.min() >= 0
    assert (image.max(axis=2) / np.maximum(image.min(axis=2), 1e-3) > 1.3).mean() > 0.3
    green = np.log(image[..., 1] + 0.01)
    assert np.abs(np.diff(green, axis=1)).mean() > 0.05


def test_a_moving_object_fills_its_share_of_the_frame_and_jumps() -> None:
    frame = (432, 648)
    still = dead_leaves((500, 716), frame, 0.8, 0.4, np.random.default_rng(4))
    scene = add_moving_object(still, frame, 0.8, np.random.default_rng(5))
    number = len(scene.surfaces) - 1
    before, after = (scene.front_surface(moved=moved) == number for moved in (False, True))
    dx, dy = scene.surfaces[-1].jump
    assert 0.06 < before.sum() / (432 * 648) < 0.11
    assert 29 <= np.hypot(dx, dy) <= 61
    assert np.array_equal(np.roll(before, (dy, dx), (0, 1)), after)
