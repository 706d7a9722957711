"""The rival of `benchmarks/jdrl.py`: reblurring as the published code formulates it, written anew from its description.

Per pixel one kernel of each size 3, 5 … 15 from radial logits (square corners included), materialised; a stack of
shifted images for each; the seven results and the identity mixed. Two convolutional towers at full resolution predict
the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RADII_PX = range(1, 8)
Operator = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_loops(image: Tensor, profiles: Tensor, mixing: Tensor) -> Tensor:
    """Entry by entry, as published: a quadrant written in place, mirrored three times, images gathered one by one.

    Args:
        image: (B, C, H, W).
        profiles: (B, 35, H, W) radial values of the seven kernels.
        mixing: (B, 8, H, W) logits of the identity and the kernels.
    """
    batch, _, height, width = image.shape
    mix = mixing.softmax(1)
    total = mix[:, :1] * image
    for radius, values in zip(RADII_PX, _split(profiles), strict=True):
        quadrant = torch.zeros(batch, radius + 1, radius + 1, height, width, dtype=image.dtype, device=image.device)
        for y, x in product(range(radius + 1), repeat=2):
            distance = math.hypot(y, x)
            low, high = math.floor(distance), math.ceil(distance)
            if distance > radius:
                continue
            if low == high:
                quadrant[:, y, x] = values[:, low]
            else:
                quadrant[:, y, x] = (high - distance) * values[:, low] + (distance - low) * values[:, high]
        half = torch.cat([quadrant[:, 1:].flip(1), quadrant], 1)
        square = torch.cat([half[:, :, 1:].flip(2), half], 2)
        kernels = square.flatten(1, 2).softmax(1)
        padded = F.pad(image, (radius,) * 4)
        side = range(2 * radius + 1)
        stack = torch.stack([padded[..., y : y + height, x : x + width] for y, x in product(side, repeat=2)], 2)
        total = total + mix[:, radius : radius + 1] * (stack * kernels.unsqueeze(1)).sum(2)
    return total


def by_whole_tensors(image: Tensor, profiles: Tensor, mixing: Tensor) -> Tensor:
    """The same without a loop over entries: quicker than published, as large. Arguments as of `by_loops`."""
    batch, channels, height, width = image.shape
    mix = mixing.softmax(1)
    total = mix[:, :1] * image
    for radius, values in zip(RADII_PX, _split(profiles), strict=True):
        side = 2 * radius + 1
        offset = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
        distance = (offset.view(-1, 1).square() + offset.square()).sqrt().flatten()
        low, high = distance.floor().clamp(max=radius).long(), distance.ceil().clamp(max=radius).long()
        share = (distance - distance.floor()).view(1, -1, 1, 1)
        logits = values[:, low] * (1 - share) + values[:, high] * share
        kernels = (logits * (distance <= radius).view(1, -1, 1, 1)).softmax(1)
        stack = F.unfold(image, side, padding=radius).view(batch, channels, side * side, height, width)
        total = total + mix[:, radius : radius + 1] * (stack * kernels.unsqueeze(1)).sum(2)
    return total


class Towers(nn.Module):
    """(D, B) → profiles and mixing logits, by two networks at full resolution: 474,987 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.profiles, self.mixing = _tower(35), _tower(8)

    def forward(self, deblurred: Tensor, blurred: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([deblurred, blurred], 1)
        return self.profiles(both), self.mixing(both)


class _ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


def _tower(maps: int) -> nn.Sequential:
    blocks = [_ResidualBlock() for _ in range(3)]
    return nn.Sequential(nn.Conv2d(6, 64, 3, padding=1), *blocks, nn.Conv2d(64, maps, 3, padding=1))


def _split(profiles: Tensor) -> list[Tensor]:
    return [values.abs() for values in profiles.split([radius + 1 for radius in RADII_PX], 1)]
