from __future__ import annotations

import pytest
import torch

from jdrl.losses import charbonnier
from jdrl.reblur import ReblurNetwork, coc_radius_px, reblur


@pytest.mark.parametrize("size", [(16, 16), (15, 21), (1, 1)])
def test_weights_sum_to_one_at_every_pixel_of_any_size(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    weights = ReblurNetwork(radius_px=5)(images, images)
    assert weights.shape == (2, 6, *size)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, *size))


def test_a_new_network_hardly_blurs() -> None:
    images = torch.rand(1, 3, 32, 32)
    weights = ReblurNetwork()(images, images)
    assert weights[:, 0].min() > 0.7


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
