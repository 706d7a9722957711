"""Pairs become triplets: what reblurring found out about the blur is the pseudo label of the blur estimator.

Li et al., "Reblurring-Guided Single Image Defocus Deblurring: A Learning Framework with Misaligned Training Pairs",
IJCV 2025 (arXiv:2409.17792), with labels that carry no gradient and know how far they can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.losses.joint import MIN_MASK_MEAN
from jdrl.reblurring.blur_estimator import window_mean
from jdrl.reblurring.reblur import coc_radius_px, reblur

if TYPE_CHECKING:
    from jdrl.config import BasisName
    from jdrl.reblurring.network import ReblurNetwork

TEXTURE = 0.02
MISFIT = 0.02
WINDOW_PX = 3
SMOOTHING_PX = 8


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """What the estimator should have answered; no gradient leads out of it.

    Attributes:
        weights: (B, K, H, W) kernel weights, summing to one over dim 1.
        confidence: (B, 1, H, W) in [0, 1].
        basis: What the weights are of.
    """

    weights: Tensor
    confidence: Tensor
    basis: BasisName


@torch.no_grad()
def pseudo_label(
    deblurred: Tensor, blurred: Tensor, valid: Tensor | None, reblur_network: ReblurNetwork
) -> PseudoLabel:
    """The blur between an output and its input, as the reblurring network sees it.

    Where it cannot be seen, because there is no texture or because reblurring does not give back B, the label is taken
    from around: with a the weights, t the trust in them and G the mean over a window,

        a' = t a + (1 - t) G(t a) / G(t),    confidence t + (1 - t) G(t)

    (normalised convolution: Knutsson & Westin, CVPR 1993).

    Args:
        deblurred: (B, 3, H, W), the final output D.
        blurred: (B, 3, H, W), B.
        valid: (B, 1, H, W) where B holds content; None means everywhere.
        reblur_network: Predicts kernel weights; it learns nothing here.
    """
    weights: Tensor = reblur_network(deblurred, blurred)
    trust = confidence(deblurred, blurred, reblur(deblurred, weights, reblur_network.basis))
    if valid is not None:
        trust = trust * valid
    around = window_mean(trust, SMOOTHING_PX)
    smooth = window_mean(trust * weights, SMOOTHING_PX) / around.clamp(min=1e-6)
    # Where nothing around is trusted there is no mean either; the label then keeps its own, without weight.
    smooth = torch.where(around > 1e-6, smooth, weights)
    certainty = torch.lerp(around, torch.ones_like(trust), trust)
    return PseudoLabel(torch.lerp(smooth, weights, trust), certainty, reblur_network.basis)


def confidence(deblurred: Tensor, blurred: Tensor, reblurred: Tensor) -> Tensor:
    """How far the blur between D and B can be seen: g / (g + 0.02²) · exp(-e / (2 · 0.02²)).

    g is the energy of D's gradient and e the mean square of R(D, B) - B, both over windows of 7 px and all channels:
    blur changes nothing where there is no texture, and what does not give back B is not its blur.

    Args:
        deblurred: (B, C, H, W), D.
        blurred: (B, C, H, W), B.
        reblurred: (B, C, H, W), R(D, B).

    Returns:
        (B, 1, H, W) in [0, 1].
    """
    image = deblurred.float()
    across = F.pad(image.diff(dim=-1), (0, 1, 0, 0)).square()
    down = F.pad(image.diff(dim=-2), (0, 0, 0, 1)).square()
    energy = window_mean((across + down).mean(1, keepdim=True), WINDOW_PX)
    misfit = window_mean((reblurred - blurred).float().square().mean(1, keepdim=True), WINDOW_PX)
    return energy / (energy + TEXTURE**2) * torch.exp(-misfit / (2 * MISFIT**2))


def estimator_loss(weights: Tensor, label: PseudoLabel) -> Tensor:
    """The error of log(1 + radius) plus the cross-entropy of the kernel weights, weighted by confidence.

    Args:
        weights: (B, K, H, W), the estimator's.
        label: What they should be.

    Returns:
        Σ t (|log(1 + c) - log(1 + c')| - Σ_r a'_r log a_r) / Σ t of every crop, and zero of one in which the mean of t
        is below 0.05; the mean over crops, a scalar.
    """
    radii = (coc_radius_px(each, label.basis).log1p() for each in (weights, label.weights))
    error = torch.sub(*radii).abs()
    surprise = -(label.weights * weights.clamp(min=1e-12).log()).sum(1, keepdim=True)
    trust = label.confidence
    means = (trust * (error + surprise)).sum((1, 2, 3)) / (trust.sum((1, 2, 3)) + 1e-6)
    return torch.where(trust.mean((1, 2, 3)) >= MIN_MASK_MEAN, means, torch.zeros_like(means)).mean()
