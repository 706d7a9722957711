"""PSNR, SSIM and MAE of images in [0, 1], equal to scikit-image's; computed in float64.

Inputs are (C, H, W) for one value or (B, C, H, W) for one value an image. A mask, broadcastable to (B, 1, H, W),
names the pixels to score (> 0.5): what lies outside it, even NaN, has no influence. No pixel to score gives NaN.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Window = Literal["uniform7", "gaussian11"]

_C1, _C2 = 0.01**2, 0.03**2


def psnr(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1; infinite for equal images.

    Args:
        first: (C, H, W) or (B, C, H, W).
        second: The same shape.
        mask: Pixels to score; None for all.

    Returns:
        () or (B,), float64.
    """
    a, b, keep = _prepared(first, second, mask)
    return _shaped(-10 * torch.log10(_masked_mean((a - b).square(), keep)), first)


def mae(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error; arguments and result as for `psnr`."""
    a, b, keep = _prepared(first, second, mask)
    return _shaped(_masked_mean((a - b).abs(), keep), first)


def ssim(first: Tensor, second: Tensor, mask: Tensor | None = None, *, window: Window = "uniform7") -> Tensor:
    """Structural similarity (Wang et al., IEEE TIP 2004), averaged over channels.

    `uniform7` is scikit-image's default (7x7 box, sample covariance), which the official JDRL code reports;
    `gaussian11` is the paper's (σ = 1.5, cut to 11x11, population covariance). Only windows that lie wholly inside
    the frame and the mask count.

    Args:
        first: (C, H, W) or (B, C, H, W), at least as large as the window.
        second: The same shape.
        mask: Pixels to score; None for all.
        window: Which window.

    Returns:
        () or (B,), float64.
    """
    a, b, keep = _prepared(first, second, mask)
    line = _line(window).to(a)
    size = len(line)
    if min(a.shape[-2:]) < size:
        raise ValueError(f"images of {tuple(a.shape[-2:])} pixels are smaller than the {size}x{size} SSIM window")
    count = size * size
    norm = count / (count - 1) if window == "uniform7" else 1.0
    mean_a, mean_b = _filtered(a, line), _filtered(b, line)
    var_a = norm * (_filtered(a * a, line) - mean_a * mean_a)
    var_b = norm * (_filtered(b * b, line) - mean_b * mean_b)
    covariance = norm * (_filtered(a * b, line) - mean_a * mean_b)
    similarity = ((2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)) / (
        (mean_a * mean_a + mean_b * mean_b + _C1) * (var_a + var_b + _C2)
    )
    whole = -F.max_pool2d(-keep, size, stride=1)
    return _shaped(_masked_mean(similarity, whole), first)


def _prepared(first: Tensor, second: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both images as (B, C, H, W) float64, zero where not scored, and the mask as (B, 1, H, W) of 0 and 1."""
    if first.shape != second.shape or first.dim() not in (3, 4):
        raise ValueError(f"images must be two (C, H, W) or (B, C, H, W): {tuple(first.shape)}, {tuple(second.shape)}")
    a, b = (image.detach().double().view(-1, *image.shape[-3:]) for image in (first, second))
    shape = (a.shape[0], 1, *a.shape[-2:])
    if mask is None:
        return a, b, a.new_ones(shape)
    keep = (mask.to(a.device) > 0.5).expand(shape)
    return a.where(keep, 0.0), b.where(keep, 0.0), keep.double()


def _masked_mean(values: Tensor, keep: Tensor) -> Tensor:
    return (values * keep).sum((1, 2, 3)) / (values.shape[1] * keep.sum((1, 2, 3)))


def _shaped(per_image: Tensor, original: Tensor) -> Tensor:
    return per_image[0] if original.dim() == 3 else per_image


def _line(window: Window) -> Tensor:
    if window == "uniform7":
        return torch.full((7,), 1 / 7, dtype=torch.float64)
    if window == "gaussian11":
        weights = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5).square())
        return weights / weights.sum()
    raise ValueError(f"unknown SSIM window {window!r}: uniform7 or gaussian11")


def _filtered(image: Tensor, line: Tensor) -> Tensor:
    """Separable filtering without padding, tap by tap: on the CPU far quicker than float64 convolution."""
    for dim in (-1, -2):
        length = image.shape[dim] - len(line) + 1
        total = torch.zeros_like(image.narrow(dim, 0, length))
        for offset, weight in enumerate(line.tolist()):
            total.add_(image.narrow(dim, offset, length), alpha=weight)
        image = total
    return image
