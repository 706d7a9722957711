"""The HTML page of an evaluation: one self-contained file, its text escaped by jinja2."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jdrl.evaluation.pictures import drift_map
from jdrl.evaluation.plots import plot_misalignment
from jdrl.evaluation.score_card import card_lines
from sdd_toolkit.imaging.flow_colours import flow_wheel
from sdd_toolkit.report.pictures import jpeg
from sdd_toolkit.storage.files import write_bytes, write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jdrl.evaluation.comparison import RankedScore
    from jdrl.evaluation.misalignment import LossCorrelation
    from jdrl.evaluation.results import DriftSummary, EvaluationResult, ExampleRow

_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class MeasureColumn:
    """A column of the tables: a field of `Score`, its heading, its decimals, and whether larger is better."""

    name: str
    title: str
    digits: int
    more_is_better: bool


COLUMNS = (
    MeasureColumn("psnr_db", "PSNR dB", 2, True),
    MeasureColumn("ssim", "SSIM", 4, True),
    MeasureColumn("ssim_gaussian", "SSIM Gaussian", 4, True),
    MeasureColumn("mae", "MAE", 4, False),
    MeasureColumn("psnr_colour_db", "PSNR dB, colour fitted", 2, True),
    MeasureColumn("ssim_colour", "SSIM, colour fitted", 4, True),
    MeasureColumn("lpips", "LPIPS", 4, False),
    MeasureColumn("dists", "DISTS", 4, False),
)


@dataclass(frozen=True, slots=True)
class TableCell:
    """A number, its confidence interval, and a verdict: `good`, `bad` or empty."""

    value: str
    range: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table."""

    names: tuple[str, ...]
    cells: tuple[TableCell, ...]


@dataclass(frozen=True, slots=True)
class OutputPictures:
    """A checkpoint's pictures of a pair, as data URIs, and their captions."""

    label: str
    deblurred: str
    psnr: str
    drift: str
    drift_text: str


@dataclass(frozen=True, slots=True)
class PairPictures:
    """All pictures of a pair, as data URIs, and their captions."""

    pair: str
    size: tuple[int, int]
    input: str
    truth: str
    input_psnr: str
    truth_drift: str
    truth_drift_text: str
    outputs: tuple[OutputPictures, ...]


def write_page(out: Path, evaluation: EvaluationResult, best: Sequence[ExampleRow], scale_px: float) -> tuple[str, ...]:
    """Writes evaluation.html, and misalignment.png if misalignment was planted.

    Args:
        out: The folder.
        evaluation: The result.
        best: The pairs to picture.
        scale_px: Displacement of full colour in the maps.
    """
    plot = None
    written = [out / "evaluation.html"]
    if evaluation.misalignment is not None:
        plot = plot_misalignment(evaluation.misalignment)
        written.append(out / "misalignment.png")
        write_bytes(written[-1], plot)
    write_text(written[0], render_page(evaluation, best, scale_px, plot))
    return tuple(str(path) for path in written)


def render_page(evaluation: EvaluationResult, best: Sequence[ExampleRow], scale_px: float, plot: bytes | None) -> str:
    """Renders the HTML document; arguments as for `write_page`, `plot` is the PNG of `plot_misalignment`."""
    environment = _environment()
    script, style = (_template_source(environment, name) for name in ("report.js", "report.css"))
    labels = [model.label for model in evaluation.models]
    misalignment = evaluation.misalignment
    text = environment.get_template("evaluation.html.jinja").render(
        evaluation=evaluation,
        card=card_lines(evaluation.card) if evaluation.card else (),
        version=__version__,
        measures=_present_measures(evaluation.standings),
        lines=_score_rows(evaluation),
        differences=_difference_rows(evaluation),
        drifts=[_drift_row(row) for row in evaluation.drifts if row.pair == "mean"],
        pairs=_pair_rows(evaluation),
        cards=[_pair_pictures(example, labels, scale_px) for example in best],
        correlations=[_correlation_row(row) for row in misalignment.correlations] if misalignment else [],
        scale_px=scale_px,
        plot=None if plot is None else "data:image/png;base64," + base64.b64encode(plot).decode("ascii"),
        wheel=jpeg(flow_wheel(96), _JPEG_QUALITY),
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )
    return text if text.endswith("\n") else text + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader("jdrl.evaluation"), PackageLoader("sdd_toolkit.report")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _template_source(environment: Environment, name: str) -> str:
    return cast("ChoiceLoader", environment.loader).get_source(environment, name)[0]


