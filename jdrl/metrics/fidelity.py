"""PSNR, SSIM and MAE of images in [0, 1], equal to scikit-image's; computed in float64.

Inputs are (C, H, W) for one value or (B, C, H, W) for one value an image: floats, or uint8 and uint16, which are scaled
by their type. A mask, broadcastable to (B, 1, H, W), selects the pixels to score (> 0.5); other pixels, even NaN, have
no influence. Without any pixel the value is NaN.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.image_checks import check_mask, check_same_shape, check_values, scaled_image

if TYPE_CHECKING:
    from collections.abc import Callable

Window = Literal["uniform7", "gaussian11"]

_C1, _C2 = 0.01**2, 0.03**2
_STRIP_PX = 256


def psnr(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1; infinite for equal images.

    Args:
        first: (C, H, W) or (B, C, H, W).
        second: The same shape.
        mask: Pixels to score; None for all.

    Returns:
        () or (B,), float64.

    Raises:
        TypeError: An image is no tensor of floats, uint8 or uint16.
        ValueError: The shapes differ or are others; scored values are not finite or not about [0, 1].

    Example:
        >>> float(psnr(torch.zeros(3, 8, 8), torch.full((3, 8, 8), 0.1)).round(decimals=3))
        20.0
    """
    return -10 * torch.log10(_mean(_squared_error, first, second, mask))


def mae(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error; arguments and result as for `psnr`."""
    return _mean(_absolute_error, first, second, mask)


def ssim(first: Tensor, second: Tensor, mask: Tensor | None = None, *, window: Window = "uniform7") -> Tensor:
    """Structural similarity (Wang et al., IEEE TIP 2004), averaged over channels.

    `uniform7` is scikit-image's default (7x7 box, sample covariance), which the official JDRL code reports;
    `gaussian11` is the paper's (σ = 1.5, cut to 11x11, population covariance). Only windows wholly inside the frame
    and the mask are averaged.

    Args:
        first: (C, H, W) or (B, C, H, W), at least as large as the window.
        second: The same shape.
        mask: Pixels to score; None for all.
        window: Name of the window.

    Returns:
        () or (B,), float64.

    Raises:
        TypeError: As of `psnr`.
        ValueError: As of `psnr`; the images are smaller than the window, or there is no such window.

    Example:
        >>> image = torch.rand(3, 16, 16)
        >>> float(ssim(image, image)), float(ssim(image, 1 - image)) < 0
        (1.0, True)
    """
    return _mean(partial(_similarity, window=window), first, second, mask, len(_line(window)))


def _similarity(a: Tensor, b: Tensor, *, window: Window) -> Tensor:
    line = _line(window).to(a)
    count = len(line) ** 2
    norm = count / (count - 1) if window == "uniform7" else 1.0
    mean_a, mean_b = _filter(a, line), _filter(b, line)
    var_a = norm * (_filter(a * a, line) - mean_a * mean_a)
    var_b = norm * (_filter(b * b, line) - mean_b * mean_b)
    covariance = norm * (_filter(a * b, line) - mean_a * mean_b)
    return ((2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)) / (
        (mean_a * mean_a + mean_b * mean_b + _C1) * (var_a + var_b + _C2)
    )


def _squared_error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square()


def _absolute_error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs()


def _mean(
    measure: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor, mask: Tensor | None, size: int = 1
) -> Tensor:
    """The mean of `measure` over the windows of `size` wholly inside the mask, () or (B,).

    Computed strip by strip: a frame of 4096x2160 in float64 with all its filtered copies would take gigabytes.
    """
    first, second = scaled_image(first, "first", dims=(3, 4)), scaled_image(second, "second", dims=(3, 4))
    check_same_shape(first, second)
    if mask is not None:
        check_mask(mask, first, "mask")
    if min(first.shape[-2:]) < size:
        raise ValueError(f"images of {tuple(first.shape[-2:])} pixels are smaller than the {size}x{size} SSIM window")
    a, b = (image.detach().reshape(-1, *image.shape[-3:]) for image in (first, second))
    shape = (a.shape[0], 1, *a.shape[-2:])
    keep = (torch.ones(1, 1, 1, 1) if mask is None else mask).to(a.device).expand(shape)
    total = a.new_zeros(a.shape[0], dtype=torch.float64)
    count = torch.zeros_like(total)
    for top in range(0, a.shape[-2] - size + 1, _STRIP_PX):
        rows = slice(top, top + _STRIP_PX + size - 1)
        scored = keep[..., rows, :] > 0.5
        strips = [image[..., rows, :].double().where(scored, 0.0) for image in (a, b)]
        for name, strip in zip(("first", "second"), strips, strict=True):
            check_values(strip, name)
        values = measure(*strips)
        complete = -F.max_pool2d(-scored.double(), size, stride=1)
        total += (values * complete).sum((1, 2, 3))
        count += complete.sum((1, 2, 3))
    mean = total / (a.shape[1] * count)
    return mean[0] if first.dim() == 3 else mean


def _line(window: Window) -> Tensor:
    if window == "uniform7":
        return torch.full((7,), 1 / 7, dtype=torch.float64)
    if window == "gaussian11":
        weights = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5).square())
        return weights / weights.sum()
    raise ValueError(f"unknown SSIM window {window!r}: uniform7 or gaussian11")


def _filter(image: Tensor, line: Tensor) -> Tensor:
    """Separable filtering without padding, tap by tap: much faster on the CPU than float64 convolution."""
    for dim in (-1, -2):
        length = image.shape[dim] - len(line) + 1
        total = torch.zeros_like(image.narrow(dim, 0, length))
        for offset, weight in enumerate(line.tolist()):
            total.add_(image.narrow(dim, offset, length), alpha=weight)
        image = total
    return image
