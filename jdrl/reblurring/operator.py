"""Spatially variant blurring with its gradients, in two formulations: by rings for CPUs, by convolution for GPUs.

Both compute Σ_k a_k(x) (P_k * D)(x) for the planes P_k of a `Basis`, and its gradients from image and weights alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from jdrl.reblurring.kernel_basis import Basis, Ring, planes, rings

Gradients = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True, slots=True)
class Formulation:
    """A forward and a backward pass of the operator.

    Attributes:
        blur: (image, weights, basis) → blurred image.
        gradients: (gradient, image, weights, basis, (for image, for weights)) → gradients of image and weights.
    """

    blur: Callable[[Tensor, Tensor, Basis], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor, Basis, tuple[bool, bool]], Gradients]


class _Reblur(Function):
    """Saves only image and weights for the backward pass, which blurs again."""

    @staticmethod
    def forward(ctx: FunctionCtx, image: Tensor, weights: Tensor, basis: Basis, formulation: Formulation) -> Tensor:
        ctx.save_for_backward(image, weights)
        ctx.constants = basis, formulation  # type: ignore[attr-defined]
        return formulation.blur(image, weights, basis)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        image, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        basis, formulation = ctx.constants  # type: ignore[attr-defined]
        needs = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        return *formulation.gradients(gradient, image, weights, basis, needs), None, None


def blur_by_rings(image: Tensor, weights: Tensor, basis: Basis) -> Tensor:
    """Blurs ring by ring: all offsets of a ring share their kernel value, so a ring costs one product.

    No stack of blurred images is allocated.
    """
    radius = basis.radius_px
    padded = _pad(image, basis)
    blurred = torch.zeros_like(image)
    for ring in rings(basis):
        blurred.addcmul_(_ring_sum(padded, ring, radius), _kernel_value(weights, ring))
    return blurred


def gradients_by_rings(
    gradient: Tensor, image: Tensor, weights: Tensor, basis: Basis, needs: tuple[bool, bool]
) -> Gradients:
    """The gradients of `blur_by_rings`."""
    radius = basis.radius_px
    padded = _pad(image, basis)
    to_padded, to_weights = torch.zeros_like(padded), torch.zeros_like(weights)
    for ring in rings(basis):
        if needs[0]:
            spread = gradient * _kernel_value(weights, ring)
            for offset in ring.offsets:
                _offset_view(to_padded, offset, radius).add_(spread)
        if needs[1]:
            share = (gradient * _ring_sum(padded, ring, radius)).sum(1)
            for plane, height in ring.planes:
                to_weights[:, plane].add_(share, alpha=height)
    return _pad_transposed(to_padded, basis) if needs[0] else None, to_weights if needs[1] else None


def blur_by_convolution(image: Tensor, weights: Tensor, basis: Basis) -> Tensor:
    """Blurs by one convolution with all planes, then a product: few kernel launches, but K temporary images."""
    return torch.einsum("bckhw,bkhw->bchw", _blur_by_planes(image, basis), weights)


def gradients_by_convolution(
    gradient: Tensor, image: Tensor, weights: Tensor, basis: Basis, needs: tuple[bool, bool]
) -> Gradients:
    """The gradients of `blur_by_convolution`."""
    to_image = to_weights = None
    if needs[0]:
        spread = torch.einsum("bchw,bkhw->bckhw", gradient, weights).flatten(0, 1)
        with _full_precision():
            to_padded = F.conv_transpose2d(spread, _filters(basis, image.dtype, image.device))
        to_image = _pad_transposed(to_padded.view(*image.shape[:2], *to_padded.shape[-2:]), basis)
    if needs[1]:
        to_weights = torch.einsum("bchw,bckhw->bkhw", gradient, _blur_by_planes(image, basis))
    return to_image, to_weights


def blur_with_gradients(image: Tensor, weights: Tensor, basis: Basis, formulation: Formulation) -> Tensor:
    """Blurs an image differentiably; autograd saves only `image` and `weights`."""
    blurred: Tensor = _Reblur.apply(image, weights, basis, formulation)  # type: ignore[no-untyped-call]
    return blurred


BY_RINGS = Formulation(blur_by_rings, gradients_by_rings)
BY_CONVOLUTION = Formulation(blur_by_convolution, gradients_by_convolution)


def _blur_by_planes(image: Tensor, basis: Basis) -> Tensor:
    """Blurs an image by every plane, (B, C, K, H, W)."""
    padded = _pad(image, basis).flatten(0, 1).unsqueeze(1)
    with _full_precision():
        layers = F.conv2d(padded, _filters(basis, image.dtype, image.device))
    return layers.view(*image.shape[:2], *layers.shape[1:])


@cache
def _filters(basis: Basis, dtype: torch.dtype, device: torch.device) -> Tensor:
    return planes(basis).unsqueeze(1).to(dtype=dtype, device=device)


def _full_precision() -> AbstractContextManager[None]:
    """Disables TF32 of CUDA convolutions, whose 11 bits of mantissa are too few."""
    backend = torch.backends.cudnn
    return backend.flags(
        enabled=backend.enabled,
        benchmark=backend.benchmark,
        deterministic=backend.deterministic,
        allow_tf32=False,
    )


def _ring_sum(padded: Tensor, ring: Ring, radius: int) -> Tensor:
    first, *others = ring.offsets
    total = _offset_view(padded, first, radius).clone()
    for offset in others:
        total.add_(_offset_view(padded, offset, radius))
    return total


def _kernel_value(weights: Tensor, ring: Ring) -> Tensor:
    """Every pixel's kernel value on a ring, (B, 1, H, W)."""
    (first, height), *others = ring.planes
    value = weights[:, first : first + 1] * height
    for plane, height in others:
        value.add_(weights[:, plane : plane + 1], alpha=height)
    return value


def _offset_view(padded: Tensor, offset: tuple[int, int], radius: int) -> Tensor:
    """The view of the padded image whose pixel x is the image's x + offset."""
    rows, columns = padded.shape[-2] - 2 * radius, padded.shape[-1] - 2 * radius
    return padded.narrow(-2, radius + offset[0], rows).narrow(-1, radius + offset[1], columns)


def _pad(image: Tensor, basis: Basis) -> Tensor:
    return F.pad(image, (basis.radius_px,) * 4, mode=basis.padding)


def _pad_transposed(spread: Tensor, basis: Basis) -> Tensor:
    """The transpose of `_pad`: gradients of repeated border pixels are added to the border pixel."""
    radius = basis.radius_px
    if basis.padding == "constant":
        return _offset_view(spread, (0, 0), radius).clone()
    return _fold_border(_fold_border(spread, radius, 2), radius, 3)


def _fold_border(spread: Tensor, radius: int, dim: int) -> Tensor:
    size = spread.shape[dim] - 2 * radius
    inside = spread.narrow(dim, radius, size).clone()
    inside.narrow(dim, 0, 1).add_(spread.narrow(dim, 0, radius).sum(dim, keepdim=True))
    inside.narrow(dim, size - 1, 1).add_(spread.narrow(dim, radius + size, radius).sum(dim, keepdim=True))
    return inside
