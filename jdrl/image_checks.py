"""Checks of image tensors that come from a user's program: type, shape, range, NaN; refused with what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST = -0.5
"""Least value of an image in [0, 1] that an interpolation or a network has made."""
LARGEST = 1.5
"""Its largest value."""
_WHITES = {torch.uint8: 255, torch.uint16: 65535}
_CHANNELS = (1, 3)


def unit_image(image: Tensor, name: str, *, dims: Sequence[int] = (4,)) -> Tensor:
    """Checks an image and scales integers to [0, 1]; the curve of the values stays as it is.

    Args:
        image: (C, H, W) or (B, C, H, W) with one or three channels: any float type in [0, 1], or uint8 or uint16.
        name: Of the argument, for messages.
        dims: Numbers of dimensions that are allowed.

    Returns:
        The image; float32 if it was of integers.

    Raises:
        TypeError: No tensor, or one of another type.
        ValueError: Another shape, values that are not finite, or that do not lie about 0 to 1.

    Example:
        >>> unit_image(torch.full((1, 3, 1, 1), 51, dtype=torch.uint8), "image").unique()
        tensor([0.2000])
    """
    scaled = scaled_image(image, name, dims=dims)
    check_values(scaled, name)
    return scaled


def colour_image(image: Tensor, name: str) -> Tensor:
    """`unit_image` of one colour image, (3, H, W), as float32.

    Raises:
        TypeError: No tensor, or one of another type.
        ValueError: Another shape, an image without pixels, or values that `unit_image` refuses.
    """
    checked = unit_image(image, name, dims=(3,))
    if checked.shape[0] != 3:
        raise ValueError(f"{name} has one channel, networks take three: write {name}.expand(3, -1, -1)")
    if not checked.numel():
        raise ValueError(f"{name} has shape {tuple(checked.shape)}: it holds no pixel")
    return checked.to(torch.float32)


def scaled_image(image: Tensor, name: str, *, dims: Sequence[int] = (4,)) -> Tensor:
    """`unit_image` without a look at the values of floats."""
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} is a {type(image).__name__}, not a tensor: write torch.from_numpy({name})")
    _check_shape(image.shape, name, dims)
    if image.dtype in _WHITES:
        return image.to(torch.float32) / _WHITES[image.dtype]
    if not image.is_floating_point():
        raise TypeError(f"{name} holds {image.dtype}: write floats in [0, 1], or uint8 or uint16")
    return image


def check_values(image: Tensor, name: str) -> None:
    """Checks that the values of a float tensor are finite and lie about 0 to 1.

    Raises:
        ValueError: They do not.
    """
    if not image.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(image.detach()))
    if not (low >= LEAST and high <= LARGEST):
        wrong = ~torch.isfinite(image)
        if wrong.any():
            first = tuple(wrong.nonzero()[0].tolist())
            raise ValueError(f"{name} holds {int(wrong.sum())} values that are not finite, the first at {first}")
        hint = "divide by the largest code (255 for 8 bits); write (x + 1) / 2 for values from -1 to 1"
        raise ValueError(f"{name} holds values from {low:.4g} to {high:.4g}, not in [0, 1]: {hint}")


def check_same_shape(first: Tensor, second: Tensor) -> None:
    """Checks that two images can be compared pixel by pixel.

    Raises:
        ValueError: They differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"both images must have one shape, not {tuple(first.shape)} and {tuple(second.shape)}")


def check_mask(mask: Tensor, image: Tensor, name: str) -> None:
    """Checks that a mask can be broadcast to (B, 1, H, W) of an image.

    Raises:
        TypeError: It is no tensor.
        ValueError: It has another shape.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} is a {type(mask).__name__}, not a tensor: write torch.from_numpy({name})")
    batch = image.shape[0] if image.dim() == 4 else 1
    size = (batch, 1, *image.shape[-2:])
    given = (1,) * (4 - mask.dim()) + tuple(mask.shape)
    if len(given) != 4 or any(side not in (1, full) for side, full in zip(given, size, strict=True)):
        raise ValueError(f"{name} has shape {tuple(mask.shape)}, which does not fit {size}")


def _check_shape(shape: Sequence[int], name: str, dims: Sequence[int]) -> None:
    if len(shape) in dims and shape[-3] in _CHANNELS:
        return
    expected = " or ".join({3: "(C, H, W)", 4: "(B, C, H, W)"}[count] for count in dims)
    if len(shape) in dims and shape[-1] in _CHANNELS:
        hint = f"channels come first, write {name}.movedim(-1, -3)"
    elif len(shape) == 3 and shape[0] in _CHANNELS:
        hint = f"write {name}[None]"
    elif len(shape) == 4 and shape[1] in _CHANNELS:
        hint = f"give one image at a time, {name}[0]"
    else:
        hint = "one or three channels"
    raise ValueError(f"{name} has shape {tuple(shape)}, not {expected}: {hint}")
