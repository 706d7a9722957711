"""Starting from weights that were learnt elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.networks import build_network
from jdrl.training.train import train
from sdd_toolkit.errors import CheckpointError, ConfigError
from tests.support.ctrl_c import interrupting

FILES = ("network.safetensors", "training.safetensors", "checkpoint.json")
NEW = {
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


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the tiny network as their authors would publish them."""
    path = tmp_path_factory.mktemp("published") / "net.pth"
    torch.manual_seed(3)
    network = build_network("nafnet", width=4, encoder_blocks=[1], middle_blocks=1, decoder_blocks=[1])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.01)
    torch.save({"params": network.state_dict()}, path)
    return path


def trained(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(checkpoint.latest_checkpoint(folder) / checkpoint.TRAINING)


def assert_resumes_in_any_phase(shards: Path, config: TrainConfig, tmp_path: Path) -> None:
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


def test_a_run_resumed_in_any_phase_with_every_option_ends_with_the_same_bytes(
    shards: Path, tiny: TrainConfig, published: Path, tmp_path: Path
) -> None:
    assert_resumes_in_any_phase(shards, tiny.model_copy(update={**NEW, "weights": published}), tmp_path)


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
        found = checkpoint.strip_prefix(trained(folder), "network")
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
