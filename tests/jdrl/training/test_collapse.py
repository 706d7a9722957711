"""The reblurring network survives the rate of the demo, and a run says so where it does not."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.losses.joint import charbonnier
from jdrl.reblurring.network import ReblurNetwork
from jdrl.reblurring.reblur import coc_radius_px, reblur
from jdrl.training.collapse import MANY_STEPS, SPREAD_PX, CollapseWatch
from jdrl.training.schedule import reblur_learning_rate
from jdrl.training.train import train
from sdd_toolkit.imaging.encoding import srgb_encode
from tests.support.planted_shards import MakeShards, dead_leaves, defocus

SEEDS = 10
SIDE_PX, RADIUS_PX = 32, 5
STEPS = 300


def planted_crops(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sharp crops, the same defocused with noise, and their blur radii."""
    draw = np.random.default_rng(0)
    radii = np.linspace(1.0, 4.5, count)
    frames = []
    for number, radius in enumerate(radii):
        sharp = dead_leaves(SIDE_PX, SIDE_PX, number)
        blurred = defocus(sharp, float(radius)) + draw.normal(0, 0.003, sharp.shape)
        frames.append([srgb_encode(np.clip(image, 0, 1).astype(np.float32)) for image in (sharp, blurred)])
    images = torch.from_numpy(np.stack(frames)).permute(1, 0, 4, 2, 3).contiguous()
    return images[0], images[1], torch.from_numpy(radii)


def trained_side_by_side(config: TrainConfig, sharp: Tensor, blurred: Tensor) -> tuple[Tensor, Tensor]:
    """Trains a network from every seed, all in one batch, each on its own crops. Returns losses and radii by seed."""
    networks = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        networks.append(ReblurNetwork(RADIUS_PX, 16, scale=4))
    parameters, buffers = stack_module_state(networks)
    answer = vmap(lambda values, a, b: functional_call(networks[0], (values, buffers), (a, b)))
    optimiser = torch.optim.AdamW(parameters.values(), betas=config.betas, weight_decay=0)
    draw = torch.Generator().manual_seed(0)

    def kernels_and_loss(chosen: Tensor) -> tuple[Tensor, Tensor]:
        a, b = sharp[chosen], blurred[chosen]
        weights = answer(parameters, a, b).flatten(0, 1)
        return weights, charbonnier(reblur(a.flatten(0, 1), weights), b.flatten(0, 1))

    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = reblur_learning_rate(step, config)
        _, loss = kernels_and_loss(torch.randint(len(sharp), (SEEDS, 2), generator=draw))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        weights, _ = kernels_and_loss(torch.arange(len(sharp)).expand(SEEDS, -1))
    return weights, coc_radius_px(weights).view(SEEDS, len(sharp), SIDE_PX, SIDE_PX)


def test_it_survives_300_steps_at_3e_3_from_every_seed() -> None:
    config = TrainConfig(learning_rate=3e-3, rate_ramp_steps=20, betas=(0.9, 0.99), steps=700)
    sharp, blurred, truth = planted_crops(12)
    weights, radii = trained_side_by_side(config, sharp, blurred)
    spreads = radii.flatten(1).std(1)
    assert spreads.min() > 5 * SPREAD_PX, spreads
    assert weights.amax(1).mean() < 0.9
    # And what it tells is the blur: its radii follow the planted ones.
    for found in radii.mean((2, 3)):
        assert float(torch.corrcoef(torch.stack([found.double(), truth]))[0, 1]) > 0.7


def test_a_collapse_is_told_once_after_many_steps(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch()
    with caplog.at_level(logging.WARNING):
        watch.look(4.35, [0.5] + [0.0] * (MANY_STEPS - 1))
        assert not caplog.records
        watch.look(4.35, [0.3])
        watch.look(4.35, [0.0] * (MANY_STEPS - 1))
        assert not caplog.records
        watch.look(4.35, [0.0] * 10)
        watch.look(4.35, [0.0] * MANY_STEPS)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "one kernel, of radius 4.35 px, for 209 steps" in caplog.text


def test_a_run_whose_kernels_are_all_the_same_warns(
    shards: Path, tiny: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jdrl.training.collapse.MANY_STEPS", 3)
    monkeypatch.setattr("jdrl.training.collapse.SPREAD_PX", 99.0)
    train(shards, tmp_path / "run", tiny.model_copy(update={"steps": 3}))
    assert caplog.text.count("gives all pixels one kernel") == 1


def test_a_run_without_use_for_the_reblurring_network_has_none(
    make_shards: MakeShards, tiny: TrainConfig, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path / "shards")
    for number, change in enumerate(({"reblur_weight": 0.0}, {"warm_up_fraction": 1.0})):
        config = tiny.model_copy(update={"steps": 4, "sample_every": 4, **change})
        train(folder, tmp_path / str(number), config)
        tensors = checkpoint.read_tensors(checkpoint.latest_checkpoint(tmp_path / str(number)) / checkpoint.TRAINING)
        assert not any(name.startswith("reblur.") for name in tensors)
        (row, *_) = csv.DictReader((tmp_path / str(number) / "train.csv").open())
        assert (row["reblur"], row["reblur_radius_px"], row["reblur_gradient_norm"]) == ("0", "0", "0")
        assert train(folder, tmp_path / str(number), config.model_copy(update={"steps": 5}), resume=True).done == 1


def test_labels_of_the_blur_train_the_reblurring_network_without_its_term(
    shards: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    config = tiny.model_copy(update={"method": "triplet", "reblur_weight": 0.0, "warm_up_fraction": 0.5})
    train(shards, tmp_path, config)
    rows = list(csv.DictReader((tmp_path / "train.csv").open()))
    assert all(float(row["reblur"]) > 0 and float(row["reblur_gradient_norm"]) > 0 for row in rows)
