"""Records of an evaluation: checkpoints, drift of images, example pictures, and the whole result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jdrl.evaluation.comparison import RankedScore
    from jdrl.evaluation.misalignment import MisalignmentResult
    from jdrl.evaluation.pictures import CropComparison
    from jdrl.evaluation.radius_scores import RadiusResult
    from jdrl.evaluation.score_card import CheckpointInfo, ScoreCard
    from jdrl.evaluation.scores import Score
    from jdrl.metrics.drift import Drift
    from sdd_toolkit.records import Report


@dataclass(frozen=True, slots=True)
class DriftSummary:
    """The drift of an image against the blurred frame of its pair, over the blocks with an estimate.

    Attributes:
        pair: The pair's id; `mean` for the mean over all pairs.
        image: `deblurred`, or `truth`: the aligned sharp frame, whose drift is the error of the alignment.
        checkpoint: Label of the checkpoint; empty for the truth.
        mean_px: Mean length; None where every block abstains.
        p95_px: 95th percentile.
        blocks: Number of blocks with an estimate.
        abstained: Number of blocks without one.
        map: Path of its picture, relative to the output folder; empty for the mean.
    """

    pair: str
    image: str
    checkpoint: str
    mean_px: float | None
    p95_px: float | None
    blocks: int
    abstained: int
    map: str


@dataclass(frozen=True, slots=True, eq=False)
class ExampleRow:
    """The pictures of a pair.

    Attributes:
        pair: The pair's id.
        comparisons: The same crop for every checkpoint.
        drifts: Of every checkpoint's output.
        truth: Drift of the aligned sharp frame.
    """

    pair: str
    comparisons: tuple[CropComparison, ...]
    drifts: tuple[Drift, ...]
    truth: Drift


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """All scores of an evaluation and their means; `asdict` of it is evaluation.json.

    Attributes:
        report: Counts, time and outputs.
        checkpoint: Name of the first checkpoint, or method.
        step: Its optimiser steps; None for pictures.
        split: Which split was scored.
        encoding: Of the data set.
        domain: Of the scored values: `sRGB` or `linear light`.
        means: Over all pairs.
        images: Pair by pair.
        models: Every method: the checkpoints, then the pictures of others, in the order given.
        standings: Means with confidence intervals, and differences from the first method.
        drifts: Pair by pair, the mean last.
        misalignment: Of `--misalignment`; None without.
        notes: Missing or estimated parts, and the reasons.
        card: What the scores depend on.
        radii: Scores by the blur of the input, and harm where it is in focus.
    """

    report: Report
    checkpoint: str
    step: int | None
    split: str
    encoding: str
    domain: str
    means: tuple[Score, ...]
    images: tuple[Score, ...]
    models: tuple[CheckpointInfo, ...]
    standings: tuple[RankedScore, ...]
    drifts: tuple[DriftSummary, ...]
    misalignment: MisalignmentResult | None
    notes: tuple[str, ...]
    card: ScoreCard | None = None
    radii: RadiusResult | None = None
