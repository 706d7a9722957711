"""The U-Net of the official JDRL code: the single-image DPDNet layout (Abuolaim & Brown, ECCV 2020).

Five levels, two 3x3 convolutions each, sigmoid output, no input residual; 31,033,411 parameters at width 64.
Parameter names follow the published checkpoints.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

DROPOUT = 0.4


class UNet(nn.Module):
    """Maps `(B, 3, H, W)` in [0, 1] to the same; H and W must be multiples of `size_multiple`.

    Args:
        width: Channels of the first level; each deeper level doubles them. 64 is the published size.
        dropout: Drop probability after the two deepest encoder levels, while training.
    """

    size_multiple: ClassVar[int] = 16
    reach_px: ClassVar[int] = 117

    def __init__(
        self,
        width: Annotated[int, Field(ge=1, le=4096)] = 64,
        dropout: Annotated[float, Field(ge=0, lt=1)] = DROPOUT,
    ) -> None:
        super().__init__()
        self.guided_levels = {"encoder.block1": width, "encoder.block2": 2 * width}
        self.encoder = _Encoder(width, dropout)
        self.up6, self.block6 = _up(16 * width, 8 * width), _block(16 * width, 8 * width)
        self.up7, self.block7 = _up(8 * width, 4 * width), _block(8 * width, 4 * width)
        self.up8, self.block8 = _up(4 * width, 2 * width), _block(4 * width, 2 * width)
        self.up9, self.block9 = _up(2 * width, width), _block(2 * width, width)
        self.out = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1), nn.Sigmoid())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, blurred: Tensor) -> Tensor:
        """The deblurred image."""
        skips = self.encoder(blurred)
        x: Tensor = skips[4]
        x = self.block6(torch.cat([self.up6(x), skips[3]], dim=1))
        x = self.block7(torch.cat([self.up7(x), skips[2]], dim=1))
        x = self.block8(torch.cat([self.up8(x), skips[1]], dim=1))
        x = self.block9(torch.cat([self.up9(x), skips[0]], dim=1))
        deblurred: Tensor = self.out(x)
        return deblurred


class _Encoder(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.block1 = _block(3, width)
        self.block2 = _block(width, 2 * width)
        self.block3 = _block(2 * width, 4 * width)
        self.block4 = _block(4 * width, 8 * width)
        self.block5 = _block(8 * width, 16 * width)
        self.drop = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        first: Tensor = self.block1(image)
        second: Tensor = self.block2(F.max_pool2d(first, 2))
        third: Tensor = self.block3(F.max_pool2d(second, 2))
        fourth: Tensor = self.drop(self.block4(F.max_pool2d(third, 2)))
        fifth: Tensor = self.drop(self.block5(F.max_pool2d(fourth, 2)))
        return [first, second, third, fourth, fifth]


class _Conv2x2(nn.Conv2d):
    """2x2 convolution of unchanged size: the missing row and column are zeros at the bottom and right."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (0, 1, 0, 1)))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), _Conv2x2(inputs, outputs))
