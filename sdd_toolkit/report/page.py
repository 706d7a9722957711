"""The HTML page of the report: its tables, figures and texts, rendered and escaped by jinja2.

The page contains its own style sheet and script; a content security policy forbids any connection and any other
script.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sdd_toolkit import statistics
from sdd_toolkit.imaging.flow_colours import flow_wheel
from sdd_toolkit.measurement_table import KEPT, REJECTED
from sdd_toolkit.records import REASON_TEXT, Reason, value_counts
from sdd_toolkit.report.figures import histogram_svg
from sdd_toolkit.report.lenses import group_rows, lens_views
from sdd_toolkit.report.pictures import jpeg
from sdd_toolkit.report.quantities import (
    AFTER,
    BEFORE,
    CARD_NUMBERS,
    COMPONENTS,
    PANELS,
    TABLE_COLUMNS,
    Quantity,
    exposure_text,
    format_number,
)
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd

    from sdd_toolkit.records import PairRecord
    from sdd_toolkit.report.pictures import PairPictures


@dataclass(frozen=True, slots=True)
class Page:
    """The content of the page; see `stage.ReportInputs` for the fields of the same name.

    Attributes:
        title: Heading of the page.
        stage: Stem of the manifest: `ingested`, `aligned` or `filtered`.
        frame: `measurement_table.build_table` of the records, in their order.
        pictures: Pictures of the pictured pairs, by id.
        listed: Ids of the pairs in the table.
        stamp: Fingerprint of everything the page depends on.
    """

    title: str
    stage: str
    records: tuple[PairRecord, ...]
    frame: pd.DataFrame
    pictures: dict[str, PairPictures]
    listed: frozenset[str]
    packed: frozenset[str] | None
    rejected_files: tuple[tuple[str, str, str], ...] | None
    thresholds: dict[str, Any]
    notes: tuple[str, ...]
    stamp: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A histogram with its heading and its line of figures."""

    name: str
    unit: str
    meaning: str
    svg: Markup
    figures: str
    legend: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a bar list; `share` is its length, 0 … 1."""

    name: str
    count: int
    share: float
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class PairView:
    """A pair in the table and on its card."""

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


def render_page(page: Page) -> str:
    """Renders the HTML document; equal pages give equal text."""
    environment = _environment()
    script, style = (_read_template(environment, name) for name in ("report.js", "report.css"))
    listed = [index for index, record in enumerate(page.records) if record.id in page.listed]
    rows = page.frame.iloc[listed].to_dict("records")
    views = [_pair_view(page, index + 1, page.records[index], row) for index, row in zip(listed, rows, strict=True)]
    pictured = [view for view in views if view.pictures is not None]
    summary = statistics.summary(page.frame)
    text = environment.get_template("report.html.jinja").render(
        page=page,
        version=__version__,
        summary=summary,
        funnel=_funnel(page),
        reasons=_reason_bars(summary.reasons),
        file_reasons=_reason_bars(_file_reasons(page)),
        panels=_panels(page.frame),
        components=COMPONENTS,
        groups=group_rows(page.frame),
        lenses=lens_views(page.records),
        columns=TABLE_COLUMNS,
        views=views,
        kept_cards=[view for view in pictured if view.verdict != REJECTED],
        rejected_cards=[view for view in pictured if view.verdict == REJECTED],
        reason_text=_reason_text,
        thresholds=[(name, list(_flatten(values))) for name, values in sorted(page.thresholds.items())],
        steps=_count_steps(page.records),
        wheel=jpeg(flow_wheel(96), 92),
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )
    return text if text.endswith("\n") else text + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sdd_toolkit.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["thousands"] = lambda count: f"{count:,}"
    return environment


def _read_template(environment: Environment, name: str) -> str:
    return cast("PackageLoader", environment.loader).get_source(environment, name)[0]


def _pair_view(page: Page, number: int, record: PairRecord, row: dict[Hashable, Any]) -> PairView:
    return PairView(
        number=number,
        record=record,
        verdict=str(row["verdict"]),
        reason=str(row["reason"]),
        explanation=_reason_text(str(row["reason"])),
        detail=str(row["detail"]),
        camera=statistics.camera_name(row["make"], row["model"]),
        blur_exposure=exposure_text(record.blur_meta.exposure),
        sharp_exposure=exposure_text(record.sharp_meta.exposure),
        cells=tuple((format_number(row[q.column], q.digits), _sort_key(row[q.column])) for q in TABLE_COLUMNS),
        numbers=tuple(
            (q.name, format_number(row[q.column], q.digits), q.unit)
            for q in CARD_NUMBERS
            if math.isfinite(row[q.column])
        ),
        pictures=page.pictures.get(record.id),
    )


def _funnel(page: Page) -> list[Bar]:
    frame = page.frame
    in_pairs = len({ref.path for record in page.records for ref in (record.blur, record.sharp)})
    steps: list[tuple[str, int, str]] = []
    if page.rejected_files is not None:
        count = in_pairs + len({path for path, _, _ in page.rejected_files})
        steps.append(("Files found", count, "photographs and other files beside them, but the toolkit's own"))
    steps.append(("Files in pairs", in_pairs, ""))
    # A pair is two files: bars of pairs are drawn at double length, so that the funnel narrows only by losses.
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
    return [Bar(reason, count, count / most, _reason_text(reason)) for reason, count in counts.items()]


def _file_reasons(page: Page) -> dict[str, int]:
    return value_counts(reason for _, reason, _ in page.rejected_files or ())


def _reason_text(reason: str) -> str:
    return REASON_TEXT[Reason(reason)] if reason in list(Reason) else ""


def _panels(frame: pd.DataFrame) -> list[Panel]:
    rejected = frame["verdict"] == REJECTED
    others = "kept" if (frame["verdict"] == KEPT).any() else "not judged"
    legend = (others, "rejected") if rejected.any() and not rejected.all() else ("", "")
    panels = [_before_after(frame[~rejected] if not rejected.all() else frame)]
    for quantity in PANELS:
        values = frame[quantity.column].to_numpy()
        if not np.nan_to_num(values).any():
            continue  # zero for every pair
        histogram = statistics.histogram([values[~rejected], values[rejected]])
        spread = statistics.quantiles(values[~rejected]) or statistics.quantiles(values)
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
    first, second = (statistics.quantiles(group) for group in groups)
    if histogram is None or first is None or second is None:
        return None
    svg = histogram_svg(histogram, stacked=False, label="Histograms of the displacement before and after alignment")
    figures = f"median {format_number(first.median, 2)} px → {format_number(second.median, 2)} px, pairs not rejected"
    meaning = "median of the textured pixels; logarithmic axis"
    return Panel("Displacement before and after", "px", meaning, Markup(svg), figures, ("before", "after"))


def _spread_text(spread: statistics.Quantiles, quantity: Quantity) -> str:
    median, low, high = (format_number(value, quantity.digits) for value in (spread.median, spread.p05, spread.p95))
    return f"median {median} · 90 % in {low} … {high}"


def _sort_key(value: float) -> str:
    return f"{value:.9g}" if math.isfinite(value) else ""


def _flatten(values: object, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(values, dict):
        return [(prefix or "value", "none" if values is None else str(values))]
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        rows += _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return rows


def _count_steps(records: tuple[PairRecord, ...]) -> list[tuple[str, str, str, int]]:
    """(stage, version, configuration, number of pairs) of every step in the history of the pairs, in order."""
    counts: dict[tuple[str, str, str], int] = {}
    for record in records:
        for step in record.history:
            key = (step.stage, step.version, step.config)
            counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in counts.items()]
