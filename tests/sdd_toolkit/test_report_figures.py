from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sdd_toolkit import statistics
from sdd_toolkit.report_figures import histogram_svg


def planted(logarithmic: bool = False) -> statistics.Histogram:
    found = statistics.histogram([[1.0, 1.0, 2.0, 9.0], [4.0]], bins=8, logarithmic=logarithmic)
    assert found is not None
    return found


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


def labels(svg: str) -> list[str]:
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize(
    ("values", "below"),
    [
        ([0.0, 1.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([-3.1, 2.6], ["−2", "0", "2"]),
        ([2000.0, 5000.0], ["2,000", "3,000", "4,000", "5,000"]),
        ([1e9, 3e9], ["1e+09", "1.5e+09", "2e+09", "2.5e+09", "3e+09"]),
        ([0.00021, 0.00024], ["0.00021", "0.00022", "0.00023", "0.00024"]),
    ],
)
def test_the_axis_below_has_round_numbers_with_the_digits_that_tell_them_apart(
    values: list[float], below: list[str]
) -> None:
    found = statistics.histogram([values])
    assert found is not None
    assert labels(histogram_svg(found, stacked=True, label="x")) == ["0", "1", *below]


def test_a_logarithmic_axis_has_fewer_numbers_the_longer_it_is() -> None:
    for high, below in ((0.05, ["0.01", "0.02", "0.05"]), (1e3, ["0.01", "0.1", "1", "10", "100", "1e+03"])):
        found = statistics.histogram([[0.01, high]], logarithmic=True)
        assert found is not None
        assert labels(histogram_svg(found, stacked=False, label="x")) == ["0", "1", *below]
    found = statistics.histogram([[0.01, 1e300]], logarithmic=True)
    assert found is not None
    assert len(labels(histogram_svg(found, stacked=False, label="x"))) <= 12


def test_bars_that_are_stacked_lie_on_one_another_and_reach_no_higher_than_the_axis() -> None:
    found = statistics.histogram([[1.0, 1.0, 2.0], [1.0]], bins=8)
    assert found is not None
    svg = histogram_svg(found, stacked=True, label="x")
    found_bars = re.findall(r' y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', svg)
    first, _, second = ([float(number) for number in bar] for bar in found_bars)
    assert sum(second) == pytest.approx(first[0], abs=0.02)
    assert first[1] == pytest.approx(2 * second[1], abs=0.02)
    assert second[0] > 8.8
