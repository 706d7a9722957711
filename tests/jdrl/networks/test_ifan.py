from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from jdrl.networks import load_published, restore
from jdrl.networks.ifan import IFAN
from tests.support.reference_networks import all_parameters_learn, deterministic_weights, golden_outputs


def small_ifan() -> IFAN:
    torch.manual_seed(0)
    return IFAN(width=4, residual_blocks=1, filter_size=5, iterations=3)


def trained_ifan() -> IFAN:
    """A network with changed weights: a new one is the identity."""
    network = small_ifan()
    weights = deterministic_weights({key: tuple(value.shape) for key, value in network.state_dict().items()})
    network.load_state_dict(weights)
    network.out_res.load_state_dict({"0.weight": 0.1 * weights["out_res.0.weight"], "0.bias": torch.zeros(3)})
    return network.eval()


def test_published_weights_give_the_published_output() -> None:
    shapes, arrays = golden_outputs("ifan")
    network = IFAN().eval()
    load_published(network, {f"Network.{key}": value for key, value in deterministic_weights(shapes).items()})
    for seed in (1, 2):
        with torch.no_grad():
            output = network(torch.from_numpy(arrays[f"input0_seed{seed}"])).numpy()
        expected = arrays[f"output_seed{seed}"]
        assert np.abs(output - expected).max() < 1e-4 * expected.std()


def test_the_default_has_the_published_size() -> None:
    shapes, _ = golden_outputs("ifan")
    with torch.device("meta"):
        network = IFAN()
    assert sum(parameter.numel() for parameter in network.parameters()) == sum(map(np.prod, shapes.values()))


def test_a_new_network_returns_its_input() -> None:
    image = torch.rand(2, 3, 16, 24)
    assert torch.equal(small_ifan()(image), image)


def test_a_new_networks_filters_pass_features_on() -> None:
    network, features = small_ifan(), torch.rand(1, 16, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(network.F[-1](features, torch.zeros_like(features)), features)


def test_after_three_steps_every_parameter_learns() -> None:
    network = small_ifan()
    assert all_parameters_learn(network)


def test_only_the_first_of_a_steps_two_filters_is_used() -> None:
    network = trained_ifan()
    network(torch.rand(1, 3, 32, 32)).mean().backward()
    gradient = network.F[-1].bias.grad
    assert gradient is not None
    filters, offsets = gradient.split((3 * 2 * 80, 3 * 16))
    first, second = filters.view(3, 2, 80).unbind(1)
    assert second.abs().max() == 0 < min(first.abs().max(), offsets.abs().max())


def test_rows_and_columns_are_filtered_alike() -> None:
    network = small_ifan()
    features, filter_features = torch.rand(1, 16, 9, 9), torch.rand(1, 16, 1, 1).expand(-1, -1, 9, 9)
    with torch.no_grad():
        turned = network.F[-1](features.mT, filter_features).mT
        torch.testing.assert_close(turned, network.F[-1](features, filter_features))


@pytest.mark.parametrize("size", [(8, 8), (16, 40), (21, 35)])
def test_the_output_is_as_large_as_the_input(size: tuple[int, int]) -> None:
    with torch.no_grad():
        outputs = restore(trained_ifan(), torch.rand(2, 3, *size))
    assert [output.shape for output in outputs] == [(2, 3, *size)]


def test_images_of_a_batch_do_not_meet_and_the_answer_is_repeatable() -> None:
    network, images = trained_ifan(), torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        together = network(images)
        assert torch.equal(together, network(images))
        apart = torch.cat([network(images[:1]), network(images[1:])])
    assert (together - images).abs().mean() > 0.01
    torch.testing.assert_close(together, apart)


def test_only_a_network_in_evaluation_is_clipped() -> None:
    network, image = trained_ifan(), torch.rand(1, 3, 16, 16).round()
    with torch.no_grad():
        clipped: Tensor = network(image)
        raw: Tensor = network.train()(image)
    assert raw.max() > 1
    assert torch.equal(clipped, raw.clamp(0, 1))


def test_a_filter_without_a_centre_is_refused() -> None:
    with pytest.raises(ValueError, match="even size, 4"):
        IFAN(filter_size=4)
