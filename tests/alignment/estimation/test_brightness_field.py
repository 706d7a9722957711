"""Brightness compared cell by cell, and the same found by a registration."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import alignment
from alignment.estimation import brightness_field
from alignment.estimation.photometry import Photometry
from alignment.estimation.pyramid import FramePair, build_pyramid
from sdd_toolkit.imaging.luminance import luminance
from tests.support.planted_motion import dead_leaves, plant_pair
from tests.support.planted_pairs import corner_error_px

SIZE = (320, 432)
STILL = np.eye(3)
ONES = np.ones(SIZE, dtype=np.float32)
BAYER = np.array([0.25, 0.5, 0.25])


def light(seed: int = 0) -> NDArray[np.float32]:
    return luminance(dead_leaves(seed, SIZE) * np.float32(0.5))


def test_a_large_frame_is_compared_on_a_small_level() -> None:
    large = np.zeros((800, 1000), dtype=np.float32)
    levels = build_pyramid(FramePair(large, large, large, large))
    assert [level.size for level in levels][:3] == [(800, 1000), (400, 500), (200, 250)]
    assert brightness_field.brightness_level(levels) == 2
    assert brightness_field.brightness_level(levels[2:]) == 0
    assert brightness_field.brightness_level(levels[:1]) == 0


def test_cells_outside_of_either_frame_or_saturated_are_not_compared() -> None:
    saturated = ONES.copy()
    saturated[32:48, 64:80] = 0
    shifted = np.array([[1, 0, 40.0], [0, 1, 0], [0, 0, 1]])
    usable = brightness_field.comparable_cells(FramePair(light(), light(), ONES, saturated), shifted)
    assert usable.shape == (20, 27)
    assert not usable[:, :2].any()
    assert not usable[2, 4]
    assert usable[2, 5]
    assert usable[1:-1, 4:-1].sum() == 18 * 22 - 1
    in_the_other = brightness_field.comparable_cells(FramePair(light(), light(), saturated, ONES), shifted)
    # The place lies 40 px further to the right on the sharp frame's grid.
    assert not in_the_other[2, 6:8].any()
    assert in_the_other[2, 4]


def test_levels_of_equal_content_tell_gain_offset_and_falloff() -> None:
    truth = Photometry(1.4, 0.02, (-0.3, 0.1))
    found = brightness_field.measure_brightness(FramePair(light(), truth.apply(light()), ONES, ONES), STILL)
    assert found is not None
    assert found.gain == pytest.approx(1.4, rel=2e-3)
    assert found.offset == pytest.approx(0.02, rel=0.02)
    assert found.falloff == pytest.approx((-0.3, 0.1), abs=0.01)


def test_there_is_no_brightness_where_no_cell_can_be_compared() -> None:
    assert brightness_field.measure_brightness(FramePair(light(), light(), ONES, 0 * ONES), STILL) is None


def test_the_gain_of_the_colours_is_relative_to_that_of_the_luminance() -> None:
    blur = dead_leaves(1, SIZE) * np.float32(0.5)
    sharp = (blur * np.float32([1.3, 1.0, 0.8])).astype(np.float32)
    luma = [luminance(frame) for frame in (blur, sharp)]
    found = brightness_field.colour_gain(
        blur, sharp, build_pyramid(FramePair(*luma, ONES, ONES)), STILL, Photometry(1.025)
    )
    assert found == pytest.approx(np.array([1.3, 1.0, 0.8]) / 1.025, rel=1e-3)
    assert BAYER @ found == pytest.approx(1.0)


def rho2() -> NDArray[np.float64]:
    """(H, W) squared distance from the frame centre in half diagonals."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    square = (columns - (SIZE[1] - 1) / 2) ** 2 + (rows - (SIZE[0] - 1) / 2) ** 2
    return np.asarray(square / (np.hypot(*SIZE) / 2) ** 2)


@pytest.mark.parametrize(
    ("falloff", "offset", "colour"),
    [
        ((0.0, 0.0), 0.0, (1.0, 1.0, 1.0)),
        ((0.35, -0.1), 0.0, (1.0, 1.0, 1.0)),
        ((0.0, 0.0), 0.02, (1.0, 1.0, 1.0)),
        ((0.0, 0.0), 0.0, (1.15, 0.95, 0.95)),
        ((-0.2, 0.05), 0.02, (0.9, 1.02, 1.06)),
    ],
)
def test_a_registration_holds_the_brightness_between_its_frames(
    falloff: tuple[float, float], offset: float, colour: tuple[float, float, float]
) -> None:
    pair = plant_pair(1, image=dead_leaves(1) * np.float32(0.5), gain=1.0, radius_px=1.5)
    field = 1 + falloff[0] * rho2() + falloff[1] * rho2() ** 2
    bright = 1.2 * np.array(colour) * field[..., None] * pair.sharp + offset
    found = alignment.register(pair.blur, bright.astype(np.float32))
    a, b = found.vignetting
    fitted = found.gain * (1 + a * rho2() + b * rho2() ** 2)
    assert fitted == pytest.approx(1.2 * field, rel=0.03)
    assert found.offset == pytest.approx(offset, rel=0.1)
    assert found.colour_gain == pytest.approx(colour, abs=3e-3)
    assert np.dot(BAYER, found.colour_gain) == pytest.approx(1.0)
    # Absent terms are not fitted.
    assert (found.vignetting == (0.0, 0.0)) == (falloff == (0.0, 0.0))
    assert corner_error_px(found.homography, pair.homography, found.size) < 0.05
