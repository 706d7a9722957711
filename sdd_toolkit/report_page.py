"""The report's numbers in words, and the page they are rendered into: pure, everything escaped by jinja2.

The page carries its own style sheet and script; a content security policy forbids it any connection, and any
script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sdd_toolkit import __version__, statistics
from sdd_toolkit.report_figures import flow_wheel, histogram_svg
from sdd_toolkit.report_pictures import jpeg
from sdd_toolkit.statistics import KEPT, REJECTED
from sdd_toolkit.types import REASON_TEXT, Reason

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd

    from sdd_toolkit.report_pictures import PairPictures
    from sdd_toolkit.types import Exposure, PairRecord

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Page:
    """What the page tells; see `report.Found` for the fields of the same name.

    Attributes:
        stage: Stem of the manifest shown: `ingested`, `aligned` or `filtered`.
        frame: `statistics.table` of the records, in their order.
        pictures: Of the pairs that are pictured, by id.
        stamp: Identifies what the page was made from.
    """

    title: str
    stage: str
    records: tuple[PairRecord, ...]
    frame: pd.DataFrame
    pictures: dict[str, PairPictures]
    packed: frozenset[str] | None
    rejected_files: tuple[tuple[str, str, str], ...] | None
    thresholds: dict[str, Any]
    notes: tuple[str, ...]
    stamp: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured column and how people read it."""

    column: str
    name: str
    unit: str
    digits: int
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One histogram with its heading and its line of figures."""

    name: str
    unit: str
    meaning: str
    svg: Markup
    figures: str
    legend: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a bar list; `share` of its full length, 0 … 1."""

    name: str
    count: int
    share: float
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class PairView:
    """One pair as the table and its card show it."""

    number: int
    record: PairRecord
    verdict: str
    reason: str
    explanation: str
    detail: str
    camera: str
    blur_exposure: str
    sharp_exposure: str
    cells: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, str, str], ...]
    pictures: PairPictures | None


PANELS = (
    Quantity("shift_x_px", "Shift, horizontal", "px", 2, "of the frame centre, blurred to sharp"),
    Quantity("shift_y_px", "Shift, vertical", "px", 2, "of the frame centre, blurred to sharp"),
    Quantity("zoom_percent", "Zoom", "%", 2, "magnification blurred to sharp: focus breathing"),
    Quantity("rotation_deg", "Rotation", "°", 3, "counter-clockwise positive"),
    Quantity("coc_px", "Circle of confusion", "px", 2, "median radius of the blur disc"),
    Quantity("sharpness_gain", "Sharpness gain", "×", 2, "fine detail, sharp over blurred"),
    Quantity("residual_p95_px", "Residual flow, 95th percentile", "px", 2, "after alignment, textured pixels"),
    Quantity("error_px", "Self-estimated error", "px", 3, "of the registration, at the frame corners"),
)
BEFORE = Quantity("before_px", "Displacement before alignment", "px", 2)
AFTER = Quantity("residual_px", "Residual flow after alignment", "px", 2)
TABLE_COLUMNS = (
    Quantity("shift_px", "Shift", "px", 1),
    Quantity("zoom_percent", "Zoom", "%", 2),
    Quantity("rotation_deg", "Rotation", "°", 2),
    Quantity("before_px", "Before", "px", 1, "Median displacement before alignment"),
    Quantity("residual_px", "After", "px", 2, "Median residual flow after alignment"),
    Quantity("coc_px", "Blur", "px", 1, "Median circle of confusion radius"),
    Quantity("sharpness_gain", "Gain", "×", 2, "Sharpness gain"),
    Quantity("error_px", "Error", "px", 2, "Self-estimated registration error"),
)
CARD_NUMBERS = (
    Quantity("shift_x_px", "Shift, horizontal", "px", 2),
    Quantity("shift_y_px", "Shift, vertical", "px", 2),
    Quantity("zoom_percent", "Zoom", "%", 3),
    Quantity("rotation_deg", "Rotation", "°", 3),
    Quantity("perspective_px", "Perspective", "px", 2),
    Quantity("radial_px", "Radial term at the corners", "px", 2),
    BEFORE,
    Quantity("before_p95_px", "… 95th percentile", "px", 2),
    AFTER,
    Quantity("residual_p95_px", "… 95th percentile", "px", 2),
    Quantity("coc_px", "Circle of confusion radius", "px", 2),
    Quantity("coc_p95_px", "… 95th percentile", "px", 2),
    Quantity("error_px", "Self-estimated error", "px", 3),
    Quantity("ncc", "Correlation, blur matched", "", 4),
    Quantity("unexplained_fraction", "Tiles unexplained", "", 4),
    Quantity("align_texture_fraction", "Tiles to align by", "", 3),
    Quantity("gain", "Brightness gain applied", "×", 4),
    Quantity("gain_red", "… of red, relative", "×", 4),
    Quantity("gain_blue", "… of blue, relative", "×", 4),
    Quantity("offset", "Brightness offset applied", "", 5),
    Quantity("sharpness_gain", "Sharpness gain", "×", 2),
    Quantity("sharper_fraction", "Tiles sharper", "", 3),
    Quantity("softer_fraction", "Tiles softer", "", 3),
    Quantity("sharp_acuity", "Acuity, sharp frame", "", 3),
    Quantity("blur_acuity", "Acuity, blurred frame", "", 3),
    Quantity("exposure_ev", "Exposure difference", "EV", 3),
    Quantity("clipped_fraction", "Clipped pixels", "", 4),
    Quantity("blur_level", "Level, blurred frame", "", 4),
    Quantity("sharp_level", "Level, sharp frame", "", 4),
    Quantity("texture_fraction", "Tiles with texture", "", 3),
)


