"""Where a warped image may be compared: two flows that agree, images that agree, and the published code's test.

All masks are (B, 1, H, W) without gradient, on the grid of the flow that leads away from it. None looks at the frame's
borders: that is `jdrl.flow.warping.in_bounds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.flow.warping import sampled

RELATIVE_TOLERANCE = 0.01
FLOOR_PX2 = 0.5

LOW_PASS_PX = 4  # images are compared at this fraction of their size
NEIGHBOURHOOD = 5  # side of the box of local energies there
FLAT = 0.01  # deviation of a low-passed image below which nothing can be told
FITS = 2  # of gain and offset
NO_TRUST = 1e-6
UNEXPLAINED = 0.25  # share of the local energy at which the weight has fallen to exp(-1/2)

BAND = 0.35
WHEEL_STEPS = (15, 6, 4, 11, 13, 6)  # of the colour code: red to yellow, green, cyan, blue, magenta and back


@torch.no_grad()
def consistency_mask(forward: Tensor, backward: Tensor) -> Tensor:
    """How well the flow there and the flow back agree.

    With e = |u_ab(x) + u_ba(x + u_ab(x))| the weight is exp(-e² / 2τ²), τ² = 0.01 (|u_ab|² + |u_ba|²) + 0.5 px²
    (the tolerance of Sundaram, Brox & Keutzer, ECCV 2010). Occlusions and failures of the estimator disagree; a
    shift or zoom of any size agrees.

    Args:
        forward: (B, 2, H, W) u[a→b].
        backward: (B, 2, H, W) u[b→a].

    Returns:
        (B, 1, H, W) soft weights in [0, 1] on the grid of a.
    """
    back = sampled(backward, forward)
    error = (forward + back).square().sum(1, keepdim=True)
    length = forward.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    tolerance = RELATIVE_TOLERANCE * length + FLOOR_PX2
    return torch.exp(-0.5 * error / tolerance)


@torch.no_grad()
def photometric_mask(first: Tensor, second: Tensor, trust: Tensor) -> Tensor:
    """How well two images agree once the blur, gain and offset between them are forgiven.

    Both are low-passed (a quarter of the size, deviation some 4 px: more than defocus within R makes of a difference),
    and the first gets the gain and offset that bring it closest to the second, in two rounds of least squares, the
    second of which leaves out what the first did not explain. With e what is left, V the local variance of both and
    f = 0.01, the weight is 1 - V/(V + f²) (1 - exp(-2 e²/(V + f²))): where there is nothing to see (V ≪ f²) the check
    abstains, whatever the brightness there.

    Args:
        first: (B, 3, H, W) in [0, 1].
        second: (B, 3, H, W), on the same grid.
        trust: (B, 1, H, W) in [0, 1]; pixels without it take no part in any mean.

    Returns:
        (B, 1, H, W) soft weights in [0, 1].
    """
    batch, size = len(first), (first.shape[-2], first.shape[-1])
    trust = trust.float()
    small = _low_passed(torch.cat([first.mean(1, keepdim=True) * trust, second.mean(1, keepdim=True) * trust, trust]))
    present = small[2 * batch :]
    a, b = (small[: 2 * batch] / present.clamp(min=NO_TRUST).repeat(2, 1, 1, 1)).chunk(2)
    around = _Neighbourhood(present)
    explained = torch.ones_like(present)
    for _ in range(FITS):
        gain, offset = _fit(a, b, present * explained)
        difference = gain * a + offset - b
        variance = (gain.square() * around.variance(a) + around.variance(b)) / 2
        visible = variance + FLAT**2
        explained = torch.exp(-0.5 / UNEXPLAINED * around.mean(difference.square()) / visible)
    weight = 1 - variance / visible * (1 - explained)
    return F.interpolate(weight, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def official_mask(flow: Tensor) -> Tensor:
    """The published code's test, for ablation: the flow's brightness in the Middlebury colour code, near its mean.

    The flow is divided by its image's longest vector, coloured (Baker et al., "A Database and Evaluation Methodology
    for Optical Flow", IJCV 2011), rounded down to 8 bits, turned grey as OpenCV does, and kept within (1 ± 0.35) times
    the image's mean. It cannot tell a vector from its opposite, and drops the still centre of a zoom.

    Args:
        flow: (B, 2, H, W).

    Returns:
        (B, 1, H, W) of 0 and 1.
    """
    flow = flow.float()
    length = flow.square().sum(1).sqrt()
    radius = (length / (length.amax((1, 2), keepdim=True) + torch.finfo(torch.float32).eps))[..., None]
    wheel = _colour_wheel().to(flow.device)
    place = (torch.atan2(-flow[:, 1], -flow[:, 0]) / torch.pi + 1) / 2 * (len(wheel) - 1)
    low = place.floor().long().clamp(0, len(wheel) - 1)
    hue = torch.lerp(wheel[low], wheel[(low + 1) % len(wheel)], (place - low)[..., None])
    red, green, blue = (255 * (1 - radius * (1 - hue))).floor().unbind(-1)
    grey = ((4899 * red + 9617 * green + 1868 * blue + 8192) / 16384).floor()[:, None]
    mean = grey.mean((1, 2, 3), keepdim=True)
    return ((grey >= (1 - BAND) * mean) & (grey <= (1 + BAND) * mean)).to(flow.dtype)


def _low_passed(image: Tensor) -> Tensor:
    small = F.avg_pool2d(image, LOW_PASS_PX, ceil_mode=True, count_include_pad=False)
    weights = small.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    return F.conv2d(F.pad(small, (2, 2, 2, 2), mode="replicate"), torch.outer(weights, weights)[None, None])


@dataclass(frozen=True, slots=True)
class _Neighbourhood:
    """Means over the box around each pixel, weighted by what is `present` there."""

    present: Tensor

    def mean(self, values: Tensor) -> Tensor:
        return _boxed(values * self.present) / _boxed(self.present).clamp(min=NO_TRUST)

    def variance(self, values: Tensor) -> Tensor:
        return (self.mean(values.square()) - self.mean(values).square()).clamp(min=0)


def _boxed(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)


def _fit(a: Tensor, b: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset of each image by weighted least squares; gain 1 where `a` is flat."""
    share = weight / weight.sum((2, 3), keepdim=True).clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        return (share * values).sum((2, 3), keepdim=True)

    mean_a, mean_b = mean(a), mean(b)
    variance, covariance = mean((a - mean_a).square()), mean((a - mean_a) * (b - mean_b))
    gain = (covariance + FLAT**2) / (variance + FLAT**2)
    return gain, mean_b - gain * mean_a


@cache
def _colour_wheel() -> Tensor:
    """(55, 3) RGB in [0, 1]: from each corner of the colour cube to the next, one channel rising or falling."""
    corners = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]], dtype=torch.float32)
    ways = zip(corners, corners.roll(-1, 0), WHEEL_STEPS, strict=True)
    return torch.cat(
        [
            torch.lerp(start, end, ((255 / steps * torch.arange(steps)).floor() / 255)[:, None])
            for start, end, steps in ways
        ]
    )
