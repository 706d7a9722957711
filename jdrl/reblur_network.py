"""Predicting the per-pixel blur kernels from the deblurred and the blurred image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IDENTITY_LOGIT = 3.0


class ReblurNetwork(nn.Module):
    """Kernel weights for `reblur`: one trunk at half resolution instead of the official two towers at full.

    The blur radius varies smoothly, so the images enter through space-to-depth and the logits are enlarged. A new
    network answers near-identity weights everywhere. The receptive field is about 8 `blocks` + 12 px, which must
    exceed the largest kernel.

    Args:
        radius_px: R, the largest blur radius.
        width: Channels of the trunk.
        blocks: Residual blocks of the trunk.
    """

    def __init__(self, radius_px: int = 7, width: int = 48, blocks: int = 4) -> None:
        super().__init__()
        self.radius_px = radius_px
        self.intro = nn.Conv2d(4 * 9, width, 3, padding=1)
        self.trunk = nn.Sequential(*(_ResidualBlock(width) for _ in range(blocks)))
        self.head = nn.Conv2d(width, radius_px + 1, 3, padding=1)
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            bias = torch.zeros(radius_px + 1)
            bias[0] = IDENTITY_LOGIT
            self.head.bias = nn.Parameter(bias)

    def forward(self, deblurred: Tensor, blurred: Tensor) -> Tensor:
        """Weights of the kernels that turn `deblurred` into `blurred`.

        Args:
            deblurred: (B, 3, H, W) in [0, 1].
            blurred: (B, 3, H, W) in [0, 1].

        Returns:
            (B, R + 1, H, W), non-negative, summing to one over dim 1.
        """
        height, width = blurred.shape[-2:]
        images = torch.cat([deblurred, blurred, deblurred - blurred], dim=1)
        even = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        features: Tensor = self.trunk(self.intro(F.pixel_unshuffle(even, 2)))
        logits: Tensor = self.head(features)
        full = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.softmax(full[..., :height, :width].float(), dim=1)


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.first(x)))
        return x + change
