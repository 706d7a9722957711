from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jdrl.flow.bidirectional import Deformation, deform_bidirectionally
from jdrl.flow.estimators import FlowEstimator, flow_estimator
from jdrl.flow.warping import warp
from jdrl.losses.joint import LossTerms, charbonnier, joint_loss, warm_up_loss
from jdrl.reblurring.reblur import ReblurNetwork
from tests.support.flows import zero_flow


def joint(
    outputs: list[Tensor],
    blurred: Tensor,
    sharp: Tensor,
    valid: Tensor | None,
    network: ReblurNetwork,
    estimate_flow: FlowEstimator,
    reblur_weight: float = 0.5,
) -> LossTerms:
    """The joint loss of crops without a margin."""
    everywhere = torch.ones_like(blurred[:, :1])
    content = everywhere if valid is None else valid
    deformation = deform_bidirectionally(outputs[0].detach(), sharp, content, everywhere, estimate_flow)
    return joint_loss(outputs, blurred, deformation, valid, network, reblur_weight=reblur_weight)


def smooth_image(size: int = 48) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    waves = [0.5 + 0.2 * torch.sin(x / a) + 0.2 * torch.cos(y / b) for a, b in ((3, 4), (4, 3), (2.5, 5))]
    return torch.stack(waves).unsqueeze(0)


def test_charbonnier_of_a_constant_difference() -> None:
    first = torch.zeros(2, 3, 4, 4)
    assert float(charbonnier(first, first + 0.3)) == pytest.approx(math.sqrt(0.09 + 1e-6))


def test_masked_charbonnier_is_each_crops_mean_over_trusted_pixels_as_in_a_loop() -> None:
    torch.manual_seed(0)
    first, second, mask = torch.rand(2, 3, 5, 6), torch.rand(2, 3, 5, 6), torch.rand(2, 1, 5, 6)
    # The second crop is trusted a third as much, and counts as much.
    mask[1] /= 3
    crops = []
    for b in range(2):
        above = below = 0.0
        for y in range(5):
            for x in range(6):
                m = float(mask[b, 0, y, x])
                below += 3 * m
                above += m * sum(math.hypot(float(first[b, c, y, x] - second[b, c, y, x]), 1e-3) for c in range(3))
        crops.append(above / below)
    assert float(charbonnier(first, second, mask)) == pytest.approx(sum(crops) / 2, rel=1e-5)
    for b in range(2):
        alone = charbonnier(first[b : b + 1], second[b : b + 1], mask[b : b + 1])
        assert float(alone) == pytest.approx(crops[b], rel=1e-5)


def test_a_crop_with_too_few_trusted_pixels_adds_nothing_to_its_batch() -> None:
    first = torch.rand(2, 3, 10, 10, requires_grad=True)
    mask = torch.ones(2, 1, 10, 10)
    mask[1], mask[1, 0, 0, :4] = 0, 1
    loss = charbonnier(first, torch.zeros(2, 3, 10, 10), mask)
    (gradient,) = torch.autograd.grad(loss, first)
    alone = charbonnier(first[:1], torch.zeros(1, 3, 10, 10), mask[:1])
    assert loss.item() == pytest.approx(alone.item() / 2)
    assert gradient[0].abs().min() > 0
    assert gradient[1].abs().max() == 0


def test_too_few_trusted_pixels_give_zero_loss_and_zero_gradient() -> None:
    first = torch.rand(1, 3, 10, 10, requires_grad=True)
    for trusted in (0, 4):
        mask = torch.zeros(1, 1, 10, 10)
        mask.view(-1)[:trusted] = 1
        loss = charbonnier(first, torch.zeros(1, 3, 10, 10), mask)
        (gradient,) = torch.autograd.grad(loss, first)
        assert loss.item() == 0
        assert gradient.abs().max() == 0


