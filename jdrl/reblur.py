"""Reblurring with one isotropic kernel per pixel, linear in its parameters.

The kernel of pixel x is k(o) = Σ_r a_r(x) H_r(o) / s_r, with the hat functions H_r(o) = max(0, 1 - ||o| - r|) on
the disc |o| ≤ R, their areas s_r, and non-negative a_r summing to one. It sums to one, is radially symmetric (its
first moment is zero, so it cannot translate the image) and reaches the delta (a_0 = 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

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

    Only `image` and `weights` are kept for the backward pass, which blurs again. Half-precision inputs are
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
    """Ring by ring: all offsets of one length share their kernel value, so a ring costs one product.

    No stack of blurred images is ever made, neither kept nor passing.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, image: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(image, weights)
        radius = weights.shape[1] - 1
        padded = _padded(image, radius)
        blurred = torch.zeros_like(image)
        for ring in _rings(radius):
            blurred.addcmul_(_ring_sum(padded, ring, radius), _kernel_value(weights, ring))
        return blurred

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_image, needs_weights = ctx.needs_input_grad  # type: ignore[attr-defined]
        radius = weights.shape[1] - 1
        padded = _padded(image, radius)
        to_padded, to_weights = torch.zeros_like(padded), torch.zeros_like(weights)
        for ring in _rings(radius):
            if needs_image:
                spread = gradient * _kernel_value(weights, ring)
                for offset in ring.offsets:
                    _shifted(to_padded, offset, radius).add_(spread)
            if needs_weights:
                share = (gradient * _ring_sum(padded, ring, radius)).sum(1)
                for hat, height in ring.hats:
                    to_weights[:, hat].add_(share, alpha=height)
        to_image = _folded(_folded(to_padded, radius, 2), radius, 3) if needs_image else None
        return to_image, to_weights if needs_weights else None


@dataclass(frozen=True, slots=True)
class _Ring:
    """The offsets (y, x) of one length, and the one or two hats (index, height / area) that reach them."""

    offsets: tuple[tuple[int, int], ...]
    hats: tuple[tuple[int, float], ...]


@cache
def _rings(radius: int) -> tuple[_Ring, ...]:
    basis = hat_basis(radius, dtype=torch.float64).tolist()
    offsets: dict[int, list[tuple[int, int]]] = {}
    for y, x in product(range(-radius, radius + 1), repeat=2):
        if x * x + y * y <= radius * radius:
            offsets.setdefault(x * x + y * y, []).append((y, x))
    return tuple(
        _Ring(tuple(ring), tuple((hat, plane[y][x]) for hat, plane in enumerate(basis) if plane[y][x] > 0))
        for ring in offsets.values()
        for y, x in [(ring[0][0] + radius, ring[0][1] + radius)]
    )


def _ring_sum(padded: Tensor, ring: _Ring, radius: int) -> Tensor:
    first, *others = ring.offsets
    total = _shifted(padded, first, radius).clone()
    for offset in others:
        total.add_(_shifted(padded, offset, radius))
    return total


def _kernel_value(weights: Tensor, ring: _Ring) -> Tensor:
    """(B, 1, H, W): every pixel's kernel at this ring's distance."""
    (first, height), *others = ring.hats
    value = weights[:, first : first + 1] * height
    for hat, height in others:
        value.add_(weights[:, hat : hat + 1], alpha=height)
    return value


def _shifted(padded: Tensor, offset: tuple[int, int], radius: int) -> Tensor:
    """The view of the padded image whose pixel x is the image's x + offset."""
    rows, columns = padded.shape[-2] - 2 * radius, padded.shape[-1] - 2 * radius
    return padded.narrow(-2, radius + offset[0], rows).narrow(-1, radius + offset[1], columns)


def _padded(image: Tensor, radius: int) -> Tensor:
    return F.pad(image, (radius,) * 4, mode="replicate")


def _folded(spread: Tensor, radius: int, dim: int) -> Tensor:
    """Transposed replicate padding along one dimension: what fell outside is added to the border."""
    size = spread.shape[dim] - 2 * radius
    inside = spread.narrow(dim, radius, size).clone()
    inside.narrow(dim, 0, 1).add_(spread.narrow(dim, 0, radius).sum(dim, keepdim=True))
    inside.narrow(dim, size - 1, 1).add_(spread.narrow(dim, radius + size, radius).sum(dim, keepdim=True))
    return inside


def _squared_distance(radius_px: int) -> Tensor:
    offset = torch.arange(-radius_px, radius_px + 1, dtype=torch.float64)
    return offset.view(-1, 1).square() + offset.square()
