"""Means of checkpoints with confidence intervals, and their significant differences, by paired bootstrap.

Paired bootstrap (Efron 1979): the pairs are drawn with replacement many times; percentiles of the means of these draws
bound the interval. Two checkpoints are compared by their difference on each pair, because pairs differ far more than
checkpoints do.
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
_DRAWS_PER_BATCH = 4_000_000


@dataclass(frozen=True, slots=True)
class RankedScore:
    """One measure of one checkpoint, or of the input.

    Attributes:
        checkpoint: Its label; empty for the input.
        image: `input` or `deblurred`.
        protocol: `unwarped`, `aligned` or `official`.
        measure: A field of `Score`.
        pairs: Number of pairs that have it.
        mean: Over these.
        low: Lower end of the 95 % interval of the mean; None with fewer than two pairs.
        high: Its upper end.
        difference: Mean difference from the first checkpoint over the pairs that have both; None for the first.
        difference_low: Lower end of its 95 % interval.
        difference_high: Upper end. The difference is significant where both ends have the same sign.
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
    """Computes mean, interval and difference of every measure under every protocol: the input, then the checkpoints.

    Args:
        scores: Of all pairs.
        checkpoints: Their labels.
        draws: Number of draws of the bootstrap.
        seed: Of the draws.
    """
    ranked = []
    for protocol in dict.fromkeys(score.protocol for score in scores):
        for measure in MEASURES:
            first = _values_by_pair(scores, "deblurred", checkpoints[0], protocol, measure)
            for image, checkpoint in (("input", ""), *(("deblurred", name) for name in checkpoints)):
                values = _values_by_pair(scores, image, checkpoint, protocol, measure)
                if not values:
                    continue
                low, high = bootstrap_interval(np.array(list(values.values())), draws=draws, seed=seed)
                mean = float(np.mean(list(values.values())))
                row = RankedScore(checkpoint, image, protocol, measure, len(values), mean, low, high)
                differences = [values[pair] - first[pair] for pair in values if pair in first]
                if checkpoint != checkpoints[0] and differences:
                    low, high = bootstrap_interval(np.array(differences), draws=draws, seed=seed)
                    mean = float(np.mean(differences))
                    row = replace(row, difference=mean, difference_low=low, difference_high=high)
                ranked.append(row)
    return tuple(ranked)


def bootstrap_interval(
    values: NDArray[np.float64], *, draws: int, seed: int, level: float = LEVEL
) -> tuple[float, float] | tuple[None, None]:
    """The bootstrap percentile interval of the mean of (N,) `values`; (None, None) with fewer than two."""
    count = len(values)
    if count < 2:
        return None, None
    draw = np.random.default_rng(seed)
    means = []
    remaining = draws
    while remaining > 0:
        batch = min(remaining, max(1, _DRAWS_PER_BATCH // count))
        means.append(values[draw.integers(0, count, (batch, count))].mean(1))
        remaining -= batch
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _values_by_pair(
    scores: Sequence[Score], image: str, checkpoint: str, protocol: str, measure: str
) -> dict[str, float]:
    chosen = [
        score for score in scores if (score.image, score.checkpoint, score.protocol) == (image, checkpoint, protocol)
    ]
    return {score.pair: value for score in chosen if (value := getattr(score, measure)) is not None}
