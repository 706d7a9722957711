"""Summary, quantiles, lens groups and histograms of the measurements of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sdd_toolkit.measurement_table import KEPT, NUMBER_COLUMNS, OPEN, REJECTED
from sdd_toolkit.records import value_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

LOG_FLOOR = 1e-2
COMPONENTS = (
    *("shift_px", "zoom_percent", "rotation_deg", "perspective_px", "radial_px"),
    *("before_px", "residual_px", "error_px"),
)
FOCUS_EDGES_M = (0.5, 1.0, 2.0, 5.0, 10.0)
_FOCUS_RANGES = (
    f"below {FOCUS_EDGES_M[0]:g} m",
    *(f"{near:g} … {far:g} m" for near, far in pairwise(FOCUS_EDGES_M)),
    f"{FOCUS_EDGES_M[-1]:g} m and beyond",
)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of one measured quantity over the pairs that have it."""

    count: int
    median: float
    p05: float
    p95: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a data set, and the spread of every measured column over the pairs not rejected.

    Attributes:
        pairs: All pairs of the manifest; kept + rejected + open.
        open: Pairs no stage has judged yet.
        cameras: Pairs per camera, most frequent first; `unknown` where the file does not say.
        reasons: Rejected pairs per reason, most frequent first.
        spreads: By column name; only columns with at least one number.
    """

    pairs: int
    kept: int
    rejected: int
    open: int
    aligned: int
    scenes: int
    cameras: dict[str, int]
    reasons: dict[str, int]
    spreads: dict[str, Quantiles]


@dataclass(frozen=True, slots=True)
class Group:
    """Pairs of one lens or focus range, and the quantiles of their motion and of its residual.

    Attributes:
        lens: Lens and focal length; empty for all pairs.
        focus: Range of the sharp frame's focus distance; empty for all of it.
        spreads: By column name, of `COMPONENTS`.
    """

    lens: str
    focus: str
    pairs: int
    spreads: dict[str, Quantiles]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of one or more groups over the same bins.

    Attributes:
        edges: (bins + 1,) ascending, in the unit of the values.
        counts: One (bins,) array a group.
        beyond: Number of values outside the axis, which are counted in its end bins.
        logarithmic: Whether the bins are equally wide in the logarithm.
    """

    edges: NDArray[np.float64]
    counts: tuple[NDArray[np.int64], ...]
    beyond: int
    logarithmic: bool = False


def summary(frame: pd.DataFrame) -> Summary:
    """Counts and quantiles of a table of measurements; see `measurement_table.build_table`."""
    good = frame[frame["verdict"] != REJECTED]
    spreads = {name: quantiles(good[name]) for name in NUMBER_COLUMNS}
    return Summary(
        pairs=len(frame),
        kept=int((frame["verdict"] == KEPT).sum()),
        rejected=int((frame["verdict"] == REJECTED).sum()),
        open=int((frame["verdict"] == OPEN).sum()),
        aligned=int(frame["aligned"].sum()),
        scenes=int(frame["scene"].nunique()),
        cameras=value_counts(
            camera_name(make, model) for make, model in zip(frame["make"], frame["model"], strict=True)
        ),
        reasons=value_counts(reason for reason in frame["reason"] if reason),
        spreads={name: spread for name, spread in spreads.items() if spread is not None},
    )


def lens_groups(frame: pd.DataFrame) -> list[Group]:
    """The aligned pairs of a table that are not rejected: all, then by lens, each lens by focus distance.

    Unknown lenses and focus distances form no group; nor does the only focus range of a lens.
    """
    good = frame[frame["aligned"] & (frame["verdict"] != REJECTED)]
    if good.empty:
        return []
    named = zip(good["lens"], good["model"], good["sharp_focal_mm"], strict=True)
    lens = np.array([_lens_text(*entry) for entry in named])
    focus = np.array([focus_range(value) for value in good["sharp_focus_m"]])
    groups = [_group("", "", good)]
    for name in value_counts(text for text in lens.tolist() if text):
        own = lens == name
        groups.append(_group(name, "", good[own]))
        ranges = [label for label in _FOCUS_RANGES if (own & (focus == label)).any()]
        if len(ranges) > 1:
            groups += [_group(name, label, good[own & (focus == label)]) for label in ranges]
    return groups


