"""What an evaluation found: records, no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jdrl.evaluation.comparison import RankedScore
    from jdrl.evaluation.misalignment import Misalignment
    from jdrl.evaluation.pictures import Comparison
    from jdrl.evaluation.scores import Score
    from jdrl.metrics.drift import Drift
    from sdd_toolkit.records import Report


@dataclass(frozen=True, slots=True)
class Model:
    """One of the checkpoints.

    Attributes:
        label: RUN/step-…, unlike that of any other checkpoint here.
        step: Its optimiser steps.
        network: Name of its network.
    """

    label: str
    step: int
    network: str


@dataclass(frozen=True, slots=True)
class Displacement:
    """How far an image lies off the blurred frame of its pair, over the blocks that can tell.

    Attributes:
        pair: The pair's id; `mean` for the mean over all pairs.
        image: `deblurred`, or `truth`: the aligned sharp frame, whose drift is what alignment left.
        checkpoint: Which one deblurred; empty for the truth.
        mean_px: Mean length; None where every block abstains.
        p95_px: 95th percentile.
        blocks: How many blocks tell.
        abstained: How many do not.
        map: Its picture, relative to the output folder; empty for the mean.
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
    """What there is to be seen of a pair.

    Attributes:
        pair: The pair's id.
        comparisons: The same cut-out for every checkpoint.
        drifts: Of every checkpoint's output.
        truth: Drift of the aligned sharp frame.
    """

    pair: str
    comparisons: tuple[Comparison, ...]
    drifts: tuple[Drift, ...]
    truth: Drift


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was scored: one mean per image kind and protocol, and every single score.

    Attributes:
        report: Counts, time and outputs.
        checkpoint: Name of the first checkpoint.
        step: Its optimiser steps.
        split: Which split was scored.
        encoding: Of the data set.
        domain: Of the values that were scored: `sRGB` or `linear light`.
        means: Over all pairs.
        images: Pair by pair.
        models: Every checkpoint, in the order given.
        standings: Means with confidence intervals, and differences against the first checkpoint.
        drifts: Pair by pair, the mean last.
        misalignment: Of `--misalignment`.
        notes: What is missing, and why.
    """

    report: Report
    checkpoint: str
    step: int
    split: str
    encoding: str
    domain: str
    means: tuple[Score, ...]
    images: tuple[Score, ...]
    models: tuple[Model, ...]
    standings: tuple[RankedScore, ...]
    drifts: tuple[Displacement, ...]
    misalignment: Misalignment | None
    notes: tuple[str, ...]
