from __future__ import annotations

import numpy as np
import pytest

from jdrl.evaluation.comparison import bootstrap_interval, rank_scores
from jdrl.evaluation.scores import Score


def score(pair: int, psnr_db: float | None, checkpoint: str) -> Score:
    image = "deblurred" if checkpoint else "input"
    return Score(f"p{pair}", image, "aligned", psnr_db, None, None, None, checkpoint=checkpoint)


def test_the_interval_of_a_mean_is_that_of_the_normal_law_for_many_values() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    low, high = bootstrap_interval(values, draws=4000, seed=0)
    assert low is not None
    assert high is not None
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    values = np.random.default_rng(2).random(20)
    assert bootstrap_interval(values, draws=500, seed=3) == bootstrap_interval(values, draws=500, seed=3)
    assert bootstrap_interval(values, draws=500, seed=3) != bootstrap_interval(values, draws=500, seed=4)


def test_one_pair_has_a_mean_and_no_interval() -> None:
    (standing,) = rank_scores([score(0, 30.0, "a")], ["a"], draws=100, seed=0)
    assert (standing.mean, standing.low, standing.high) == (30.0, None, None)


def test_a_small_gain_on_every_pair_is_sure_though_pairs_differ_much() -> None:
    draw = np.random.default_rng(4)
    level, gain = draw.normal(28, 4, 40), draw.normal(0.2, 0.05, 40)
    scores = [score(pair, float(level[pair]), "a") for pair in range(40)]
    scores += [score(pair, float(level[pair] + gain[pair]), "b") for pair in range(40)]
    first, second = rank_scores(scores, ["a", "b"], draws=2000, seed=0)
    assert first.low is not None
    assert second.difference_low is not None
    assert second.difference == pytest.approx(gain.mean())
    assert 0.15 < second.difference_low < second.difference < second.difference_high < 0.25
    assert first.low < second.mean < first.high
    assert first.difference is None


def test_only_pairs_that_both_have_are_compared() -> None:
    scores = [score(0, 30.0, "a"), score(1, None, "a"), score(0, 31.0, "b"), score(1, 50.0, "b")]
    _, second = rank_scores(scores, ["a", "b"], draws=100, seed=0)
    assert (second.pairs, second.mean, second.difference) == (2, 40.5, 1.0)
