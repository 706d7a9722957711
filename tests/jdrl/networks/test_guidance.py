from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from jdrl.networks import BUILT_IN, Guide, GuidedNetwork, build_network, load_published, restore
from jdrl.reblurring.blur_estimator import find_estimator
from sdd_toolkit.errors import ConfigError

GUIDE = Guide(radius_px=3, width=8)
CONCAT = Guide(radius_px=3, width=8, fusion="concat")
GUIDES = pytest.mark.parametrize("guide", [GUIDE, CONCAT], ids=lambda guide: guide.fusion)
SMALL: dict[str, dict[str, object]] = {
    "nafnet": {"width": 4, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]},
    "nafnet64": {"width": 6, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
    "unet": {"width": 2},
    "restormer": {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "heads": [1, 2, 2, 4]},
    "mprnet": {"width": 8, "unet_growth": 4, "orsnet_growth": 4, "orsnet_blocks": 1},
    "ifan": {"width": 4, "residual_blocks": 1, "iterations": 2},
}


class Own(nn.Module):
    """A custom network: one convolution, two outputs, any size."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, blurred: Tensor) -> list[Tensor]:
        return [blurred + self.only(blurred), blurred]


class Halves(nn.Module):
    """A custom network with two guided levels, one of them at half the size, rounded up."""

    def __init__(self) -> None:
        super().__init__()
        self.guided_levels = {"first": 3, "second": 4}
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, blurred: Tensor) -> Tensor:
        fine = self.first(blurred)
        coarse = self.second(fine)[:, :3].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return fine + coarse[..., : fine.shape[-2], : fine.shape[-1]]


def trained(network: nn.Module) -> nn.Module:
    """Changes all weights: a new network may be the identity."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def learnt(guided: GuidedNetwork) -> GuidedNetwork:
    """Changes the fusion's weights as training would."""
    torch.manual_seed(2)
    for module in guided.fusion.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1)
    return guided


def new(name: str) -> nn.Module:
    return Own() if name == "own" else build_network(name, **SMALL[name])


@GUIDES
@pytest.mark.parametrize("name", [*BUILT_IN, "own"])
def test_a_trained_network_answers_the_same_bits_when_it_gets_a_guide(name: str, guide: Guide) -> None:
    network = trained(new(name))
    guided = GuidedNetwork(network, guide).eval()
    image = torch.rand(1, 3, 33, 47)
    before, after = restore(network, image), restore(guided, image)
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [True] * len(before)
    assert not torch.equal(before[0], image)


@GUIDES
@pytest.mark.parametrize("name", [*BUILT_IN, "own"])
def test_after_two_steps_every_part_of_the_guide_learns_from_the_images(name: str, guide: Guide) -> None:
    guided = GuidedNetwork(trained(new(name)), guide).train()
    optimiser = torch.optim.SGD(guided.parameters(), lr=1e-6)
    for _ in range(2):
        optimiser.zero_grad()
        *images, _ = restore(guided, torch.rand(1, 3, 32, 32))
        torch.stack([(image - 0.3).square().mean() for image in images]).sum().backward()
        optimiser.step()
    # Scales and shifts are made of features, not of kernels.
    head = () if guide is CONCAT else ("estimator.head.weight", "estimator.head.bias")
    parts = {name: part.grad for name, part in guided.named_parameters() if not name.startswith("network.")}
    assert {name for name, grad in parts.items() if grad is None or not grad.abs().sum() > 0} == set(head)


@pytest.mark.parametrize("name", BUILT_IN)
def test_two_levels_are_guided_or_as_many_as_there_are(name: str) -> None:
    network = new(name)
    levels = network.guided_levels
    assert isinstance(levels, dict)
    changes = [layer for layer in GuidedNetwork(network, GUIDE).fusion.modules() if isinstance(layer, nn.Conv2d)]
    assert len(levels) == (1 if name == "nafnet64" else 2)
    assert [layer.out_channels for layer in changes] == [2 * channels for channels in levels.values()]


def test_published_weights_go_into_the_network_under_their_own_names() -> None:
    plain, guided = trained(new("unet")), GuidedNetwork(new("unet"), GUIDE)
    load_published(guided.network, {"G_state_dict": plain.state_dict()})
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(guided.eval()(image)[0], plain(image))


def test_while_training_the_kernel_weights_come_after_the_images() -> None:
    guided = GuidedNetwork(new("own"), GUIDE)
    image = torch.rand(2, 3, 15, 18)
    *images, weights = guided.train()(image)
    assert len(images) == len(guided.eval()(image)) == 2
    assert torch.equal(weights, guided.estimator(image))


def test_nothing_stays_on_the_network_and_a_copy_is_its_own() -> None:
    guided = GuidedNetwork(trained(new("nafnet")), GUIDE).eval()
    image = torch.rand(1, 3, 16, 16)
    (before,) = guided(image)
    assert not any(module._forward_hooks for module in guided.modules())
    twin = learnt(copy.deepcopy(guided))
    assert not torch.equal(twin(image)[0], before)
    assert torch.equal(guided(image)[0], before)


@GUIDES
@pytest.mark.parametrize("name", ["nafnet", "own"])
def test_a_guide_that_has_learnt_something_changes_the_output(name: str, guide: Guide) -> None:
    guided = GuidedNetwork(trained(new(name)), guide).eval()
    image = torch.rand(1, 3, 16, 16)
    before = guided(image)[0]
    assert (learnt(guided)(image)[0] - before).abs().max() > 1e-3


@pytest.mark.parametrize("network", [Halves(), Own()], ids=lambda network: type(network).__name__)
def test_a_guide_acts_on_the_pixels_it_looked_at_whatever_the_size(network: nn.Module) -> None:
    guided = learnt(GuidedNetwork(network, GUIDE)).eval()
    image = torch.rand(1, 3, 16, 160)
    with torch.no_grad():
        whole, cut, moved = (guided(part)[0] for part in (image, image[..., :149], image[..., 8:]))
    torch.testing.assert_close(cut[..., 60:90], whole[..., 60:90])
    torch.testing.assert_close(moved[..., 60:90], whole[..., 68:98])


def test_the_estimator_is_found_in_whatever_wraps_the_network() -> None:
    guided = GuidedNetwork(new("own"), GUIDE)
    assert find_estimator(nn.Sequential(guided)) is guided.estimator
    assert find_estimator(new("own")) is None


def test_a_level_that_the_network_has_not_is_named() -> None:
    network = Own()
    network.guided_levels = {"first": 3}
    with pytest.raises(ConfigError, match="guided_levels of Own names 'first'"):
        GuidedNetwork(network, GUIDE)


def test_a_level_of_other_channels_than_it_says_is_refused() -> None:
    network = Own()
    network.guided_levels = {"only": 5}
    with pytest.raises(ConfigError, match="says 5 channels, the Conv2d has 3"):
        GuidedNetwork(network, GUIDE)(torch.rand(1, 3, 8, 8))
