"""Every configurable flow, mask and warp trains, and the stored flow reaches the loss."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from jdrl.config import TrainConfig
from jdrl.data.aligned_crops import read_crop
from jdrl.flow.pwcnet import PWCNet
from jdrl.training.step import estimate_deformation
from jdrl.training.train import train
from sdd_toolkit.errors import CheckpointError
from sdd_toolkit.shards.reader import ShardReader
from tests.support.flows import zero_flow


@pytest.mark.parametrize(
    "options",
    [
        {"flow": "cached", "mask": "none"},
        {"flow": "pyramid", "mask": "official"},
        {"flow": "dis", "warp": "official"},
        {"flow": "pwcnet", "mask": "official", "warp": "official"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_a_joint_step_runs_with(options: dict[str, str], shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if options["flow"] == "pwcnet":
        state = PWCNet().state_dict()
        torch.save({name.replace("net", "module"): value for name, value in state.items()}, tmp_path / "pwcnet.pth")
        options = {**options, "flow_weights": str(tmp_path / "pwcnet.pth")}
    config = TrainConfig(**{**tiny.model_dump(), "steps": 1, "warm_up_fraction": 0.0, **options})
    train(shards, tmp_path / "run", config)
    (row,) = csv.DictReader((tmp_path / "run" / "train.csv").open())
    assert float(row["joint"]) == 1
    assert float(row["deblur_blur_frame"]) > 0


def test_missing_flow_weights_are_reported_before_an_earlier_run_is_deleted(
    shards: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    train(shards, tmp_path, tiny.model_copy(update={"steps": 1}))
    lost = TrainConfig(**{**tiny.model_dump(), "flow": "pwcnet", "flow_weights": tmp_path / "lost.pth"})
    with pytest.raises(CheckpointError, match=r"lost\.pth"):
        train(shards, tmp_path, lost, overwrite=True)
    assert (tmp_path / "step-00000001").is_dir()


def test_the_stored_field_and_the_margin_reach_the_joint_loss(shards: Path, tiny: TrainConfig) -> None:
    with ShardReader(shards, split="train") as reader:
        batch = read_crop(reader, "scene-00", 32, 48, 32)
    cached = estimate_deformation(batch.sharp_on_blur, batch, tiny.model_copy(update={"flow": "cached"}), zero_flow)
    assert torch.equal(cached.target, batch.sharp_on_blur)
    assert cached.target_mask.min() > 0.999
    assert (cached.to_deblurred[:, 0] == -2).all()
    assert (cached.to_deblurred[:, 1] == 1).all()
    plain = estimate_deformation(batch.sharp_on_blur, batch, tiny.model_copy(update={"flow": "pyramid"}), zero_flow)
    assert torch.equal(plain.target, batch.sharp)


def test_the_official_warp_reaches_the_warm_up(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    rows = []
    for warp in ("exact", "official"):
        config = tiny.model_copy(update={"steps": 1, "warm_up_fraction": 1.0, "warp": warp})
        train(shards, tmp_path / warp, config)
        rows += csv.DictReader((tmp_path / warp / "train.csv").open())
    assert rows[0]["deblur_blur_frame"] != rows[1]["deblur_blur_frame"]
