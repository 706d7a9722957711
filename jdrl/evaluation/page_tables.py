"""Rows of the tables on the page of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jdrl.evaluation.protocols import ALIGNED, UNWARPED
from jdrl.evaluation.radius_scores import ALL, RADIUS_BINS, SIZES
from jdrl.evaluation.scores import MEAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jdrl.evaluation.comparison import RankedScore
    from jdrl.evaluation.misalignment import LossCorrelation
    from jdrl.evaluation.radius_scores import HarmScore, RadiusScore
    from jdrl.evaluation.results import DriftSummary, EvaluationResult

RADIUS_COLUMNS = (ALL, *RADIUS_BINS)


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


def present_measures(standings: Sequence[RankedScore]) -> list[MeasureColumn]:
    """The columns that hold a number."""
    names = {standing.measure for standing in standings}
    return [measure for measure in COLUMNS if measure.name in names]


def score_rows(evaluation: EvaluationResult) -> list[TableRow]:
    """Means of every image under every protocol, with their intervals."""
    rows_by_key = {(row.protocol, row.image, row.checkpoint, row.measure): row for row in evaluation.standings}
    lines = []
    for mean in evaluation.means:
        cells = []
        for measure in present_measures(evaluation.standings):
            row = rows_by_key.get((mean.protocol, mean.image, mean.checkpoint, measure.name))
            if row is None:
                cells.append(TableCell("–"))
            else:
                cells.append(
                    TableCell(
                        format_number(row.mean, measure.digits), format_interval(row.low, row.high, measure.digits)
                    )
                )
        lines.append(TableRow((mean.protocol, mean.checkpoint or mean.image), tuple(cells)))
    return lines


def difference_rows(evaluation: EvaluationResult) -> list[TableRow]:
    """Differences from the first method, with their intervals."""
    rows_by_key = {(row.protocol, row.checkpoint, row.measure): row for row in evaluation.standings}
    protocols = dict.fromkeys(row.protocol for row in evaluation.standings)
    lines = []
    for protocol in protocols:
        for model in evaluation.models[1:]:
            rows = [
                rows_by_key.get((protocol, model.label, measure.name))
                for measure in present_measures(evaluation.standings)
            ]
            cells = [
                difference_cell(row, measure)
                for row, measure in zip(rows, present_measures(evaluation.standings), strict=True)
            ]
            lines.append(TableRow((protocol, model.label), tuple(cells)))
    return lines


def difference_cell(row: RankedScore | None, measure: MeasureColumn) -> TableCell:
    """A difference, coloured where it is significant."""
    if row is None or row.difference is None:
        return TableCell("–")
    verdict = ""
    if row.difference_low is not None and row.difference_high is not None:
        significant = row.difference_low > 0 or row.difference_high < 0
        verdict = ("good" if (row.difference > 0) == measure.more_is_better else "bad") if significant else ""
    value = f"{row.difference:+.{measure.digits}f}"
    return TableCell(value, format_interval(row.difference_low, row.difference_high, measure.digits, sign="+"), verdict)


def drift_row(row: DriftSummary) -> TableRow:
    """The drift of one image."""
    name = row.checkpoint or "sharp frame, aligned"
    cells = (
        TableCell(format_number(row.mean_px, 3)),
        TableCell(format_number(row.p95_px, 3)),
        TableCell(str(row.blocks)),
        TableCell(str(row.abstained)),
    )
    return TableRow((name,), cells)


def pair_rows(evaluation: EvaluationResult) -> list[TableRow]:
    """Every score of every pair."""
    return [
        TableRow(
            (score.pair, score.protocol, score.checkpoint or score.image),
            (
                *(
                    TableCell(format_number(getattr(score, measure.name), measure.digits))
                    for measure in present_measures(evaluation.standings)
                ),
                TableCell(format_number(score.drift_px, 3)),
            ),
        )
        for score in evaluation.images
    ]


def correlation_row(row: LossCorrelation) -> TableRow:
    """The correlation of loss and flow of one method."""
    cells = (
        TableCell(str(row.blocks)),
        TableCell(format_number(row.of_loss, 3)),
        TableCell(format_number(row.of_relative_loss, 3)),
    )
    return TableRow((row.checkpoint, row.protocol), cells)


def answer_rows(evaluation: EvaluationResult) -> list[TableRow]:
    """What each method does, in one line: gain, on how many pairs, change where the input is sharp, drift."""
    drifts = {row.checkpoint: row for row in evaluation.drifts if row.pair == MEAN}
    lines = []
    for model in evaluation.models:
        gain = find_radius(evaluation, model.label, ALIGNED, "native", ALL)
        harm = find_harm(evaluation, model.label, "native")
        drift = drifts.get(model.label)
        cells = (
            gain_cell(gain, fitted=True),
            TableCell("–" if gain is None else f"{gain.better} of {gain.pairs}"),
            TableCell(_to_input(harm)),
            TableCell(_percent(harm.changed_share if harm else None)),
            TableCell(format_number(drift.mean_px if drift else None, 3)),
        )
        lines.append(TableRow((model.label,), cells))
    return lines


def answer_text(evaluation: EvaluationResult) -> str:
    """The result in a sentence; empty where nothing was measured."""
    gains = [find_radius(evaluation, model.label, ALIGNED, "native", ALL) for model in evaluation.models]
    known = [gain for gain in gains if gain is not None and gain.gain_colour_db is not None]
    if not known:
        return ""
    best = max(known, key=lambda gain: gain.gain_colour_db or 0.0)
    value = best.gain_colour_db or 0.0
    low, high = best.gain_colour_low_db, best.gain_colour_high_db
    interval = f" (95 %: {low:+.2f} … {high:+.2f})" if low is not None and high is not None else ""
    doubtful = low is not None and high is not None and low <= 0 <= high
    verb = "is as good as its input" if doubtful else "gains on its input" if value > 0 else "is worse than its input"
    name = f"The best, {best.checkpoint}," if len(evaluation.models) > 1 else best.checkpoint
    return f"{name} {verb}: {value:+.2f} dB{interval}, better on {best.better} of {best.pairs} pairs."


def radius_rows(evaluation: EvaluationResult) -> list[TableRow]:
    """The headline by blur: PSNR of the input, and what each method gains, aligned, colours fitted, native size."""
    inputs = [find_radius(evaluation, "", ALIGNED, "native", radius) for radius in RADIUS_COLUMNS]
    first = [
        TableCell("–")
        if row is None
        else TableCell(format_number(row.psnr_colour_db, 2), f"{_percent(row.share)} of pixels, pairs: {row.pairs}")
        for row in inputs
    ]
    lines = [TableRow(("input, PSNR dB",), tuple(first))]
    for model in evaluation.models:
        rows = [find_radius(evaluation, model.label, ALIGNED, "native", radius) for radius in RADIUS_COLUMNS]
        lines.append(TableRow((f"{model.label}, gain dB",), tuple(gain_cell(row, fitted=True) for row in rows)))
    return lines


def all_radius_rows(evaluation: EvaluationResult) -> list[TableRow]:
    """The same for both protocols, every size, plain and colour fitted."""
    lines = []
    for protocol in (ALIGNED, UNWARPED):
        for size in SIZES:
            for fitted in (True, False):
                for label in ("", *(model.label for model in evaluation.models)):
                    rows = [find_radius(evaluation, label, protocol, size, radius) for radius in RADIUS_COLUMNS]
                    cells = tuple(gain_cell(row, fitted=fitted) if label else _psnr_cell(row, fitted) for row in rows)
                    colours = "fitted" if fitted else "plain"
                    lines.append(TableRow((protocol, size, colours, label or "input, PSNR dB"), cells))
    return lines


def harm_rows(evaluation: EvaluationResult) -> list[TableRow]:
    """What each method does where the input is in focus, at every size."""
    lines = []
    for model in evaluation.models:
        cells = []
        for size in SIZES:
            harm = find_harm(evaluation, model.label, size)
            cells += [TableCell(_to_input(harm)), TableCell(_percent(harm.changed_share if harm else None))]
        lines.append(TableRow((model.label,), tuple(cells)))
    return lines


def find_radius(evaluation: EvaluationResult, label: str, protocol: str, size: str, radius: str) -> RadiusScore | None:
    """The mean of one method (empty: the input) in one bin; None without such pixels."""
    wanted = (label, protocol, size, radius)
    rows = evaluation.radii.means if evaluation.radii else ()
    return next((row for row in rows if (row.checkpoint, row.protocol, row.size, row.radius) == wanted), None)


def find_harm(evaluation: EvaluationResult, label: str, size: str) -> HarmScore | None:
    """The mean of one method where the input is in focus; None where nothing is."""
    rows = evaluation.radii.harm if evaluation.radii else ()
    return next((row for row in rows if (row.checkpoint, row.size) == (label, size) and row.pixels), None)


def gain_cell(row: RadiusScore | None, *, fitted: bool) -> TableCell:
    """A gain on the input, coloured where it is significant."""
    if row is None:
        return TableCell("–")
    plain = (row.gain_db, row.gain_low_db, row.gain_high_db)
    colour = (row.gain_colour_db, row.gain_colour_low_db, row.gain_colour_high_db)
    value, low, high = colour if fitted else plain
    if value is None:
        return TableCell("–")
    certain = low is not None and high is not None and (low > 0 or high < 0)
    verdict = ("good" if value > 0 else "bad") if certain else ""
    return TableCell(f"{value:+.2f}", format_interval(low, high, 2, sign="+"), verdict)


def _psnr_cell(row: RadiusScore | None, fitted: bool) -> TableCell:
    return TableCell("–" if row is None else format_number(row.psnr_colour_db if fitted else row.psnr_db, 2))


def _to_input(harm: HarmScore | None) -> str:
    if harm is None:
        return "–"
    return "∞" if harm.squared_error == 0 else format_number(harm.psnr_to_input_db, 2)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


def format_number(value: float | None, digits: int) -> str:
    """A number of so many decimals; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def format_interval(low: float | None, high: float | None, digits: int, sign: str = "") -> str:
    """The two ends of an interval; empty without one."""
    return "" if low is None or high is None else f"{low:{sign}.{digits}f} … {high:{sign}.{digits}f}"
