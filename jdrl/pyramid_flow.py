"""A weight-free optical-flow estimator in torch: combined local-global, coarse to fine, batched, on any device.

Bruhn, Weickert & Schnörr, "Lucas/Kanade meets Horn/Schunck" (IJCV 2005), with local contrast normalisation, which
makes it blind to gain, offset and most of the contrast that defocus takes away.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.deformation import in_bounds, sampled

# Chosen on warped, partly defocused photographs and on FlyingChairs.
COARSEST_PX = 16  # shorter side of the coarsest level, at least
WARPS = 4  # linearisations per level
FINEST_WARPS = 2
SWEEPS = 20  # Jacobi sweeps per linearisation
SMOOTHNESS = 1.0  # weight of the neighbours, in squared gradients of the normalised images
WINDOW_SD_PX = 4.0  # within which the flow is taken to be constant
NORMALISE_PX = 9  # side of the box of the contrast normalisation
NOISE_FLOOR = 0.01  # deviation below which a place counts as flat
OUTLIER = 0.3  # normalised difference at which a pixel's weight is halved


def pyramid_flow(first: Tensor, second: Tensor, levels: int | None = None) -> Tensor:
    """Flow between two batches of images; differentiable.

    Where nothing can be seen the field is the smooth continuation of its surroundings.

    Args:
        first: (B, C, H, W) in [0, 1], a.
        second: (B, C, H, W) in [0, 1], b.
        levels: How many of the finest levels to use, each reaching twice as far; None: all, down to 16 px.

    Returns:
        (B, 2, H, W) u[a→b] in pixels (x, y), float32: b(x + u(x)) looks like a(x).
    """
    batch, _, height, width = first.shape
    all_levels = max(1, (min(height, width) // COARSEST_PX).bit_length())
    levels = all_levels if levels is None else min(levels, all_levels)
    multiple = 2 ** (levels - 1)
    pad = (0, -width % multiple, 0, -height % multiple)
    grey = torch.cat([first.mean(1, keepdim=True), second.mean(1, keepdim=True)])
    pyramid = [F.pad(grey, pad, mode="replicate")]
    for _ in range(levels - 1):
        pyramid.append(F.avg_pool2d(_smoothed(pyramid[-1], 0.7), 2))
    flow = pyramid[-1].new_zeros(batch, 2, *pyramid[-1].shape[-2:])
    for level in reversed(pyramid):
        if flow.shape[-2:] != level.shape[-2:]:
            flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)
        a, b = _normalised(level).chunk(2)
        for _ in range(WARPS if level is not pyramid[0] else FINEST_WARPS):
            flow = _refined(a, b, flow)
    return flow[..., :height, :width].contiguous()


def _refined(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    """One linearisation about `flow`: the field that minimises local constancy plus smoothness."""
    moved = sampled(b, flow)
    difference = moved - a
    dx, dy = _gradient(0.5 * (moved + a))
    trust = in_bounds(flow) / (1 + (difference / OUTLIER).square())
    products = torch.cat([dx * dx, dx * dy, dy * dy, dx * difference, dy * difference], 1) * trust
    xx, xy, yy, xt, yt = _smoothed(products, WINDOW_SD_PX).chunk(5, 1)
    xx, yy = xx + SMOOTHNESS, yy + SMOOTHNESS
    determinant = xx * yy - xy * xy
    # J (w - w0) = -t and smoothness towards the neighbours' mean: (J + αI) w = J w0 - t + α mean.
    u, v = flow.chunk(2, 1)
    bu = (xx - SMOOTHNESS) * u + xy * v - xt
    bv = xy * u + (yy - SMOOTHNESS) * v - yt
    constant = torch.cat([yy * bu - xy * bv, xx * bv - xy * bu], 1) / determinant
    # What u and v take from the neighbours' u and v, then from those of the other. No neighbours beyond the frame.
    ring = flow.new_tensor([[1, 2, 1], [2, 0, 2], [1, 2, 1]])
    present = F.conv2d(torch.ones_like(u[:1]), ring[None, None], padding=1).clamp(min=1)
    share = SMOOTHNESS * torch.cat([yy, xx, -xy, -xy], 1) / (determinant * present)
    neighbours = ring * flow.new_tensor([[1, 0], [0, 1], [0, 1], [1, 0]])[..., None, None]
    for _ in range(SWEEPS):
        own, cross = (share * F.conv2d(flow, neighbours, padding=1)).chunk(2, 1)
        flow = constant + own + cross
    return flow


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    dx = 0.5 * (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2])
    dy = 0.5 * (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1])
    return dx, dy


def _normalised(image: Tensor) -> Tensor:
    """Zero mean and unit deviation in a box around every pixel, flat places staying near zero."""
    size, half = NORMALISE_PX, NORMALISE_PX // 2

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(values, (half,) * 4, mode="replicate"), size, stride=1)

    centred = image - mean(image)
    return centred / (mean(centred * centred) + NOISE_FLOOR**2).sqrt()


def _smoothed(image: Tensor, sd_px: float) -> Tensor:
    half = max(1, round(2 * sd_px))
    line = torch.exp(-0.5 * (torch.arange(-half, half + 1, device=image.device) / sd_px).square())
    line = (line / line.sum()).to(image.dtype)
    channels = image.shape[1]
    padded = F.pad(image, (half,) * 4, mode="replicate")
    rows = F.conv2d(padded, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
