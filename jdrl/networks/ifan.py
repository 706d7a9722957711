"""IFAN (Lee et al., "Iterative Filter Adaptive Network for Single Image Defocus Deblurring", CVPR 2021).

Parameter names follow the published checkpoints of the network for a single image.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOPE = 0.1


class IFAN(nn.Module):
    """Maps `(B, 3, H, W)` in [0, 1] to the same, H and W multiples of `size_multiple`; a new network is the identity.

    At an eighth of the image's size an encoder and an estimator of the dual-pixel disparity predict small separable
    filters for every pixel and channel. The image's features pass through them one after another, which has the
    support of a large filter, and a decoder with skips turns the features into a residual of the image.

    The paper filters rows and columns by different filters. The published code uses the first filter for both, and the
    published weights belong to that network; the second filter is predicted by weights that are loaded but never used.
    The output is clipped to [0, 1] in `eval` mode only: a clipped pixel has no gradient.

    Args:
        width: Channels of the first level; the deeper ones have 2, 4 and 4 times as many.
        residual_blocks: Residual blocks in each of the two groups of the disparity estimator and of the predictors.
        filter_size: Taps of a filter, an odd number.
        iterations: Filters that follow one another, N in the paper.
    """

    size_multiple: ClassVar[int] = 8
    reach_px: ClassVar[int] = 192

    def __init__(
        self,
        width: Annotated[int, Field(ge=1, le=4096)] = 32,
        residual_blocks: Annotated[int, Field(ge=0, le=100)] = 2,
        filter_size: Annotated[int, Field(ge=1, le=63)] = 3,
        iterations: Annotated[int, Field(ge=1, le=100)] = 17,
    ) -> None:
        super().__init__()
        if filter_size % 2 == 0:
            raise ValueError(f"a filter of an even size, {filter_size}, has no centre")
        deep = 4 * width
        self.guided_levels = {"conv1_3": width, "conv2_3": 2 * width}
        self._add_levels(width)
        self.DME = nn.Sequential(*_trunk(deep, deep, residual_blocks), nn.Conv2d(deep, 1, 3, padding=1))
        self.conv_DME = _conv(1, deep)
        self.conv4_4 = nn.Sequential(*_trunk(2 * deep, deep, residual_blocks), _conv(deep, deep))
        filters = _AdaptiveFilters(deep, filter_size, iterations)
        self.F = nn.Sequential(*_trunk(deep, deep, residual_blocks), filters)
        self.conv_res = nn.Sequential(_conv(deep, deep), _Residuals(deep, 3), _conv(deep, deep))
        self.out_res = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1))
        # D = B before the first step, as in NAFNet.
        for parameter in self.out_res.parameters():
            nn.init.zeros_(parameter)

    def forward(self, blurred: Tensor) -> Tensor:
        """The deblurred image."""
        *skips, features = self._encode("conv", blurred)
        x: Tensor = self.conv_res(self.F[-1](features, self._filter_features(blurred)))
        for level in (3, 2, 1):
            x = getattr(self, f"upconv{level}_u")(x) + skips.pop()
            x = getattr(self, f"upconv{level}_2")(getattr(self, f"upconv{level}_1")(x))
        deblurred: Tensor = blurred + self.out_res(x)
        return deblurred if self.training else deblurred.clamp(0, 1)

    def _add_levels(self, width: int) -> None:
        """Adds the layers of encoders and decoder, flat, because the published names are."""
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        for level, (inputs, outputs) in enumerate(pairwise(channels), start=1):
            for encoder in ("conv", "kconv"):
                self.add_module(f"{encoder}{level}_1", _conv(inputs, outputs, stride=1 if level == 1 else 2))
                self.add_module(f"{encoder}{level}_2", _conv(outputs, outputs))
                self.add_module(f"{encoder}{level}_3", _conv(outputs, outputs))
        for level, (outputs, inputs) in enumerate(pairwise(channels[1:]), start=1):
            self.add_module(f"upconv{level}_u", _up(inputs, outputs))
            self.add_module(f"upconv{level}_1", _Residuals(outputs, 1))
            self.add_module(f"upconv{level}_2", _Residuals(outputs, 1))

    def _encode(self, encoder: str, image: Tensor) -> list[Tensor]:
        """The features of all four levels, finest first."""
        levels: list[Tensor] = []
        x = image
        for level in (1, 2, 3, 4):
            for layer in (1, 2, 3):
                x = getattr(self, f"{encoder}{level}_{layer}")(x)
            levels.append(x)
        return levels

    def _filter_features(self, blurred: Tensor) -> Tensor:
        """The features from which the last layer of `F` predicts the filters."""
        blur = self._encode("kconv", blurred)[-1]
        disparity = self.conv_DME(self.DME(blur))
        features: Tensor = self.F[:-1](self.conv4_4(torch.cat([blur, disparity], dim=1)))
        return features


class _AdaptiveFilters(nn.Module):
    """Predicts every pixel's filters by a 1x1 convolution and applies them: iterative adaptive convolution.

    The rows of `weight` are those of all steps' filters, two a step, of which the first is used, then those of all
    steps' offsets. New filters are near the identity: random ones would attenuate the features in a few steps.
    """

    def __init__(self, channels: int, size: int, iterations: int) -> None:
        super().__init__()
        self.iterations, self.channels, self.taps = iterations, channels, channels * size
        self.weight = nn.Parameter(torch.empty(iterations * (2 * self.taps + channels), channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(len(self.weight)))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        with torch.no_grad():
            self.bias[: 2 * iterations * self.taps].view(-1, size)[:, size // 2] = 1

    def forward(self, x: Tensor, filter_features: Tensor) -> Tensor:
        # Filters are computed step by step: all together they would take half a KiB per image pixel.
        for weights, biases in zip(self._steps(self.weight), self._steps(self.bias), strict=True):
            taps, offset = map(functional.conv2d, (filter_features, filter_features), weights, biases)
            taps = torch.unflatten(taps, 1, (self.channels, -1))
            x = functional.leaky_relu(_filter_along(_filter_along(x, taps, 2), taps, 3) + offset, SLOPE)
        return x

    def _steps(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the rows of weight or bias that predict each step's taps and its offset."""
        filters, offsets = torch.split(rows, [2 * self.iterations * self.taps, self.iterations * self.channels])
        return zip(torch.split(filters, self.taps)[::2], torch.split(offsets, self.channels), strict=True)


class _Residuals(nn.Module):
    """Residual blocks without normalisation; several of them have a common skip."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*(_stem(channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        start = x
        for block in self.stem:
            x = functional.leaky_relu(x + block(x), SLOPE)
        return x + start if len(self.stem) > 1 else x


def _stem(channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv(channels, channels), nn.Conv2d(channels, channels, 3, padding=1))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.LeakyReLU(SLOPE))


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE))


def _trunk(inputs: int, channels: int, blocks: int) -> list[nn.Module]:
    return [_conv(inputs, channels), _Residuals(channels, blocks), _Residuals(channels, blocks)]


def _filter_along(x: Tensor, taps: Tensor, dim: int) -> Tensor:
    """Filters `x` along one dimension of the image by each pixel's own taps, (B, C, size, H, W)."""
    size, length = taps.shape[2], x.shape[dim]
    before = size // 2
    margins = (0, 0, before, before) if dim == 2 else (before, before, 0, 0)
    padded = functional.pad(x, margins, mode="replicate")
    filtered = taps[:, :, 0] * padded.narrow(dim, 0, length)
    for tap in range(1, size):
        filtered = filtered + taps[:, :, tap] * padded.narrow(dim, tap, length)
    return filtered
