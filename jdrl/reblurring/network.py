"""The reblurring network: predicts per-pixel kernel weights from the deblurred and the blurred image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jdrl.reblurring.kernel_basis import Basis, planes
from jdrl.reblurring.official_network import MIXING_MAPS, PROFILE_MAPS, official_weights

if TYPE_CHECKING:
    from jdrl.config import BasisName, TrainConfig

IDENTITY_WEIGHT = 0.75
# Scales the difference of the images, some hundredths, to the range of the images.
DIFFERENCE_GAIN = 8.0


class ReblurNetwork(nn.Module):
    """Predicts kernel weights for `reblur` by one trunk at 1/2 or 1/4 resolution; the published code has two at full.

    The blur radius varies smoothly, so the images enter through space-to-depth and the logits are upsampled. A new
    network predicts near-identity weights. The receptive field is about 2 `scale` (`blocks` + 2.5) px, which must
    exceed the largest kernel.

    Args:
        radius_px: R, the largest blur radius.
        width: Channels of the trunk.
        blocks: Gated blocks of the trunk.
        basis: Basis of the weights, see `jdrl.reblurring.kernel_basis.Basis`.
        scale: Downsampling factor of the trunk, 2 or 4.

    Raises:
        ValueError: There is no such basis.
    """

    def __init__(
        self, radius_px: int = 7, width: int = 48, blocks: int = 6, *, basis: BasisName = "hats", scale: int = 2
    ) -> None:
        super().__init__()
        self.basis: BasisName = basis
        self.radius_px = radius_px
        self.scale = scale
        official = basis == "official"
        count = len(planes(Basis(basis, radius_px)))
        identity, rivals = (PROFILE_MAPS, MIXING_MAPS - 1) if official else (0, count - 1)
        self.intro = nn.Conv2d(9 * scale**2, width, 3, padding=1)
        self.trunk = nn.Sequential(*(_GatedBlock(width) for _ in range(blocks)))
        self.head = nn.Conv2d(width, PROFILE_MAPS + MIXING_MAPS if official else count, 3, padding=1)
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            self.head.bias = nn.Parameter(torch.zeros(self.head.out_channels))
            self.head.bias[identity] = math.log(IDENTITY_WEIGHT / (1 - IDENTITY_WEIGHT) * max(1, rivals))

    def forward(self, deblurred: Tensor, blurred: Tensor) -> Tensor:
        """Predicts the weights of the kernels that turn `deblurred` into `blurred`.

        Args:
            deblurred: (B, 3, H, W) in [0, 1].
            blurred: (B, 3, H, W) in [0, 1].

        Returns:
            (B, K, H, W) for the K planes of the basis, non-negative, summing to one over dim 1.
        """
        height, width = blurred.shape[-2:]
        images = torch.cat([deblurred - 0.5, blurred - 0.5, DIFFERENCE_GAIN * (deblurred - blurred)], dim=1)
        padded = F.pad(images, (0, -width % self.scale, 0, -height % self.scale), mode="replicate")
        features: Tensor = self.trunk(self.intro(F.pixel_unshuffle(padded, self.scale)))
        logits: Tensor = self.head(features)
        full = F.interpolate(logits, scale_factor=self.scale, mode="bilinear", align_corners=False)
        full = full[..., :height, :width].float()
        if self.basis == "official":
            return official_weights(full[:, :PROFILE_MAPS], full[:, PROFILE_MAPS:])
        return torch.softmax(full, dim=1)


def build_reblur_network(config: TrainConfig) -> ReblurNetwork:
    """Builds the configured reblurring network."""
    return ReblurNetwork(
        config.reblur_radius_px, config.reblur_width, basis=config.reblur_basis, scale=config.reblur_scale
    )


class _GatedBlock(nn.Module):
    """A residual block in which half of the features gate the others, as in NAFNet (Chen et al., ECCV 2022).

    Blur shows in the loss of local contrast, a quadratic quantity, so products help. The gates are bounded, because a
    chain of plain products has degree 2^blocks and diverges on unfamiliar input.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.first(x).chunk(2, dim=1)
        change: Tensor = self.second(values * gates.tanh())
        return x + change
