from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jdrl.checkpoints import checkpoint
from jdrl.config import BasisName, TrainConfig
from jdrl.losses.joint import charbonnier
from jdrl.reblurring.reblur import ReblurNetwork, coc_radius_px, reblur
from jdrl.training.train import train
from sdd_toolkit.config import load_section
from sdd_toolkit.errors import CheckpointError, ConfigError

COUNTS: dict[BasisName, int] = {"hats": 8, "discs": 10, "rings": 24, "official": 31}


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", [(16, 16), (15, 21), (1, 1)])
def test_weights_sum_to_one_at_every_pixel_of_any_size(size: tuple[int, int], scale: int) -> None:
    images = torch.rand(2, 3, *size)
    weights = ReblurNetwork(radius_px=5, scale=scale)(images, images)
    assert weights.shape == (2, 6, *size)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, *size))


@pytest.mark.parametrize("basis", COUNTS)
def test_a_new_network_of_any_basis_hardly_blurs(basis: BasisName) -> None:
    images = torch.rand(1, 3, 32, 32)
    weights = ReblurNetwork(basis=basis)(images, images)
    assert weights.shape == (1, COUNTS[basis], 32, 32)
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 32, 32))
    assert weights[:, 0].min() > 0.7


@pytest.mark.parametrize("scale", [2, 4])
def test_what_it_answers_moves_with_the_images(scale: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, 40, 44)
    network = ReblurNetwork(width=8, blocks=1, scale=scale)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    whole, part = (network(image, image) for image in (images, images[..., scale:, scale:]))
    inside = slice(4 * scale, 40 - 5 * scale)
    torch.testing.assert_close(whole[..., scale:, scale:][..., inside, inside], part[..., inside, inside])


@pytest.mark.parametrize("basis", COUNTS)
def test_every_basis_trains_through_both_phases_and_resumes(
    shards: Path, tiny: TrainConfig, tmp_path: Path, basis: BasisName
) -> None:
    chosen = tiny.model_copy(update={"reblur_basis": basis, "reblur_radius_px": 7, "reblur_scale": 4})
    train(shards, tmp_path / "whole", chosen)
    train(shards, tmp_path / "halves", chosen.model_copy(update={"save_every": 3, "keep": 9}))
    first = checkpoint.read_part(tmp_path / "halves" / "step-00000003" / checkpoint.TRAINING, "reblur")
    last = checkpoint.read_part(tmp_path / "halves" / "step-00000006" / checkpoint.TRAINING, "reblur")
    assert all(not torch.equal(first[name], last[name]) for name in last)
    checkpoint.write_pointer(tmp_path / "halves", checkpoint.LATEST, tmp_path / "halves" / "step-00000003")
    assert train(shards, tmp_path / "halves", chosen, resume=True).skipped == 3
    ends = [tmp_path / folder / "step-00000006" / checkpoint.TRAINING for folder in ("whole", "halves")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_a_run_is_not_resumed_with_another_basis(shards: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    train(shards, tmp_path, tiny.model_copy(update={"steps": 1}))
    with pytest.raises(CheckpointError, match="reblur_basis = 'hats', now it is 'discs'"):
        train(shards, tmp_path, tiny.model_copy(update={"steps": 2, "reblur_basis": "discs"}), resume=True)


def test_the_official_basis_of_another_radius_is_refused() -> None:
    with pytest.raises(ConfigError, match="reblur_basis = official has reblur_radius_px = 7, not 9"):
        load_section(TrainConfig, "train", None, reblur_basis="official", reblur_radius_px=9)


@pytest.mark.parametrize("basis", COUNTS)
def test_weights_grown_a_thousandfold_do_not_saturate_it(basis: BasisName) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 1, 3, 32, 32)
    network = ReblurNetwork(width=8, blocks=2, basis=basis)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1000)
    weights = network(*images)
    assert torch.isfinite(weights).all()
    assert weights.max() < 1
    (weights * torch.rand_like(weights)).sum().backward()
    assert network.head.weight.grad is not None
    assert torch.isfinite(network.head.weight.grad).all()
    assert network.head.weight.grad.abs().max() > 0


def test_a_network_within_its_bounds_answers_as_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 1, 3, 32, 32)
    network = ReblurNetwork(width=8, blocks=2)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    bounded = network(*images)
    for name in ("FEATURE_BOUND", "LOGIT_BOUND"):
        monkeypatch.setattr(f"jdrl.reblurring.network.{name}", 1e9)
    torch.testing.assert_close(bounded, network(*images), atol=1e-6, rtol=0)
    assert bounded.amax(1).mean() > 0.3


def test_it_learns_the_blur_between_two_images() -> None:
    torch.manual_seed(0)
    sharp = torch.rand(2, 3, 40, 40)
    planted = torch.zeros(2, 4, 40, 40)
    planted[:, 3, :, 20:] = 1
    planted[:, 0, :, :20] = 1
    blurred = reblur(sharp, planted)
    network = ReblurNetwork(radius_px=3, width=16, blocks=2)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(120):
        optimiser.zero_grad()
        charbonnier(reblur(sharp, network(sharp, blurred)), blurred).backward()
        optimiser.step()
    radius = coc_radius_px(network(sharp, blurred).detach())
    assert radius[..., 24:].mean() > 2 * radius[..., :16].mean()
    assert charbonnier(reblur(sharp, network(sharp, blurred)), blurred) < 0.5 * charbonnier(sharp, blurred)
