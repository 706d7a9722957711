from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sdd_toolkit import statistics
from sdd_toolkit.measurement_table import build_table
from sdd_toolkit.records import PairRecord, Reason
from tests.support.planted_pairs import META, alignment, record


def test_a_summary_counts_verdicts_reasons_and_cameras() -> None:
    nikon = replace(META, make="NIKON CORPORATION", model="NIKON D850")
    pairs = [record("a"), record("b", sharp_meta=nikon), record("c", Reason.CLIPPED), record("d", verdict=None)]
    summary = statistics.summary(build_table(pairs))
    assert (summary.pairs, summary.kept, summary.rejected, summary.open, summary.scenes) == (4, 2, 1, 1, 4)
    assert summary.cameras == {"Canon EOS 6D": 3, "NIKON D850": 1}
    assert summary.reasons == {"clipped": 1}


def test_spreads_leave_rejected_pairs_out() -> None:
    pairs = [record("a"), record("b", Reason.MISALIGNED, alignment=alignment((100.0, 0.0)))]
    spread = statistics.summary(build_table(pairs)).spreads["shift_x_px"]
    assert (spread.count, spread.low, spread.high) == (1, 6.0, 6.0)


def test_no_pairs_give_an_empty_summary() -> None:
    summary = statistics.summary(build_table([]))
    assert (summary.pairs, summary.kept, summary.cameras, summary.spreads) == (0, 0, {}, {})


def test_histogram_counts_are_those_of_numpy() -> None:
    values = np.random.default_rng(1).normal(0, 2, 500)
    histogram = statistics.histogram([values], bins=20)
    assert histogram is not None
    clipped = np.clip(values, histogram.edges[0], histogram.edges[-1])
    assert histogram.counts[0].tolist() == np.histogram(clipped, histogram.edges)[0].tolist()
    assert histogram.counts[0].sum() == 500


def test_a_gross_outlier_is_counted_in_the_end_bin_and_does_not_stretch_the_axis() -> None:
    histogram = statistics.histogram([np.linspace(-1, 1, 50), [5000.0]])
    assert histogram is not None
    assert histogram.edges[-1] < 10
    assert (histogram.beyond, int(histogram.counts[1][-1])) == (1, 1)


def test_the_axis_holds_every_value_of_the_first_group() -> None:
    histogram = statistics.histogram([[0.0, 0.0, 0.1, 0.1, -5.0], [2.0]])
    assert histogram is not None
    assert (histogram.edges[0], histogram.edges[-1], histogram.beyond) == (-5.0, 2.0, 0)


def test_logarithmic_bins_have_equal_ratios_and_hold_zero() -> None:
    histogram = statistics.histogram([[10.0, 100.0], [0.0, 1.0]], bins=8, logarithmic=True)
    assert histogram is not None
    ratios = histogram.edges[1:] / histogram.edges[:-1]
    assert ratios == pytest.approx(np.full(8, ratios[0]))
    assert [int(counts.sum()) for counts in histogram.counts] == [2, 2]


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf")]])
def test_nothing_measured_gives_no_histogram_and_no_spread(values: list[float]) -> None:
    assert statistics.histogram([values]) is None
    assert statistics.quantiles(values) is None


def test_equal_values_make_an_axis_around_them() -> None:
    histogram = statistics.histogram([[5.5] * 9])
    assert histogram is not None
    assert histogram.edges[0] < 5.5 < histogram.edges[-1]
    assert (int(histogram.counts[0].max()), histogram.beyond) == (9, 0)


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("Canon", "Canon EOS 6D", "Canon EOS 6D"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("", None, "unknown"),
        (None, "X", "X"),
    ],
)
def test_a_camera_is_named_once(make: str | None, model: str | None, name: str) -> None:
    assert statistics.camera_name(make, model) == name


def focused(name: str, focus_m: float | None, lens: str | None = "EF 50mm", **changes: object) -> PairRecord:
    meta = replace(META, lens=lens, exposure=replace(META.exposure, focus_m=focus_m))
    return record(name, sharp_meta=meta, blur_meta=meta, **changes)


def test_components_are_grouped_by_lens_and_focus_distance() -> None:
    far = alignment((30.0, 40.0))
    pairs = [
        focused("a", 0.7),
        focused("b", 0.8, alignment=far),
        focused("c", math.inf),
        focused("d", 1.2, "Sigma"),
        focused("e", None, None),
        record("f", Reason.CLIPPED),
    ]
    groups = statistics.lens_groups(build_table(pairs))
    assert [(group.lens, group.focus, group.pairs) for group in groups] == [
        ("", "", 5),
        ("EF 50mm · 50 mm", "", 3),
        ("EF 50mm · 50 mm", "0.5 … 1 m", 2),
        ("EF 50mm · 50 mm", "10 m and beyond", 1),
        ("Canon EOS 6D · 50 mm", "", 1),
        ("Sigma · 50 mm", "", 1),
    ]
    assert groups[2].spreads["shift_px"].high == pytest.approx(50.0)
    assert set(groups[0].spreads) == set(statistics.COMPONENTS)


def test_pairs_without_geometry_form_no_group() -> None:
    assert statistics.lens_groups(build_table([])) == []
    assert statistics.lens_groups(build_table([record("a", Reason.PARALLAX)])) == []


@pytest.mark.parametrize(
    ("focus_m", "text"),
    [(0.2, "below 0.5 m"), (0.5, "0.5 … 1 m"), (9.9, "5 … 10 m"), (math.inf, "10 m and beyond"), (math.nan, "")],
)
def test_every_focus_distance_has_one_range(focus_m: float, text: str) -> None:
    assert statistics.focus_range(focus_m) == text
