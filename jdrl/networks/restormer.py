"""Restormer (Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", CVPR 2022).

The single-image defocus deblurring setting: convolutions without bias, layer norms with one, a global residual.
26,126,644 parameters by default. Parameter names follow the published checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

# Limits far above any published network: a hostile checkpoint may request any size.
Width = Annotated[int, Field(ge=2, le=1024, multiple_of=2)]
Blocks = Annotated[int, Field(ge=0, le=100)]
Heads = Annotated[int, Field(ge=1, le=1024)]
Expansion = Annotated[float, Field(ge=1, le=16)]


class Restormer(nn.Module):
    """Maps `(B, 3, H, W)` in [0, 1] to the same, unclamped; H and W must be multiples of `size_multiple`.

    A new network is the identity. Its attention sums over the whole input: see `jdrl.networks.localised`.

    Args:
        width: Channels of the first level; each of the three deeper ones doubles them. Even.
        blocks: Transformer blocks per level, finest first; in encoder and decoder, but once on the coarsest level.
        refinement_blocks: Blocks at full resolution after the decoder.
        heads: Heads of the attention per level; each must divide its level's channels.
        expansion: Channels inside a feed-forward network, as a multiple of those outside.
    """

    size_multiple: ClassVar[int] = 8
    reach_px: ClassVar[int] = 64

    def __init__(
        self,
        width: Width = 48,
        blocks: tuple[Blocks, Blocks, Blocks, Blocks] = (4, 6, 6, 8),
        refinement_blocks: Blocks = 4,
        heads: tuple[Heads, Heads, Heads, Heads] = (1, 2, 4, 8),
        expansion: Expansion = 2.66,
    ) -> None:
        super().__init__()
        self.guided_levels = {"encoder_level1": width, "encoder_level2": 2 * width}

        def stage(channels: int, count: int, heads: int) -> nn.Sequential:
            return nn.Sequential(*(_TransformerBlock(channels, heads, expansion) for _ in range(count)))

        self.patch_embed = _named("proj", _conv(3, width, 3))
        self.encoder_level1 = stage(width, blocks[0], heads[0])
        self.down1_2 = _named("body", _down(width))
        self.encoder_level2 = stage(2 * width, blocks[1], heads[1])
        self.down2_3 = _named("body", _down(2 * width))
        self.encoder_level3 = stage(4 * width, blocks[2], heads[2])
        self.down3_4 = _named("body", _down(4 * width))
        self.latent = stage(8 * width, blocks[3], heads[3])
        self.up4_3 = _named("body", _up(8 * width))
        self.reduce_chan_level3 = _conv(8 * width, 4 * width, 1)
        self.decoder_level3 = stage(4 * width, blocks[2], heads[2])
        self.up3_2 = _named("body", _up(4 * width))
        self.reduce_chan_level2 = _conv(4 * width, 2 * width, 1)
        self.decoder_level2 = stage(2 * width, blocks[1], heads[1])
        # The skip of the finest level is not reduced: its decoder has twice the encoder's channels.
        self.up2_1 = _named("body", _up(2 * width))
        self.decoder_level1 = stage(2 * width, blocks[0], heads[0])
        self.refinement = stage(2 * width, refinement_blocks, heads[0])
        self.output = _conv(2 * width, 3, 3)
        # D = B before the first step, as for NAFNet.
        nn.init.zeros_(self.output.weight)

    def forward(self, blurred: Tensor) -> Tensor:
        """The deblurred image."""
        first = self.encoder_level1(self.patch_embed(blurred))
        second = self.encoder_level2(self.down1_2(first))
        third = self.encoder_level3(self.down2_3(second))
        x = self.up4_3(self.latent(self.down3_4(third)))
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([x, third], dim=1)))
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), second], dim=1)))
        x = self.decoder_level1(torch.cat([self.up2_1(x), first], dim=1))
        residual: Tensor = self.output(self.refinement(x))
        return blurred + residual


class _TransformerBlock(nn.Module):
    """Attention, then feed-forward, each on normalised channels and with a skip."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = _ChannelNorm(channels), _ChannelNorm(channels)
        self.attn = _ChannelAttention(channels, heads)
        self.ffn = _GatedFeedForward(channels, int(channels * expansion))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        fed: Tensor = self.ffn(self.norm2(x))
        return x + fed


class _ChannelAttention(nn.Module):
    """The paper's MDTA: channels attend to channels, by their cosine over all of space; linear in pixels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{heads} heads cannot share {channels} channels evenly")
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = _conv(channels, 3 * channels, 1)
        self.qkv_dwconv = _conv(3 * channels, 3 * channels, 3, groups=3 * channels)
        self.project_out = _conv(channels, channels, 1)
        self.mixing = ChannelMixing()

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        queries, keys, values = (part.unflatten(1, (self.heads, -1)) for part in parts)
        cosines = F.normalize(queries.flatten(3), dim=-1) @ F.normalize(keys.flatten(3), dim=-1).transpose(-2, -1)
        attended = self.mixing((self.temperature * cosines).softmax(dim=-1), values)
        projected: Tensor = self.project_out(attended.reshape(x.shape))
        return projected


class ChannelMixing(nn.Module):
    """Applies attention matrices; a separate module, so that `jdrl.networks.localised` can replace it."""

    def forward(self, matrices: Tensor, values: Tensor) -> Tensor:
        """Applies (B, heads, C, C) to the channels of (B, heads, C, H, W)."""
        return (matrices @ values.flatten(3)).reshape(values.shape)


class _GatedFeedForward(nn.Module):
    """The paper's GDFN: one of two convolved halves gates the other."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.project_in = _conv(channels, 2 * hidden, 1)
        self.dwconv = _conv(2 * hidden, 2 * hidden, 3, groups=2 * hidden)
        self.project_out = _conv(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate, content = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        fed: Tensor = self.project_out(F.gelu(gate) * content)
        return fed


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.body(x.permute(0, 2, 3, 1))
        return normalised.permute(0, 3, 1, 2)


def _conv(inputs: int, outputs: int, side: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, groups=groups, bias=False)


def _down(channels: int) -> nn.Sequential:
    return nn.Sequential(_conv(channels, channels // 2, 3), nn.PixelUnshuffle(2))


def _up(channels: int) -> nn.Sequential:
    return nn.Sequential(_conv(channels, 2 * channels, 3), nn.PixelShuffle(2))


def _named(name: str, module: nn.Module) -> nn.Sequential:
    """Puts `name` before the names of the weights of `module`, as in the published checkpoints."""
    return nn.Sequential(OrderedDict([(name, module)]))
