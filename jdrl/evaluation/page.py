"""The HTML page of an evaluation: one self-contained file, its text escaped by jinja2."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jdrl.evaluation.page_tables import (
    RADIUS_COLUMNS,
    all_radius_rows,
    answer_rows,
    answer_text,
    correlation_row,
    difference_rows,
    drift_row,
    format_number,
    harm_rows,
    pair_rows,
    present_measures,
    radius_rows,
    score_rows,
)
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

    from jdrl.evaluation.results import EvaluationResult, ExampleRow

_JPEG_QUALITY = 92


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
        measures=present_measures(evaluation.standings),
        answer=answer_text(evaluation),
        answers=answer_rows(evaluation),
        radius_columns=RADIUS_COLUMNS,
        radii=radius_rows(evaluation),
        all_radii=all_radius_rows(evaluation),
        harm=harm_rows(evaluation),
        lines=score_rows(evaluation),
        differences=difference_rows(evaluation),
        drifts=[drift_row(row) for row in evaluation.drifts if row.pair == "mean"],
        pairs=pair_rows(evaluation),
        cards=[_pair_pictures(example, labels, scale_px) for example in best],
        correlations=[correlation_row(row) for row in misalignment.correlations] if misalignment else [],
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


def _pair_pictures(example: ExampleRow, labels: Sequence[str], scale_px: float) -> PairPictures:
    first = example.comparisons[0]
    outputs = tuple(
        OutputPictures(
            label,
            jpeg(comparison.deblurred, _JPEG_QUALITY),
            format_number(comparison.deblurred_psnr_db, 2),
            jpeg(drift_map(drift, scale_px), _JPEG_QUALITY) if drift.field.size else "",
            format_number(drift.mean_px, 2),
        )
        for label, comparison, drift in zip(labels, example.comparisons, example.drifts, strict=True)
    )
    height, width = first.input.shape[:2]
    return PairPictures(
        example.pair,
        (height, width),
        jpeg(first.input, _JPEG_QUALITY),
        jpeg(first.truth, _JPEG_QUALITY),
        format_number(first.input_psnr_db, 2),
        jpeg(drift_map(example.truth, scale_px), _JPEG_QUALITY) if example.truth.field.size else "",
        format_number(example.truth.mean_px, 2),
        outputs,
    )
