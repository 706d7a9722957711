"""Reblurring with one isotropic kernel per pixel, linear in its parameters.

The kernel of pixel x is k(o) = Σ_r a_r(x) H_r(o) / s_r, with the hat functions H_r(o) = max(0, 1 - ||o| - r|) on
the disc |o| ≤ R, their areas s_r, and non-negative a_r summing to one. It sums to one, is radially symmetric (its
first moment is zero, so it cannot translate the image) and reaches the delta (a_0 = 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from jdrl.reblur_network import ReblurNetwork

__all__ = ["ReblurNetwork", "coc_radius_px", "hat_basis", "reblur"]


def hat_basis(
    radius_px: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Tensor:
    """The normalised hats H_r / s_r for r = 0 … R.

    Args:
        radius_px: R, the largest blur radius.
        dtype: Of the result.
        device: Of the result.

    Returns:
        (R + 1, 2R + 1, 2R + 1), each plane non-negative and summing to one.
    """
    distance = _squared_distance(radius_px).sqrt()
    radii = torch.arange(radius_px + 1, dtype=torch.float64).view(-1, 1, 1)
    hats = (1 - (distance - radii).abs()).clamp(min=0) * (distance <= radius_px)
    return (hats / hats.sum((1, 2), keepdim=True)).to(dtype=dtype, device=device)


def reblur(image: Tensor, weights: Tensor) -> Tensor:
    """Blurs every pixel with its own kernel: Σ_r a_r(x) (H_r/s_r * image)(x), the border pixel repeated outside.

    Only `image` and `weights` are kept for the backward pass, which convolves again. Half-precision inputs are
    blurred in float32.

    Args:
        image: (B, C, H, W).
        weights: (B, R + 1, H, W), non-negative and summing to one over dim 1; R is read from it.

    Returns:
        (B, C, H, W), differentiable once with respect to both.
    """
    if image.shape[0] != weights.shape[0] or image.shape[-2:] != weights.shape[-2:]:
        raise ValueError(f"weights {tuple(weights.shape)} do not fit an image {tuple(image.shape)}")
    dtype = torch.promote_types(torch.promote_types(image.dtype, weights.dtype), torch.float32)
    with torch.autocast(image.device.type, enabled=False):
        blurred: Tensor = _Reblur.apply(image.to(dtype), weights.to(dtype))  # type: ignore[no-untyped-call]
    return blurred


def coc_radius_px(weights: Tensor) -> Tensor:
    """The radius of the uniform disc with the same second moment as each pixel's kernel.

    A disc of radius ρ has E|o|² = ρ²/2, hence c = sqrt(2 Σ_r a_r m_r) with m_r the second moment of hat r.

    Args:
        weights: (B, R + 1, H, W), as for `reblur`.

    Returns:
        (B, 1, H, W) circle-of-confusion radius in pixels.
    """
    radius = weights.shape[1] - 1
    moments = (hat_basis(radius, dtype=torch.float64) * _squared_distance(radius)).sum((1, 2))
    mean_square = torch.einsum("brhw,r->bhw", weights, moments.to(weights)).unsqueeze(1)
    return (2 * mean_square).clamp(min=torch.finfo(weights.dtype).tiny).sqrt()


class _Reblur(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, image: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(image, weights)
        layers = _layers(image, weights.shape[1] - 1)
        return torch.einsum("bcrhw,brhw->bchw", layers, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_image, needs_weights = ctx.needs_input_grad  # type: ignore[attr-defined]
        radius = weights.shape[1] - 1
        to_image = _layers_adjoint(gradient.unsqueeze(2) * weights.unsqueeze(1), radius) if needs_image else None
        to_weights = torch.einsum("bcrhw,bchw->brhw", _layers(image, radius), gradient) if needs_weights else None
        return to_image, to_weights


def _layers(image: Tensor, radius: int) -> Tensor:
    """(B, C, R + 1, H, W): the image blurred by every hat."""
    batch, channels, height, width = image.shape
    padded = F.pad(image, (radius,) * 4, mode="replicate").view(batch * channels, 1, *_grown(image, radius))
    kernels = hat_basis(radius, dtype=image.dtype, device=image.device).unsqueeze(1)
    return F.conv2d(padded, kernels).view(batch, channels, radius + 1, height, width)


def _layers_adjoint(layers: Tensor, radius: int) -> Tensor:
    """The transpose of `_layers`; the hats are symmetric, so convolution is its own transpose up to the border."""
    batch, channels, _, height, width = layers.shape
    kernels = hat_basis(radius, dtype=layers.dtype, device=layers.device).unsqueeze(0)
    flat = layers.reshape(batch * channels, radius + 1, height, width)
    spread = F.conv2d(flat, kernels, padding=2 * radius).view(batch, channels, height + 2 * radius, -1)
    return _folded(_folded(spread, radius, 2), radius, 3)


def _folded(spread: Tensor, radius: int, dim: int) -> Tensor:
    """Transposed replicate padding along one dimension: what fell outside is added to the border."""
    size = spread.shape[dim] - 2 * radius
    inside = spread.narrow(dim, radius, size).clone()
    inside.narrow(dim, 0, 1).add_(spread.narrow(dim, 0, radius).sum(dim, keepdim=True))
    inside.narrow(dim, size - 1, 1).add_(spread.narrow(dim, radius + size, radius).sum(dim, keepdim=True))
    return inside


def _grown(image: Tensor, radius: int) -> tuple[int, int]:
    return image.shape[-2] + 2 * radius, image.shape[-1] + 2 * radius


def _squared_distance(radius_px: int) -> Tensor:
    offset = torch.arange(-radius_px, radius_px + 1, dtype=torch.float64)
    return offset.view(-1, 1).square() + offset.square()
