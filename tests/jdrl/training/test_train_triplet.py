"""Training with a blur estimator: its loss, its checkpoints, and refused combinations."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import torch

from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.deblurrer import of_checkpoint
from jdrl.config import TrainConfig
from jdrl.inference.deblur import deblur
from jdrl.networks import GuidedNetwork, LocalisedNetwork, unwrap_guide
from jdrl.reblurring.blur_estimator import find_estimator
from jdrl.training.train import train
from sdd_toolkit.errors import CheckpointError
from tests.support.training_runs import FINE_TUNING, assert_resumes_in_any_phase, training_tensors


@pytest.fixture
def triplet(tiny: TrainConfig) -> TrainConfig:
    return tiny.model_copy(update={"method": "triplet", "estimator_width": 4, "reblur_ramp_fraction": 0.0})


def test_the_estimator_learns_from_the_joint_phase_on(shards: Path, triplet: TrainConfig, tmp_path: Path) -> None:
    train(shards, tmp_path, triplet)
    rows = list(csv.DictReader((tmp_path / "train.csv").open()))
    assert [float(row["estimator"]) > 0 for row in rows] == [False] * 3 + [True] * 3
    parts = [float(rows[-1][name]) for name in ("deblur_blur_frame", "deblur_sharp_frame", "reblur", "estimator")]
    assert float(rows[-1]["loss"]) == pytest.approx(parts[0] + parts[1] + 0.5 * (parts[2] + parts[3]), rel=1e-5)


def test_a_run_resumed_in_any_phase_with_every_option_ends_with_the_same_bytes(
    shards: Path, triplet: TrainConfig, published: Path, tmp_path: Path
) -> None:
    assert_resumes_in_any_phase(shards, triplet.model_copy(update={**FINE_TUNING, "weights": published}), tmp_path)


def test_while_the_network_is_frozen_its_guide_learns_alone(
    shards: Path, triplet: TrainConfig, published: Path, tmp_path: Path
) -> None:
    frozen = {"steps": 3, "frozen_fraction": 0.99, "warm_up_fraction": 0.0, "weights": published}
    train(shards, tmp_path / "first", triplet.model_copy(update=frozen))
    given = torch.load(published, weights_only=True)["params"]
    found = checkpoint.strip_prefix(training_tensors(tmp_path / "first"), "network")
    assert all(torch.equal(found[f"network.{name}"], value) for name, value in given.items())
    assert found["fusion.changes.0.weight"].abs().sum() > 0
    rows = list(csv.DictReader((tmp_path / "first" / "train.csv").open()))
    assert [float(row["estimator"]) > 0 for row in rows] == [True] * 3
    # The network and its guide are where the next run starts.
    train(shards, tmp_path / "next", triplet.model_copy(update={**frozen, "weights": tmp_path / "first", "steps": 1}))
    after = checkpoint.strip_prefix(training_tensors(tmp_path / "next"), "network")
    assert torch.equal(after["network.intro.weight"], found["network.intro.weight"])
    assert (after["estimator.intro.weight"] - found["estimator.intro.weight"]).abs().max() < 1e-3


@pytest.mark.parametrize("fusion", ["modulation", "concat"])
def test_recomputed_or_compiled_it_learns_the_same(
    shards: Path, triplet: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: str
) -> None:
    # Code that other tests compiled would count towards the limit of recompilations.
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    short = triplet.model_copy(update={"fusion": fusion, "steps": 2})
    ends = []
    for number, more in enumerate(({}, {"gradient_checkpointing": True}, {"compile": True})):
        train(shards, tmp_path / str(number), short.model_copy(update=more))
        ends.append(training_tensors(tmp_path / str(number)))
    for other in ends[1:]:
        assert other.keys() == ends[0].keys()
        assert all(torch.equal(other[name], value) for name, value in ends[0].items())


def test_a_checkpoint_holds_the_network_with_its_guide_and_deblurs_with_it(
    shards: Path, triplet: TrainConfig, tmp_path: Path
) -> None:
    train(shards, tmp_path, triplet)
    header = json.loads((checkpoint.latest_checkpoint(tmp_path) / "checkpoint.json").read_text())
    assert header["guide"] == {"radius_px": 3, "width": 4, "fusion": "modulation", "basis": "hats"}
    assert header["config"]["method"] == "triplet"
    deblurrer = of_checkpoint(tmp_path)
    # In windows of the crops' side, guide and network together.
    assert isinstance(deblurrer.network, LocalisedNetwork)
    assert isinstance(deblurrer.network.network, GuidedNetwork)
    image = torch.rand(3, 40, 56)
    with_guide = deblur(deblurrer.network, image, tile=32, overlap=8)
    plain = deblur(unwrap_guide(deblurrer.network), image, tile=32, overlap=8)
    assert with_guide.shape == image.shape
    assert not torch.equal(with_guide, plain)


def test_the_published_fusion_trains_and_comes_back(shards: Path, triplet: TrainConfig, tmp_path: Path) -> None:
    train(shards, tmp_path, triplet.model_copy(update={"fusion": "concat", "steps": 2}))
    network = of_checkpoint(tmp_path).network
    assert isinstance(network, LocalisedNetwork)
    weights = checkpoint.read_tensors(checkpoint.latest_checkpoint(tmp_path) / checkpoint.WEIGHTS)
    assert torch.equal(network.network.state_dict()["fusion.change.weight"], weights["fusion.change.weight"])


@pytest.mark.parametrize("basis", ["discs", "rings"])
def test_every_basis_with_a_radius_gives_labels(shards: Path, triplet: TrainConfig, tmp_path: Path, basis: str) -> None:
    train(shards, tmp_path, triplet.model_copy(update={"reblur_basis": basis, "steps": 2}))
    estimator = find_estimator(of_checkpoint(tmp_path).network)
    assert estimator is not None
    assert estimator.basis == basis
    assert estimator.estimate_radius_px(torch.rand(1, 3, 16, 16)).shape == (1, 1, 16, 16)


def test_the_published_kernels_whose_corners_are_square_tell_no_radius() -> None:
    with pytest.raises(ValueError, match="needs a basis with radii"):
        TrainConfig(method="triplet", reblur_basis="official")


def test_half_precision_trains_both_phases(shards: Path, triplet: TrainConfig, tmp_path: Path) -> None:
    half = triplet.model_copy(update={"precision": "bf16-mixed", "steps": 2})
    assert train(shards, tmp_path, half).done == 2


def test_a_plain_run_does_not_go_on_as_triplet(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    train(shards, tmp_path, tiny.model_copy(update={"steps": 1}))
    with pytest.raises(CheckpointError, match="method = 'jdrl', now it is 'triplet'"):
        train(shards, tmp_path, tiny.model_copy(update={"steps": 1, "method": "triplet"}), resume=True)


@pytest.mark.parametrize("wrong", [{"radius_px": 17, "width": 4}, {"radius_px": 3, "width": 0}, {"radius_px": 3}])
def test_an_estimator_that_cannot_be_is_refused(
    shards: Path, triplet: TrainConfig, tmp_path: Path, wrong: dict[str, int]
) -> None:
    train(shards, tmp_path, triplet.model_copy(update={"steps": 1}))
    path = checkpoint.latest_checkpoint(tmp_path) / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "guide": wrong}))
    with pytest.raises(CheckpointError, match="guide"):
        of_checkpoint(tmp_path)


def test_an_estimator_of_another_width_is_refused(shards: Path, triplet: TrainConfig, tmp_path: Path) -> None:
    train(shards, tmp_path, triplet.model_copy(update={"steps": 1}))
    path = checkpoint.latest_checkpoint(tmp_path) / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "guide": {"radius_px": 3, "width": 5}}))
    with pytest.raises(CheckpointError, match="does not fit GuidedNetwork"):
        of_checkpoint(tmp_path)