def _present_measures(standings: Sequence[RankedScore]) -> list[MeasureColumn]:
    names = {standing.measure for standing in standings}
    return [measure for measure in COLUMNS if measure.name in names]


def _score_rows(evaluation: EvaluationResult) -> list[TableRow]:
    rows_by_key = {(row.protocol, row.image, row.checkpoint, row.measure): row for row in evaluation.standings}
    lines = []
    for mean in evaluation.means:
        cells = []
        for measure in _present_measures(evaluation.standings):
            row = rows_by_key.get((mean.protocol, mean.image, mean.checkpoint, measure.name))
            if row is None:
                cells.append(TableCell("–"))
            else:
                cells.append(
                    TableCell(
                        _format_number(row.mean, measure.digits), _format_interval(row.low, row.high, measure.digits)
                    )
                )
        lines.append(TableRow((mean.protocol, mean.checkpoint or mean.image), tuple(cells)))
    return lines


def _difference_rows(evaluation: EvaluationResult) -> list[TableRow]:
    rows_by_key = {(row.protocol, row.checkpoint, row.measure): row for row in evaluation.standings}
    protocols = dict.fromkeys(row.protocol for row in evaluation.standings)
    lines = []
    for protocol in protocols:
        for model in evaluation.models[1:]:
            rows = [
                rows_by_key.get((protocol, model.label, measure.name))
                for measure in _present_measures(evaluation.standings)
            ]
            cells = [
                _difference_cell(row, measure)
                for row, measure in zip(rows, _present_measures(evaluation.standings), strict=True)
            ]
            lines.append(TableRow((protocol, model.label), tuple(cells)))
    return lines


def _difference_cell(row: RankedScore | None, measure: MeasureColumn) -> TableCell:
    if row is None or row.difference is None:
        return TableCell("–")
    verdict = ""
    if row.difference_low is not None and row.difference_high is not None:
        significant = row.difference_low > 0 or row.difference_high < 0
        verdict = ("good" if (row.difference > 0) == measure.more_is_better else "bad") if significant else ""
    value = f"{row.difference:+.{measure.digits}f}"
    return TableCell(
        value, _format_interval(row.difference_low, row.difference_high, measure.digits, sign="+"), verdict
    )


def _drift_row(row: DriftSummary) -> TableRow:
    name = row.checkpoint or "sharp frame, aligned"
    cells = (
        TableCell(_format_number(row.mean_px, 3)),
        TableCell(_format_number(row.p95_px, 3)),
        TableCell(str(row.blocks)),
        TableCell(str(row.abstained)),
    )
    return TableRow((name,), cells)


def _pair_rows(evaluation: EvaluationResult) -> list[TableRow]:
    return [
        TableRow(
            (score.pair, score.protocol, score.checkpoint or score.image),
            (
                *(
                    TableCell(_format_number(getattr(score, measure.name), measure.digits))
                    for measure in _present_measures(evaluation.standings)
                ),
                TableCell(_format_number(score.drift_px, 3)),
            ),
        )
        for score in evaluation.images
    ]


def _correlation_row(row: LossCorrelation) -> TableRow:
    cells = (
        TableCell(str(row.blocks)),
        TableCell(_format_number(row.of_loss, 3)),
        TableCell(_format_number(row.of_relative_loss, 3)),
    )
    return TableRow((row.checkpoint, row.protocol), cells)


def _pair_pictures(example: ExampleRow, labels: Sequence[str], scale_px: float) -> PairPictures:
    first = example.comparisons[0]
    outputs = tuple(
        OutputPictures(
            label,
            jpeg(comparison.deblurred, _JPEG_QUALITY),
            _format_number(comparison.deblurred_psnr_db, 2),
            jpeg(drift_map(drift, scale_px), _JPEG_QUALITY) if drift.field.size else "",
            _format_number(drift.mean_px, 2),
        )
        for label, comparison, drift in zip(labels, example.comparisons, example.drifts, strict=True)
    )
    height, width = first.input.shape[:2]
    return PairPictures(
        example.pair,
        (height, width),
        jpeg(first.input, _JPEG_QUALITY),
        jpeg(first.truth, _JPEG_QUALITY),
        _format_number(first.input_psnr_db, 2),
        jpeg(drift_map(example.truth, scale_px), _JPEG_QUALITY) if example.truth.field.size else "",
        _format_number(example.truth.mean_px, 2),
        outputs,
    )


def _format_number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _format_interval(low: float | None, high: float | None, digits: int, sign: str = "") -> str:
    return "" if low is None or high is None else f"{low:{sign}.{digits}f} … {high:{sign}.{digits}f}"
