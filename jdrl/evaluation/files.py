"""Writes the tables of an evaluation as CSV and JSON, and its pictures as PNG."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from jdrl.evaluation.comparison import RankedScore
from jdrl.evaluation.misalignment import BlockLoss, LossCorrelation, ProbePoint
from jdrl.evaluation.pictures import comparison_strip, draw_comparison, drift_map
from jdrl.evaluation.radius_scores import HarmScore, RadiusScore
from jdrl.evaluation.results import DriftSummary
from jdrl.evaluation.scores import MEAN, Score
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.flow_colours import nice_scale_px
from sdd_toolkit.storage.files import write_csv, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jdrl.evaluation.results import EvaluationResult, ExampleRow
    from jdrl.metrics.drift import Drift

TableRecord = Score | RankedScore | DriftSummary | ProbePoint | BlockLoss | LossCorrelation | RadiusScore | HarmScore


def result_files(out: Path) -> list[Path]:
    """The files that an evaluation may write: tables and page by their names, and all pictures that are there."""
    names = (
        *("evaluation.csv", "evaluation.json", "evaluation.html", "comparison.csv", "drift.csv", "before_after.png"),
        *("radius.csv", "harm.csv"),
        *("misalignment.csv", "misalignment_blocks.csv", "misalignment_correlation.csv", "misalignment.png"),
    )
    return [out / name for name in names] + sorted([*out.glob("pictures/*.png"), *out.glob("drift/*.png")])


def write_tables(out: Path, evaluation: EvaluationResult) -> tuple[str, ...]:
    """Writes evaluation.csv (one row a score, means last), comparison.csv, drift.csv, radius.csv, harm.csv, the tables
    of `--misalignment`, and evaluation.json, which holds everything except single probes, blocks, blur of single pairs.
    """
    tables: dict[str, tuple[type[TableRecord], Sequence[TableRecord]]] = {
        "evaluation.csv": (Score, (*evaluation.images, *evaluation.means)),
        "comparison.csv": (RankedScore, evaluation.standings),
        "drift.csv": (DriftSummary, evaluation.drifts),
    }
    content = asdict(evaluation)
    if evaluation.radii is not None:
        radii = evaluation.radii
        tables["radius.csv"] = RadiusScore, (*radii.pairs, *radii.means)
        tables["harm.csv"] = HarmScore, (*radii.harm_of_pairs, *radii.harm)
        del content["radii"]["pairs"], content["radii"]["harm_of_pairs"]
    if evaluation.misalignment is not None:
        misalignment = evaluation.misalignment
        tables["misalignment.csv"] = ProbePoint, (*misalignment.probes, *misalignment.means)
        tables["misalignment_blocks.csv"] = BlockLoss, misalignment.blocks
        tables["misalignment_correlation.csv"] = LossCorrelation, misalignment.correlations
        del content["misalignment"]["probes"], content["misalignment"]["blocks"]
    for name, (record_type, rows) in tables.items():
        columns = [field.name for field in fields(record_type)]
        write_csv(out / name, columns, [tuple(asdict(row).values()) for row in rows])
    del content["report"]
    write_text(out / "evaluation.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    return tuple(str(out / name) for name in (*tables, "evaluation.json"))


def best_examples(examples: Sequence[ExampleRow], count: int) -> list[ExampleRow]:
    """The `count` pairs with the largest gain of the first checkpoint."""
    return sorted(examples, key=lambda example: (-example.comparisons[0].gain_db, example.pair))[:count]


def write_pictures(out: Path, best: Sequence[ExampleRow]) -> tuple[str, ...]:
    """Writes before_after.png with the first checkpoint's crops, and a picture (input | deblurred | truth) of each."""
    if not best:
        return ()
    overview = out / "before_after.png"
    draw_comparison([example.comparisons[0] for example in best], overview)
    paths = []
    for number, example in enumerate(best, 1):
        paths.append(out / "pictures" / f"{number:02d}.png")
        write_image(paths[-1], comparison_strip(example.comparisons[0]))
    return (str(overview), *(str(path) for path in paths))


def drift_scale_px(examples: Sequence[ExampleRow]) -> float:
    """The displacement of full colour in all maps, pixels."""
    lengths = [drift.p95_px or 0.0 for example in examples for drift in (*example.drifts, example.truth)]
    return nice_scale_px(max(lengths, default=0.0))


def write_drifts(out: Path, examples: Sequence[ExampleRow], labels: Sequence[str]) -> tuple[DriftSummary, ...]:
    """Writes drift/NUMBER-truth.png and drift/NUMBER-CHECKPOINT.png, numbered in the order of pairs and checkpoints.

    Returns:
        The rows of drift.csv, their means last.
    """
    scale = drift_scale_px(examples)
    rows: list[DriftSummary] = []
    for number, example in enumerate(examples, 1):
        maps = [("truth", "", "truth", example.truth)]
        maps += [
            ("deblurred", label, str(model), drift)
            for model, (label, drift) in enumerate(zip(labels, example.drifts, strict=True), 1)
        ]
        for image, label, suffix, drift in maps:
            name = f"drift/{number:04d}-{suffix}.png" if drift.field.size else ""
            if name:
                write_image(out / name, drift_map(drift, scale))
            rows.append(_summarise_drift(example.pair, image, label, drift, name))
    images = [("truth", ""), *(("deblurred", label) for label in labels)]
    return (*rows, *(_mean_drift(rows, image, label) for image, label in images))


def _summarise_drift(pair: str, image: str, label: str, drift: Drift, name: str) -> DriftSummary:
    blocks = drift.lengths_px.size
    abstained = drift.field[..., 0].size - blocks
    return DriftSummary(pair, image, label, drift.mean_px, drift.p95_px, blocks, abstained, name)


def _mean_drift(rows: Sequence[DriftSummary], image: str, label: str) -> DriftSummary:
    chosen = [row for row in rows if (row.image, row.checkpoint) == (image, label)]
    means = []
    for values in ([row.mean_px for row in chosen], [row.p95_px for row in chosen]):
        measured = [value for value in values if value is not None]
        means.append(sum(measured) / len(measured) if measured else None)
    blocks, abstained = sum(row.blocks for row in chosen), sum(row.abstained for row in chosen)
    return DriftSummary(MEAN, image, label, means[0], means[1], blocks, abstained, "")
