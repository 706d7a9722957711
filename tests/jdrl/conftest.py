"""Fixtures of the tests of JDRL: small data sets with planted truth, and a network small enough to train in a test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jdrl.config import TrainConfig
from jdrl.networks import build_network
from tests.support.planted_shards import MakeShards, write_planted_shards


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training scenes and one test scene of 96x128 px, sharp frame off by (2, -1) px, disc radius 2 px."""
    return write_planted_shards(tmp_path_factory.mktemp("shards"), flow=(2, -1))


@pytest.fixture(scope="session")
def make_shards() -> MakeShards:
    return write_planted_shards


@pytest.fixture(scope="session")
def tiny() -> TrainConfig:
    """Six steps of a network of a few hundred weights, half of them joint."""
    return TrainConfig(
        network="nafnet",
        network_options={"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
        reblur_radius_px=3,
        reblur_width=4,
        steps=6,
        warm_up_fraction=0.5,
        rate_ramp_steps=0,
        learning_rate=1e-3,
        crop=32,
        batch=2,
        log_every=1,
        validation_crops=2,
        device="cpu",
    )


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the network of `tiny` in a published layout."""
    path = tmp_path_factory.mktemp("published") / "net.pth"
    torch.manual_seed(3)
    network = build_network("nafnet", width=4, encoder_blocks=[1], middle_blocks=1, decoder_blocks=[1])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.01)
    torch.save({"params": network.state_dict()}, path)
    return path
