from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sdd_toolkit import statistics
from sdd_toolkit.report.figures import histogram_svg


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
