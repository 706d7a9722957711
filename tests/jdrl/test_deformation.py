from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jdrl.deformation import consistency_mask, in_bounds, warp


def constant_flow(x: float, y: float, size: tuple[int, int]) -> Tensor:
    return torch.tensor([float(x), float(y)]).view(1, 2, 1, 1).expand(1, 2, *size).clone()


def zoom_flow(zoom: float, size: int) -> Tensor:
    away = torch.arange(size) - (size - 1) / 2
    x, y = away.expand(size, size), away[:, None].expand(size, size)
    return (zoom - 1) * torch.stack([x, y]).unsqueeze(0)


@pytest.mark.parametrize("size", [(256, 256), (37, 53), (1, 1), (1, 4096)])
def test_zero_flow_returns_the_image_bit_for_bit(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    assert torch.equal(warp(image, torch.zeros(2, 2, *size)), image)


def test_a_whole_pixel_flow_reads_the_pixel_to_the_right_and_below() -> None:
    image = torch.rand(1, 3, 20, 30)
    moved = warp(image, constant_flow(3, 2, (20, 30)))
    assert torch.equal(moved[..., :18, :27], image[..., 2:, 3:])


def test_beyond_the_frame_the_border_pixel_is_repeated() -> None:
    image = torch.rand(1, 1, 4, 5)
    assert torch.equal(warp(image, constant_flow(-9, 0, (4, 5))), image[..., :1].expand(-1, -1, -1, 5))
    assert torch.equal(warp(image, constant_flow(0, 1e9, (4, 5))), image[..., 3:, :].expand(-1, -1, 4, -1))


def test_a_subpixel_shift_of_a_smooth_wave_is_right_to_a_thousandth() -> None:
    x = torch.arange(128, dtype=torch.float64).expand(1, 1, 8, 128)
    wave = torch.sin(2 * math.pi * x / 80)
    moved = warp(wave, constant_flow(0.37, 0.0, (8, 128)).double())
    expected = torch.sin(2 * math.pi * (x + 0.37) / 80)
    assert (moved - expected)[..., :-1].abs().max() < 1e-3


def test_bilinear_weights_are_exact_on_a_ramp_at_any_frame_size() -> None:
    ramp = torch.arange(4096.0).expand(1, 1, 2, 4096)
    moved = warp(ramp, constant_flow(0.25, 0.0, (2, 4096)))
    assert torch.equal(moved[..., :-1], ramp[..., :-1] + 0.25)


def test_gradients_of_image_and_flow_are_those_of_the_function() -> None:
    image = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    flow = (4 * torch.rand(1, 2, 5, 6, dtype=torch.float64) - 2).requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, flow))


def test_a_flow_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="flow is"):
        warp(torch.rand(1, 3, 8, 8), torch.zeros(1, 2, 4, 4))


def test_in_bounds_drops_exactly_the_columns_that_leave_the_frame() -> None:
    inside = in_bounds(constant_flow(2.5, 0, (6, 10)))
    assert inside[0, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert in_bounds(torch.zeros(1, 2, 6, 10)).min() == 1


def test_agreeing_flows_are_trusted_and_the_frame_edge_is_not() -> None:
    there = constant_flow(3, 2, (64, 64))
    mask = consistency_mask(there, -there)
    assert mask[..., :62, :61].min() > 0.999
    assert mask[..., 62:, :].max() == 0


def test_a_zoom_keeps_its_centre_and_its_flanks() -> None:
    mask = consistency_mask(zoom_flow(1.02, 256), zoom_flow(1 / 1.02, 256))
    assert mask[..., 16:-16, 16:-16].min() > 0.99


@pytest.mark.parametrize("block", [(-3.0, -2.0), (-2.0, 3.0)], ids=["reversed", "rotated"])
def test_a_block_that_moves_another_way_is_rejected(block: tuple[float, float]) -> None:
    there = constant_flow(3, 2, (128, 128))
    back = -there
    there[:, :, 32:96, 32:96] = torch.tensor(block).view(1, 2, 1, 1)
    mask = consistency_mask(there, back)
    assert mask[..., 32:96, 32:96].max() < 0.01
    assert mask[..., :30, :120].min() > 0.99


def test_the_mask_carries_no_gradient() -> None:
    flow = torch.zeros(1, 2, 8, 8, requires_grad=True)
    assert not consistency_mask(flow, flow).requires_grad