def focus_range(focus_m: float) -> str:
    """Name of the range between `FOCUS_EDGES_M` that holds a distance; empty if it is not known.

    >>> focus_range(1.5)
    '1 … 2 m'
    """
    return "" if np.isnan(focus_m) else _FOCUS_RANGES[int(np.searchsorted(FOCUS_EDGES_M, focus_m, side="right"))]


def quantiles(values: ArrayLike) -> Quantiles | None:
    """Median, percentiles and extremes of the finite `values`; None if there are none."""
    numbers = _finite(values)
    if numbers.size == 0:
        return None
    p05, median, p95 = (float(value) for value in np.percentile(numbers, (5, 50, 95)))
    low, high = float(numbers.min()), float(numbers.max())
    return Quantiles(count=int(numbers.size), median=median, p05=p05, p95=p95, low=low, high=high)


def histogram(groups: Sequence[ArrayLike], bins: int | None = None, *, logarithmic: bool = False) -> Histogram | None:
    """Counts of each group over common bins; None if no group holds a finite number.

    The axis spans the first group that holds numbers, and as much again on either side where there are other numbers,
    so that one gross failure does not press all good pairs into one bin; values outside count in the end bins.

    Args:
        groups: Values; NaN and infinities are left out; with `logarithmic`, smaller numbers become `LOG_FLOOR`.
        bins: Number of bins; by default 8 to 24, growing with the square root of the number of values.
        logarithmic: Bins of equal width in log10, over all groups.
    """
    values = [_finite(group) for group in groups]
    if logarithmic:
        values = [np.log10(np.maximum(group, LOG_FLOOR)) for group in values]
    everything = np.concatenate([np.empty(0), *values])
    if everything.size == 0:
        return None
    leading = everything if logarithmic else next(group for group in values if group.size)
    low, high = _axis(leading, everything)
    edges = np.linspace(low, high, (bins or int(np.clip(2 * np.sqrt(everything.size), 8, 24))) + 1)
    counts = tuple(np.histogram(np.clip(group, low, high), edges)[0].astype(np.int64) for group in values)
    outside = int(np.count_nonzero((everything < low) | (everything > high)))
    return Histogram(10.0**edges if logarithmic else edges, counts, outside, logarithmic)


def camera_name(make: str | None, model: str | None) -> str:
    """Make and model without the repeated maker.

    >>> camera_name("NIKON CORPORATION", "NIKON D850")
    'NIKON D850'
    """
    first, second = (make or "").strip(), (model or "").strip()
    if first and second.lower().startswith(first.split()[0].lower()):
        first = ""
    return f"{first} {second}".strip() or "unknown"


def _lens_text(lens: str, model: str, focal_mm: float) -> str:
    """Lens and focal length; a camera's model stands for a lens that has no name, empty if it has none either."""
    name = lens or model
    return f"{name} · {focal_mm:.3g} mm" if name and np.isfinite(focal_mm) else name


def _group(lens: str, focus: str, frame: pd.DataFrame) -> Group:
    spreads = {name: quantiles(frame[name]) for name in COMPONENTS}
    measured = {name: spread for name, spread in spreads.items() if spread is not None}
    return Group(lens=lens, focus=focus, pairs=len(frame), spreads=measured)


def _axis(leading: NDArray[np.float64], everything: NDArray[np.float64]) -> tuple[float, float]:
    first, last = float(leading.min()), float(leading.max())
    reach = max(last - first, 0.5 * abs(first), 0.5 * abs(last)) or float(np.ptp(everything))
    low, high = max(float(everything.min()), first - reach), min(float(everything.max()), last + reach)
    if high - low > 1e-9 * max(1.0, abs(low), abs(high)):
        return low, high
    margin = max(1e-3, 0.05 * abs(first))
    return first - margin, first + margin


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64).ravel()
    return np.asarray(numbers[np.isfinite(numbers)], dtype=np.float64)
