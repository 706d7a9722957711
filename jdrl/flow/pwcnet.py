"""PWC-Net (Sun et al., "PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume", CVPR 2018).

Parameter names are those of the PyTorch re-implementation in the official JDRL code, with `net…` for its `module…`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZE_MULTIPLE = 64
FLOW_SCALE = 20.0  # the network's unit, in pixels
SLOPE = 0.1
INSIDE = 0.999  # share of a sample's interpolation weight that must lie in the frame
REACH = 4  # of the cost volume: 9 x 9 displacements
CHANNELS = (3, 16, 32, 64, 96, 128, 196)
GROWTH = (128, 128, 96, 64, 32)  # channels that each densely connected layer of an estimator adds
ORDINALS = ("One", "Two", "Thr", "Fou", "Fiv", "Six")


class PWCNet(nn.Module):
    """Maps two (B, 3, H, W), RGB in [0, 1], to the flow u[first→second], (B, 2, H, W), pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.netExtractor = _Extractor()
        for level in range(2, 7):
            self.add_module(f"net{ORDINALS[level - 1]}", _Estimator(level))
        self.netRefiner = _Refiner()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Computes the flow; both images are resized to multiples of 64, bilinearly, and the flow back."""
        height, width = first.shape[-2:]
        size = tuple(-(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in (height, width))
        # Published weights expect blue first.
        images = (F.interpolate(image.flip(1), size=size, mode="bilinear") for image in (first, second))
        first_levels, second_levels = (self.netExtractor(image) for image in images)
        flow, features = None, None
        for level in range(6, 1, -1):
            flow, features = getattr(self, f"net{ORDINALS[level - 1]}")(
                first_levels[level - 1], second_levels[level - 1], flow, features
            )
        flow = FLOW_SCALE * F.interpolate(flow + self.netRefiner(features), size=(height, width), mode="bilinear")
        return torch.cat([flow[:, :1] * (width / size[1]), flow[:, 1:] * (height / size[0])], 1)


def convert_state_dict(published: Mapping[str, object]) -> dict[str, object]:
    """Renames published weights to the parameter names of `PWCNet`."""
    return {re.sub(r"module(?=[A-Z])", "net", name): value for name, value in published.items()}


def cost_volume(first: Tensor, second: Tensor) -> Tensor:
    """Mean over channels of `first` times `second` displaced by -4 … 4 rows (slow) and columns (fast).

    Args:
        first: (B, C, H, W).
        second: (B, C, H, W), zero beyond its frame.

    Returns:
        (B, 81, H, W).
    """
    height = first.shape[-2]
    padded = F.pad(second, (REACH,) * 4)
    side = 2 * REACH + 1
    # By rows of displacements: all at once would hold 81 copies of the features.
    rows = [
        torch.einsum("bchw,bchwk->bkhw", first, padded[:, :, row : row + height].unfold(3, side, 1))
        for row in range(side)
    ]
    return torch.cat(rows, 1) / first.shape[1]


def _warp_features(features: Tensor, flow: Tensor) -> Tensor:
    """Samples `features` at x + flow(x); zero where one of the four neighbours lies outside the frame."""
    height, width = flow.shape[-2:]
    x = (2 * torch.arange(width, device=flow.device) + 1) / width - 1
    y = (2 * torch.arange(height, device=flow.device) + 1)[:, None] / height - 1
    # Scaled by W/(W - 1), as in the published code that the weights were used with.
    grid = torch.stack([x + 2 * flow[:, 0] / (width - 1), y + 2 * flow[:, 1] / (height - 1)], -1)
    warped = F.grid_sample(torch.cat([features, torch.ones_like(flow[:, :1])], 1), grid, align_corners=False)
    return warped[:, :-1] * (warped[:, -1:] > INSIDE)


class _Extractor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for level, ordinal in enumerate(ORDINALS, start=1):
            inputs, outputs = CHANNELS[level - 1 : level + 1]
            layers = (_conv(inputs, outputs, stride=2), _conv(outputs, outputs), _conv(outputs, outputs))
            self.add_module(f"net{ordinal}", nn.Sequential(*(module for layer in layers for module in layer)))

    def forward(self, image: Tensor) -> list[Tensor]:
        levels, x = [], image
        for level in self.children():
            x = level(x)
            levels.append(x)
        return levels


class _Estimator(nn.Module):
    """Estimates flow and features of one level from those of the coarser level."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level
        inputs = (2 * REACH + 1) ** 2
        if level < 6:
            coarser = (2 * REACH + 1) ** 2 + (CHANNELS[level + 1] + 4 if level < 5 else 0) + sum(GROWTH)
            self.netUpflow = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1)
            self.netUpfeat = nn.ConvTranspose2d(coarser, 2, 4, stride=2, padding=1)
            inputs += CHANNELS[level] + 4
        for ordinal, outputs in zip(ORDINALS, GROWTH, strict=False):
            self.add_module(f"net{ordinal}", _conv(inputs, outputs))
            inputs += outputs
        self.netSix = nn.Sequential(nn.Conv2d(inputs, 2, 3, padding=1))

    def forward(
        self, first: Tensor, second: Tensor, flow: Tensor | None, features: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if flow is None:
            x = F.leaky_relu(cost_volume(first, second), SLOPE)
        else:
            flow, features = self.netUpflow(flow), self.netUpfeat(features)
            flow_px = flow * (FLOW_SCALE / 2**self.level)
            costs = F.leaky_relu(cost_volume(first, _warp_features(second, flow_px)), SLOPE)
            x = torch.cat([costs, first, flow, features], 1)
        for ordinal in ORDINALS[:5]:
            x = torch.cat([getattr(self, f"net{ordinal}")(x), x], 1)
        return self.netSix(x), x


class _Refiner(nn.Module):
    """Refines the flow by dilated convolutions with a large receptive field."""

    def __init__(self) -> None:
        super().__init__()
        inputs = sum(GROWTH) + (2 * REACH + 1) ** 2 + CHANNELS[2] + 4
        layers: list[nn.Module] = []
        for outputs, dilation in ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1)):
            layers += _conv(inputs, outputs, dilation=dilation)
            inputs = outputs
        self.netMain = nn.Sequential(*layers, nn.Conv2d(inputs, 2, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        change: Tensor = self.netMain(features)
        return change


def _conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation)
    return nn.Sequential(layer, nn.LeakyReLU(SLOPE))
