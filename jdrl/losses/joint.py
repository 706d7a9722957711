"""The losses of JDRL's two phases: first against a pre-aligned ground truth, then jointly with reblurring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.flow.warping import in_bounds, warp
from jdrl.reblurring.reblur import reblur

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jdrl.flow.bidirectional import Deformation
    from jdrl.reblurring.network import ReblurNetwork

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
    """Mean of sqrt(z² + ε²), ε = 1e-3, over the pixels the mask trusts, crop by crop.

    Each crop counts alike, however much of it is trusted, so a batch may be computed in parts: the mean of the parts'
    losses is the batch's.

    Args:
        first: (B, C, H, W).
        second: (B, C, H, W).
        mask: (B, 1, H, W) weights in [0, 1]; None trusts every pixel. No gradient flows into it.

    Returns:
        The mean over the crops of Σ m ρ / (C Σ m + 1e-6), a scalar; a crop in which the mean of m is below 0.05 adds
        zero, with zero gradient: too few trusted pixels to learn from.
    """
    difference = first - second
    if mask is None:
        return _rho(difference).mean()
    trust = mask.detach().to(difference.dtype)
    # `where` keeps a non-finite value without weight out of the sum and out of the gradient.
    distance = _rho(torch.where(trust > 0, difference, torch.zeros_like(difference)))
    inside = (1, 2, 3)
    means = (trust * distance).sum(inside) / (first.shape[1] * trust.sum(inside) + 1e-6)
    return torch.where(trust.mean(inside) >= MIN_MASK_MEAN, means, torch.zeros_like(means)).mean()


def warm_up_loss(
    outputs: Sequence[Tensor],
    blurred: Tensor,
    sharp: Tensor,
    flow: Tensor,
    valid: Tensor | None,
    reblur_network: ReblurNetwork,
    *,
    reblur_weight: float = REBLUR_WEIGHT,
    official_warp: bool = False,
) -> LossTerms:
    """Phase 1: outputs against the sharp image warped by the *stored* flow; the reblurring network on the side.

    The reblurring network learns on (warped sharp, blurred) pairs, so it is ready when the joint phase begins; the
    deblurring network gets no gradient from it.

    Args:
        outputs: Of the deblurring network, final first, each (B, 3, H, W); their losses are averaged.
        blurred: (B, 3, H, W).
        sharp: (B, 3, H + 2M, W + 2M), not yet warped, reaching M px beyond the window on each side.
        flow: (B, 2, H, W) stored u[blur→sharp], pixels; zeros if the pair is aligned.
        valid: (B, 1, H, W) where the blurred frame holds content; None means everywhere.
        reblur_network: Predicts kernel weights.
        reblur_weight: Of the reblurring term in the total.
        official_warp: See `jdrl.flow.warping.warp`.
    """
    margin = (sharp.shape[-1] - flow.shape[-1]) // 2
    mask = _joined(in_bounds(flow, -margin), valid)
    target = warp(sharp, flow, margin_px=margin, official=official_warp)
    deblur = _mean([charbonnier(output, target, mask) for output in outputs])
    reblurred = charbonnier(_reblurred(target, blurred, reblur_network), blurred, mask)
    return _terms(deblur, torch.zeros_like(deblur), reblurred, reblur_weight)


def reblur_loss(
    outputs: Sequence[Tensor],
    blurred: Tensor,
    valid: Tensor | None,
    reblur_network: ReblurNetwork,
    *,
    reblur_weight: float = REBLUR_WEIGHT,
) -> LossTerms:
    """What the reblurring network learns from while the deblurring network is frozen: the last term of `joint_loss`.

    Args:
        outputs: Of the frozen network, final first, each (B, 3, H, W); their losses are averaged.
        blurred: (B, 3, H, W).
        valid: (B, 1, H, W) where the blurred frame holds content; None means everywhere.
        reblur_network: Predicts kernel weights.
        reblur_weight: Of the term in the total.
    """
    losses = [charbonnier(_reblurred(output, blurred, reblur_network), blurred, valid) for output in outputs]
    reblurred = _mean(losses)
    return _terms(torch.zeros_like(reblurred), torch.zeros_like(reblurred), reblurred, reblur_weight)


def joint_loss(
    outputs: Sequence[Tensor],
    blurred: Tensor,
    deformation: Deformation,
    valid: Tensor | None,
    reblur_network: ReblurNetwork,
    *,
    reblur_weight: float = REBLUR_WEIGHT,
    official_warp: bool = False,
) -> LossTerms:
    """Phase 2: both deformations and reblurring.

    With D the final output, S the sharp and B the blurred image, u and the masks m from `deformation` (no gradient)
    and R the reblurring:

        L = ρ(D - W(S, u[D→S]); m1) + ρ(S - W(D, u[S→D]); m2) + reblur_weight ρ(R(D, B) - B)

    The first term's target follows D, so only the last one pins the geometry to B. Flow and masks are found once,
    on the final output, and shared by all outputs; every term is averaged over them.

    Args:
        outputs: Of the deblurring network, final first, each (B, 3, H, W).
        blurred: (B, 3, H, W).
        deformation: Of the final output and the sharp image.
        valid: (B, 1, H, W) where the blurred frame holds content; None means everywhere.
        reblur_network: Predicts kernel weights.
        reblur_weight: Of the reblurring term in the total; ramp it up from zero at the start of the phase.
        official_warp: See `jdrl.flow.warping.warp`.
    """
    blur_frame, sharp_frame, reblurred = [], [], []
    for output in outputs:
        blur_frame.append(charbonnier(output, deformation.target, deformation.target_mask))
        moved = warp(output, deformation.to_deblurred, official=official_warp)
        sharp_frame.append(charbonnier(moved, deformation.sharp, deformation.sharp_mask))
        reblurred.append(charbonnier(_reblurred(output, blurred, reblur_network), blurred, valid))
    return _terms(_mean(blur_frame), _mean(sharp_frame), _mean(reblurred), reblur_weight)


def _reblurred(sharp: Tensor, blurred: Tensor, reblur_network: ReblurNetwork) -> Tensor:
    weights: Tensor = reblur_network(sharp, blurred)
    return reblur(sharp, weights, reblur_network.basis)


def _rho(difference: Tensor) -> Tensor:
    return difference.square().add(CHARBONNIER_EPS**2).sqrt()


def _terms(blur_frame: Tensor, sharp_frame: Tensor, reblurred: Tensor, reblur_weight: float) -> LossTerms:
    total = blur_frame + sharp_frame + reblur_weight * reblurred
    return LossTerms(total, blur_frame.detach(), sharp_frame.detach(), reblurred.detach())


def _joined(mask: Tensor, valid: Tensor | None) -> Tensor:
    return mask if valid is None else mask * valid.to(mask.dtype)


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()