def test_untrusted_pixels_may_hold_nan() -> None:
    first = torch.rand(1, 3, 10, 10, requires_grad=True)
    second, mask = first.detach() + 0.1, torch.ones(1, 1, 10, 10)
    second[..., 0], mask[..., 0] = math.nan, 0
    loss = charbonnier(first, second, mask)
    loss.backward()
    assert loss.item() == pytest.approx(math.hypot(0.1, 1e-3), rel=1e-4)
    assert torch.isfinite(first.grad).all()


def test_warm_up_compares_with_the_sharp_image_brought_by_the_stored_flow() -> None:
    blurred = smooth_image()
    flow = torch.zeros(1, 2, 48, 48)
    flow[:, 0] = 3
    sharp = blurred.roll(3, dims=3)
    terms = warm_up_loss([blurred], blurred, sharp, flow, None, ReblurNetwork())
    assert float(terms.deblur_blur_frame) == pytest.approx(1e-3, rel=1e-3)
    assert float(terms.deblur_sharp_frame) == 0


def test_warm_up_trains_the_reblurring_network_without_touching_the_output() -> None:
    output = smooth_image().requires_grad_()
    network = ReblurNetwork()
    sharp, flow = smooth_image().roll(1, dims=2), torch.zeros(1, 2, 48, 48)
    with_reblur = warm_up_loss([output], smooth_image(), sharp, flow, None, network, reblur_weight=10.0)
    (gradient,) = torch.autograd.grad(with_reblur.total, output, retain_graph=True)
    without = warm_up_loss([output], smooth_image(), sharp, flow, None, network, reblur_weight=0.0)
    assert torch.equal(gradient, torch.autograd.grad(without.total, output)[0])
    with_reblur.total.backward()
    assert network.head.weight.grad is not None
    assert network.head.weight.grad.abs().sum() > 0


def test_the_joint_loss_is_the_weighted_sum_of_its_terms_with_gradient_to_both_networks() -> None:
    output, network = smooth_image().requires_grad_(), ReblurNetwork()
    sharp = smooth_image().roll(1, dims=3)
    terms = joint([output], smooth_image(), sharp, None, network, zero_flow, reblur_weight=0.25)
    parts = terms.deblur_blur_frame + terms.deblur_sharp_frame + 0.25 * terms.reblur
    assert float(terms.total.detach()) == pytest.approx(float(parts), rel=1e-6)
    terms.total.backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0
    assert network.head.weight.grad is not None


def test_the_joint_loss_forgives_a_shift_of_the_sharp_image() -> None:
    torch.manual_seed(0)
    scene = torch.nn.functional.interpolate(torch.rand(1, 3, 24, 24), size=96, mode="bicubic").clamp(0, 1)
    sharp = scene.roll((2, -3), dims=(2, 3))
    network = ReblurNetwork()
    misaligned = joint([scene], scene, sharp, None, network, zero_flow)
    forgiven = joint([scene], scene, sharp, None, network, flow_estimator("pyramid"))
    assert forgiven.deblur_blur_frame < 0.15 * misaligned.deblur_blur_frame
    assert forgiven.deblur_sharp_frame < 0.15 * misaligned.deblur_sharp_frame


def test_losses_of_several_outputs_are_averaged() -> None:
    blurred, sharp, network = smooth_image(), smooth_image() + 0.1, ReblurNetwork()
    one = joint([blurred], blurred, sharp, None, network, zero_flow)
    three = joint([blurred] * 3, blurred, sharp, None, network, zero_flow)
    assert float(three.total.detach()) == pytest.approx(float(one.total.detach()), rel=1e-6)


def test_pixels_without_valid_content_do_not_count() -> None:
    blurred, network = smooth_image(), ReblurNetwork()
    spoiled = blurred.clone()
    spoiled[..., :12] = 5.0
    valid = torch.ones(1, 1, 48, 48)
    valid[..., :24] = 0
    terms = joint([blurred], blurred, spoiled, valid, network, zero_flow)
    assert float(terms.deblur_blur_frame) == pytest.approx(1e-3, rel=1e-3)
    assert float(terms.deblur_sharp_frame) == pytest.approx(1e-3, rel=1e-3)


