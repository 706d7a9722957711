"""The losses of JDRL: warm-up against a pre-aligned sharp frame, joint with reblurring, and reblurring alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.flow.warping import in_bounds_mask, warp
from jdrl.reblurring.reblur import coc_radius_px, reblur_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jdrl.flow.bidirectional import Deformation
    from jdrl.reblurring.network import ReblurNetwork

CHARBONNIER_EPS = 1e-3
MIN_MASK_MEAN = 0.05
REBLUR_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Scalar losses of one step. `total` is the one to differentiate; its terms are unweighted and detached.

    Attributes:
        total: Their sum, weighted by the phase.
        deblur_blur_frame: Output against the sharp image warped to it.
        deblur_sharp_frame: Output warped to the sharp image, against that image; 0 during warm-up.
        reblur: Reblurred image against the blurred one; 0 without a reblurring network.
        radius_moments: (2,) mean and mean square of the radii of the reblurring kernels, px and px²; else 0.
    """

    total: Tensor
    deblur_blur_frame: Tensor
    deblur_sharp_frame: Tensor
    reblur: Tensor
    radius_moments: Tensor


def charbonnier(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    """Charbonnier loss: the mean of ρ(z) = sqrt(z² + ε²), ε = 1e-3, over the valid pixels, crop by crop.

    Every crop has the same weight, however much of it is valid, so a batch may be computed in parts: the mean of the
    parts' losses is that of the batch.

    Args:
        first: (B, C, H, W).
        second: (B, C, H, W).
        mask: (B, 1, H, W) weights in [0, 1]; None: all pixels are valid. No gradient flows into it.

    Returns:
        The mean over the crops of Σ m ρ / (C Σ m + 1e-6), a scalar. A crop in which the mean of m is below 0.05 adds
        zero, with zero gradient: it has too few valid pixels.

    Example:
        >>> first, second = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
        >>> round(float(charbonnier(first, second)), 4)
        0.5
        >>> float(charbonnier(first, second, torch.zeros(1, 1, 4, 4)))
        0.0
    """
    difference = first - second
    if mask is None:
        return _rho(difference).mean()
    trust = mask.detach().to(difference.dtype)
    # `where` keeps non-finite values without weight out of the sum and of the gradient.
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
    reblur_network: ReblurNetwork | None,
    *,
    reblur_weight: float = REBLUR_WEIGHT,
    official_warp: bool = False,
) -> LossTerms:
    """Loss of phase 1: outputs against the sharp image warped by the stored flow, and the reblurring network's loss.

    The reblurring network is trained on (warped sharp, blurred) pairs, so that it is ready when the joint phase
    begins; the deblurring network gets no gradient from it.

    Args:
        outputs: Of the deblurring network, final first, each (B, 3, H, W); their losses are averaged.
        blurred: (B, 3, H, W).
        sharp: (B, 3, H + 2M, W + 2M), not yet warped, extending M px beyond the window on each side.
        flow: (B, 2, H, W) stored u[blur→sharp], pixels; zeros if the pair is aligned.
        valid: (B, 1, H, W) 1 where the blurred frame has real content; None: everywhere.
        reblur_network: Predicts kernel weights; None: nothing uses them.
        reblur_weight: Of the reblurring term in the total.
        official_warp: See `jdrl.flow.warping.warp`.

    Example:
        A perfect output of an aligned pair leaves ρ(0) = 1e-3:

        >>> from jdrl.reblurring.network import ReblurNetwork
        >>> sharp, flow = torch.rand(1, 3, 16, 16), torch.zeros(1, 2, 16, 16)
        >>> loss = warm_up_loss([sharp], sharp, sharp, flow, None, ReblurNetwork(radius_px=3, width=4, blocks=1))
        >>> round(float(loss.deblur_blur_frame), 4), float(loss.deblur_sharp_frame)
        (0.001, 0.0)
    """
    margin = (sharp.shape[-1] - flow.shape[-1]) // 2
    mask = _combine_masks(in_bounds_mask(flow, -margin), valid)
    target = warp(sharp, flow, margin_px=margin, official=official_warp)
    deblur = _mean([charbonnier(output, target, mask) for output in outputs])
    reblurred, moments = _reblur_error(target, blurred, mask, reblur_network)
    total = deblur + reblur_weight * reblurred
    return LossTerms(total, deblur.detach(), torch.zeros_like(deblur), reblurred.detach(), moments)


