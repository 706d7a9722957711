"""A weight-free optical-flow estimator in torch: combined local-global, coarse to fine, batched, on any device.

Bruhn, Weickert & Schnörr, "Lucas/Kanade meets Horn/Schunck" (IJCV 2005), with local contrast normalisation, which
makes it invariant to gain, offset and most of the contrast loss by defocus; also blurring the sharper image gave no
gain (docs/benchmarks/flow.md). The time on a GPU depends on the number of operations, so there are few: the flow is
constant on cells of 2x2 pixels, and two sweeps, over farther and over nearest neighbours, replace many.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

# Chosen on the pairs of benchmarks/flow.py.
COARSEST_PX = 8  # shorter side of the coarsest level, at least
CELL_PX = 2  # side of the cells in which the flow is constant during estimation
COARSEST_WARPS = 6  # linearisations: until convergence on the coarsest level, where they are cheap
WARPS = 2
FINEST_WARPS = 1
REACHES = (2, 1)  # distance of the neighbours in the sweeps of a linearisation, cells
SMOOTHNESS = 0.15  # weight of the neighbours, in squared gradients of the normalised images
WINDOW_SD_PX = 4.0  # within which the flow is taken to be constant
NORMALISE_PX = 9  # side of the box of the contrast normalisation
NOISE_FLOOR = 0.01  # standard deviation below which an area counts as flat
OUTLIER = 0.3  # normalised difference at which a pixel's weight is halved
ANTIALIAS_SD_PX = 0.7  # before every halving


def pyramid_flow(first: Tensor, second: Tensor) -> Tensor:
    """Estimates the flow between two batches of images; differentiable.

    In areas without texture the flow continues that of the surroundings smoothly.

    Args:
        first: (B, C, H, W) in [0, 1], a.
        second: (B, C, H, W) in [0, 1], b.

    Returns:
        (B, 2, H, W) u[a→b] in pixels (x, y), float32: b(x + u(x)) looks like a(x).
    """
    batch, _, height, width = first.shape
    levels = max(1, (min(height, width) // COARSEST_PX).bit_length())
    multiple = CELL_PX * 2 ** (levels - 1)
    pad = (0, -width % multiple, 0, -height % multiple)
    grey = torch.cat([first.mean(1, keepdim=True), second.mean(1, keepdim=True)])
    pyramid = [F.pad(grey, pad, mode="replicate")]
    for _ in range(levels - 1):
        pyramid.append(F.avg_pool2d(_blur(pyramid[-1], ANTIALIAS_SD_PX), 2))
    flow = grey.new_zeros(batch, 2, *(side // CELL_PX for side in pyramid[-1].shape[-2:]))
    counts = (COARSEST_WARPS, *(WARPS for _ in pyramid[2:]), FINEST_WARPS)
    for level, count in zip(reversed(pyramid), counts, strict=False):
        if level is not pyramid[-1]:
            flow = 2 * _upsample(flow, 2)
        a, b = _normalise_contrast(level).chunk(2)
        for _ in range(count):
            flow = _update_flow(a, b, flow)
    return _upsample(flow, CELL_PX)[..., :height, :width].contiguous()


def _update_flow(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    """One linearisation about `flow`: minimises the local data term plus smoothness."""
    grid = _pixel_grid(*a.shape[-2:], a.device)
    position = (_upsample(flow, CELL_PX) + grid[:, :2]) * grid[:, 2:] - 1
    warped = F.grid_sample(b, position.permute(0, 2, 3, 1), padding_mode="border", align_corners=True)
    difference = warped - a
    trust = (position.abs().amax(1, keepdim=True) <= 1) / (1 + (difference / OUTLIER).square())
    slopes = F.conv2d(F.pad(warped + a, (1, 1, 1, 1), mode="replicate"), _slope_kernels(a.device))
    terms = torch.cat([slopes, difference], 1)
    products = torch.cat([slopes[:, :1] * terms, slopes[:, 1:] * terms[:, 1:]], 1) * trust
    averaged = _blur(F.avg_pool2d(products, CELL_PX), WINDOW_SD_PX / CELL_PX)
    xx, xy, xt, yy, yt = averaged.chunk(5, 1)
    xx, yy = xx + SMOOTHNESS, yy + SMOOTHNESS
    # J (w - w0) = -t and smoothness towards the neighbours' mean: w = w0 + (J + αI)⁻¹ (α (mean - w0) - t).
    solve = torch.cat([yy, xx, -xy, -xy], 1) / (xx * yy - xy * xy)
    slack = torch.cat([xt, yt], 1) + SMOOTHNESS * flow
    constant = flow - _solve_2x2(solve, torch.cat([slack, slack.flip(1)], 1))
    for reach in REACHES:
        # Of u, v, v and u, for `_solved`; beyond the frame there are no neighbours.
        total = F.conv2d(flow, _ring_kernels(a.device), padding=reach, dilation=reach)
        flow = constant + _solve_2x2(solve, total * _neighbour_weights(reach, *flow.shape[-2:], a.device))
    return flow


def _solve_2x2(solve: Tensor, right: Tensor) -> Tensor:
    """(J + αI)⁻¹ times a vector field with channels x, y, y, x."""
    diagonal, cross = (solve * right).chunk(2, 1)
    return diagonal + cross


def _upsample(flow: Tensor, factor: int) -> Tensor:
    return F.interpolate(flow, scale_factor=factor, mode="bilinear", align_corners=False)


def _normalise_contrast(image: Tensor) -> Tensor:
    """Normalises to zero mean and unit deviation in a box around every pixel; flat areas stay near zero."""
    size, half = NORMALISE_PX, NORMALISE_PX // 2

    def mean(values: Tensor) -> Tensor:
        rows = F.avg_pool2d(F.pad(values, (half,) * 4, mode="replicate"), (1, size), stride=1)
        return F.avg_pool2d(rows, (size, 1), stride=1)

    centred = image - mean(image)
    return centred / (mean(centred * centred) + NOISE_FLOOR**2).sqrt()


def _blur(image: Tensor, sd_px: float) -> Tensor:
    line = _gaussian_kernel(sd_px, image.device)
    half, channels = len(line) // 2, image.shape[1]
    padded = F.pad(image, (half,) * 4, mode="replicate")
    rows = F.conv2d(padded, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


# Tensors that depend on sizes only are cached for every device: building them is as slow as using them.


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """(1, 4, H, W): x, y, and their factors to the units of `grid_sample`, -1 … 1 across the frame."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    units = [torch.full((height, width), 2 / max(side - 1, 1)) for side in (width, height)]
    return torch.stack([x, y, *units])[None].to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _neighbour_weights(reach: int, height: int, width: int, device: torch.device) -> Tensor:
    """(1, 1, h, w): the smoothness weight, divided among the neighbours of a cell."""
    neighbours = F.conv2d(torch.ones(1, 1, height, width), _RING[None, None], padding=reach, dilation=reach)
    return SMOOTHNESS / neighbours.clamp(min=1).to(device)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _gaussian_kernel(sd_px: float, device: torch.device) -> Tensor:
    half = max(1, round(2 * sd_px))
    line = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sd_px).square())
    return (line / line.sum()).to(device)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _slope_kernels(device: torch.device) -> Tensor:
    """Kernels of central differences along x and y, for the mean of two images given their sum."""
    across = torch.tensor([[0, 0, 0], [-0.25, 0, 0.25], [0, 0, 0]])
    return torch.stack([across, across.T])[:, None].to(device)


_RING = torch.tensor([[1.0, 2.0, 1.0], [2.0, 0.0, 2.0], [1.0, 2.0, 1.0]])


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _ring_kernels(device: torch.device) -> Tensor:
    """Kernels from (u, v) to the neighbours' sums of u, v, v and u."""
    channels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    return (channels[..., None, None] * _RING).to(device)
