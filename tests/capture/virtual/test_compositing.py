from __future__ import annotations

import numpy as np
import pytest

from capture.virtual.compositing import composite
from capture.virtual.scene import Surface, VirtualScene

SIZE = (64, 64)


def plane(colour: float, depth: float = 0.1) -> Surface:
    rgba = np.ones((*SIZE, 4), np.float32)
    rgba[..., :3] = colour
    return Surface(rgba, 0, 0, depth)


def square(colour: float, left: int, size: int = 20, jump: tuple[int, int] = (0, 0)) -> Surface:
    rgba = np.ones((size, size, 4), np.float32)
    rgba[..., :3] = colour
    return Surface(rgba, left, 22, 0.9, jump)


def test_a_blurred_foreground_shows_what_lies_behind_its_edge() -> None:
    image = composite(VirtualScene((plane(0.2), square(1.0, 22)), SIZE), [0.0, 5.0])[32, :, 0]
    assert image[32] == pytest.approx(1.0, abs=1e-5)
    assert image[10] == pytest.approx(0.2, abs=1e-6)
    assert (image[21] + image[22]) / 2 == pytest.approx(0.6, abs=0.005)


def test_a_blurred_background_does_not_leak_over_a_sharp_foreground() -> None:
    background = plane(0.0)
    background.rgba[:, 40:, :3] = 1.0
    image = composite(VirtualScene((background, square(0.5, 22)), SIZE), [8.0, 0.0])
    assert np.allclose(image[25:40, 22:42], 0.5)
    assert 0.5 < image[10, 40, 0] < 0.6


def test_light_of_a_small_bright_thing_is_conserved() -> None:
    scene = VirtualScene((plane(0.0), square(7.0, 30, size=3)), SIZE)
    assert composite(scene, [0.0, 6.3]).sum() == pytest.approx(3 * 9 * 7.0, rel=1e-3)


def test_a_jumping_surface_is_elsewhere_in_the_sharp_shot() -> None:
    scene = VirtualScene((plane(0.0), square(1.0, 10, jump=(15, -4))), SIZE)
    before, after = composite(scene), composite(scene, moved=True)
    assert np.array_equal(np.roll(before, (-4, 15), (0, 1)), after)


def test_no_radius_blurs_the_border_of_the_ground() -> None:
    assert np.allclose(composite(VirtualScene((plane(0.4),), SIZE), [8.0]), 0.4, atol=1e-6)
