from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.evaluation.protocols import linear_light, official_pair
from sdd_toolkit.imaging.encoding import Encoding, srgb_decode
from tests.support.flows import zero_flow


def three_right(first: Tensor, second: Tensor) -> Tensor:
    return zero_flow(first, second) + torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)


def test_the_official_target_is_sampled_on_the_published_grid_even_for_zero_flow() -> None:
    sharp = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 48), indexing="ij")
    for estimate, shift in ((zero_flow, 0.0), (three_right, 3.0)):
        grid = torch.stack([x + 2 * shift / 47, y], -1)[None]
        expected = F.grid_sample(sharp, grid, padding_mode="border", align_corners=False)
        _, target = official_pair(sharp, sharp, estimate)
        torch.testing.assert_close(target, expected, rtol=0, atol=1e-5)


def test_the_official_pair_is_cropped_top_left_to_multiples_of_sixteen() -> None:
    output = torch.rand(1, 3, 50, 47, generator=torch.Generator().manual_seed(2))
    cropped, target = official_pair(output, output, zero_flow)
    assert torch.equal(cropped, output[..., :48, :32])
    assert target.shape == cropped.shape
    usual = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(official_pair(usual, usual, zero_flow)[0], usual)


def test_linear_light_is_that_of_the_srgb_curve() -> None:
    values = torch.linspace(0, 1, 300).view(1, 3, 10, 10)
    expected = srgb_decode(values.numpy())
    assert np.abs(linear_light(values, Encoding.SRGB8).numpy() - expected).max() < 1e-5
    assert linear_light(values, Encoding.LINEAR16) is values
