"""Progress pictures of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from jdrl.config import TrainConfig
from jdrl.data.crops import load_batch
from jdrl.data.training_data import load_training_data
from jdrl.flow.estimators import flow_estimator
from jdrl.training.processes import start_processes
from jdrl.training.samples import build_sample
from jdrl.training.state import build_state
from jdrl.training.train import train
from sdd_toolkit.formats.decoding import read_image


def test_a_sample_is_the_crop_as_the_joint_loss_sees_it(shards: Path, tiny: TrainConfig) -> None:
    config = tiny.model_copy(update={"crop": 64})
    fabric = start_processes(config)
    crop = load_batch(load_training_data(shards, config).crops, 0, 1)
    sample = build_sample(fabric, build_state(fabric, config), crop, config, flow_estimator(config.flow))
    # A new network is the identity, and new kernels are close to it.
    assert torch.equal(sample.deblurred, crop.blur)
    assert (sample.reblurred - crop.blur).abs().mean() < 0.02
    assert 0 < sample.radius_px.mean() < config.reblur_radius_px
    # The sharp frame lies off by two pixels; the mask trusts the warp that brings it back.
    trusted = sample.mask.expand_as(crop.sharp) > 0.5
    assert trusted.float().mean() > 0.5
    before, after = ((image - crop.sharp_on_blur).abs()[trusted].mean() for image in (crop.sharp, sample.truth))
    assert after < 0.5 * before


def test_a_run_draws_at_its_intervals_and_a_run_started_anew_leaves_no_old_picture(
    shards: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    config = tiny.model_copy(update={"steps": 5, "sample_every": 2})
    train(shards, tmp_path, config)
    samples = tmp_path / "samples"
    assert sorted(path.name for path in samples.iterdir()) == ["step-00000002.png", "step-00000004.png"]
    picture = read_image(samples / "step-00000004.png")
    assert picture.shape[2] == 3
    assert picture.std() > 10
    train(shards, tmp_path, config.model_copy(update={"sample_every": 3}), overwrite=True)
    assert [path.name for path in samples.iterdir()] == ["step-00000003.png"]
