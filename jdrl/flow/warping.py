"""Warps images by a flow field; composes and inverts flow fields.

A flow `u[a→b]` is given on the grid of `a`, in pixels, channels (x, y): `warp(b, u)` resembles `a`.
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
    image bit for bit and an integer flow shifts it exactly, at any frame size. (The normalised grid of `grid_sample`
    rounds, and zooms with the wrong `align_corners`.)

    Args:
        image: (B, C, H + 2 margin_px, W + 2 margin_px).
        flow: (B, 2, H, W), pixels, (x, y).
        margin_px: Width by which the image extends beyond the flow's grid on each of the four sides.
        official: Sample as the published code does: at W (x + u) / (W - 1) - 0.5, which zooms by W / (W - 1).

    Returns:
        (B, C, H, W), differentiable with respect to both.

    Raises:
        ValueError: The flow does not fit the image.

    Example:
        >>> image = torch.arange(16.0).view(1, 1, 4, 4)
        >>> flow = torch.zeros(1, 2, 4, 4)
        >>> flow[:, 0] = 1  # every pixel takes its right neighbour
        >>> warp(image, flow)[0, 0, 0]
        tensor([1., 2., 3., 3.])
    """
    batch, channels, rows, columns = image.shape
    height, width = rows - 2 * margin_px, columns - 2 * margin_px
    if flow.shape != (batch, 2, height, width):
        raise ValueError(f"flow is {tuple(flow.shape)}, not {(batch, 2, height, width)}")
    if official:
        flow = _official_flow(flow)
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


def warp_approximately(image: Tensor, flow: Tensor) -> Tensor:
    """`warp` with an error of about 1e-5 px in fewer operations, for flows and images that are themselves estimates."""
    height, width = flow.shape[-2:]
    x = 2 * (flow[:, 0] + torch.arange(width, device=flow.device)) / max(width - 1, 1) - 1
    y = 2 * (flow[:, 1] + torch.arange(height, device=flow.device)[:, None]) / max(height - 1, 1) - 1
    return F.grid_sample(image, torch.stack([x, y], -1), padding_mode="border", align_corners=True)


def compose_flows(first: Tensor, second: Tensor) -> Tensor:
    """Composes two flows: u[a→c](x) = u[a→b](x) + u[b→c](x + u[a→b](x)), all (B, 2, H, W) on grids of one size."""
    return first + warp_approximately(second, first)


def invert_flow(flow: Tensor, rounds: int = INVERSE_ROUNDS) -> Tensor:
    """Inverts a smooth flow u[a→b], (B, 2, H, W), by fixed-point iteration of v(y) = -u(y + v(y)).

    Every round reduces the error by the flow's largest derivative, which must be below 1 (no folding).
    """
    back = -flow
    for _ in range(rounds):
        back = -warp_approximately(flow, back)
    return back


def in_bounds_mask(flow: Tensor, margin_px: float = 0.0) -> Tensor:
    """Marks the pixels whose x + flow(x) lies at least `margin_px` inside the frame, where no sample is extrapolated.

    Args:
        flow: (B, 2, H, W), pixels.
        margin_px: Distance from the outermost pixel centres; 0 is complete bilinear support. Below 0: the width by
            which the sampled image extends beyond the flow's grid.

    Returns:
        (B, 1, H, W) of 0 and 1 in the flow's dtype.
    """
    height, width = flow.shape[-2:]
    x = flow[:, :1] + torch.arange(width, device=flow.device)
    y = flow[:, 1:] + torch.arange(height, device=flow.device)[:, None]
    inside_x = (x >= margin_px) & (x <= width - 1 - margin_px)
    inside_y = (y >= margin_px) & (y <= height - 1 - margin_px)
    return (inside_x & inside_y).to(flow.dtype)


def _official_flow(flow: Tensor) -> Tensor:
    """The flow to the sampling positions of the published code."""
    height, width = flow.shape[-2:]
    x = flow[:, :1] + (flow[:, :1] + torch.arange(width, device=flow.device)) / max(width - 1, 1) - 0.5
    y = flow[:, 1:] + (flow[:, 1:] + torch.arange(height, device=flow.device)[:, None]) / max(height - 1, 1) - 0.5
    return torch.cat([x, y], 1)
