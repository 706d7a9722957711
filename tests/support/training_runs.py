"""Options of a fine-tuning run, and the check that an interrupted run ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.training.train import train
from tests.support.ctrl_c import interrupting

FILES = ("network.safetensors", "training.safetensors", "checkpoint.json")
FINE_TUNING = {
    "frozen_fraction": 0.3,
    "warm_up_fraction": 0.2,
    "rate_schedule": "step",
    "rate_drops": ((0.5, 0.1), (0.8, 0.5)),
    "optimiser": "adam",
    "weight_decay": 0.01,
    "accumulate": 2,
    "channels_last": True,
    "gradient_checkpointing": True,
}


def training_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of training.safetensors of a run's latest checkpoint."""
    return checkpoint.read_tensors(checkpoint.latest_checkpoint(folder) / checkpoint.TRAINING)


def assert_resumes_in_any_phase(shards: Path, config: TrainConfig, tmp_path: Path) -> None:
    """Stops a run of six steps in each phase; every resumed run must end with the bytes of the uninterrupted one."""
    train(shards, tmp_path / "whole", config)
    # Two steps frozen, two of warm-up, two joint.
    for step in (2, 3, 5):
        halves = tmp_path / f"stopped after {step}"
        with pytest.raises(KeyboardInterrupt):
            train(shards, halves, config, track=interrupting(step - 1))
        train(shards, halves, config, resume=True)
        for name in FILES:
            path = Path("step-00000006") / name
            assert (tmp_path / "whole" / path).read_bytes() == (halves / path).read_bytes()
