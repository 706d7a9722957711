from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jdrl.flow.estimators import flow_estimator
from jdrl.flow.pwcnet import PWCNet, convert_state_dict, cost_volume
from jdrl.networks import network_names
from sdd_toolkit.errors import CheckpointError
from tests.support.reference_networks import deterministic_weights, golden_outputs


@pytest.mark.parametrize("seed", [1, 2])
def test_published_weights_give_the_published_flow(seed: int, tmp_path: Path) -> None:
    shapes, arrays = golden_outputs("pwcnet")
    published = {key.replace("net", "module"): value for key, value in deterministic_weights(shapes).items()}
    torch.save(published, tmp_path / "pwcnet.pth")
    # The golden network was fed as the published one is: blue first.
    first, second = (torch.from_numpy(arrays[f"input{number}_seed{seed}"]).flip(1) for number in (0, 1))
    flow = flow_estimator("pwcnet", tmp_path / "pwcnet.pth")(first, second)
    expected = arrays[f"output_seed{seed}"]
    assert not flow.requires_grad
    assert np.abs(flow.numpy() - expected).max() < 1e-4 * expected.std()


def test_the_names_and_sizes_are_the_published_ones() -> None:
    shapes, _ = golden_outputs("pwcnet")
    with torch.device("meta"):
        network = PWCNet()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == shapes


def test_names_behind_a_prefix_are_found_too() -> None:
    named = convert_state_dict({"module.moduleTwo.moduleOne.0.weight": 1, "moduleRefiner.moduleMain.12.bias": 2})
    assert named == {"module.netTwo.netOne.0.weight": 1, "netRefiner.netMain.12.bias": 2}


def test_the_cost_volume_is_the_mean_product_of_displaced_features() -> None:
    torch.manual_seed(0)
    first, second = torch.rand(2, 3, 6, 7), torch.rand(2, 3, 6, 7)
    volume = cost_volume(first, second)
    assert volume.shape == (2, 81, 6, 7)
    # Displacement (x, y) = (-1, 2): row 2 + 4, column -1 + 4 of 9.
    expected = (first[:, :, 3, 4] * second[:, :, 5, 3]).mean(1)
    torch.testing.assert_close(volume[:, 9 * 6 + 3, 3, 4], expected)
    assert volume[:, 0, :4, :].abs().max() == 0


def test_gradients_reach_the_images_and_any_size_is_taken() -> None:
    torch.manual_seed(0)
    network = PWCNet().requires_grad_(False)
    first = torch.rand(1, 3, 37, 50, requires_grad=True)
    flow = network(first, torch.rand(1, 3, 37, 50))
    assert flow.shape == (1, 2, 37, 50)
    (gradient,) = torch.autograd.grad(flow.sum(), first)
    assert gradient.abs().max() > 0


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"moduleOne.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit PWCNet"):
        flow_estimator("pwcnet", tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="cannot read"):
        flow_estimator("pwcnet", tmp_path / "missing.pth")


def test_it_is_not_offered_as_a_deblurring_network() -> None:
    assert "pwcnet" not in network_names()
