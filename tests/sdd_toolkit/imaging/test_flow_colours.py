"""Colours of flow fields."""

from __future__ import annotations

import numpy as np
import pytest

from sdd_toolkit.imaging.flow_colours import fade_by_confidence, flow_colours, flow_wheel, nice_scale_px, reduce_flow


def test_a_flow_of_zero_is_white() -> None:
    assert (flow_colours(np.zeros((2, 3, 2)), 1.0) == 255).all()


def test_opposite_directions_get_different_hues() -> None:
    right, left, down, up = flow_colours(np.array([[(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)]]), 1.0)[0]
    assert np.abs(right.astype(int) - left.astype(int)).max() > 200
    assert np.abs(down.astype(int) - up.astype(int)).max() > 150
    assert tuple(right) == (255, 0, 0)


def test_longer_flow_is_more_saturated_until_the_scale_and_darker_beyond_it() -> None:
    short, full, beyond = flow_colours(np.array([[(0.5, 0.0), (2.0, 0.0), (4.0, 0.0)]]), 2.0)[0]
    assert short.min() > full.min() == 0
    assert full.max() == 255 > beyond.max()


def test_unknown_flow_is_black() -> None:
    assert flow_colours(np.full((1, 1, 2), np.nan), 1.0).tolist() == [[[0, 0, 0]]]


def test_every_direction_of_the_wheel_has_a_colour_near_its_neighbours() -> None:
    angle = np.linspace(0, 2 * np.pi, 721)
    colours = flow_colours(np.stack([np.cos(angle), np.sin(angle)], axis=-1)[None], 1.0)[0].astype(int)
    assert np.abs(np.diff(colours, axis=0)).max() <= 32
    assert np.abs(colours[0] - colours[-1]).max() <= 2


def test_the_wheel_is_white_in_the_middle_and_outside() -> None:
    wheel = flow_wheel(65)
    assert wheel.shape == (65, 65, 3)
    assert (wheel[32, 32] == 255).all()
    assert (wheel[0, 0] == 255).all()
    assert wheel[32, 64].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("measured", "scale"), [(0.0, 0.5), (0.51, 1.0), (1.0, 1.0), (1.2, 2.0), (3.0, 5.0), (99.0, 100.0), (np.nan, 0.5)]
)
def test_the_scale_of_a_flow_map_is_a_round_number(measured: float, scale: float) -> None:
    assert nice_scale_px(measured) == pytest.approx(scale)


def test_a_colour_fades_to_grey_as_confidence_falls() -> None:
    red = np.array([[[255, 0, 0]] * 3], dtype=np.uint8)
    sure, half, unsure = fade_by_confidence(red, np.array([[1.0, 0.5, 0.0]]))[0].tolist()
    assert sure == [255, 0, 0]
    assert half[0] > half[1] == half[2] > 0
    assert len(set(unsure)) == 1


def test_a_reduced_flow_is_that_of_its_sure_vectors() -> None:
    flow = np.zeros((4, 6, 2), np.float32)
    flow[::2], flow[1::2, :, 0], flow[:, 4:] = (3.0, -1.0), 100.0, np.nan
    confidence = np.zeros((4, 6), np.float32)
    confidence[::2] = 1.0
    small, sure = reduce_flow(flow, confidence, 2)
    np.testing.assert_allclose(small[:, :2], np.broadcast_to((3.0, -1.0), (2, 2, 2)), atol=0.2)
    assert np.isnan(small[:, 2]).all()
    np.testing.assert_allclose(sure, 0.5)
