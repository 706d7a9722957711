"""The files of an evaluation but for its page: tables as CSV and JSON, pictures as PNG."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from jdrl.evaluation.comparison import RankedScore
from jdrl.evaluation.misalignment import Block, Correlation, ProbePoint
from jdrl.evaluation.pictures import draw_comparison, drift_picture, row_picture
from jdrl.evaluation.results import Displacement
from jdrl.evaluation.scores import MEAN, Score
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.flow_colours import nice_scale_px
from sdd_toolkit.storage.files import write_csv, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jdrl.evaluation.results import Evaluation, ExampleRow
    from jdrl.metrics.drift import Drift

Row = Score | RankedScore | Displacement | ProbePoint | Block | Correlation


def write_tables(out: Path, evaluation: Evaluation) -> tuple[str, ...]:
    """evaluation.csv (one row a score, means last), comparison.csv, drift.csv, those of `--misalignment`, and
    evaluation.json, which holds all but the single probes and blocks.
    """
    tables: dict[str, tuple[type[Row], Sequence[Row]]] = {
        "evaluation.csv": (Score, (*evaluation.images, *evaluation.means)),
        "comparison.csv": (RankedScore, evaluation.standings),
        "drift.csv": (Displacement, evaluation.drifts),
    }
    content = asdict(evaluation)
    if evaluation.misalignment is not None:
        told = evaluation.misalignment
        tables["misalignment.csv"] = ProbePoint, (*told.probes, *told.means)
        tables["misalignment_blocks.csv"] = Block, told.blocks
        tables["misalignment_correlation.csv"] = Correlation, told.correlations
        del content["misalignment"]["probes"], content["misalignment"]["blocks"]
    for name, (kind, rows) in tables.items():
        columns = [field.name for field in fields(kind)]
        write_csv(out / name, columns, [tuple(asdict(row).values()) for row in rows])
    del content["report"]
    write_text(out / "evaluation.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    return tuple(str(out / name) for name in (*tables, "evaluation.json"))


def best_shown(shown: Sequence[ExampleRow], count: int) -> list[ExampleRow]:
    """The `count` pairs whose cut-out the first checkpoint made clearer than any other pair's."""
    return sorted(shown, key=lambda one: (-one.comparisons[0].gain_db, one.pair))[:count]


def write_pictures(out: Path, best: Sequence[ExampleRow]) -> tuple[str, ...]:
    """before_after.png of the first checkpoint's cut-outs, and one plain picture (input | deblurred | truth) each."""
    if not best:
        return ()
    together = out / "before_after.png"
    draw_comparison([one.comparisons[0] for one in best], together)
    paths = []
    for place, one in enumerate(best, 1):
        paths.append(out / "pictures" / f"{place:02d}.png")
        write_image(paths[-1], row_picture(one.comparisons[0]))
    return (str(together), *(str(path) for path in paths))


def drift_scale_px(shown: Sequence[ExampleRow]) -> float:
    """The length of full colour in all maps of displacements."""
    told = [drift.p95_px or 0.0 for one in shown for drift in (*one.drifts, one.truth)]
    return nice_scale_px(max(told, default=0.0))


def write_drifts(out: Path, shown: Sequence[ExampleRow], labels: Sequence[str]) -> tuple[Displacement, ...]:
    """drift/NUMBER-truth.png and drift/NUMBER-CHECKPOINT.png, numbered in the order of pairs and of checkpoints.

    Returns:
        The rows of drift.csv, their means last.
    """
    scale = drift_scale_px(shown)
    rows: list[Displacement] = []
    for number, one in enumerate(shown, 1):
        named = [("truth", "", "truth", one.truth)]
        named += [
            ("deblurred", label, str(place), drift)
            for place, (label, drift) in enumerate(zip(labels, one.drifts, strict=True), 1)
        ]
        for image, label, suffix, drift in named:
            name = f"drift/{number:04d}-{suffix}.png" if drift.field.size else ""
            if name:
                write_image(out / name, drift_picture(drift, scale))
            rows.append(_displacement(one.pair, image, label, drift, name))
    kinds = [("truth", ""), *(("deblurred", label) for label in labels)]
    return (*rows, *(_mean_of(rows, image, label) for image, label in kinds))


def _displacement(pair: str, image: str, label: str, drift: Drift, name: str) -> Displacement:
    blocks = drift.lengths_px.size
    abstained = drift.field[..., 0].size - blocks
    return Displacement(pair, image, label, drift.mean_px, drift.p95_px, blocks, abstained, name)


def _mean_of(rows: Sequence[Displacement], image: str, label: str) -> Displacement:
    chosen = [row for row in rows if (row.image, row.checkpoint) == (image, label)]
    means = []
    for values in ([row.mean_px for row in chosen], [row.p95_px for row in chosen]):
        known = [value for value in values if value is not None]
        means.append(sum(known) / len(known) if known else None)
    blocks, abstained = sum(row.blocks for row in chosen), sum(row.abstained for row in chosen)
    return Displacement(MEAN, image, label, means[0], means[1], blocks, abstained, "")
