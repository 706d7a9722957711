from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jdrl.networks import build_network, load_published, restore
from sdd_toolkit.errors import CheckpointError, ConfigError
from tests.support.reference_networks import all_parameters_learn, deterministic_weights, golden_outputs


@pytest.mark.parametrize(
    ("name", "file", "container"),
    [("unet", "unet", "G_state_dict"), ("nafnet", "nafnet_width32", "params")],
)
def test_published_weights_give_the_published_output(name: str, file: str, container: str) -> None:
    shapes, arrays = golden_outputs(file)
    network = build_network(name).eval()
    published = {f"module.{key}": value for key, value in deterministic_weights(shapes).items()}
    load_published(network, {container: published, "epoch": 99})
    for seed in (1, 2):
        with torch.no_grad():
            output = network(torch.from_numpy(arrays[f"input0_seed{seed}"])).numpy()
        expected = arrays[f"output_seed{seed}"]
        assert np.abs(output - expected).max() < 1e-4 * expected.std()


def test_the_unet_has_the_published_size() -> None:
    assert sum(parameter.numel() for parameter in build_network("unet").parameters()) == 31_033_411


def small_nafnet() -> nn.Module:
    return build_network("nafnet", width=8, encoder_blocks=[1, 1], middle_blocks=1, decoder_blocks=[1, 1])


def test_a_new_nafnet_returns_its_input() -> None:
    image = torch.rand(2, 3, 16, 24)
    assert torch.equal(small_nafnet()(image), image)


@pytest.mark.parametrize("name", ["nafnet", "unet"])
def test_after_three_steps_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    network = small_nafnet() if name == "nafnet" else build_network("unet", width=8)
    assert all_parameters_learn(network)


def test_a_missing_and_an_extra_weight_are_named_and_nothing_is_loaded() -> None:
    network = small_nafnet()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    weights = {key: value + 1 for key, value in before.items()}
    weights["surprise"] = weights.pop("intro.weight")
    with pytest.raises(CheckpointError, match=r"lacks intro.weight and has extra surprise"):
        load_published(network, weights)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_weight_of_another_shape_is_named() -> None:
    network = small_nafnet()
    weights = {**network.state_dict(), "ending.bias": torch.zeros(4)}
    with pytest.raises(CheckpointError, match=r"ending.bias is \(4,\), not \(3,\)"):
        load_published(network, weights)


def test_both_published_prefixes_are_stripped() -> None:
    network = small_nafnet()
    weights = {f"Network.module.{key}": value + 1 for key, value in network.state_dict().items()}
    load_published(network, {"state_dict": weights})
    assert torch.equal(network.state_dict()["ending.bias"], torch.ones(3))


def test_an_unknown_network_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="nafnet"):
        build_network("nafnett")


def test_an_option_a_network_does_not_take_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="depth"):
        build_network("unet", depth=3)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("nafnet", {"widht": 8}, r"unknown key 'widht'"),
        ("nafnet", {"width": "broad"}, r"width = 'broad'"),
        ("nafnet", {"width": 0}, r"width = 0"),
        ("nafnet", {"encoder_blocks": [1, -1]}, r"encoder_blocks\.1 = -1"),
        ("nafnet", {"encoder_blocks": 3}, r"encoder_blocks = 3"),
        ("nafnet", {"encoder_blocks": [1]}, r"1 encoder levels but 4 decoder levels"),
        ("unet", {"dropout": 1.5}, r"dropout = 1\.5"),
    ],
)
def test_a_wrong_option_of_a_network_is_named(network: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(network, **options)


def test_an_unknown_option_is_answered_with_the_networks_own() -> None:
    with pytest.raises(ConfigError) as caught:
        build_network("nafnet", widht=8)
    assert caught.value.hint == "did you mean 'width'? valid: width, encoder_blocks, middle_blocks, decoder_blocks"


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (33, 47), (64, 64)])
def test_restore_takes_any_size_and_keeps_every_pixel_in_place(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size)
    outputs = restore(small_nafnet(), image)
    assert len(outputs) == 1
    assert torch.equal(outputs[0], image)


class TwoStages(nn.Module):
    def forward(self, blurred: Tensor) -> list[Tensor]:
        return [blurred + 1, blurred + 2]


def test_restore_keeps_every_stage_of_a_users_network() -> None:
    image = torch.zeros(1, 3, 5, 7)
    assert [float(stage.mean()) for stage in restore(TwoStages(), image)] == [1.0, 2.0]


class WithoutPadding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)

    def forward(self, blurred: Tensor) -> Tensor:
        answer: Tensor = self.convolution(blurred)
        return answer


@pytest.mark.parametrize(
    "network", [WithoutPadding(), nn.Conv2d(3, 1, 1), nn.PixelUnshuffle(2)], ids=["smaller", "grey", "halved"]
)
def test_an_output_of_another_shape_is_refused_with_both_shapes(network: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"for an image \(1, 3, 16, 16\)"):
        restore(network, torch.rand(1, 3, 16, 16))
