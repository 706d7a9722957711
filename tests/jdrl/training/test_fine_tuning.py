"""Fine-tuning: runs that start from published weights, a run or a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.training.train import train
from sdd_toolkit.errors import CheckpointError, ConfigError
from tests.support.training_runs import FINE_TUNING, assert_resumes_in_any_phase, training_tensors


def test_a_run_resumed_in_any_phase_with_every_option_ends_with_the_same_bytes(
    shards: Path, tiny: TrainConfig, published: Path, tmp_path: Path
) -> None:
    assert_resumes_in_any_phase(shards, tiny.model_copy(update={**FINE_TUNING, "weights": published}), tmp_path)


def test_a_run_starts_from_published_weights_from_a_run_and_from_a_checkpoint(
    shards: Path, tiny: TrainConfig, published: Path, tmp_path: Path
) -> None:
    # All but frozen: the deblurring network stays what it was given.
    frozen = tiny.model_copy(
        update={"steps": 1, "frozen_fraction": 0.99, "warm_up_fraction": 0.0, "weights": published}
    )
    train(shards, tmp_path / "first", frozen)
    expected = torch.load(published, weights_only=True)["params"]
    sources = (tmp_path / "first", tmp_path / "first" / "step-00000001")
    for number, source in enumerate(sources):
        train(shards, tmp_path / str(number), frozen.model_copy(update={"weights": source}))
    for folder in (tmp_path / "first", tmp_path / "0", tmp_path / "1"):
        found = checkpoint.strip_prefix(training_tensors(folder), "network")
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_weights_of_another_network_or_none_at_all_are_refused(
    shards: Path, tiny: TrainConfig, published: Path, tmp_path: Path
) -> None:
    unet = tiny.model_copy(update={"network": "unet", "network_options": {"width": 2}, "weights": published})
    with pytest.raises(CheckpointError, match="does not fit UNet"):
        train(shards, tmp_path, unet)
    with pytest.raises(CheckpointError, match="no checkpoint and no training run"):
        train(shards, tmp_path, tiny.model_copy(update={"weights": tmp_path / "nowhere"}))


def test_freezing_a_network_that_has_learnt_nothing_is_refused(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"frozen_fraction = 0\.2 freezes") as caught:
        train(shards, tmp_path, tiny.model_copy(update={"frozen_fraction": 0.2}))
    assert "--weights" in caught.value.hint
