from __future__ import annotations

import numpy as np
import pytest
import torch

from jdrl.networks import load_published
from jdrl.networks.restormer import Restormer
from tests.support.reference_networks import all_parameters_learn, deterministic_weights, golden_outputs


def new_restormer() -> Restormer:
    return Restormer(width=8, blocks=(1, 1, 1, 1), refinement_blocks=1)


def small_restormer() -> Restormer:
    """A Restormer with random weights: a new one is the identity."""
    torch.manual_seed(0)
    network = new_restormer()
    torch.nn.init.normal_(network.output.weight, std=0.1)
    return network.eval()


@pytest.mark.parametrize("seed", [1, 2])
def test_published_weights_give_the_published_output(seed: int) -> None:
    shapes, arrays = golden_outputs("restormer")
    network = Restormer().eval()
    load_published(network, {"params": deterministic_weights(shapes)})
    with torch.no_grad():
        output = network(torch.from_numpy(arrays[f"input0_seed{seed}"])).numpy()
    expected = arrays[f"output_seed{seed}"]
    assert np.abs(output - expected).max() < 1e-4 * expected.std()


def test_the_default_has_the_published_weights() -> None:
    shapes, _ = golden_outputs("restormer")
    with torch.device("meta"):
        network = Restormer()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == shapes
    assert sum(parameter.numel() for parameter in network.parameters()) == 26_126_644


def test_a_new_restormer_returns_its_input() -> None:
    image = torch.rand(2, 3, 16, 24)
    assert torch.equal(new_restormer()(image), image)


def test_after_three_steps_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = new_restormer()
    assert all_parameters_learn(network)


def test_each_image_of_a_batch_is_answered_alone() -> None:
    network, images = small_restormer(), torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    assert together.shape == images.shape
    assert (together - images).abs().max() > 1e-2
    torch.testing.assert_close(together, alone)


def test_the_same_image_is_answered_the_same() -> None:
    network, image = small_restormer(), torch.rand(1, 3, 24, 16)
    with torch.no_grad():
        assert torch.equal(network(image), network(image))


def test_a_flat_image_and_mixed_precision_are_answered_with_numbers() -> None:
    network = small_restormer()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network(torch.zeros(1, 3, 16, 16)).isfinite().all()
        image = torch.rand(1, 3, 32, 32)
        mixed = network(image)
    with torch.no_grad():
        torch.testing.assert_close(mixed, network(image), atol=0.03, rtol=0)


def test_heads_that_cannot_share_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 heads cannot share 16 channels evenly"):
        Restormer(width=8, heads=(1, 3, 4, 8))
