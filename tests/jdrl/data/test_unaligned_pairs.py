"""Pairs without a stored alignment are recognised, and aligned by the trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jdrl.checkpoints.checkpoint import latest_checkpoint, read_header
from jdrl.config import TrainConfig
from jdrl.data.aligned_crops import read_crop
from jdrl.data.crops import load_batch
from jdrl.data.training_data import load_training_data
from jdrl.data.unaligned_pairs import align_batch, is_registered, register_pair
from jdrl.flow.estimators import flow_estimator
from jdrl.training.registration import read_motions
from jdrl.training.settings import resolve_registration, resolve_warm_up_flow
from jdrl.training.step import warm_up_flow
from jdrl.training.train import train
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of
from tests.support.planted_shards import MakeShards


@pytest.fixture
def unaligned(make_shards: MakeShards, tmp_path: Path) -> Path:
    """Sharp frames displaced by (6, -3) px, without a stored flow."""
    return make_shards(tmp_path / "shards", flow=(6, -3), size=(128, 160), patch=96, stored=False)


def test_a_pair_without_flow_and_alignment_is_not_registered(shards: Path, unaligned: Path) -> None:
    for folder, expected in ((shards, True), (unaligned, False)):
        with ShardReader(folder, split="train") as reader:
            assert {is_registered(reader, pair) for pair in reader.pair_ids} == {expected}


def test_a_registered_pair_has_the_flow_and_the_sharp_frame_where_it_belongs(unaligned: Path) -> None:
    with ShardReader(unaligned, split="train") as reader:
        crop = read_crop(reader, "scene-00", 24, 32, 64, margin_px=32)
    found = align_batch(crop)
    planted = torch.tensor([6.0, -3.0]).view(1, 2, 1, 1)
    assert (found.flow - planted).square().sum(1).sqrt().median() < 0.3
    before, after = ((image - crop.blur).square().mean().sqrt() for image in (crop.sharp, found.sharp_on_blur))
    assert after < 0.6 * before
    assert found.valid.mean() > 0.5


def test_auto_estimates_only_where_no_flow_is_stored(shards: Path, unaligned: Path, tiny: TrainConfig) -> None:
    assert resolve_warm_up_flow(tiny, shards).warm_up_flow == "stored"
    assert resolve_warm_up_flow(tiny, unaligned).warm_up_flow == "estimated"
    stored = tiny.model_copy(update={"warm_up_flow": "stored"})
    assert resolve_warm_up_flow(stored, unaligned).warm_up_flow == "stored"


def test_the_warm_up_of_an_unaligned_set_estimates_its_flow(unaligned: Path, tiny: TrainConfig) -> None:
    config = resolve_warm_up_flow(tiny.model_copy(update={"crop": 64, "augment": False}), unaligned)
    batch = load_batch(load_training_data(unaligned, config).crops, 0, 2)
    assert batch.margin_px == 32
    flow, mask = warm_up_flow(batch, config, flow_estimator(config.flow))
    planted = torch.tensor([6.0, -3.0]).view(1, 2, 1, 1)
    trusted = mask[:, 0] > 0.5
    assert trusted.float().mean() > 0.5
    assert (flow - planted).square().sum(1).sqrt()[trusted].median() < 0.3


def test_validation_crops_of_an_unaligned_set_are_aligned_and_the_header_says_so(
    unaligned: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    config = tiny.model_copy(update={"crop": 64})
    crops = load_training_data(unaligned, resolve_warm_up_flow(config, unaligned)).validation
    assert crops
    assert all((crop.flow[:, 0].median() - 6).abs() < 0.5 for crop in crops)
    train(unaligned, tmp_path / "run", config)
    assert read_header(latest_checkpoint(tmp_path / "run")).config["warm_up_flow"] == "estimated"
    assert train(unaligned, tmp_path / "run", config.model_copy(update={"steps": 7}), resume=True).done == 1


@pytest.fixture
def far_apart(make_shards: MakeShards, tmp_path: Path) -> Path:
    """Sharp frames displaced by (15, -11) px, without a stored flow."""
    scenes = {"train": 2, "val": 1}
    return make_shards(tmp_path / "far", flow=(15, -11), size=(192, 224), patch=96, stored=False, scenes=scenes)


def test_whole_pairs_are_registered_once_and_kept_beside_the_run(
    far_apart: Path, tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.model_copy(update={"steps": 2, "crop": 64, "flow": "pyramid"})
    out = tmp_path / "run"
    train(far_apart, out, config)
    assert read_header(latest_checkpoint(out)).config["registration"] == "pairs"
    motions = read_motions(out, sha256_of(far_apart / "index.json"))
    assert motions is not None
    assert set(motions) == {"scene-00", "scene-01", "scene-02"}
    planted = torch.tensor([15.0, -11.0]).view(1, 2, 1, 1)
    for motion in motions.values():
        assert motion is not None
        assert (motion.flow(0, 0, 192, 224) - planted).square().sum(1).sqrt().median() < 0.5
    assert read_motions(out, "0" * 64) is None

    def refuse(*_: object) -> None:
        raise AssertionError("registered again")

    monkeypatch.setattr("jdrl.training.registration.register_pair", refuse)
    assert train(far_apart, out, config.model_copy(update={"steps": 3}), resume=True).done == 1


def test_crops_of_registered_pairs_trust_the_right_flow_alone(far_apart: Path, tiny: TrainConfig) -> None:
    config = tiny.model_copy(
        update={"crop": 64, "augment": False, "warm_up_flow": "estimated", "registration": "pairs"}
    )
    motions = {}
    for split in ("train", "val"):
        with ShardReader(far_apart, split=split) as reader:
            motions |= {pair: register_pair(reader, pair) for pair in reader.pair_ids}
    data = load_training_data(far_apart, config, motions)
    planted = torch.tensor([15.0, -11.0]).view(1, 2, 1, 1)
    for number in range(4):
        flow, mask = warm_up_flow(load_batch(data.crops, number, 2), config, flow_estimator("pyramid"))
        wrong = (flow - planted).square().sum(1).sqrt() > 2
        assert (mask[:, 0] * wrong).sum() < 0.05 * mask.sum()
        assert mask.mean() > 0.5
    for crop in data.validation:
        assert (crop.flow - planted).square().sum(1).sqrt().median() < 0.3
        # All real content counts, trusted or not, as in an aligned pair.
        assert set(crop.valid.unique().tolist()) <= {0.0, 1.0}
        assert crop.valid.mean() > 0.7


def test_registration_is_for_unaligned_pairs_under_our_mask(shards: Path, unaligned: Path, tiny: TrainConfig) -> None:
    estimated = tiny.model_copy(update={"warm_up_flow": "estimated"})
    for folder, config, expected in (
        (unaligned, estimated, "pairs"),
        (unaligned, estimated.model_copy(update={"mask": "official"}), "crops"),
        (unaligned, estimated.model_copy(update={"registration": "crops"}), "crops"),
        (unaligned, tiny.model_copy(update={"warm_up_flow": "stored"}), "crops"),
        (shards, estimated, "crops"),
    ):
        assert resolve_registration(config, folder).registration == expected