def only(deformation_part: str, flow: Tensor, target: Tensor) -> Deformation:
    """A deformation by `flow` in which one of the two masks trusts nothing."""
    keep, drop = torch.ones_like(target[:, :1]), torch.zeros_like(target[:, :1])
    masks = (keep, drop) if deformation_part == "target" else (drop, keep)
    return Deformation(
        to_sharp=-flow,
        target=target,
        target_mask=masks[0],
        to_deblurred=flow,
        sharp=target,
        sharp_mask=masks[1],
    )


def test_what_differs_in_the_sharp_frame_teaches_the_place_the_flow_leads_to() -> None:
    output, flow = smooth_image().requires_grad_(), torch.zeros(1, 2, 48, 48)
    flow[:, 0] = 3
    sharp = warp(output.detach(), flow)
    sharp[..., 20, 10] += 0.5
    terms = joint_loss([output], smooth_image(), only("sharp", flow, sharp), None, ReblurNetwork(), reblur_weight=0.0)
    (gradient,) = torch.autograd.grad(terms.total, output)
    strongest = gradient.abs().sum((0, 1)).argmax()
    assert divmod(int(strongest), 48) == (20, 13)
    assert (gradient[0, :, 20, 13] < 0).all()


def test_the_blurred_frames_target_stands_still_while_the_output_moves() -> None:
    output, target = smooth_image().requires_grad_(), smooth_image() + 0.1
    still_field = torch.zeros(1, 2, 48, 48)
    terms = joint_loss(
        [output], smooth_image(), only("target", still_field, target), None, ReblurNetwork(), reblur_weight=0
    )
    (gradient,) = torch.autograd.grad(terms.total, output)
    # d/dD of ρ(D - target)/(3 H W): the target itself has no share in it.
    slope = -0.1 / math.hypot(0.1, 1e-3) / (3 * 48 * 48)
    torch.testing.assert_close(gradient, torch.full_like(gradient, slope), rtol=1e-3, atol=0)


def test_a_crop_that_is_masked_altogether_gives_no_loss_and_no_gradient() -> None:
    output, sharp = smooth_image().requires_grad_(), smooth_image() + 0.2

    def torn(first: Tensor, second: Tensor) -> Tensor:
        return torch.full_like(zero_flow(first, second), 5.0)

    terms = joint([output], smooth_image(), sharp, None, ReblurNetwork(), torn, reblur_weight=0.0)
    (gradient,) = torch.autograd.grad(terms.total, output)
    assert terms.total.item() == 0
    assert gradient.abs().max() == 0


def test_warm_up_takes_real_content_from_the_margin() -> None:
    wide = torch.rand(1, 3, 64, 64)
    blurred, flow = wide[..., 8:56, 2:50], torch.full((1, 2, 48, 48), -6.0)
    flow[:, 1] = 0
    terms = warm_up_loss([blurred], blurred, wide, flow, None, ReblurNetwork())
    assert float(terms.deblur_blur_frame) == pytest.approx(1e-3, rel=1e-3)


def test_each_deformation_term_can_count_alone() -> None:
    torch.manual_seed(0)
    output, sharp = smooth_image().requires_grad_(), smooth_image().roll(2, 3)
    ones, network = torch.ones(1, 1, 48, 48), ReblurNetwork(radius_px=2, width=4, blocks=1)
    deformation = deform_bidirectionally(output.detach(), sharp, ones, ones, flow_estimator("pyramid"))
    found = {
        terms: joint_loss([output], output, deformation, ones, network, reblur_weight=0, deformation_weights=weights)
        for terms, weights in (("both", (1.0, 1.0)), ("to_blur", (1.0, 0.0)), ("to_sharp", (0.0, 1.0)))
    }
    both = found["both"]
    assert both.deblur_blur_frame > 0
    assert both.deblur_sharp_frame > 0
    assert torch.equal(found["to_blur"].total, both.deblur_blur_frame)
    assert torch.equal(found["to_sharp"].total, both.deblur_sharp_frame)
    assert torch.equal(found["to_blur"].total + found["to_sharp"].total, both.total)
