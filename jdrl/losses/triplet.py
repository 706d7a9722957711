"""The triplet loss: kernels of the reblurring network are the pseudo labels of the blur estimator.

Li et al., "Reblurring-Guided Single Image Defocus Deblurring: A Learning Framework with Misaligned Training Pairs",
IJCV 2025 (arXiv:2409.17792), here with labels without gradient, weighted by a confidence map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.losses.joint import MIN_MASK_MEAN
from jdrl.reblurring.blur_estimator import box_mean
from jdrl.reblurring.reblur import coc_radius_px, reblur_by

if TYPE_CHECKING:
    from jdrl.config import BasisName
    from jdrl.reblurring.network import ReblurNetwork

TEXTURE = 0.02
MISFIT = 0.02
WINDOW_PX = 3
SMOOTHING_PX = 8
QUIET = 0.1  # share of an image's windows that hold little but noise
NOISE_GAIN = 36.0  # of white noise: the sum of the squares of the weights of [1, -2, 1] along both axes
SPREAD_PX = 5e-4  # standard deviation of the radius over a crop at half confidence; a new network has twice this


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """The target of the blur estimator; without gradient.

    Attributes:
        weights: (B, K, H, W) kernel weights, summing to one over dim 1.
        confidence: (B, 1, H, W) in [0, 1].
        basis: Basis of the weights.
    """

    weights: Tensor
    confidence: Tensor
    basis: BasisName


@torch.no_grad()
def pseudo_label(
    deblurred: Tensor, blurred: Tensor, valid: Tensor | None, reblur_network: ReblurNetwork
) -> PseudoLabel:
    """Computes the label: the reblurring network's kernels between an output and its input.

    Without confidence, because there is no texture or because reblurring does not reproduce B, the label is taken from
    the surroundings: with the weights a, their confidence t and the mean G over a window,

        a' = t a + (1 - t) G(t a) / G(t),    confidence t + (1 - t) G(t)

    (normalised convolution: Knutsson & Westin, CVPR 1993). A map without variation, that of a collapsed network, has no
    confidence at all.

    Args:
        deblurred: (B, 3, H, W), the final output D.
        blurred: (B, 3, H, W), B.
        valid: (B, 1, H, W) 1 where B has real content; None: everywhere.
        reblur_network: Predicts kernel weights; gets no gradient here.
    """
    reblurred, weights = reblur_by(reblur_network, deblurred, blurred)
    trust = label_confidence(deblurred, blurred, reblurred)
    # In float64: the rounding of a mean of thousands of equal radii is a spread, too.
    radius_px = coc_radius_px(weights, reblur_network.basis).double()
    spread_px2 = radius_px.var((1, 2, 3), correction=0).view(-1, 1, 1, 1).to(trust.dtype)
    trust = trust * spread_px2 / (spread_px2 + SPREAD_PX**2)
    if valid is not None:
        trust = trust * valid
    around = box_mean(trust, SMOOTHING_PX)
    smooth = box_mean(trust * weights, SMOOTHING_PX) / around.clamp(min=1e-6)
    # Without confident surroundings there is no mean; the label keeps its own weights, with confidence zero.
    smooth = torch.where(around > 1e-6, smooth, weights)
    confidence = torch.lerp(around, torch.ones_like(trust), trust)
    return PseudoLabel(torch.lerp(smooth, weights, trust), confidence, reblur_network.basis)


def label_confidence(deblurred: Tensor, blurred: Tensor, reblurred: Tensor) -> Tensor:
    """The confidence of the blur between D and B: g / (g + τ²) · exp(-max(0, e - σ²) / 2τ²), τ² = 0.02² + σ².

    g is the energy of D's gradient and e the mean square of R(D, B) - B, both over windows of 7 px and all channels:
    without texture blur changes nothing, and kernels that do not reproduce B are wrong. σ² is the variance of the noise
    of B, which no kernels reproduce.

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
    energy = box_mean((across + down).mean(1, keepdim=True), WINDOW_PX)
    misfit = box_mean((reblurred - blurred).float().square().mean(1, keepdim=True), WINDOW_PX)
    noise = noise_variance(blurred.float())
    tolerance = MISFIT**2 + noise
    return energy / (energy + TEXTURE**2 + noise) * torch.exp(-(misfit - noise).clamp(min=0) / (2 * tolerance))


def noise_variance(image: Tensor) -> Tensor:
    """The variance of the noise of each image: of its finest detail where there is least of it.

    The detail is the response to [1, -2, 1] along both axes, which is zero on edges along them (Immerkær, "Fast Noise
    Variance Estimation", CVIU 1996); of its energy over windows of 7 px the tenth percentile counts.

    Args:
        image: (B, C, H, W).

    Returns:
        (B, 1, 1, 1).

    Example:
        >>> noise_variance(torch.full((1, 3, 32, 32), 0.5)).item()
        0.0
    """
    detail = F.pad(image, (1, 1, 1, 1), mode="replicate").diff(n=2, dim=-1).diff(n=2, dim=-2)
    energy = box_mean(detail.square().mean(1, keepdim=True), WINDOW_PX)
    return energy.flatten(1).quantile(QUIET, dim=1).view(-1, 1, 1, 1) / NOISE_GAIN


def estimator_loss(weights: Tensor, label: PseudoLabel) -> Tensor:
    """Loss of the blur estimator: error of log(1 + radius) plus cross-entropy of the kernel weights.

    Args:
        weights: (B, K, H, W), of the estimator.
        label: The target, with confidence t.

    Returns:
        The mean over crops of Σ t (|log(1 + c) - log(1 + c')| - Σ_r a'_r log a_r) / Σ t, a scalar. A crop in which the
        mean of t is below 0.05 adds zero.
    """
    log_radii = (coc_radius_px(each, label.basis).log1p() for each in (weights, label.weights))
    radius_error = torch.sub(*log_radii).abs()
    cross_entropy = -(label.weights * weights.clamp(min=1e-12).log()).sum(1, keepdim=True)
    trust = label.confidence
    means = (trust * (radius_error + cross_entropy)).sum((1, 2, 3)) / (trust.sum((1, 2, 3)) + 1e-6)
    return torch.where(trust.mean((1, 2, 3)) >= MIN_MASK_MEAN, means, torch.zeros_like(means)).mean()
