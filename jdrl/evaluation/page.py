"""The page of an evaluation: one HTML file with its own style and script, everything escaped by jinja2."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jdrl.evaluation.pictures import drift_picture
from jdrl.evaluation.plots import misalignment_png
from sdd_toolkit.imaging.flow_colours import flow_wheel
from sdd_toolkit.report.pictures import jpeg
from sdd_toolkit.storage.files import write_bytes, write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jdrl.evaluation.comparison import RankedScore
    from jdrl.evaluation.misalignment import Correlation
    from jdrl.evaluation.results import Displacement, Evaluation, ExampleRow

_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the tables: the field of `Score`, its heading, digits, and whether more is better."""

    name: str
    title: str
    digits: int
    more_is_better: bool


SCORES = (
    Measure("psnr_db", "PSNR dB", 2, True),
    Measure("ssim", "SSIM", 4, True),
    Measure("ssim_gaussian", "SSIM Gaussian", 4, True),
    Measure("mae", "MAE", 4, False),
    Measure("psnr_colour_db", "PSNR dB, colour fitted", 2, True),
    Measure("ssim_colour", "SSIM, colour fitted", 4, True),
    Measure("lpips", "LPIPS", 4, False),
    Measure("dists", "DISTS", 4, False),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A number, what it may be by chance, and `good`, `bad` or nothing."""

    value: str
    range: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What a checkpoint made of a pair: data URIs."""

    label: str
    deblurred: str
    psnr: str
    drift: str
    drift_text: str


@dataclass(frozen=True, slots=True)
class Card:
    """One pair in pictures: data URIs."""

    pair: str
    size: tuple[int, int]
    input: str
    truth: str
    input_psnr: str
    truth_drift: str
    truth_drift_text: str
    outputs: tuple[Output, ...]


def write_page(out: Path, evaluation: Evaluation, best: Sequence[ExampleRow], scale_px: float) -> tuple[str, ...]:
    """evaluation.html, and misalignment.png where there was such an experiment.

    Args:
        out: The folder.
        evaluation: What it tells.
        best: The pairs that are pictured.
        scale_px: Of the maps of displacements.
    """
    plot = None
    written = [out / "evaluation.html"]
    if evaluation.misalignment is not None:
        plot = misalignment_png(evaluation.misalignment)
        written.append(out / "misalignment.png")
        write_bytes(written[-1], plot)
    write_text(written[0], render(evaluation, best, scale_px, plot))
    return tuple(str(path) for path in written)


def render(evaluation: Evaluation, best: Sequence[ExampleRow], scale_px: float, plot: bytes | None) -> str:
    """The whole HTML document; arguments as for `write_page`, `plot` as of `misalignment_png`."""
    environment = _environment()
    script, style = (_source(environment, name) for name in ("report.js", "report.css"))
    labels = [model.label for model in evaluation.models]
    told = evaluation.misalignment
    text = environment.get_template("evaluation.html.jinja").render(
        evaluation=evaluation,
        version=__version__,
        measures=_known(evaluation.standings),
        lines=_score_lines(evaluation),
        differences=_difference_lines(evaluation),
        drifts=[_drift_line(row) for row in evaluation.drifts if row.pair == "mean"],
        pairs=_pair_lines(evaluation),
        cards=[_card(one, labels, scale_px) for one in best],
        correlations=[_correlation_line(row) for row in told.correlations] if told else [],
        scale_px=scale_px,
        plot=None if plot is None else "data:image/png;base64," + base64.b64encode(plot).decode("ascii"),
        wheel=jpeg(flow_wheel(96), _QUALITY),
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


def _source(environment: Environment, name: str) -> str:
    return cast("ChoiceLoader", environment.loader).get_source(environment, name)[0]


def _known(standings: Sequence[RankedScore]) -> list[Measure]:
    names = {standing.measure for standing in standings}
    return [measure for measure in SCORES if measure.name in names]


def _score_lines(evaluation: Evaluation) -> list[Line]:
    found = {(row.protocol, row.image, row.checkpoint, row.measure): row for row in evaluation.standings}
    lines = []
    for mean in evaluation.means:
        cells = []
        for measure in _known(evaluation.standings):
            row = found.get((mean.protocol, mean.image, mean.checkpoint, measure.name))
            if row is None:
                cells.append(Cell("–"))
            else:
                cells.append(Cell(_text(row.mean, measure.digits), _range(row.low, row.high, measure.digits)))
        lines.append(Line((mean.protocol, mean.checkpoint or mean.image), tuple(cells)))
    return lines


def _difference_lines(evaluation: Evaluation) -> list[Line]:
    found = {(row.protocol, row.checkpoint, row.measure): row for row in evaluation.standings}
    protocols = dict.fromkeys(row.protocol for row in evaluation.standings)
    lines = []
    for protocol in protocols:
        for model in evaluation.models[1:]:
            rows = [found.get((protocol, model.label, measure.name)) for measure in _known(evaluation.standings)]
            cells = [_difference(row, measure) for row, measure in zip(rows, _known(evaluation.standings), strict=True)]
            lines.append(Line((protocol, model.label), tuple(cells)))
    return lines


def _difference(row: RankedScore | None, measure: Measure) -> Cell:
    if row is None or row.difference is None:
        return Cell("–")
    verdict = ""
    if row.difference_low is not None and row.difference_high is not None:
        sure = row.difference_low > 0 or row.difference_high < 0
        verdict = ("good" if (row.difference > 0) == measure.more_is_better else "bad") if sure else ""
    value = f"{row.difference:+.{measure.digits}f}"
    return Cell(value, _range(row.difference_low, row.difference_high, measure.digits, sign="+"), verdict)


def _drift_line(row: Displacement) -> Line:
    name = row.checkpoint or "sharp frame, aligned"
    cells = (Cell(_text(row.mean_px, 3)), Cell(_text(row.p95_px, 3)), Cell(str(row.blocks)), Cell(str(row.abstained)))
    return Line((name,), cells)


def _pair_lines(evaluation: Evaluation) -> list[Line]:
    return [
        Line(
            (score.pair, score.protocol, score.checkpoint or score.image),
            (
                *(Cell(_text(getattr(score, one.name), one.digits)) for one in _known(evaluation.standings)),
                Cell(_text(score.drift_px, 3)),
            ),
        )
        for score in evaluation.images
    ]


def _correlation_line(row: Correlation) -> Line:
    cells = (Cell(str(row.blocks)), Cell(_text(row.of_loss, 3)), Cell(_text(row.of_relative_loss, 3)))
    return Line((row.checkpoint, row.protocol), cells)


def _card(one: ExampleRow, labels: Sequence[str], scale_px: float) -> Card:
    first = one.comparisons[0]
    outputs = tuple(
        Output(
            label,
            jpeg(comparison.deblurred, _QUALITY),
            _text(comparison.deblurred_psnr_db, 2),
            jpeg(drift_picture(drift, scale_px), _QUALITY) if drift.field.size else "",
            _text(drift.mean_px, 2),
        )
        for label, comparison, drift in zip(labels, one.comparisons, one.drifts, strict=True)
    )
    height, width = first.input.shape[:2]
    return Card(
        one.pair,
        (height, width),
        jpeg(first.input, _QUALITY),
        jpeg(first.truth, _QUALITY),
        _text(first.input_psnr_db, 2),
        jpeg(drift_picture(one.truth, scale_px), _QUALITY) if one.truth.field.size else "",
        _text(one.truth.mean_px, 2),
        outputs,
    )


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _range(low: float | None, high: float | None, digits: int, sign: str = "") -> str:
    return "" if low is None or high is None else f"{low:{sign}.{digits}f} … {high:{sign}.{digits}f}"
