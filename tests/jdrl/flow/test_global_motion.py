"""Global motion of whole frames, and the robust polynomial beneath it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.flow.global_motion import register_frames
from jdrl.flow.polynomial import evaluate_polynomial, fit_polynomial
from jdrl.flow.warping import warp
from tests.support.flows import constant_flow, textured_scene, zoom_and_shift


def test_a_polynomial_with_a_third_of_outliers_is_found_again() -> None:
    torch.manual_seed(0)
    planted = torch.tensor([[[9.0, 1.5, 0.2, 0.3, 0.0, -0.4], [-5.0, 0.1, 1.4, 0.0, 0.2, 0.1]]])
    flow = evaluate_polynomial(planted, (60, 80), (0, 0, 60, 80))
    flow = flow + 0.1 * torch.randn_like(flow)
    flow[..., :20, :] = 0
    found = fit_polynomial(flow, torch.ones(1, 1, 60, 80), 2)
    torch.testing.assert_close(found, planted, atol=0.05, rtol=0)
    window = evaluate_polynomial(planted, (60, 80), (10, 30, 20, 16))
    torch.testing.assert_close(window, evaluate_polynomial(planted, (60, 80), (0, 0, 60, 80))[..., 10:30, 30:46])


def test_pixels_without_trust_have_no_say_and_none_at_all_give_a_finite_motion() -> None:
    flow, trust = constant_flow(4, 2, (32, 32)), torch.zeros(1, 1, 32, 32)
    flow[..., 16:] = 30
    trust[..., :16] = 1
    found = evaluate_polynomial(fit_polynomial(flow, trust, 1), (32, 32), (0, 0, 32, 32))
    torch.testing.assert_close(found, constant_flow(4, 2, (32, 32)), atol=0.05, rtol=0)
    assert torch.isfinite(fit_polynomial(flow, 0 * trust, 1)).all()


def frames(motion: Tensor) -> tuple[Tensor, Tensor]:
    """A soft frame and the sharp one, displaced so that u[blur→sharp] is about `motion`."""
    scene = textured_scene(max(motion.shape[-2:]))[..., : motion.shape[-2], : motion.shape[-1]]
    return F.avg_pool2d(F.pad(scene, (2, 2, 2, 2), mode="replicate"), 5, stride=1), warp(scene, -motion)


def test_a_displacement_far_beyond_the_range_of_crops_is_registered() -> None:
    motion = zoom_and_shift(320, 1.02, 26.0, -18.0)
    found = register_frames(*frames(motion))
    assert found is not None
    error = (found.flow(0, 0, 320, 320) - motion)[..., 40:-40, 40:-40].square().sum(1).sqrt()
    assert error.mean() < 1.5
    torch.testing.assert_close(found.flow(64, 32, 100, 50), found.flow(0, 0, 320, 320)[..., 64:164, 32:82])


def test_a_reduced_frame_gives_the_motion_in_full_pixels() -> None:
    found = register_frames(*frames(constant_flow(8, -4, (580, 583))))
    assert found is not None
    assert found.size == (580, 583)
    median = found.flow(0, 0, 580, 583).flatten(2).median(2).values[0]
    assert abs(float(median[0]) - 8) < 0.4
    assert abs(float(median[1]) + 4) < 0.4


def test_frames_that_show_different_things_have_no_motion() -> None:
    torch.manual_seed(0)
    first, second = (F.interpolate(torch.rand(1, 3, 40, 40), size=160, mode="bicubic").clamp(0, 1) for _ in range(2))
    assert register_frames(first, second) is None
