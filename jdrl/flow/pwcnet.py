"""PWC-Net (Sun et al., "PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume", CVPR 2018).

An optical-flow network, no deblurring one. Parameter names are those of the PyTorch re-implementation that the official
JDRL code uses, `module…` there being `net…` here.
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
INSIDE = 0.999  # share of a sample's weight that must lie in the frame
REACH = 4  # of the cost volume: 9 x 9 displacements
CHANNELS = (3, 16, 32, 64, 96, 128, 196)
GROWTH = (128, 128, 96, 64, 32)  # what each densely connected layer of an estimator adds
PLACES = ("One", "Two", "Thr", "Fou", "Fiv", "Six")


class PWCNet(nn.Module):
    """(B, 3, H, W) twice, RGB in [0, 1], to (B, 2, H, W): u[first→second], pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.netExtractor = _Extractor()
        for level in range(2, 7):
            self.add_module(f"net{PLACES[level - 1]}", _Estimator(level))
        self.netRefiner = _Refiner()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The flow; both images are resized to multiples of 64, bilinearly, and the flow back."""
        height, width = first.shape[-2:]
        size = tuple(-(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in (height, width))
        # Published weights expect blue first.
        images = (F.interpolate(image.flip(1), size=size, mode="bilinear") for image in (first, second))
        ones, twos = (self.netExtractor(image) for image in images)
        flow, features = None, None
        for level in range(6, 1, -1):
            flow, features = getattr(self, f"net{PLACES[level - 1]}")(ones[level - 1], twos[level - 1], flow, features)
        flow = FLOW_SCALE * F.interpolate(flow + self.netRefiner(features), size=(height, width), mode="bilinear")
        return flow * flow.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)


def convert_state_dict(published: Mapping[str, object]) -> dict[str, object]:
    """Published weights by the names used here."""
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
    # Row by row of displacements: all at once would hold 81 copies of the features.
    rows = [
        torch.einsum("bchw,bchwk->bkhw", first, padded[:, :, row : row + height].unfold(3, side, 1))
        for row in range(side)
    ]
    return torch.cat(rows, 1) / first.shape[1]


def _moved(features: Tensor, flow: Tensor) -> Tensor:
    """`features` at x + flow(x), zero where not all of the four neighbours lie inside."""
    height, width = flow.shape[-2:]
    x = (2 * torch.arange(width, device=flow.device) + 1) / width - 1
    y = (2 * torch.arange(height, device=flow.device) + 1)[:, None] / height - 1
    # The published code, which the weights were used with, takes the flow for W/(W - 1) of what it is.
    grid = torch.stack([x + 2 * flow[:, 0] / (width - 1), y + 2 * flow[:, 1] / (height - 1)], -1)
    sampled = F.grid_sample(torch.cat([features, torch.ones_like(flow[:, :1])], 1), grid, align_corners=False)
    return sampled[:, :-1] * (sampled[:, -1:] > INSIDE)


class _Extractor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for level, place in enumerate(PLACES, start=1):
            inputs, outputs = CHANNELS[level - 1 : level + 1]
            layers = (_conv(inputs, outputs, stride=2), _conv(outputs, outputs), _conv(outputs, outputs))
            self.add_module(f"net{place}", nn.Sequential(*(part for layer in layers for part in layer)))

    def forward(self, image: Tensor) -> list[Tensor]:
        levels, x = [], image
        for level in self.children():
            x = level(x)
            levels.append(x)
        return levels


class _Estimator(nn.Module):
    """Flow and features of one level, from those of the coarser one."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level
        inputs = (2 * REACH + 1) ** 2
        if level < 6:
            coarser = (2 * REACH + 1) ** 2 + (CHANNELS[level + 1] + 4 if level < 5 else 0) + sum(GROWTH)
            self.netUpflow = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1)
            self.netUpfeat = nn.ConvTranspose2d(coarser, 2, 4, stride=2, padding=1)
            inputs += CHANNELS[level] + 4
        for place, outputs in zip(PLACES, GROWTH, strict=False):
            self.add_module(f"net{place}", _conv(inputs, outputs))
            inputs += outputs
        self.netSix = nn.Sequential(nn.Conv2d(inputs, 2, 3, padding=1))

    def forward(self, one: Tensor, two: Tensor, flow: Tensor | None, features: Tensor | None) -> tuple[Tensor, Tensor]:
        if flow is None:
            x = F.leaky_relu(cost_volume(one, two), SLOPE)
        else:
            flow, features = self.netUpflow(flow), self.netUpfeat(features)
            moved = flow * (FLOW_SCALE / 2**self.level)
            costs = F.leaky_relu(cost_volume(one, _moved(two, moved)), SLOPE)
            x = torch.cat([costs, one, flow, features], 1)
        for place in PLACES[:5]:
            x = torch.cat([getattr(self, f"net{place}")(x), x], 1)
        return self.netSix(x), x


class _Refiner(nn.Module):
    """Dilated convolutions see far around each pixel."""

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
