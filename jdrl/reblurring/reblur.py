"""Reblurring with one isotropic kernel per pixel, linear in its weights, and the blur radius of the weights.

The kernel of pixel x is Σ_k a_k(x) P_k with the fixed planes P_k of a basis (`jdrl.reblurring.kernel_basis`). It sums
to one, is symmetric (its first moment is zero, so it cannot translate the image) and reaches the delta (a_0 = 1).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.reblurring.kernel_basis import find_basis, second_moments
from jdrl.reblurring.light import from_linear_light, to_linear_light
from jdrl.reblurring.network import ReblurNetwork
from jdrl.reblurring.operator import BY_CONVOLUTION, BY_RINGS, blur_with_gradients

if TYPE_CHECKING:
    from jdrl.config import BasisName

__all__ = ["ReblurNetwork", "coc_radius_px", "reblur", "reblur_by"]


def reblur(image: Tensor, weights: Tensor, basis: BasisName = "hats") -> Tensor:
    """Blurs every pixel with its own kernel: Σ_k a_k(x) (P_k * image)(x).

    Beyond the frame the border pixel is repeated; `official` pads with zeros, as the published code does. Only `image`
    and `weights` are saved for the backward pass, which blurs again. Half-precision inputs are blurred in float32.

    Args:
        image: (B, C, H, W).
        weights: (B, K, H, W), non-negative and summing to one over dim 1; K determines the radius of the basis.
        basis: `hats`, `discs`, `rings` or `official`, see `jdrl.reblurring.kernel_basis.Basis`.

    Returns:
        (B, C, H, W), differentiable once with respect to both.

    Raises:
        ValueError: The weights do not fit the image, or no such basis has K planes.

    Example:
        Weights of one on the delta, plane 0, leave the image unchanged:

        >>> image = torch.rand(1, 3, 16, 16)
        >>> weights = torch.zeros(1, 8, 16, 16)  # hats of radius 7 px
        >>> weights[:, 0] = 1
        >>> torch.equal(reblur(image, weights), image)
        True
        >>> float(coc_radius_px(weights).max()) < 1e-6
        True
    """
    if image.shape[0] != weights.shape[0] or image.shape[-2:] != weights.shape[-2:]:
        raise ValueError(f"weights {tuple(weights.shape)} do not fit an image {tuple(image.shape)}")
    planes = find_basis(basis, weights.shape[1])
    formulation = BY_RINGS if image.device.type == "cpu" else BY_CONVOLUTION
    dtype = torch.promote_types(torch.promote_types(image.dtype, weights.dtype), torch.float32)
    with torch.autocast(image.device.type, enabled=False):
        return blur_with_gradients(image.to(dtype), weights.to(dtype), planes, formulation)


def reblur_by(network: ReblurNetwork, deblurred: Tensor, blurred: Tensor) -> tuple[Tensor, Tensor]:
    """Predicts the kernels between two images and blurs the first by them: R(D, B), and its weights.

    With `network.light` "linear" the images hold sRGB values: they are decoded, blurred as light and encoded again.

    Args:
        network: Predicts kernel weights.
        deblurred: (B, 3, H, W) D.
        blurred: (B, 3, H, W) B.

    Returns:
        The blurred D, (B, 3, H, W), and the weights, (B, K, H, W).
    """
    weights: Tensor = network(deblurred, blurred)
    if network.light == "encoded":
        return reblur(deblurred, weights, network.basis), weights
    return from_linear_light(reblur(to_linear_light(deblurred.float()), weights, network.basis)), weights


def coc_radius_px(weights: Tensor, basis: BasisName = "hats") -> Tensor:
    """The radius of the circle of confusion of each pixel's kernel.

    For `discs` it is the mean of their radii ρ_k, Σ_k a_k ρ_k; otherwise the radius of the uniform disc with the same
    second moment. A disc of radius ρ has E|o|² = ρ²/2, hence √(2 Σ_k a_k m_k) with m_k the second moment of plane k.

    Args:
        weights: (B, K, H, W), as for `reblur`.
        basis: As for `reblur`.

    Returns:
        (B, 1, H, W) radius in pixels.
    """
    values = _averaged(basis, weights.shape[1], weights.dtype, weights.device)
    mean = torch.einsum("bkhw,k->bhw", weights, values).unsqueeze(1)
    return mean if basis == "discs" else (2 * mean).clamp(min=torch.finfo(weights.dtype).tiny).sqrt()


@cache
@torch.inference_mode(False)
def _averaged(basis: BasisName, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(K,): the radii of discs, else the second moments; on the device, to be copied once."""
    moments = second_moments(find_basis(basis, count))
    return ((2 * moments).sqrt() if basis == "discs" else moments).to(dtype=dtype, device=device)
