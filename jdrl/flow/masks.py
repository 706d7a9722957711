"""Validity masks of warped images: forward-backward, photometric and global consistency, and the published code's.

All masks are (B, 1, H, W) without gradient, on the grid that the flow starts from. None considers the frame's borders:
see `jdrl.flow.warping.in_bounds_mask`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.flow.polynomial import evaluate_polynomial, fit_polynomial
from jdrl.flow.warping import warp_approximately

RELATIVE_TOLERANCE = 0.01
FLOOR_PX2 = 0.5

LOW_PASS_PX = 4  # images are compared downsampled by this factor
NEIGHBOURHOOD = 5  # side of the box of local energies there
TEXTURELESS = 0.01  # standard deviation of a low-passed image below which the check abstains
FIT_ROUNDS = 2  # of gain and offset
NO_TRUST = 1e-6
UNEXPLAINED = 0.25  # share of the local energy at which the weight has fallen to exp(-1/2)

AGREEMENT_PX = 7.0  # distance from the global motion at which the weight has fallen to exp(-1/2)
AGREEMENT_STRIDE = 4

BAND = 0.35
WHEEL_STEPS = (15, 6, 4, 11, 13, 6)  # of the colour code: red to yellow, green, cyan, blue, magenta and back


@torch.no_grad()
def consistency_mask(forward: Tensor, backward: Tensor) -> Tensor:
    """Forward-backward consistency: how well two flows invert each other.

    With e = |u_ab(x) + u_ba(x + u_ab(x))| the weight is exp(-e² / 2τ²), τ² = 0.01 (|u_ab|² + |u_ba|²) + 0.5 px²
    (the tolerance of Sundaram, Brox & Keutzer, ECCV 2010). It falls at occlusions and where the estimator fails; a
    shift or zoom of any size is consistent.

    Args:
        forward: (B, 2, H, W) u[a→b].
        backward: (B, 2, H, W) u[b→a].

    Returns:
        (B, 1, H, W) soft weights in [0, 1] on the grid of a.
    """
    back = warp_approximately(backward, forward)
    error_px2 = (forward + back).square().sum(1, keepdim=True)
    length_px2 = forward.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    tolerance_px2 = RELATIVE_TOLERANCE * length_px2 + FLOOR_PX2
    return torch.exp(-0.5 * error_px2 / tolerance_px2)


@torch.no_grad()
def photometric_mask(first: Tensor, second: Tensor, trust: Tensor) -> Tensor:
    """Photometric consistency: how well two images agree, apart from blur, gain and offset.

    Both are low-passed (to a quarter of the size, standard deviation about 4 px, more than defocus within R changes).
    The first is fitted to the second by gain and offset, in two rounds of least squares; the second round leaves out
    the pixels that the first does not explain. With the residual e, the local variance V of both and f = 0.01, the
    weight is 1 - V/(V + f²) (1 - exp(-2 e²/(V + f²))): without texture (V ≪ f²) the check abstains, at any brightness.

    Args:
        first: (B, 3, H, W) in [0, 1].
        second: (B, 3, H, W), on the same grid.
        trust: (B, 1, H, W) in [0, 1] weights of the pixels in all means.

    Returns:
        (B, 1, H, W) soft weights in [0, 1].
    """
    batch, size = len(first), (first.shape[-2], first.shape[-1])
    trust = trust.float()
    small = _low_pass(torch.cat([first.mean(1, keepdim=True) * trust, second.mean(1, keepdim=True) * trust, trust]))
    present = small[2 * batch :]
    a, b = (small[: 2 * batch] / present.clamp(min=NO_TRUST).repeat(2, 1, 1, 1)).chunk(2)
    statistics = _BoxStatistics(present)
    explained = torch.ones_like(present)
    for _ in range(FIT_ROUNDS):
        gain, offset = _fit_gain_and_offset(a, b, present * explained)
        difference = gain * a + offset - b
        variance = (gain.square() * statistics.variance(a) + statistics.variance(b)) / 2
        floored = variance + TEXTURELESS**2
        explained = torch.exp(-0.5 / UNEXPLAINED * statistics.mean(difference.square()) / floored)
    weight = 1 - variance / floored * (1 - explained)
    return F.interpolate(weight, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def agreement_mask(flow: Tensor, trust: Tensor) -> Tensor:
    """Agreement with a robust global motion: how far a flow is from the affine motion that most of the crop follows.

    Flow that fails in both directions alike passes the consistency checks: at a displacement beyond an estimator's
    range it is near zero both ways. With the distance d the weight is exp(-(d/7 px)⁴/2): local motion of a few pixels
    is kept, gross outliers are not.

    Args:
        flow: (B, 2, H, W), pixels.
        trust: (B, 1, H, W) in [0, 1] weights of the pixels in the fit.

    Returns:
        (B, 1, H, W) soft weights in [0, 1].
    """
    height, width = flow.shape[-2:]
    # In half precision a fit is no fit, and torch solves none.
    with torch.autocast(flow.device.type, enabled=False):
        coefficients = fit_polynomial(flow, trust, 1, stride=AGREEMENT_STRIDE)
        motion = evaluate_polynomial(coefficients, (height, width), (0, 0, height, width))
    squared = (flow.float() - motion).square().sum(1, keepdim=True)
    return torch.exp(-0.5 * (squared / AGREEMENT_PX**2).square())


@torch.no_grad()
def official_mask(flow: Tensor) -> Tensor:
    """The published code's mask, for ablation: the flow's brightness in the Middlebury colour code is near its mean.

    The flow is divided by its image's longest vector, coloured (Baker et al., "A Database and Evaluation Methodology
    for Optical Flow", IJCV 2011), rounded down to 8 bits and converted to grey as OpenCV does. Pixels within
    (1 ± 0.35) times the image's mean are valid. The mask does not distinguish a vector from its opposite, and excludes
    the centre of a zoom.

    Args:
        flow: (B, 2, H, W).

    Returns:
        (B, 1, H, W) of 0 and 1.
    """
    flow = flow.float()
    length = flow.square().sum(1).sqrt()
    radius = (length / (length.amax((1, 2), keepdim=True) + torch.finfo(torch.float32).eps))[..., None]
    wheel = _colour_wheel(flow.device)
    position = (torch.atan2(-flow[:, 1], -flow[:, 0]) / torch.pi + 1) / 2 * (len(wheel) - 1)
    low = position.floor().long().clamp(0, len(wheel) - 1)
    hue = torch.lerp(wheel[low], wheel[(low + 1) % len(wheel)], (position - low)[..., None])
    red, green, blue = (255 * (1 - radius * (1 - hue))).floor().unbind(-1)
    grey = ((4899 * red + 9617 * green + 1868 * blue + 8192) / 16384).floor()[:, None]
    mean = grey.mean((1, 2, 3), keepdim=True)
    return ((grey >= (1 - BAND) * mean) & (grey <= (1 + BAND) * mean)).to(flow.dtype)


def _low_pass(image: Tensor) -> Tensor:
    small = F.avg_pool2d(image, LOW_PASS_PX, ceil_mode=True, count_include_pad=False)
    return F.conv2d(F.pad(small, (2, 2, 2, 2), mode="replicate"), _binomial_kernel(small.dtype, small.device))


@dataclass(frozen=True, slots=True)
class _BoxStatistics:
    """Local means and variances over the box around each pixel, weighted by `present`."""

    present: Tensor

    def mean(self, values: Tensor) -> Tensor:
        return _box_mean(values * self.present) / _box_mean(self.present).clamp(min=NO_TRUST)

    def variance(self, values: Tensor) -> Tensor:
        return (self.mean(values.square()) - self.mean(values).square()).clamp(min=0)


def _box_mean(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)


def _fit_gain_and_offset(a: Tensor, b: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Fits gain and offset of each image by weighted least squares; gain 1 where `a` is flat."""
    share = weight / weight.sum((2, 3), keepdim=True).clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        return (share * values).sum((2, 3), keepdim=True)

    mean_a, mean_b = mean(a), mean(b)
    variance, covariance = mean((a - mean_a).square()), mean((a - mean_a) * (b - mean_b))
    gain = (covariance + TEXTURELESS**2) / (variance + TEXTURELESS**2)
    return gain, mean_b - gain * mean_a


# Copied to a device once: a copy in every step would wait for all that the device has still to do.


@cache
@torch.inference_mode(False)
def _binomial_kernel(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(1, 1, 5, 5), the binomial coefficients."""
    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=dtype) / 16
    return torch.outer(weights, weights)[None, None].to(device)


@cache
@torch.inference_mode(False)
def _colour_wheel(device: torch.device) -> Tensor:
    """The Middlebury colour wheel, (55, 3) RGB in [0, 1]: between corners of the colour cube one channel changes."""
    corners = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]], dtype=torch.float32)
    segments = zip(corners, corners.roll(-1, 0), WHEEL_STEPS, strict=True)
    return torch.cat(
        [
            torch.lerp(start, end, ((255 / steps * torch.arange(steps)).floor() / 255)[:, None])
            for start, end, steps in segments
        ]
    ).to(device)
