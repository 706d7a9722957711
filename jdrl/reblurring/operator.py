"""Blurring every pixel with its own kernel, forward and backward, in the two formulations that suit CPU and GPU.

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
    """One way to compute it.

    Attributes:
        blurred: (image, weights, basis) → blurred image.
        gradients: (gradient, image, weights, basis, (image's needed, weights' needed)) → those of image and weights.
    """

    blurred: Callable[[Tensor, Tensor, Basis], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor, Basis, tuple[bool, bool]], Gradients]


class _Reblur(Function):
    """Keeps image and weights for the backward pass, which blurs again."""

    @staticmethod
    def forward(ctx: FunctionCtx, image: Tensor, weights: Tensor, basis: Basis, formulation: Formulation) -> Tensor:
        ctx.save_for_backward(image, weights)
        ctx.how = basis, formulation  # type: ignore[attr-defined]
        return formulation.blurred(image, weights, basis)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        image, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        basis, formulation = ctx.how  # type: ignore[attr-defined]
        needs = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        return *formulation.gradients(gradient, image, weights, basis, needs), None, None


def blurred_by_rings(image: Tensor, weights: Tensor, basis: Basis) -> Tensor:
    """Ring by ring: all offsets of one ring share their kernel value, so a ring costs one product.

    No stack of blurred images is ever made, neither kept nor passing.
    """
    radius = basis.radius_px
    padded = _padded(image, basis)
    blurred = torch.zeros_like(image)
    for ring in rings(basis):
        blurred.addcmul_(_ring_sum(padded, ring, radius), _kernel_value(weights, ring))
    return blurred


def gradients_by_rings(
    gradient: Tensor, image: Tensor, weights: Tensor, basis: Basis, needs: tuple[bool, bool]
) -> Gradients:
    """See `blurred_by_rings`."""
    radius = basis.radius_px
    padded = _padded(image, basis)
    to_padded, to_weights = torch.zeros_like(padded), torch.zeros_like(weights)
    for ring in rings(basis):
        if needs[0]:
            spread = gradient * _kernel_value(weights, ring)
            for offset in ring.offsets:
                _shifted(to_padded, offset, radius).add_(spread)
        if needs[1]:
            share = (gradient * _ring_sum(padded, ring, radius)).sum(1)
            for plane, height in ring.planes:
                to_weights[:, plane].add_(share, alpha=height)
    return _unpadded(to_padded, basis) if needs[0] else None, to_weights if needs[1] else None


def blurred_by_convolution(image: Tensor, weights: Tensor, basis: Basis) -> Tensor:
    """One convolution with all planes, then a product: few launches, at the price of K images in passing."""
    return torch.einsum("bckhw,bkhw->bchw", _layers(image, basis), weights)


def gradients_by_convolution(
    gradient: Tensor, image: Tensor, weights: Tensor, basis: Basis, needs: tuple[bool, bool]
) -> Gradients:
    """See `blurred_by_convolution`."""
    to_image = to_weights = None
    if needs[0]:
        spread = torch.einsum("bchw,bkhw->bckhw", gradient, weights).flatten(0, 1)
        with _exact():
            to_padded = F.conv_transpose2d(spread, _filters(basis, image.dtype, image.device))
        to_image = _unpadded(to_padded.view(*image.shape[:2], *to_padded.shape[-2:]), basis)
    if needs[1]:
        to_weights = torch.einsum("bchw,bckhw->bkhw", gradient, _layers(image, basis))
    return to_image, to_weights


def differentiable(image: Tensor, weights: Tensor, basis: Basis, formulation: Formulation) -> Tensor:
    """The blurred image; autograd keeps `image` and `weights` alone."""
    blurred: Tensor = _Reblur.apply(image, weights, basis, formulation)  # type: ignore[no-untyped-call]
    return blurred


BY_RINGS = Formulation(blurred_by_rings, gradients_by_rings)
BY_CONVOLUTION = Formulation(blurred_by_convolution, gradients_by_convolution)


def _layers(image: Tensor, basis: Basis) -> Tensor:
    """(B, C, K, H, W): the image blurred by every plane."""
    padded = _padded(image, basis).flatten(0, 1).unsqueeze(1)
    with _exact():
        layers = F.conv2d(padded, _filters(basis, image.dtype, image.device))
    return layers.view(*image.shape[:2], *layers.shape[1:])


@cache
def _filters(basis: Basis, dtype: torch.dtype, device: torch.device) -> Tensor:
    return planes(basis).unsqueeze(1).to(dtype=dtype, device=device)


def _exact() -> AbstractContextManager[None]:
    """Convolutions of CUDA with all 24 bits: TF32, their default, has 11."""
    backend = torch.backends.cudnn
    return backend.flags(
        enabled=backend.enabled,
        benchmark=backend.benchmark,
        deterministic=backend.deterministic,
        allow_tf32=False,
    )


def _ring_sum(padded: Tensor, ring: Ring, radius: int) -> Tensor:
    first, *others = ring.offsets
    total = _shifted(padded, first, radius).clone()
    for offset in others:
        total.add_(_shifted(padded, offset, radius))
    return total


def _kernel_value(weights: Tensor, ring: Ring) -> Tensor:
    """(B, 1, H, W): every pixel's kernel at this ring."""
    (first, height), *others = ring.planes
    value = weights[:, first : first + 1] * height
    for plane, height in others:
        value.add_(weights[:, plane : plane + 1], alpha=height)
    return value


def _shifted(padded: Tensor, offset: tuple[int, int], radius: int) -> Tensor:
    """The view of the padded image whose pixel x is the image's x + offset."""
    rows, columns = padded.shape[-2] - 2 * radius, padded.shape[-1] - 2 * radius
    return padded.narrow(-2, radius + offset[0], rows).narrow(-1, radius + offset[1], columns)


def _padded(image: Tensor, basis: Basis) -> Tensor:
    return F.pad(image, (basis.radius_px,) * 4, mode=basis.padding)


def _unpadded(spread: Tensor, basis: Basis) -> Tensor:
    """Transposed `_padded`: what fell on a repeated border pixel is added to it."""
    radius = basis.radius_px
    if basis.padding == "constant":
        return _shifted(spread, (0, 0), radius).clone()
    return _folded(_folded(spread, radius, 2), radius, 3)


def _folded(spread: Tensor, radius: int, dim: int) -> Tensor:
    size = spread.shape[dim] - 2 * radius
    inside = spread.narrow(dim, radius, size).clone()
    inside.narrow(dim, 0, 1).add_(spread.narrow(dim, 0, radius).sum(dim, keepdim=True))
    inside.narrow(dim, size - 1, 1).add_(spread.narrow(dim, radius + size, radius).sum(dim, keepdim=True))
    return inside
