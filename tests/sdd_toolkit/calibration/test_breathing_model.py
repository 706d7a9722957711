"""The breathing of a lens from planted pairs: thin lenses, outliers, and what cannot be fitted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.virtual.lens import image_distance_mm
from sdd_toolkit.calibration.breathing_model import (
    Observation,
    ZoomPrior,
    fit_breathing,
    log_magnification,
    predict_zoom,
)
from sdd_toolkit.errors import InputError
from tests.support.paths import ROOT

NOISE = 5e-5
DISTANCES = st.floats(0.3, 100.0)


def thin_zoom(focal_mm: float, blur_m: float, sharp_m: float) -> float:
    return image_distance_mm(focal_mm, sharp_m) / image_distance_mm(focal_mm, blur_m)


def thin_pairs(focal_mm: float, near_m: float, far_m: float, count: int, seed: int = 0) -> list[Observation]:
    """Pairs focused anywhere between `near_m` and `far_m`, their zooms noisy by `NOISE`."""
    rng = np.random.default_rng(seed)
    distances = 1.0 / rng.uniform(1 / far_m, 1 / near_m, (count, 2))
    noise = 1.0 + rng.normal(0.0, NOISE, count)
    return [
        Observation(float(a), float(b), thin_zoom(focal_mm, a, b) * float(factor), NOISE)
        for (a, b), factor in zip(distances, noise, strict=True)
    ]


def spoilt(pairs: list[Observation], share: float) -> list[Observation]:
    """The first `share` of them with zooms wrong by 2 % or more, all in the same direction."""
    wrong = int(share * len(pairs))
    return [
        Observation(p.focus_blur_m, p.focus_sharp_m, p.zoom * (1.02 + 0.01 * i if i < wrong else 1.0), p.deviation)
        for i, p in enumerate(pairs)
    ]


LENSES = [(24.0, 0.25, 10.0), (35.0, 0.3, 10.0), (50.0, 0.5, 20.0), (85.0, 0.9, 50.0), (100.0, 0.35, 5.0)]


@pytest.mark.parametrize(("focal_mm", "near_m", "far_m"), LENSES)
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_thin_lens_is_predicted_within_its_range_in_spite_of_outliers(
    focal_mm: float, near_m: float, far_m: float, share: float
) -> None:
    model = fit_breathing(spoilt(thin_pairs(focal_mm, near_m, far_m, 30), share))
    assert model.outliers == int(share * 30)
    low, high = model.range_dpt
    for a in np.linspace(low, high, 9):
        for b in np.linspace(low, high, 9):
            expected = predict_zoom(model, 1 / a, 1 / b)
            truth = thin_zoom(focal_mm, 1 / a, 1 / b)
            assert abs(expected.zoom - truth) < 5e-4
            assert abs(expected.zoom - truth) < 6 * expected.deviation


def test_one_wrong_pair_far_from_the_others_does_not_bend_the_curve() -> None:
    pairs = thin_pairs(50.0, 0.5, 8.0, 12)
    model = fit_breathing([*pairs, Observation(0.2, 5.0, 1.2, NOISE)])
    assert model.outliers == 1
    assert predict_zoom(model, 2.0, 0.6).zoom == pytest.approx(thin_zoom(50.0, 2.0, 0.6), abs=5e-4)


@pytest.mark.parametrize("count", [5, 8, 20])
def test_deviations_are_as_large_as_the_errors_that_happen(count: int) -> None:
    errors = []
    for seed in range(40):
        expected = predict_zoom(fit_breathing(thin_pairs(50.0, 0.5, 20.0, count, seed)), 2.0, 0.7)
        errors.append((expected.zoom - thin_zoom(50.0, 2.0, 0.7)) / expected.deviation)
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) < 1.6


def test_one_coefficient_is_the_focal_length_where_the_lens_is_thin_and_far() -> None:
    model = fit_breathing(thin_pairs(50.0, 3.0, 50.0, 20))
    assert len(model.coefficients) == 1
    assert model.coefficients[0] == pytest.approx(0.0505, abs=5e-4)
    assert model.zoom_per_dioptre == pytest.approx(0.0505, abs=5e-4)


def test_a_lens_may_breathe_the_other_way() -> None:
    pairs = [Observation(1.0, s, math.exp(-0.03 * (1 / s - 1.0)), 1e-4) for s in (0.5, 0.7, 2.0, 4.0, math.inf)]
    model = fit_breathing(pairs)
    assert model.coefficients == pytest.approx((-0.03,))
    assert predict_zoom(model, math.inf, 0.5).zoom == pytest.approx(math.exp(-0.06))
    assert model.range_dpt == (0.0, 2.0)


def test_scatter_beyond_the_pairs_own_deviation_is_found() -> None:
    rng = np.random.default_rng(3)
    pairs = [
        Observation(p.focus_blur_m, p.focus_sharp_m, p.zoom * math.exp(rng.normal(0, 2e-3)), 1e-5)
        for p in thin_pairs(50.0, 1.0, 20.0, 200)
    ]
    model = fit_breathing(pairs)
    assert model.scatter == pytest.approx(2e-3, rel=0.2)
    assert predict_zoom(model, 2.0, 2.0).deviation == pytest.approx(model.scatter, rel=1e-3)


def test_the_deviation_covers_what_happens_and_grows_outside_the_range() -> None:
    model = fit_breathing(thin_pairs(50.0, 1.0, 5.0, 20))
    inside, outside, farther = (predict_zoom(model, 2.0, s).deviation for s in (1.1, 0.6, 0.3))
    assert inside < 0.1 * outside < outside < farther
    for s in (0.6, 0.3, math.inf):
        expected = predict_zoom(model, 2.0, s)
        truth = thin_zoom(50.0, 2.0, s if math.isfinite(s) else 1e9)
        assert abs(expected.zoom - truth) < 3 * expected.deviation


@settings(max_examples=40, deadline=None)
@given(blur_m=DISTANCES, sharp_m=DISTANCES)
def test_swapping_the_frames_inverts_the_zoom(blur_m: float, sharp_m: float) -> None:
    pairs = thin_pairs(50.0, 0.5, 20.0, 12)
    swapped = [Observation(p.focus_sharp_m, p.focus_blur_m, 1 / p.zoom, p.deviation / p.zoom**2) for p in pairs]
    there, back = (
        predict_zoom(fit_breathing(pairs), blur_m, sharp_m),
        predict_zoom(fit_breathing(swapped), sharp_m, blur_m),
    )
    assert there.zoom * back.zoom == pytest.approx(1.0, abs=1e-9)
    assert there.deviation / there.zoom == pytest.approx(back.deviation / back.zoom, rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(first_m=DISTANCES, second_m=DISTANCES, third_m=DISTANCES)
def test_zooms_compose_over_a_third_focus_position(first_m: float, second_m: float, third_m: float) -> None:
    model = fit_breathing(thin_pairs(85.0, 1.0, 20.0, 12))
    direct = predict_zoom(model, first_m, third_m).zoom
    assert direct == pytest.approx(
        predict_zoom(model, first_m, second_m).zoom * predict_zoom(model, second_m, third_m).zoom
    )


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(0.05, 10.0))
def test_scaling_all_distances_scales_the_dioptres_only(factor: float) -> None:
    pairs = thin_pairs(50.0, 0.5, 5.0, 12)
    farther = [Observation(factor * p.focus_blur_m, factor * p.focus_sharp_m, p.zoom, p.deviation) for p in pairs]
    assert log_magnification(fit_breathing(farther), 1.0 / factor) == pytest.approx(
        log_magnification(fit_breathing(pairs), 1.0), rel=1e-4
    )


def test_the_order_of_the_pairs_does_not_matter() -> None:
    pairs = spoilt(thin_pairs(50.0, 0.5, 20.0, 15), 0.2)
    assert predict_zoom(fit_breathing(pairs), 1.0, 3.0).zoom == pytest.approx(
        predict_zoom(fit_breathing(pairs[::-1]), 1.0, 3.0).zoom, rel=1e-9
    )


@pytest.mark.parametrize(
    "pairs",
    [[], thin_pairs(50.0, 0.5, 5.0, 4), [Observation(1.2, 1.2, 1.0, 1e-4)] * 20],
    ids=["none", "four", "focus never moved"],
)
def test_too_little_is_refused_with_what_is_missing(pairs: list[Observation]) -> None:
    with pytest.raises(InputError, match=rf"of {len(pairs)} pairs have frames focused differently, 5 are needed"):
        fit_breathing(pairs)


def test_equal_focus_steps_settle_the_slope_alone() -> None:
    pairs = [Observation(2.0, 1.0, 1.025 + d, 1e-3) for d in (-1e-3, 0.0, 1e-3, 2e-3, -2e-3, 0.0, 0.0)]
    model = fit_breathing(pairs)
    assert len(model.coefficients) == 1
    assert predict_zoom(model, 2.0, 1.0).zoom == pytest.approx(1.025, abs=1e-4)


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 1.0, 0.1), (1.0, -1.0, 1.0, 0.1), (1.0, 2.0, 0.0, 0.1), (1, 2, 1, -1)])
def test_what_cannot_be_is_a_programmers_mistake(wrong: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"focus distance|must be positive"):
        fit_breathing([Observation(*wrong), *thin_pairs(50.0, 0.5, 5.0, 5)])


def test_the_python_of_the_page_runs() -> None:
    page = (ROOT / "docs/breathing.md").read_text(encoding="utf-8")
    names: dict[str, ZoomPrior] = {}
    exec(page.split("```python")[1].split("```")[0], names)
    expected = names["expected"]
    assert expected.zoom == pytest.approx(thin_zoom(50.0, 1.0, 2.0), abs=2e-3)
    assert abs(expected.zoom - thin_zoom(50.0, 1.0, 2.0)) < 3 * expected.deviation
