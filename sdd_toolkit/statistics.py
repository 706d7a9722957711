"""The measurements of a data set as one table, with quantiles, lens groups and histograms of its columns.

The report, its CSV and the data card all take their numbers from here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sdd_toolkit.records import Alignment, Exposure, Quality, value_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from sdd_toolkit.records import FrameMeta, PairRecord

KEPT, REJECTED, OPEN = "kept", "rejected", "open"
LOG_FLOOR = 1e-2
_ROWS = 5000

_EXPOSURE = tuple(entry.name for entry in fields(Exposure))
_QUALITY = tuple(entry.name for entry in fields(Quality))
_TUPLES = ("rows", "size", "box", "shift_px", "colour_gain", "vignetting")
_ALIGNED_ELSEWHERE = (*_TUPLES, "flow_file", "failure", "detail")
_ALIGNED = tuple(entry.name for entry in fields(Alignment) if entry.name not in _ALIGNED_ELSEWHERE)
# Two stages measure texture, each with its own definition.
_RENAMED = {"texture_fraction": "align_texture_fraction", "model": "global_model"}
_MATRIX = tuple(f"h{row}{column}" for row in range(3) for column in range(3))
_BOX = ("box_left", "box_top", "box_right", "box_bottom")
_PHOTOMETRY = ("gain_red", "gain_green", "gain_blue", "vignetting_a", "vignetting_b")

TEXT_COLUMNS = (
    *("id", "scene", "kind", "verdict", "reason", "detail", "make", "model", "lens"),
    *("blur_file", "sharp_file", "blur_taken_at", "sharp_taken_at", "global_model"),
)
COLUMNS = (
    *("id", "scene", "kind", "verdict", "reason", "detail", "make", "model", "lens", "height", "width"),
    *("blur_file", "blur_taken_at", *(f"blur_{name}" for name in _EXPOSURE)),
    *("sharp_file", "sharp_taken_at", *(f"sharp_{name}" for name in _EXPOSURE)),
    *("aligned", "shift_x_px", "shift_y_px", "shift_px", "zoom_percent"),
    *(_RENAMED.get(name, name) for name in _ALIGNED),
    *("radial_px", *_PHOTOMETRY),
    *_BOX,
    *_MATRIX,
    *_QUALITY,
)
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
NUMBER_COLUMNS = tuple(name for name in COLUMNS if name not in (*TEXT_COLUMNS, "aligned"))


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


def table(records: Iterable[PairRecord]) -> pd.DataFrame:
    """One row a pair with all its facts, in the order of `COLUMNS`.

    Numbers that were not measured are NaN, missing texts empty. The geometry of a pair whose alignment failed is
    left out: its numbers describe nothing.
    """
    rows = list(records)
    # In parts: a row of a hundred objects takes ten times the memory of a hundred numbers.
    starts = range(0, len(rows), _ROWS) or (0,)
    return pd.concat([_table_part(rows[start : start + _ROWS]) for start in starts], ignore_index=True)


def _table_part(records: Sequence[PairRecord]) -> pd.DataFrame:
    frame = pd.DataFrame([_row(record) for record in records], columns=list(COLUMNS))
    texts = {
        name: pd.Series([text if isinstance(text, str) else "" for text in frame[name]], dtype=str)
        for name in TEXT_COLUMNS
    }
    numbers = {name: pd.to_numeric(frame[name]).astype(np.float64) for name in NUMBER_COLUMNS}
    return frame.assign(**texts, **numbers, aligned=frame["aligned"].astype(bool))


def summary(frame: pd.DataFrame) -> Summary:
    """Counts and spreads of a `table`."""
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
    """The aligned pairs of a `table` that are not rejected: all, then by lens, each lens by focus distance.

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


def _row(record: PairRecord) -> dict[str, object]:
    verdict, sharp, blur = record.verdict, record.sharp_meta, record.blur_meta
    size = record.alignment.size if record.alignment else sharp.size or (None, None)
    return {
        "id": record.id,
        "scene": record.scene,
        "kind": str(record.kind),
        "verdict": OPEN if verdict is None else KEPT if verdict.keep else REJECTED,
        "reason": str(verdict.reason) if verdict and verdict.reason else "",
        "detail": verdict.detail if verdict else "",
        "make": sharp.make or blur.make,
        "model": sharp.model or blur.model,
        "lens": sharp.lens or blur.lens,
        "height": size[0],
        "width": size[1],
        "blur_file": record.blur.path,
        "sharp_file": record.sharp.path,
        **_frame_row("blur", blur),
        **_frame_row("sharp", sharp),
        **_alignment_row(record.alignment),
        **(asdict(record.quality) if record.quality else {}),
    }


def _frame_row(role: str, meta: FrameMeta) -> dict[str, object]:
    exposure = {f"{role}_{name}": value for name, value in asdict(meta.exposure).items()}
    return {f"{role}_taken_at": meta.taken_at, **exposure}


def _alignment_row(alignment: Alignment | None) -> dict[str, object]:
    if alignment is None or alignment.failure is not None:
        return {"aligned": False}
    dx, dy = alignment.shift_px
    return {
        "aligned": True,
        "shift_x_px": dx,
        "shift_y_px": dy,
        "shift_px": float(np.hypot(dx, dy)),
        "zoom_percent": 100.0 * (alignment.zoom - 1.0),
        **{_RENAMED.get(name, name): getattr(alignment, name) for name in _ALIGNED},
        "radial_px": abs(alignment.radial) * float(np.hypot(*alignment.size)) / 2.0,
        **dict(zip(_PHOTOMETRY, (*alignment.colour_gain, *alignment.vignetting), strict=True)),
        **dict(zip(_BOX, alignment.box, strict=True)),
        **dict(zip(_MATRIX, np.ravel(alignment.rows).tolist(), strict=True)),
    }
