"""Warping by a flow field, composing and inverting such fields.

A flow `u[a→b]` lives on the grid of `a`, in pixels, channels (x, y): `warp(b, u)` looks like `a`.
Pixel centres lie at integers (x = 0 … W - 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

INVERSE_ROUNDS = 5


def warp(image: Tensor, flow: Tensor, *, margin_px: int = 0, official: bool = False) -> Tensor:
    """Samples `image` at x + flow(x), bilinearly; beyond the frame the border pixel is repeated.

    Indices are integers and only the fractional part of the flow is interpolated, so a zero flow returns the
    image bit for bit and an integer flow shifts it exactly, whatever the frame's size. (A normalised sampling grid
    rounds, and with the wrong `align_corners` zooms.)

    Args:
        image: (B, C, H + 2 margin_px, W + 2 margin_px).
        flow: (B, 2, H, W), pixels, (x, y).
        margin_px: By how much the image reaches beyond the flow's grid on each of the four sides.
        official: Sample where the published code does: at W (x + u) / (W - 1) - 0.5, which zooms by W / (W - 1).

    Returns:
        (B, C, H, W), differentiable with respect to both.
    """
    batch, channels, rows, columns = image.shape
    height, width = rows - 2 * margin_px, columns - 2 * margin_px
    if flow.shape != (batch, 2, height, width):
        raise ValueError(f"flow is {tuple(flow.shape)}, not {(batch, 2, height, width)}")
    if official:
        flow = _zoomed(flow)
    whole = flow.detach().floor()
    fraction = flow - whole
    fx, fy = fraction[:, :1], fraction[:, 1:]
    left = whole[:, 0].long() + torch.arange(margin_px, margin_px + width, device=flow.device)
    top = whole[:, 1].long() + torch.arange(margin_px, margin_px + height, device=flow.device)[:, None]
    across = left.clamp(0, columns - 1), (left + 1).clamp(0, columns - 1)
    down = top.clamp(0, rows - 1) * columns, (top + 1).clamp(0, rows - 1) * columns
    pixels = image.reshape(batch, channels, rows * columns)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row + column).view(batch, 1, height * width).expand(-1, channels, -1)
        return pixels.gather(2, index).view(batch, channels, height, width)

    upper = torch.lerp(at(down[0], across[0]), at(down[0], across[1]), fx)
    lower = torch.lerp(at(down[1], across[0]), at(down[1], across[1]), fx)
    return torch.lerp(upper, lower, fy)


def sampled(image: Tensor, flow: Tensor) -> Tensor:
    """`warp` to within some 1e-5 px, in a few operations: for fields and images that are estimates themselves."""
    height, width = flow.shape[-2:]
    x = 2 * (flow[:, 0] + torch.arange(width, device=flow.device)) / max(width - 1, 1) - 1
    y = 2 * (flow[:, 1] + torch.arange(height, device=flow.device)[:, None]) / max(height - 1, 1) - 1
    return F.grid_sample(image, torch.stack([x, y], -1), padding_mode="border", align_corners=True)


def composed(first: Tensor, second: Tensor) -> Tensor:
    """u[a→c](x) = u[a→b](x) + u[b→c](x + u[a→b](x)), all (B, 2, H, W) on grids of one size."""
    return first + sampled(second, first)


def inverse(flow: Tensor, rounds: int = INVERSE_ROUNDS) -> Tensor:
    """u[b→a] of a smooth u[a→b], (B, 2, H, W): the fixed point of v(y) = -u(y + v(y)), found by iteration.

    The error shrinks in every round by the flow's largest derivative, which must be below 1: nothing folds.
    """
    back = -flow
    for _ in range(rounds):
        back = -sampled(flow, back)
    return back


def in_bounds(flow: Tensor, margin_px: float = 0.0) -> Tensor:
    """Where x + flow(x) lies at least `margin_px` inside the frame, so that no sample is made up.

    Args:
        flow: (B, 2, H, W), pixels.
        margin_px: Distance from the outermost pixel centres; 0 is complete bilinear support. Below 0: by how much
            the image that is sampled reaches beyond the flow's grid.

    Returns:
        (B, 1, H, W) of 0 and 1 in the flow's dtype.
    """
    height, width = flow.shape[-2:]
    x = flow[:, :1] + torch.arange(width, device=flow.device)
    y = flow[:, 1:] + torch.arange(height, device=flow.device)[:, None]
    inside_x = (x >= margin_px) & (x <= width - 1 - margin_px)
    inside_y = (y >= margin_px) & (y <= height - 1 - margin_px)
    return (inside_x & inside_y).to(flow.dtype)


def _zoomed(flow: Tensor) -> Tensor:
    """The flow that leads to where the published code samples for this one."""
    height, width = flow.shape[-2:]
    x = flow[:, :1] + (flow[:, :1] + torch.arange(width, device=flow.device)) / max(width - 1, 1) - 0.5
    y = flow[:, 1:] + (flow[:, 1:] + torch.arange(height, device=flow.device)[:, None]) / max(height - 1, 1) - 0.5
    return torch.cat([x, y], 1)
