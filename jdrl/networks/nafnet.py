"""NAFNet (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022), with a global residual.

Parameter names follow the published checkpoints.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

# Limits far above any published network: a hostile checkpoint may request any size.
Width = Annotated[int, Field(ge=1, le=4096)]
Blocks = Annotated[int, Field(ge=0, le=100)]
Levels = Annotated[tuple[Blocks, ...], Field(max_length=8)]


class NAFNet(nn.Module):
    """Maps `(B, 3, H, W)` in [0, 1] to the same, unclamped; a new network is the identity.

    Args:
        width: Channels of the first level; each deeper level doubles them.
        encoder_blocks: NAF blocks per encoder level, finest first; its length is the number of levels.
        middle_blocks: Blocks at the coarsest level.
        decoder_blocks: Blocks per decoder level, coarsest first.
    """

    reach_px: ClassVar[int] = 64

    def __init__(
        self,
        width: Width = 32,
        encoder_blocks: Levels = (1, 1, 1, 28),
        middle_blocks: Blocks = 1,
        decoder_blocks: Levels = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        if len(encoder_blocks) != len(decoder_blocks):
            raise ValueError(f"{len(encoder_blocks)} encoder levels but {len(decoder_blocks)} decoder levels")
        self.size_multiple = 2 ** len(encoder_blocks)
        self.guided_levels = {f"encoders.{level}": width << level for level in range(min(2, len(encoder_blocks)))}
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.decoders, self.ups = nn.ModuleList(), nn.ModuleList()
        channels = width
        for count in encoder_blocks:
            self.encoders.append(nn.Sequential(*(NAFBlock(channels) for _ in range(count))))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            channels *= 2
        self.middle_blks = nn.Sequential(*(NAFBlock(channels) for _ in range(middle_blocks)))
        for count in decoder_blocks:
            self.ups.append(nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2)))
            channels //= 2
            self.decoders.append(nn.Sequential(*(NAFBlock(channels) for _ in range(count))))
        # D = B before the first step: the reblurring term starts at zero and the flow is that of real images.
        nn.init.zeros_(self.ending.weight)
        if self.ending.bias is not None:
            nn.init.zeros_(self.ending.bias)

    def forward(self, blurred: Tensor) -> Tensor:
        """The deblurred image."""
        x: Tensor = self.intro(blurred)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            x = decoder(up(x) + skips.pop())
        residual: Tensor = self.ending(x)
        return blurred + residual


class NAFBlock(nn.Module):
    """A nonlinear-activation-free block: gated convolution, then gated feed-forward, each with a scaled skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _ChannelNorm(channels), _ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same."""
        gated = _gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(gated * self.sca(gated))
        fed: Tensor = self.conv5(_gate(self.conv4(self.norm2(x))))
        return x + self.gamma * fed


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        return F.layer_norm(last, last.shape[-1:], self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def _gate(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return first * second
