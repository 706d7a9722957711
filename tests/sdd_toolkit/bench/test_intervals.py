from __future__ import annotations

import numpy as np
import pytest

from sdd_toolkit.bench.intervals import Sample, difference, mean_of, recovered_share, sample_of
from sdd_toolkit.bench.scoring import ScoreRow


def sample(values: list[list[float]]) -> Sample:
    scenes = tuple(f"s{number}" for number in range(len(values[0])))
    return Sample(tuple(range(len(values))), scenes, np.array(values))


def test_the_interval_of_a_mean_is_that_of_the_scenes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(20, 2, 400)
    found = mean_of(sample([values.tolist()]))
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_seeds_widen_the_interval_where_they_differ() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.normal(20, 0.01, 6)
    alike, different = sample([scenes.tolist()] * 3), sample([(scenes + offset).tolist() for offset in (-1, 0, 1)])
    widths = [found.high - found.low for found in map(mean_of, (alike, different))]
    assert widths[0] < 0.05 < 1 < widths[1]


def test_what_scenes_have_in_common_is_not_in_the_interval_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.normal(20, 5, 6)
    found = difference(sample([(scenes - 0.5).tolist()]), sample([scenes.tolist()]))
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((-0.5, -0.5, -0.5))
    assert difference(sample([[1.0]]), sample([[1.0, 2.0]])) is None


def test_the_recovered_share() -> None:
    naive, oracle = sample([[20.0, 22.0, 24.0]]), sample([[22.0, 24.0, 26.0]])
    found = recovered_share(sample([[21.9, 23.9, 25.9]]), naive, oracle)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.95, 0.95, 0.95))
    assert recovered_share(naive, naive, oracle).mean == pytest.approx(0)  # type: ignore[union-attr]
    # Without a loss there is no share of it.
    assert recovered_share(naive, oracle, naive) is None
    assert recovered_share(naive, sample([[20.0, 22.0, 23.5]]), naive) is None


def test_a_sample_needs_every_scene_of_every_seed() -> None:
    rows = [ScoreRow("a", "l", seed, scene, 1.0 + seed, 0.5, None, 1.0) for seed in (0, 1) for scene in ("x", "y")]
    found = sample_of(rows, "a", "l", "psnr_db")
    assert found is not None
    assert found.values.tolist() == [[1.0, 1.0], [2.0, 2.0]]
    assert sample_of(rows[:3], "a", "l", "psnr_db") is None
    assert sample_of(rows, "a", "l", "drift_px") is None
    assert sample_of(rows, "b", "l", "psnr_db") is None
