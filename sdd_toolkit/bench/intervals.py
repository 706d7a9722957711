"""Means over seeds and scenes with bootstrap intervals, and the share of a loss that an arm recovers.

Seeds and scenes are drawn with replacement, independently of each other, the same draws for all arms: an interval of a
difference holds what differs between the arms, not what differs between scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sdd_toolkit.bench.scoring import ScoreRow

DRAWS = 4000
PERCENTILES = (2.5, 97.5)
MIN_LOSS_DB = 0.3
"""Where misalignment costs less than this, no share of it can be told."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One measure of one arm at one level.

    Attributes:
        seeds: The seeds of its rows.
        scenes: The scenes of its columns.
        values: (seeds, scenes).
    """

    seeds: tuple[int, ...]
    scenes: tuple[str, ...]
    values: NDArray[np.float64]


def sample_of(rows: Sequence[ScoreRow], arm: str, level: str, measure: str) -> Sample | None:
    """The values of a measure; None without any, or where a seed lacks a scene."""
    chosen = [row for row in rows if (row.arm, row.level) == (arm, level) and getattr(row, measure) is not None]
    seeds, scenes = sorted({row.seed for row in chosen}), sorted({row.scene for row in chosen})
    found = {(row.seed, row.scene): float(getattr(row, measure)) for row in chosen}
    if not chosen or len(found) != len(seeds) * len(scenes):
        return None
    return Sample(tuple(seeds), tuple(scenes), np.array([[found[seed, scene] for scene in scenes] for seed in seeds]))


def mean_of(sample: Sample) -> Interval:
    """The mean over seeds and scenes."""
    return _interval(float(sample.values.mean()), draw_means(sample))


def difference(sample: Sample, reference: Sample) -> Interval | None:
    """The mean difference from a reference that has the same scenes, or its mean over seeds; None without those."""
    if sample.scenes != reference.scenes:
        return None
    mean = float(sample.values.mean() - reference.values.mean())
    return _interval(mean, draw_means(sample) - draw_means(reference))


def recovered_share(arm: Sample, naive: Sample, oracle: Sample) -> Interval | None:
    """(arm - naive) / (oracle - naive); None where naive training loses less than `MIN_LOSS_DB`."""
    if not arm.scenes == naive.scenes == oracle.scenes:
        return None
    loss = oracle.values.mean() - naive.values.mean()
    if loss < MIN_LOSS_DB:
        return None
    arms, naives, oracles = (draw_means(sample) for sample in (arm, naive, oracle))
    losses = np.maximum(oracles - naives, 1e-6)
    return _interval(float((arm.values.mean() - naive.values.mean()) / loss), (arms - naives) / losses)


def draw_means(sample: Sample) -> NDArray[np.float64]:
    """(DRAWS,) means of the bootstrap; the draws depend only on the number of scenes and of seeds."""
    seeds, scenes = sample.values.shape
    by_scene = _weights(scenes, stream=0)
    by_seed = _weights(seeds, stream=1)
    return np.asarray(np.einsum("ds,sn,dn->d", by_seed, sample.values, by_scene))


def _weights(count: int, stream: int) -> NDArray[np.float64]:
    drawn = np.random.default_rng([stream, count]).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    return drawn / count


def _interval(mean: float, draws: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(draws, PERCENTILES)
    return Interval(mean, float(low), float(high))
