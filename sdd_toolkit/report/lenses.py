"""The lens section of the report: motion by lens and focus distance, and the breathing curve of each lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from sdd_toolkit import statistics
from sdd_toolkit.calibration import breathing_model, lens_breathing
from sdd_toolkit.report.figures import curve_svg
from sdd_toolkit.report.quantities import COMPONENTS, format_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from sdd_toolkit.calibration.breathing_model import BreathingModel, Observation
    from sdd_toolkit.calibration.lens_breathing import LensPairs
    from sdd_toolkit.records import PairRecord

_CURVE_POINTS = 60
_MOST_POINTS = 500


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A row of the table of components; `cells` are (median, range), dashes where nothing was measured."""

    name: str
    level: int
    pairs: int
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LensView:
    """The breathing of a lens: figure and summary; without a model, the reason why there is none.

    Attributes:
        name: Lens and focal length.
        svg: Breathing curve with the measured pairs; None without a model.
        facts: Parts of the line of text below it.
    """

    name: str
    svg: Markup | None
    facts: tuple[str, ...]


def group_rows(frame: pd.DataFrame) -> list[GroupRow]:
    """The rows of the table of components: `statistics.lens_groups` with formatted numbers."""
    return [
        GroupRow(
            name=(group.focus and f"focus {group.focus}") or group.lens or "All pairs",
            level=2 if group.focus else 1 if group.lens else 0,
            pairs=group.pairs,
            cells=tuple(_cell_text(group.spreads.get(quantity.column), quantity.digits) for quantity in COMPONENTS),
        )
        for group in statistics.lens_groups(frame)
    ]


def lens_views(records: Sequence[PairRecord]) -> list[LensView]:
    """The views of all lenses with pairs between whose frames the focus moved; none if focus distances are unknown."""
    return [_lens_view(entry) for entry in lens_breathing.fit_lenses(records) if entry.observations]


def _lens_view(entry: LensPairs) -> LensView:
    name = entry.lens if entry.focal_mm is None else f"{entry.lens} · {entry.focal_mm:g} mm"
    left_out = ", ".join(f"{count} {reason}" for reason, count in entry.left_out.items())
    rest = (f"left out: {left_out}",) if left_out else ()
    if entry.model is None:
        return LensView(name, None, (f"no model: {entry.refusal}", *rest))
    model = entry.model
    x = np.linspace(*model.range_dpt, _CURVE_POINTS)
    points = _points(model, entry.observations)
    drawn = points[np.linspace(0, len(points) - 1, min(len(points), _MOST_POINTS)).astype(int)]
    svg = curve_svg((x, *_curve(model, x)), drawn, label=f"Magnification of {name} against its focus position")
    slope = f"{format_number(100 * model.zoom_per_dioptre, 2)} % per dioptre"
    scatter = f"scatter {format_number(100 * model.scatter, 3)} %"
    outliers = (f"{model.outliers} without weight",) if model.outliers else ()
    return LensView(name, Markup(svg), (f"{model.count} pairs", slope, scatter, *outliers, *rest))


def _curve(model: BreathingModel, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Magnification relative to the farthest focus position and two standard deviations of it, in per cent."""
    far_m = 1.0 / x[0] if x[0] > 0 else np.inf
    priors = [breathing_model.predict_zoom(model, far_m, 1.0 / position if position > 0 else np.inf) for position in x]
    zoom, deviation = (np.array([getattr(prior, name) for prior in priors]) for name in ("zoom", "deviation"))
    return 100.0 * (zoom - 1.0), 200.0 * deviation


def _points(model: BreathingModel, observations: Sequence[Observation]) -> NDArray[np.float64]:
    """(N, 2) each pair at the focus position of its sharp frame, off the curve by its residual under the model.

    A pair outside the fitted range is an outlier without weight and is not shown.
    """
    low, high = model.range_dpt
    far = breathing_model.log_magnification(model, low)
    points = []
    for entry in observations:
        blur, sharp = breathing_model.dioptres(entry.focus_blur_m), breathing_model.dioptres(entry.focus_sharp_m)
        zoom = np.exp(breathing_model.log_magnification(model, blur) - far) * entry.zoom
        if low <= sharp <= high:
            points.append((sharp, 100.0 * (zoom - 1.0)))
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _cell_text(spread: statistics.Quantiles | None, digits: int) -> tuple[str, str]:
    if spread is None:
        return format_number(None, digits), ""
    return format_number(
        spread.median, digits
    ), f"{format_number(spread.p05, digits)} … {format_number(spread.p95, digits)}"
