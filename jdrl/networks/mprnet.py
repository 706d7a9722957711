"""MPRNet in its deblurring configuration (Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021).

Parameter names follow the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

# Limits far above any published network: a hostile checkpoint may request any size.
Width = Annotated[int, Field(ge=1, le=4096)]
Growth = Annotated[int, Field(ge=0, le=4096)]
Blocks = Annotated[int, Field(ge=0, le=100)]

_Block = Callable[[int], nn.Module]


class MPRNet(nn.Module):
    """Maps `(B, 3, H, W)` in [0, 1] to three images of that shape, unclamped; a new network is the identity.

    The first stage encodes quarters of the image and decodes halves, the second encodes halves and decodes the whole
    image, the third works on the whole image at full resolution. H and W must be multiples of `size_multiple`.

    Args:
        width: Channels of the finest level of the first two stages.
        unet_growth: Channels that each of their two deeper levels adds.
        orsnet_growth: Channels that the full-resolution stage adds.
        orsnet_blocks: Attention blocks in each of its three groups.
        reduction: Divides the channels inside the channel attention.
    """

    size_multiple: ClassVar[int] = 8
    reach_px: ClassVar[int] = 64

    def __init__(
        self,
        width: Width = 96,
        unet_growth: Growth = 48,
        orsnet_growth: Growth = 32,
        orsnet_blocks: Blocks = 8,
        reduction: Width = 4,
    ) -> None:
        super().__init__()
        if reduction > width:
            raise ValueError(f"reduction = {reduction} leaves none of {width} channels")
        # One slope of the activation is shared by all blocks; checkpoints repeat it under the name of each.
        block = partial(_AttentionBlock, reduction=reduction, activation=nn.PReLU())
        levels = (width, width + unet_growth, width + 2 * unet_growth)
        full = width + orsnet_growth
        # Of the third stage only: the others divide the image.
        self.guided_levels = {"shallow_feat3": width, "concat23": full}
        self.shallow_feat1, self.shallow_feat2, self.shallow_feat3 = (
            nn.Sequential(_conv(3, width, 3), block(width)) for _ in range(3)
        )
        self.stage1_encoder, self.stage1_decoder = _Encoder(levels, block), _Decoder(levels, block)
        self.stage2_encoder, self.stage2_decoder = _SecondEncoder(levels, block), _Decoder(levels, block)
        self.stage3_orsnet = _FullResolution(levels, full, orsnet_blocks, block)
        self.sam12, self.sam23 = _SupervisedAttention(width), _SupervisedAttention(width)
        self.concat12, self.concat23 = _conv(2 * width, width, 3), _conv(2 * width, full, 3)
        self.tail = _conv(full, 3, 3)
        self.rows, self.columns = Halves(2), Halves(3)
        # D = B before the first step: the reblurring term starts at zero and the flow is that of real images.
        for residual in (self.sam12.conv2, self.sam23.conv2, self.tail):
            nn.init.zeros_(residual.weight)

    def forward(self, blurred: Tensor) -> list[Tensor]:
        """The deblurred images of the third, second and first stage."""
        halves = self.rows(blurred)
        firsts = [self._first_stage(half) for half in halves]
        encoded = _join_parts(
            [self._encode_second_stage(half, first) for half, first in zip(halves, firsts, strict=True)], 2
        )
        decoded: list[Tensor] = self.stage2_decoder(encoded)
        attended, second = self.sam23(decoded[0], blurred)
        x = self.concat23(torch.cat([self.shallow_feat3(blurred), attended], dim=1))
        residual: Tensor = self.tail(self.stage3_orsnet(x, encoded, decoded))
        return [blurred + residual, second, torch.cat([first.deblurred for first in firsts], dim=2)]

    def _first_stage(self, half: Tensor) -> _Stage:
        # Quarter by quarter, as in the published code: a batch of quarters would be summed in another order.
        encoded = _join_parts([self.stage1_encoder(self.shallow_feat1(part)) for part in self.columns(half)], 3)
        decoded: list[Tensor] = self.stage1_decoder(encoded)
        return _Stage(encoded, decoded, *self.sam12(decoded[0], half))

    def _encode_second_stage(self, half: Tensor, first: _Stage) -> list[Tensor]:
        x = self.concat12(torch.cat([self.shallow_feat2(half), first.attended], dim=1))
        levels: list[Tensor] = self.stage2_encoder(x, first.encoded, first.decoded)
        return levels


class Halves(nn.Module):
    """Divides an image in two; a separate module, so that `jdrl.networks.localised` can replace it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The two halves along `dim`, of even length."""
        half = x.shape[self.dim] // 2
        return x.narrow(self.dim, 0, half), x.narrow(self.dim, half, half)


class _Stage(NamedTuple):
    """The results of a stage: its levels, finest first, the features weighted by its image, and that image."""

    encoded: list[Tensor]
    decoded: list[Tensor]
    attended: Tensor
    deblurred: Tensor


class _AttentionBlock(nn.Module):
    """Two convolutions, their channels weighted by attention, and a skip (the paper's CAB)."""

    def __init__(self, channels: int, reduction: int, activation: nn.PReLU) -> None:
        super().__init__()
        self.CA = _ChannelAttention(channels, reduction)
        self.body = nn.Sequential(_conv(channels, channels, 3), activation, _conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same."""
        attended: Tensor = self.CA(self.body(x))
        return x + attended


class _ChannelAttention(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            _conv(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            _conv(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.conv_du(self.avg_pool(x))
        return x * weights


class _SupervisedAttention(nn.Module):
    """Computes a stage's image, and weights the stage's features by it for the next stage (the paper's SAM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = _conv(channels, channels, 1), _conv(channels, 3, 1), _conv(3, channels, 1)

    def forward(self, x: Tensor, blurred: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted features and the deblurred image."""
        deblurred = blurred + self.conv2(x)
        return x + self.conv1(x) * torch.sigmoid(self.conv3(deblurred)), deblurred


class _Levels(nn.Module):
    """Blocks at full, half and quarter resolution, and the downsampling between them."""

    def __init__(self, levels: tuple[int, int, int], block: _Block) -> None:
        super().__init__()
        self.encoder_level1, self.encoder_level2, self.encoder_level3 = (_pair(channels, block) for channels in levels)
        self.down12, self.down23 = _Down(levels[0], levels[1]), _Down(levels[1], levels[2])


class _Encoder(_Levels):
    def forward(self, x: Tensor) -> list[Tensor]:
        """The levels, finest first."""
        first: Tensor = self.encoder_level1(x)
        second: Tensor = self.encoder_level2(self.down12(first))
        third: Tensor = self.encoder_level3(self.down23(second))
        return [first, second, third]


class _SecondEncoder(_Levels):
    """The encoder of the second stage, with the paper's cross-stage feature fusion (CSFF)."""

    def __init__(self, levels: tuple[int, int, int], block: _Block) -> None:
        super().__init__(levels, block)
        self.csff_enc1, self.csff_enc2, self.csff_enc3 = (_conv(channels, channels, 1) for channels in levels)
        self.csff_dec1, self.csff_dec2, self.csff_dec3 = (_conv(channels, channels, 1) for channels in levels)

    def forward(self, x: Tensor, encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> list[Tensor]:
        """The levels, finest first; `encoded` and `decoded` are those of the first stage."""
        first = self.encoder_level1(x) + self.csff_enc1(encoded[0]) + self.csff_dec1(decoded[0])
        second = self.encoder_level2(self.down12(first)) + self.csff_enc2(encoded[1]) + self.csff_dec2(decoded[1])
        third = self.encoder_level3(self.down23(second)) + self.csff_enc3(encoded[2]) + self.csff_dec3(decoded[2])
        return [first, second, third]


class _Decoder(nn.Module):
    """Decodes the encoder's levels to full resolution."""

    def __init__(self, levels: tuple[int, int, int], block: _Block) -> None:
        super().__init__()
        self.decoder_level1, self.decoder_level2, self.decoder_level3 = (_pair(channels, block) for channels in levels)
        self.skip_attn1, self.skip_attn2 = block(levels[0]), block(levels[1])
        self.up21, self.up32 = _Up(levels[1], levels[0]), _Up(levels[2], levels[1])

    def forward(self, encoded: Sequence[Tensor]) -> list[Tensor]:
        """The levels, finest first."""
        third: Tensor = self.decoder_level3(encoded[2])
        second: Tensor = self.decoder_level2(self.up32(third) + self.skip_attn2(encoded[1]))
        first: Tensor = self.decoder_level1(self.up21(second) + self.skip_attn1(encoded[0]))
        return [first, second, third]


class _FullResolution(nn.Module):
    """Groups of blocks at full resolution, each with one level of the previous stage added (the paper's ORSNet)."""

    def __init__(self, levels: tuple[int, int, int], channels: int, blocks: int, block: _Block) -> None:
        super().__init__()
        first, second, third = levels
        self.orb1, self.orb2, self.orb3 = (_Group(channels, blocks, block) for _ in range(3))
        self.up_enc1, self.up_dec1 = _Up(second, first), _Up(second, first)
        self.up_enc2, self.up_dec2 = (nn.Sequential(_Up(third, second), _Up(second, first)) for _ in range(2))
        self.conv_enc1, self.conv_enc2, self.conv_enc3 = (_conv(first, channels, 1) for _ in range(3))
        self.conv_dec1, self.conv_dec2, self.conv_dec3 = (_conv(first, channels, 1) for _ in range(3))

    def forward(self, x: Tensor, encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
        """`encoded` and `decoded` are the levels of the previous stage, finest first."""
        x = self.orb1(x) + self.conv_enc1(encoded[0]) + self.conv_dec1(decoded[0])
        x = self.orb2(x) + self.conv_enc2(self.up_enc1(encoded[1])) + self.conv_dec2(self.up_dec1(decoded[1]))
        x = self.orb3(x) + self.conv_enc3(self.up_enc2(encoded[2])) + self.conv_dec3(self.up_dec2(decoded[2]))
        return x


class _Group(nn.Module):
    def __init__(self, channels: int, blocks: int, block: _Block) -> None:
        super().__init__()
        self.body = nn.Sequential(*(block(channels) for _ in range(blocks)), _conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return x + residual


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Upsample(scale_factor=0.5, mode="bilinear"), _conv(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        smaller: Tensor = self.down(x)
        return smaller


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), _conv(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        larger: Tensor = self.up(x)
        return larger


def _conv(inputs: int, outputs: int, side: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)


def _pair(channels: int, block: _Block) -> nn.Sequential:
    return nn.Sequential(block(channels), block(channels))


def _join_parts(parts: Sequence[Sequence[Tensor]], dim: int) -> list[Tensor]:
    """Joins the levels of neighbouring parts of an image."""
    return [torch.cat(level, dim) for level in zip(*parts, strict=True)]
