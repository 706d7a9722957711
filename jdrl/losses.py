"""The losses of JDRL's two phases: first against a pre-aligned ground truth, then jointly with reblurring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.deformation import consistency_mask, in_bounds, warp
from jdrl.reblur import reblur

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jdrl.flow import FlowEstimator
    from jdrl.reblur_network import ReblurNetwork

CHARBONNIER_EPS = 1e-3
MIN_MASK_MEAN = 0.05
REBLUR_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Scalars of one step. `total` is what to differentiate; the parts are unweighted and detached.

    Attributes:
        total: deblur_blur_frame + deblur_sharp_frame + reblur_weight * reblur.
        deblur_blur_frame: Output against the sharp image warped to it.
        deblur_sharp_frame: Output warped to the sharp image, against it; 0 during warm-up.
        reblur: Reblurred image against the blurred one.
    """

    total: Tensor
    deblur_blur_frame: Tensor
    deblur_sharp_frame: Tensor
    reblur: Tensor


def charbonnier(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of sqrt(z² + ε²), ε = 1e-3, over the pixels the mask trusts.

    Args:
        first: (B, C, H, W).
        second: (B, C, H, W).
        mask: (B, 1, H, W) weights in [0, 1]; None trusts every pixel. No gradient flows into it.

    Returns:
        Σ m ρ / (C Σ m + 1e-6), a scalar; zero, with zero gradient, where the mean of m is below 0.05: too few
        trusted pixels to learn from.
    """
    difference = first - second
    if mask is None:
        return _rho(difference).mean()
    trust = mask.detach().to(difference.dtype)
    # `where` keeps a non-finite value without weight out of the sum and out of the gradient.
    distance = _rho(torch.where(trust > 0, difference, torch.zeros_like(difference)))
    mean = (trust * distance).sum() / (first.shape[1] * trust.sum() + 1e-6)
    return torch.where(trust.mean() >= MIN_MASK_MEAN, mean, torch.zeros_like(mean))


def warm_up_loss(
    outputs: Sequence[Tensor],
    blurred: Tensor,
    sharp: Tensor,
    flow: Tensor,
    valid: Tensor | None,
    reblur_network: ReblurNetwork,
    *,
    reblur_weight: float = REBLUR_WEIGHT,
) -> LossTerms:
    """Phase 1: outputs against the sharp image warped by the *stored* flow; the reblurring network on the side.

    The reblurring network learns on (warped sharp, blurred) pairs, so it is ready when the joint phase begins; the
    deblurring network gets no gradient from it.

    Args:
        outputs: Of the deblurring network, final first, each (B, 3, H, W); their losses are averaged.
        blurred: (B, 3, H, W).
        sharp: (B, 3, H, W), not yet warped.
        flow: (B, 2, H, W) stored u[blur→sharp], pixels; zeros if the pair is aligned.
        valid: (B, 1, H, W) where the blurred frame holds content; None means everywhere.
        reblur_network: Predicts kernel weights.
        reblur_weight: Of the reblurring term in the total.
    """
    mask = _joined(in_bounds(flow), valid)
    target = warp(sharp, flow)
    deblur = _mean([charbonnier(output, target, mask) for output in outputs])
    weights: Tensor = reblur_network(target, blurred)
    reblurred = charbonnier(reblur(target, weights, reblur_network.basis), blurred, mask)
    return _terms(deblur, torch.zeros_like(deblur), reblurred, reblur_weight)


def joint_loss(
    outputs: Sequence[Tensor],
    blurred: Tensor,
    sharp: Tensor,
    valid: Tensor | None,
    reblur_network: ReblurNetwork,
    estimate_flow: FlowEstimator,
    *,
    reblur_weight: float = REBLUR_WEIGHT,
) -> LossTerms:
    """Phase 2: both deformations and reblurring.

    With D the final output, S the sharp and B the blurred image, u from `estimate_flow` (no gradient), m the
    forward-backward masks and R the reblurring:

        L = ρ(D - W(S, u[D→S]); m1) + ρ(S - W(D, u[S→D]); m2) + reblur_weight ρ(R(D, B) - B)

    The first term's target follows D, so only the last one pins the geometry to B. Flow and masks are found once,
    on the final output, and shared by all outputs; every term is averaged over them.

    Args:
        outputs: Of the deblurring network, final first, each (B, 3, H, W).
        blurred: (B, 3, H, W).
        sharp: (B, 3, H, W).
        valid: (B, 1, H, W) where the blurred frame holds content; None means everywhere.
        reblur_network: Predicts kernel weights.
        estimate_flow: From `jdrl.flow.flow_estimator`.
        reblur_weight: Of the reblurring term in the total; ramp it up from zero at the start of the phase.
    """
    final = outputs[0].detach().float().clamp(0, 1)
    with torch.no_grad():
        # Both directions in one batch: an estimator's cost is mostly its many small operations.
        both = estimate_flow(torch.cat([final, sharp]), torch.cat([sharp, final]))
        to_sharp, to_final = both.chunk(2)
        final_mask = _joined(consistency_mask(to_sharp, to_final), valid)
        sharp_mask = _joined(consistency_mask(to_final, to_sharp), None if valid is None else warp(valid, to_final))
        target = warp(sharp, to_sharp)
    blur_frame, sharp_frame, reblurred = [], [], []
    for output in outputs:
        blur_frame.append(charbonnier(output, target, final_mask))
        sharp_frame.append(charbonnier(warp(output, to_final), sharp, sharp_mask))
        weights: Tensor = reblur_network(output, blurred)
        reblurred.append(charbonnier(reblur(output, weights, reblur_network.basis), blurred, valid))
    return _terms(_mean(blur_frame), _mean(sharp_frame), _mean(reblurred), reblur_weight)


def _rho(difference: Tensor) -> Tensor:
    return difference.square().add(CHARBONNIER_EPS**2).sqrt()


def _terms(blur_frame: Tensor, sharp_frame: Tensor, reblurred: Tensor, reblur_weight: float) -> LossTerms:
    total = blur_frame + sharp_frame + reblur_weight * reblurred
    return LossTerms(total, blur_frame.detach(), sharp_frame.detach(), reblurred.detach())


def _joined(mask: Tensor, valid: Tensor | None) -> Tensor:
    return mask if valid is None else mask * valid.to(mask.dtype)


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()