def reblur_loss(
    outputs: Sequence[Tensor],
    blurred: Tensor,
    valid: Tensor | None,
    reblur_network: ReblurNetwork,
    *,
    reblur_weight: float = REBLUR_WEIGHT,
) -> LossTerms:
    """Loss of the frozen phase: the last term of `joint_loss`, for the reblurring network alone.

    Args:
        outputs: Of the frozen network, final first, each (B, 3, H, W); their losses are averaged.
        blurred: (B, 3, H, W).
        valid: (B, 1, H, W) 1 where the blurred frame has real content; None: everywhere.
        reblur_network: Predicts kernel weights.
        reblur_weight: Of the term in the total.

    Example:
        >>> from jdrl.reblurring.network import ReblurNetwork
        >>> blurred = torch.rand(1, 3, 16, 16)
        >>> loss = reblur_loss([blurred], blurred, None, ReblurNetwork(radius_px=3, width=4, blocks=1))
        >>> bool(loss.total == 0.5 * loss.reblur)
        True
    """
    errors = [_reblur_error(output, blurred, valid, reblur_network) for output in outputs]
    reblurred = _mean([error for error, _ in errors])
    zero = torch.zeros_like(reblurred)
    return LossTerms(reblur_weight * reblurred, zero, zero, reblurred.detach(), errors[0][1])


def joint_loss(
    outputs: Sequence[Tensor],
    blurred: Tensor,
    deformation: Deformation,
    valid: Tensor | None,
    reblur_network: ReblurNetwork | None,
    *,
    reblur_weight: float = REBLUR_WEIGHT,
    deformation_weights: tuple[float, float] = (1.0, 1.0),
    official_warp: bool = False,
) -> LossTerms:
    """Loss of phase 2: bidirectional deformation and reblurring (Li et al., AAAI 2023).

    With the final output D, the sharp image S, the blurred image B, the reblurring R, and the flows u and masks m of
    `deformation` (without gradient):

        L = w1 ρ(D - W(S, u[D→S]); m1) + w2 ρ(S - W(D, u[S→D]); m2) + reblur_weight ρ(R(D, B) - B)

    The target of the first term follows D, so only the last term ties the geometry to B. Flow and masks are those of
    the final output and shared by all outputs; every term is averaged over the outputs.

    Args:
        outputs: Of the deblurring network, final first, each (B, 3, H, W).
        blurred: (B, 3, H, W).
        deformation: Of the final output and the sharp image.
        valid: (B, 1, H, W) 1 where the blurred frame has real content; None: everywhere.
        reblur_network: Predicts kernel weights; None: without the last term.
        reblur_weight: Of the reblurring term in the total.
        deformation_weights: Of the first two terms. Phase 1 lacks the second, which is to be ramped up from zero.
        official_warp: See `jdrl.flow.warping.warp`.

    Example:
        >>> from jdrl.flow.bidirectional import deform_bidirectionally
        >>> from jdrl.flow.pyramid import pyramid_flow
        >>> from jdrl.reblurring.network import ReblurNetwork
        >>> image, valid = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
        >>> deformation = deform_bidirectionally(image, image, valid, valid, pyramid_flow)
        >>> loss = joint_loss([image], image, deformation, valid, ReblurNetwork(radius_px=3, width=4, blocks=1))
        >>> bool(loss.total < 0.1)
        True
    """
    blur_frame, sharp_frame, errors = [], [], []
    for output in outputs:
        blur_frame.append(charbonnier(output, deformation.target, deformation.target_mask))
        warped = warp(output, deformation.to_deblurred, official=official_warp)
        sharp_frame.append(charbonnier(warped, deformation.sharp, deformation.sharp_mask))
        errors.append(_reblur_error(output, blurred, valid, reblur_network))
    first, second, reblurred = _mean(blur_frame), _mean(sharp_frame), _mean([error for error, _ in errors])
    total = deformation_weights[0] * first + deformation_weights[1] * second + reblur_weight * reblurred
    return LossTerms(total, first.detach(), second.detach(), reblurred.detach(), errors[0][1])


def _reblur_error(
    sharp: Tensor, blurred: Tensor, mask: Tensor | None, reblur_network: ReblurNetwork | None
) -> tuple[Tensor, Tensor]:
    """ρ(R(D, B) - B), and mean and mean square of the kernels' radii."""
    if reblur_network is None:
        return sharp.new_zeros(()), sharp.new_zeros(2, dtype=torch.float64)
    reblurred, weights = reblur_by(reblur_network, sharp, blurred)
    # In double precision: a small spread is the difference of two large moments.
    radius_px = coc_radius_px(weights.detach(), reblur_network.basis).double()
    return charbonnier(reblurred, blurred, mask), torch.stack([radius_px.mean(), radius_px.square().mean()])


def _rho(difference: Tensor) -> Tensor:
    return difference.square().add(CHARBONNIER_EPS**2).sqrt()


def _combine_masks(mask: Tensor, valid: Tensor | None) -> Tensor:
    return mask if valid is None else mask * valid.to(mask.dtype)


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()
