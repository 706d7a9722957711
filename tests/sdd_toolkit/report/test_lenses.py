"""The report's lens section: what the table and the figures say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from sdd_toolkit.measurement_table import build_table
from sdd_toolkit.report.lenses import group_rows, lens_views
from sdd_toolkit.report.quantities import COMPONENTS
from tests.support.planted_lenses import meta, pair, thin_lens_pairs
from tests.support.planted_pairs import record


def test_a_lens_is_shown_with_its_curve_and_a_dot_for_every_pair() -> None:
    (view,) = lens_views([*thin_lens_pairs(), pair("still", meta(1.0), meta(1.0))])
    assert view.name == "EF 50mm · 50 mm"
    assert view.facts[:2] == ("8 pairs", "5.28 % per dioptre")
    assert view.facts[-1] == "left out: 1 focus not moved"
    assert view.svg is not None
    ElementTree.fromstring(view.svg)
    assert "var(--series-1)" in view.svg
    assert view.svg.count("fill: var(--series-2)") == 8
    assert not re.search(r"href|url\(|\sid=", view.svg)


def test_a_lens_with_too_few_pairs_says_so_and_one_without_focus_pairs_is_not_shown() -> None:
    (view,) = lens_views(thin_lens_pairs()[:2])
    assert view.svg is None
    assert view.facts[0].startswith("no model: 2 of 2 pairs")
    assert lens_views([record("a"), record("b")]) == []


def test_an_outlier_outside_the_range_does_not_bend_the_figure() -> None:
    wrong = pair("wrong", meta(0.2), meta(5.0), zoom=1.2)
    (view,) = lens_views([*thin_lens_pairs(), wrong])
    assert "1 without weight" in view.facts
    assert view.svg is not None


def test_the_table_of_components_indents_lenses_below_all_pairs() -> None:
    rows = group_rows(build_table(thin_lens_pairs()))
    assert [(row.name, row.level, row.pairs) for row in rows][:3] == [
        ("All pairs", 0, 8),
        ("EF 50mm · 50 mm", 1, 8),
        ("focus 0.5 … 1 m", 2, 3),
    ]
    assert len(rows[0].cells) == len(COMPONENTS)
    assert rows[0].cells[-1] == ("0.020", "0.020 … 0.020")
