"""The sRGB curve on tensors, differentiable and continued outside [0, 1]: defocus is a convolution of linear light."""

from __future__ import annotations

import torch
from torch import Tensor

from sdd_toolkit.imaging.encoding import Encoding

_CURVE = Encoding.SRGB8.transfer
_LINEAR_PART = _CURVE.slope * _CURVE.threshold


def to_linear_light(values: Tensor) -> Tensor:
    """Decodes sRGB values (black 0, white 1) to linear light; below 0 the curve goes on as a line.

    Example:
        >>> to_linear_light(torch.tensor([-0.1292, 0.0, 0.5, 1.0]))
        tensor([-0.0100,  0.0000,  0.2140,  1.0000])
    """
    # Clamped before the power: the part that `where` leaves out would otherwise give a gradient of NaN.
    power = ((values.clamp(min=_LINEAR_PART) + _CURVE.a) / (1 + _CURVE.a)) ** _CURVE.gamma
    return torch.where(values <= _LINEAR_PART, values / _CURVE.slope, power)


def from_linear_light(light: Tensor) -> Tensor:
    """Encodes linear light as sRGB values: the inverse of `to_linear_light`.

    Example:
        >>> from_linear_light(torch.tensor([-0.01, 0.0, 0.2140, 1.0]))
        tensor([-0.1292,  0.0000,  0.5000,  1.0000])
    """
    power = (1 + _CURVE.a) * light.clamp(min=_CURVE.threshold) ** (1 / _CURVE.gamma) - _CURVE.a
    return torch.where(light <= _CURVE.threshold, light * _CURVE.slope, power)
