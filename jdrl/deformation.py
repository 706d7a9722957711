"""Warping by a flow field, and how far to trust it.

A flow `u[a→b]` lives on the grid of `a`, in pixels, channels (x, y): `warp(b, u)` looks like `a`.
Pixel centres lie at integers (x = 0 … W - 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

RELATIVE_TOLERANCE = 0.01
FLOOR_PX2 = 0.5


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Samples `image` at x + flow(x), bilinearly; beyond the frame the border pixel is repeated.

    Indices are integers and only the fractional part of the flow is interpolated, so a zero flow returns the
    image bit for bit and an integer flow shifts it exactly, whatever the frame's size. (A normalised sampling grid
    rounds, and with the wrong `align_corners` zooms.)

    Args:
        image: (B, C, H, W).
        flow: (B, 2, H, W), pixels, (x, y).

    Returns:
        (B, C, H, W), differentiable with respect to both.
    """
    batch, channels, height, width = image.shape
    if flow.shape != (batch, 2, height, width):
        raise ValueError(f"flow is {tuple(flow.shape)}, not {(batch, 2, height, width)}")
    whole = flow.detach().floor()
    fraction = flow - whole
    fx, fy = fraction[:, :1], fraction[:, 1:]
    left = whole[:, 0].long() + torch.arange(width, device=flow.device)
    top = whole[:, 1].long() + torch.arange(height, device=flow.device)[:, None]
    columns = left.clamp(0, width - 1), (left + 1).clamp(0, width - 1)
    rows = top.clamp(0, height - 1) * width, (top + 1).clamp(0, height - 1) * width
    pixels = image.reshape(batch, channels, height * width)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row + column).view(batch, 1, height * width).expand(-1, channels, -1)
        return pixels.gather(2, index).view(batch, channels, height, width)

    upper = torch.lerp(at(rows[0], columns[0]), at(rows[0], columns[1]), fx)
    lower = torch.lerp(at(rows[1], columns[0]), at(rows[1], columns[1]), fx)
    return torch.lerp(upper, lower, fy)


def in_bounds(flow: Tensor, margin_px: float = 0.0) -> Tensor:
    """Where x + flow(x) lies at least `margin_px` inside the frame, so that no sample is made up.

    Args:
        flow: (B, 2, H, W), pixels.
        margin_px: Distance from the outermost pixel centres; 0 is complete bilinear support.

    Returns:
        (B, 1, H, W) of 0 and 1 in the flow's dtype.
    """
    height, width = flow.shape[-2:]
    x = flow[:, :1] + torch.arange(width, device=flow.device)
    y = flow[:, 1:] + torch.arange(height, device=flow.device)[:, None]
    inside_x = (x >= margin_px) & (x <= width - 1 - margin_px)
    inside_y = (y >= margin_px) & (y <= height - 1 - margin_px)
    return (inside_x & inside_y).to(flow.dtype)


@torch.no_grad()
def consistency_mask(forward: Tensor, backward: Tensor) -> Tensor:
    """How well the flow there and the flow back agree, times `in_bounds`.

    With e = |u_ab(x) + u_ba(x + u_ab(x))| the weight is exp(-e² / 2τ²), τ² = 0.01 (|u_ab|² + |u_ba|²) + 0.5 px²
    (the tolerance of Sundaram, Brox & Keutzer, ECCV 2010). Occlusions and failures of the estimator disagree; a
    shift or zoom of any size agrees.

    Args:
        forward: (B, 2, H, W) u[a→b].
        backward: (B, 2, H, W) u[b→a].

    Returns:
        (B, 1, H, W) soft weights in [0, 1] on the grid of a, without gradient.
    """
    back = warp(backward, forward)
    error = (forward + back).square().sum(1, keepdim=True)
    length = forward.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    tolerance = RELATIVE_TOLERANCE * length + FLOOR_PX2
    return torch.exp(-0.5 * error / tolerance) * in_bounds(forward)