def render(page: Page) -> str:
    """The whole HTML document; equal pages give equal text."""
    environment = _environment()
    script, style = (_source(environment, name) for name in ("report.js", "report.css"))
    rows = page.frame.to_dict("records")
    views = [_pair_view(page, number, *pair) for number, pair in enumerate(zip(page.records, rows, strict=True), 1)]
    pictured = [view for view in views if view.pictures is not None]
    text = environment.get_template("report.html.jinja").render(
        page=page,
        version=__version__,
        summary=statistics.summary(page.frame),
        funnel=_funnel(page),
        reasons=_reason_bars(statistics.summary(page.frame).reasons),
        file_reasons=_reason_bars(_file_reasons(page)),
        panels=_panels(page.frame),
        columns=TABLE_COLUMNS,
        views=views,
        kept_cards=[view for view in pictured if view.verdict != REJECTED],
        rejected_cards=[view for view in pictured if view.verdict == REJECTED],
        reason_text=_explained,
        thresholds=[(name, list(_flat(values))) for name, values in sorted(page.thresholds.items())],
        steps=_steps(page.records),
        wheel=jpeg(flow_wheel(96), 92),
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )
    return text if text.endswith("\n") else text + "\n"


def figure(value: float | None, digits: int) -> str:
    """A number as a person reads it, with a real minus sign; a dash for missing."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.{digits}f}" if abs(value) < 1e7 else f"{value:.3g}"
    return (text[1:] if float(text.replace(",", "")) == 0 and text.startswith("-") else text).replace("-", "−")


def exposure_text(exposure: Exposure) -> str:
    """`f/2.8 · 1/60 s · ISO 100 · 50 mm · focus 1.2 m`, what is known of it; empty if nothing is."""
    shutter = exposure.shutter_s
    parts = (
        f"f/{exposure.f_number:g}" if exposure.f_number else "",
        "" if not shutter else f"1/{1 / shutter:.0f} s" if shutter < 0.3 else f"{shutter:g} s",
        f"ISO {exposure.iso:g}" if exposure.iso else "",
        f"{exposure.focal_mm:g} mm" if exposure.focal_mm else "",
        _focus_text(exposure.focus_m),
    )
    return " · ".join(part for part in parts if part)


def _focus_text(focus_m: float | None) -> str:
    return "" if not focus_m else "focus ∞" if math.isinf(focus_m) else f"focus {focus_m:g} m"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sdd_toolkit", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["thousands"] = lambda count: f"{count:,}"
    return environment


def _source(environment: Environment, name: str) -> str:
    return cast("PackageLoader", environment.loader).get_source(environment, name)[0]


def _pair_view(page: Page, number: int, record: PairRecord, row: dict[Hashable, Any]) -> PairView:
    return PairView(
        number=number,
        record=record,
        verdict=str(row["verdict"]),
        reason=str(row["reason"]),
        explanation=_explained(str(row["reason"])),
        detail=str(row["detail"]),
        camera=statistics.camera(row["make"], row["model"]),
        blur_exposure=exposure_text(record.blur_meta.exposure),
        sharp_exposure=exposure_text(record.sharp_meta.exposure),
        cells=tuple((figure(row[q.column], q.digits), _sort_key(row[q.column])) for q in TABLE_COLUMNS),
        numbers=tuple(
            (q.name, figure(row[q.column], q.digits), q.unit) for q in CARD_NUMBERS if math.isfinite(row[q.column])
        ),
        pictures=page.pictures.get(record.id),
    )


def _funnel(page: Page) -> list[Bar]:
    frame = page.frame
    in_pairs = len({ref.path for record in page.records for ref in (record.blur, record.sharp)})
    steps: list[tuple[str, int, str]] = []
    if page.rejected_files is not None:
        found = in_pairs + len({path for path, _, _ in page.rejected_files})
        steps.append(("Files found", found, "photographs and whatever lay beside them"))
    steps.append(("Files in pairs", in_pairs, ""))
    # A pair is two files: the pairs' bars are drawn twice as long, so that the funnel narrows only by losses.
    pairs = [("Pairs formed", len(frame), "")]
    if page.stage != "ingested":
        pairs.append(("Aligned", int(frame["aligned"].sum()), ""))
    if page.stage == "filtered":
        pairs.append(("Kept", int((frame["verdict"] == KEPT).sum()), ""))
    if page.packed is not None:
        pairs.append(("Packed", len(page.packed), ""))
    full = max([1, *(count for _, count, _ in steps), *(2 * count for _, count, _ in pairs)])
    bars = [Bar(name, count, count / full, meaning) for name, count, meaning in steps]
    return bars + [Bar(name, count, min(1.0, 2 * count / full), meaning) for name, count, meaning in pairs]


def _reason_bars(counts: dict[str, int]) -> list[Bar]:
    most = max(counts.values(), default=1)
    return [Bar(reason, count, count / most, _explained(reason)) for reason, count in counts.items()]


def _file_reasons(page: Page) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, reason, _ in page.rejected_files or ():
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _explained(reason: str) -> str:
    return REASON_TEXT[Reason(reason)] if reason in list(Reason) else ""


def _panels(frame: pd.DataFrame) -> list[Panel]:
    rejected = frame["verdict"] == REJECTED
    others = "kept" if (frame["verdict"] == KEPT).any() else "not judged"
    legend = (others, "rejected") if rejected.any() and not rejected.all() else ("", "")
    panels = [_before_after(frame[~rejected] if not rejected.all() else frame)]
    for quantity in PANELS:
        values = frame[quantity.column].to_numpy()
        histogram = statistics.histogram([values[~rejected], values[rejected]])
        spread = statistics.spread(values[~rejected]) or statistics.spread(values)
        if histogram is None or spread is None:
            continue
        svg = histogram_svg(histogram, stacked=True, label=f"Histogram of {quantity.name} ({quantity.unit})")
        figures = _spread_text(spread, quantity)
        if histogram.beyond:
            figures += f" · {histogram.beyond} beyond the axis, counted at its ends"
        panels.append(Panel(quantity.name, quantity.unit, quantity.meaning, Markup(svg), figures, legend))
    return [panel for panel in panels if panel is not None]


def _before_after(frame: pd.DataFrame) -> Panel | None:
    groups = [frame[quantity.column].to_numpy() for quantity in (BEFORE, AFTER)]
    histogram = statistics.histogram(groups, logarithmic=True)
    first, second = (statistics.spread(group) for group in groups)
    if histogram is None or first is None or second is None:
        return None
    svg = histogram_svg(histogram, stacked=False, label="Histograms of the displacement before and after alignment")
    figures = f"median {figure(first.median, 2)} px → {figure(second.median, 2)} px, pairs not rejected"
    meaning = "median of the textured pixels; logarithmic axis"
    return Panel("Displacement before and after", "px", meaning, Markup(svg), figures, ("before", "after"))


def _spread_text(spread: statistics.Spread, quantity: Quantity) -> str:
    median, low, high = (figure(value, quantity.digits) for value in (spread.median, spread.p05, spread.p95))
    return f"median {median} · 90 % in {low} … {high}"


def _sort_key(value: float) -> str:
    return f"{value:.9g}" if math.isfinite(value) else ""


def _flat(values: object, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(values, dict):
        return [(prefix or "value", "none" if values is None else str(values))]
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        rows += _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return rows


def _steps(records: tuple[PairRecord, ...]) -> list[tuple[str, str, str, int]]:
    """(stage, version, configuration, pairs) of every step any pair went through, in the order of the walk."""
    counts: dict[tuple[str, str, str], int] = {}
    for record in records:
        for step in record.history:
            key = (step.stage, step.version, step.config)
            counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in counts.items()]
