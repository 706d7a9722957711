"""Bidirectional deformation: targets, validity masks and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jdrl.flow.bidirectional import MaskName, deform_bidirectionally
from jdrl.flow.estimators import flow_estimator
from jdrl.flow.warping import warp
from tests.support.flows import constant_flow, endpoint_error, textured_scene, zero_flow, zoom_and_shift

MARGIN_PX = 16
SIZE = 96


def shifted(x: int, y: int) -> tuple[Tensor, Tensor]:
    """D and a wide S whose content lies (x, y) px further right and down, cut from one larger picture."""
    picture = textured_scene(SIZE + 4 * MARGIN_PX)

    def cut(left: int, top: int, side: int) -> Tensor:
        return picture[..., top : top + side, left : left + side].clone()

    wide = cut(MARGIN_PX - x, MARGIN_PX - y, SIZE + 2 * MARGIN_PX)
    return cut(2 * MARGIN_PX, 2 * MARGIN_PX, SIZE), wide


def everywhere(image: Tensor) -> Tensor:
    return torch.ones_like(image[:, :1])


@pytest.mark.parametrize("stored", [False, True])
def test_the_target_is_real_content_to_the_border_and_trusted_there(stored: bool) -> None:
    deblurred, sharp = shifted(11, -7)
    flow = constant_flow(11, -7, (SIZE, SIZE))

    def estimate(first: Tensor, second: Tensor) -> Tensor:
        known = torch.zeros_like(flow) if stored else flow
        return torch.cat([known, -known])

    found = deform_bidirectionally(
        deblurred, sharp, everywhere(deblurred), everywhere(sharp), estimate, stored_flow=flow if stored else None
    )
    torch.testing.assert_close(found.target, deblurred, rtol=0, atol=1e-5)
    assert found.target_mask.min() > 0.9
    torch.testing.assert_close(found.to_deblurred, -flow, rtol=0, atol=1e-3)
    # The sharp crop's partner leaves the deblurred one on the left and at the bottom.
    assert found.sharp_mask[..., 11:].narrow(-2, 0, SIZE - 8).min() > 0.9
    assert found.sharp_mask[..., :10].max() == 0
    assert found.sharp_mask[..., SIZE - 6 :, :].max() == 0


@pytest.mark.parametrize("mask", ["consistency", "official", "none"])
def test_what_lies_beyond_the_photograph_is_never_a_target(mask: MaskName) -> None:
    deblurred, sharp = shifted(11, 0)
    content = everywhere(sharp)
    content[..., -MARGIN_PX:] = 0

    def estimate(first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([constant_flow(11, 0, (SIZE, SIZE)), constant_flow(-11, 0, (SIZE, SIZE))])

    found = deform_bidirectionally(deblurred, sharp, everywhere(deblurred), content, estimate, mask=mask)
    assert found.target_mask[..., SIZE - 11 :].max() == 0
    assert found.target_mask[..., : SIZE - 11].min() > 0.9


def test_a_stored_field_needs_only_its_residual_to_be_estimated() -> None:
    size = SIZE + 2 * MARGIN_PX
    picture = textured_scene(size)
    window = slice(MARGIN_PX, MARGIN_PX + SIZE)
    true_flow = zoom_and_shift(size, 1.02, 9.0, -6.0)
    deblurred = warp(picture, true_flow)[..., window, window]
    truth = true_flow[..., window, window]
    # Off by half a pixel, as a field from the blurred frame may be.
    stored = truth + constant_flow(0.5, -0.4, (SIZE, SIZE))
    seen = []

    def estimate(first: Tensor, second: Tensor) -> Tensor:
        seen.append(flow_estimator("cached")(first, second))
        return seen[0]

    found = deform_bidirectionally(
        deblurred, picture, everywhere(deblurred), everywhere(picture), estimate, stored_flow=stored
    )
    assert seen[0].abs().mean() < 0.6
    assert float((found.target - deblurred)[..., 8:-8, 8:-8].abs().mean()) < 0.01
    assert found.target_mask[..., 8:-8, 8:-8].mean() > 0.9
    back = zoom_and_shift(SIZE, 1 / 1.02, -9.0 / 1.02, 6.0 / 1.02)
    assert endpoint_error(found.to_deblurred, back) < 0.15


def test_only_the_official_mask_accepts_blocks_that_move_another_way() -> None:
    deblurred, sharp = shifted(3, 2)
    there, back = constant_flow(3, 2, (SIZE, SIZE)), constant_flow(-3, -2, (SIZE, SIZE))
    there[:, :, 30:60, 30:60] *= -1

    def estimate(first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([there, back])

    arguments = deblurred, sharp, everywhere(deblurred), everywhere(sharp), estimate
    assert deform_bidirectionally(*arguments).target_mask[..., 30:60, 30:60].max() < 0.01
    assert deform_bidirectionally(*arguments, mask="official").target_mask.min() == 1


def test_nothing_of_it_carries_a_gradient() -> None:
    deblurred, sharp = (image.requires_grad_() for image in shifted(2, 1))
    found = deform_bidirectionally(
        deblurred, sharp, everywhere(deblurred), everywhere(sharp), flow_estimator("pyramid")
    )
    parts = found.target, found.target_mask, found.to_deblurred, found.sharp_mask
    assert not any(part.requires_grad for part in parts)


def test_the_official_warp_zooms_the_target() -> None:
    deblurred, sharp = shifted(0, 0)

    arguments = deblurred, sharp, everywhere(deblurred), everywhere(sharp), zero_flow
    exact, official = deform_bidirectionally(*arguments), deform_bidirectionally(*arguments, official_warp=True)
    assert torch.equal(exact.target, deblurred)
    assert (official.target - deblurred).abs().mean() > 1e-3
