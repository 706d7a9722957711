"""Checkpoints beside each other: means with confidence intervals, and differences that are more than chance.

Paired bootstrap (Efron 1979): the pairs are drawn anew with repetition, many times; what the means of these draws
spread over is the interval. Two checkpoints are compared by their difference on each pair, since pairs differ far more
than checkpoints do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jdrl.evaluation.scores import MEASURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jdrl.evaluation.scores import Score

LEVEL = 0.95
_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class RankedScore:
    """One measure of one checkpoint, or of the input.

    Attributes:
        checkpoint: Its label; empty for the input.
        image: `input` or `deblurred`.
        protocol: `unwarped`, `aligned` or `official`.
        measure: A field of `Score`.
        pairs: How many pairs have it.
        mean: Over these.
        low: Lower end of the 95 % interval of the mean; None with less than two pairs.
        high: Its upper end.
        difference: Mean difference to the first checkpoint over the pairs that have both; None for that one itself.
        difference_low: Lower end of its 95 % interval.
        difference_high: Upper end: where both ends have one sign, the difference is more than chance.
    """

    checkpoint: str
    image: str
    protocol: str
    measure: str
    pairs: int
    mean: float
    low: float | None
    high: float | None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


def rank_scores(
    scores: Sequence[Score], checkpoints: Sequence[str], *, draws: int, seed: int
) -> tuple[RankedScore, ...]:
    """Every measure under every protocol: the input, then the checkpoints, differences against the first of them.

    Args:
        scores: Of all pairs.
        checkpoints: Their labels.
        draws: Of the bootstrap.
        seed: Same scores and seed, same intervals.
    """
    found = []
    for protocol in dict.fromkeys(score.protocol for score in scores):
        for measure in MEASURES:
            first = _by_pair(scores, "deblurred", checkpoints[0], protocol, measure)
            for image, checkpoint in (("input", ""), *(("deblurred", name) for name in checkpoints)):
                values = _by_pair(scores, image, checkpoint, protocol, measure)
                if not values:
                    continue
                low, high = interval(np.array(list(values.values())), draws=draws, seed=seed)
                mean = float(np.mean(list(values.values())))
                standing = RankedScore(checkpoint, image, protocol, measure, len(values), mean, low, high)
                both = [values[pair] - first[pair] for pair in values if pair in first]
                if checkpoint != checkpoints[0] and both:
                    low, high = interval(np.array(both), draws=draws, seed=seed)
                    mean = float(np.mean(both))
                    standing = replace(standing, difference=mean, difference_low=low, difference_high=high)
                found.append(standing)
    return tuple(found)


def interval(
    values: NDArray[np.float64], *, draws: int, seed: int, level: float = LEVEL
) -> tuple[float, float] | tuple[None, None]:
    """The bootstrap's percentile interval of the mean of (N,) `values`; (None, None) with less than two."""
    count = len(values)
    if count < 2:
        return None, None
    draw = np.random.default_rng(seed)
    means = []
    rest = draws
    while rest > 0:
        now = min(rest, max(1, _AT_ONCE // count))
        means.append(values[draw.integers(0, count, (now, count))].mean(1))
        rest -= now
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _by_pair(scores: Sequence[Score], image: str, checkpoint: str, protocol: str, measure: str) -> dict[str, float]:
    chosen = [
        score for score in scores if (score.image, score.checkpoint, score.protocol) == (image, checkpoint, protocol)
    ]
    return {score.pair: value for score in chosen if (value := getattr(score, measure)) is not None}
