from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.flow.warping import compose_flows, in_bounds_mask, invert_flow, warp, warp_approximately
from tests.support.flows import constant_flow, zoom_flow


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
    inside = in_bounds_mask(constant_flow(2.5, 0, (6, 10)))
    assert inside[0, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert in_bounds_mask(torch.zeros(1, 2, 6, 10)).min() == 1


def test_a_margin_of_the_image_is_sampled_where_the_flow_leaves_its_grid() -> None:
    wide = torch.rand(1, 3, 20, 26)
    moved = warp(wide, constant_flow(-4, 5, (10, 16)), margin_px=5)
    assert torch.equal(moved, wide[..., 10:20, 1:17])
    assert in_bounds_mask(constant_flow(-4, 5, (10, 16)), -5).min() == 1
    assert in_bounds_mask(constant_flow(-6, 0, (10, 16)), -5)[0, 0, 0].tolist() == [0] + [1] * 15


def as_the_published_code(image: Tensor, flow: Tensor) -> Tensor:
    """A grid made for align_corners=True, sampled with the default."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    grid = torch.stack([x + flow[:, 0] / ((width - 1) / 2), y + flow[:, 1] / ((height - 1) / 2)], -1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (256, 256)])
def test_the_official_warp_is_that_of_the_published_code(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image, flow = torch.rand(2, 3, *size), 6 * torch.randn(2, 2, *size)
    torch.testing.assert_close(
        warp(image, flow, official=True), as_the_published_code(image, flow), rtol=0, atol=size[1] * 1e-6
    )


def test_the_official_warp_zooms_where_the_exact_one_stands_still() -> None:
    ramp, still = torch.arange(64.0).expand(1, 1, 64, 64), torch.zeros(1, 2, 64, 64)
    assert warp(ramp, still)[0, 0, 0, 16] == 16
    assert float(warp(ramp, still, official=True)[0, 0, 0, 16]) == pytest.approx(64 * 16 / 63 - 0.5, abs=1e-4)


def test_fields_of_their_own_are_sampled_like_images() -> None:
    torch.manual_seed(0)
    image, flow = torch.rand(2, 2, 40, 50), 5 * torch.randn(2, 2, 40, 50)
    torch.testing.assert_close(warp_approximately(image, flow), warp(image, flow), rtol=0, atol=1e-4)
    assert warp_approximately(torch.rand(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)).isfinite().all()


def test_two_zooms_follow_one_another() -> None:
    together = compose_flows(zoom_flow(1.02, 65), zoom_flow(1.01, 65))
    torch.testing.assert_close(together[..., 4:-4, 4:-4], zoom_flow(1.02 * 1.01, 65)[..., 4:-4, 4:-4])


def test_a_zoom_and_shift_there_and_back_is_no_motion() -> None:
    flow = zoom_flow(1.02, 128) + constant_flow(5, -4, (128, 128))
    back = invert_flow(flow)
    expected = (torch.stack(torch.meshgrid(*(torch.arange(128.0),) * 2, indexing="xy")) - 63.5)[None] / 1.02
    shift = torch.tensor([5.0, -4.0]).view(1, 2, 1, 1) / 1.02
    torch.testing.assert_close(
        back[..., 16:-16, 16:-16], (expected * (1 - 1.02) - shift)[..., 16:-16, 16:-16], rtol=0, atol=1e-3
    )
    assert compose_flows(back, flow)[..., 16:-16, 16:-16].abs().max() < 1e-3
