from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from jdrl.networks import load_published, restore
from jdrl.networks.mprnet import MPRNet
from tests.support.reference_networks import all_parameters_learn, deterministic_weights, golden_outputs


def small() -> MPRNet:
    torch.manual_seed(0)
    return MPRNet(width=8, unet_growth=4, orsnet_growth=4, orsnet_blocks=2, reduction=1)


def trained() -> MPRNet:
    """A network without zero weights, so that every part has an effect."""
    network = small().eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


# With the golden weights the third stage amplifies changes of its input up to a million times: one unit in the last
# place of the image changes a float32 output by up to 0.4 of its standard deviation, so two float32 implementations
# need not agree to 1e-4. But float64 must give the golden output up to rounding:
# these are relative changes of the third stage's input in eight random directions of its channels, found by least
# squares (8 numbers for the 18,432 of an output), 1e-6 and 3e-6 rms, where float32 rounds that input by 1e-6.
ROUNDING = {
    1: [-2.70564e-07, 2.05937e-08, 5.15494e-07, 2.68530e-07, 5.30643e-07, 3.01844e-08, 3.23014e-07, -4.79119e-07],
    2: [-1.26624e-06, -1.30249e-06, 7.47198e-07, -6.59284e-07, 1.02620e-06, 1.07997e-06, -7.73690e-07, -1.97502e-06],
}


@pytest.mark.parametrize("seed", [1, 2])
def test_published_weights_give_the_published_output_but_for_rounding(seed: int) -> None:
    shapes, arrays = golden_outputs("mprnet")
    network = MPRNet().eval()
    published = {f"module.{key}": value for key, value in deterministic_weights(shapes).items()}
    load_published(network, {"state_dict": published, "epoch": 99})
    directions = np.random.RandomState(0).standard_normal((8, 128))
    factors = torch.from_numpy(1 + ROUNDING[seed] @ directions)[:, None, None]
    network.stage3_orsnet.register_forward_pre_hook(lambda _, inputs: (inputs[0] * factors, *inputs[1:]))
    with torch.no_grad():
        output = network.double()(torch.from_numpy(arrays[f"input0_seed{seed}"]).double())[0].numpy()
    expected = arrays[f"output_seed{seed}"]
    assert np.abs(output - expected).max() < 1e-4 * expected.std()


def test_the_default_has_the_published_names_and_shapes() -> None:
    shapes, _ = golden_outputs("mprnet")
    with torch.device("meta"):
        network = MPRNet()
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == shapes
    # Less than the sum of the file by 54: its 55 slopes are one.
    assert sum(parameter.numel() for parameter in network.parameters()) == 20_127_073


def test_a_new_network_returns_its_input_from_every_stage(images: Tensor) -> None:
    stages = small()(images)
    assert len(stages) == 3
    assert all(torch.equal(stage, images) for stage in stages)


def test_each_stage_answers_differently_and_keeps_the_shape(images: Tensor) -> None:
    with torch.no_grad():
        stages = trained()(images)
    assert [stage.shape for stage in stages] == [images.shape] * 3
    assert all((one - other).abs().max() > 1e-3 for one, other in zip(stages, [*stages[1:], images], strict=True))


def test_every_parameter_learns_within_three_steps() -> None:
    network = small()
    assert all_parameters_learn(network)


def test_the_images_of_a_batch_do_not_meet(images: Tensor) -> None:
    # In float64: the order of summation is not what is tested.
    network, images = trained().double(), images.double()
    with torch.no_grad():
        together = network(images)
        alone = [network(image[None]) for image in images]
    for stage, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(stage, torch.cat(parts))


def test_the_first_stage_sees_halves_only(images: Tensor) -> None:
    """Its decoder joins left and right; top and bottom first meet in the second stage."""
    network, changed = trained(), images.clone()
    changed[..., 16:, :] = 0
    with torch.no_grad():
        before, after = network(images), network(changed)
    tops = [float((one - other)[..., :16, :].abs().max()) for one, other in zip(before, after, strict=True)]
    assert tops[2] == 0 < min(tops[:2])


def test_the_same_input_gives_the_same_output(images: Tensor) -> None:
    network = trained()
    with torch.no_grad():
        first, again = network(images), network(images)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_bfloat16_stays_close(images: Tensor) -> None:
    network = trained()
    with torch.no_grad():
        exact = network(images)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(images)[0]
    assert (rough - exact).square().mean().sqrt() < 0.02 * exact.std()


def test_any_size_is_restored() -> None:
    image = torch.rand(1, 3, 33, 50)
    assert all(torch.equal(stage, image) for stage in restore(small(), image))


def test_one_slope_serves_all_blocks() -> None:
    slopes = {id(value) for name, value in trained().named_parameters(remove_duplicate=False) if value.shape == (1,)}
    assert len(slopes) == 1


def test_a_reduction_that_leaves_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction = 9 leaves none of 8 channels"):
        MPRNet(width=8, reduction=9)
