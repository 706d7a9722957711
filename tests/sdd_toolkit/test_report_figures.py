from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sdd_toolkit import statistics
from sdd_toolkit.report_figures import faded, flow_colours, flow_wheel, histogram_svg, nice_scale_px


def planted(logarithmic: bool = False) -> statistics.Histogram:
    found = statistics.histogram([[1.0, 1.0, 2.0, 9.0], [4.0]], bins=8, logarithmic=logarithmic)
    assert found is not None
    return found


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


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_histogram_is_well_formed_and_the_same_every_time(logarithmic: bool) -> None:
    first, second = (histogram_svg(planted(logarithmic), stacked=True, label="a < b") for _ in range(2))
    assert first == second
    root = ElementTree.fromstring(first)
    assert (root.tag, root.get("aria-label")) == ("svg", "a < b")


def test_a_histogram_takes_its_colours_from_the_page_and_carries_no_ids() -> None:
    svg = histogram_svg(planted(), stacked=True, label="x")
    assert set(re.findall(r"var\(--[a-z0-9-]+\)", svg)) == {
        "var(--series-1)",
        "var(--series-2)",
        "var(--muted)",
        "var(--rule)",
    }
    assert not re.search(r"#[0-9a-f]{3,6}\b|\sid=|http|font-family", svg)


def test_a_histogram_draws_one_bar_for_each_filled_bin() -> None:
    histogram = planted()
    svg = histogram_svg(histogram, stacked=True, label="x")
    assert svg.count("fill: var(--series-1)") == int(np.count_nonzero(histogram.counts[0]))
    assert svg.count("fill: var(--series-2)") == 1


def test_a_colour_fades_to_grey_as_confidence_falls() -> None:
    red = np.array([[[255, 0, 0]] * 3], dtype=np.uint8)
    sure, half, unsure = faded(red, np.array([[1.0, 0.5, 0.0]]))[0].tolist()
    assert sure == [255, 0, 0]
    assert half[0] > half[1] == half[2] > 0
    assert len(set(unsure)) == 1
