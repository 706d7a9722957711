"""Fuses a blur estimator with any deblurring network; zero-initialised, so the output is unchanged at first."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from jdrl.config import BasisName, Fusion
from jdrl.networks.build import reach_px
from jdrl.reblurring.blur_estimator import CELL_PX, REACH_PX, BlurEstimator
from jdrl.reblurring.kernel_basis import LARGEST_RADIUS_PX
from sdd_toolkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Guide:
    """The settings of a guide; a checkpoint's header holds them.

    Attributes:
        radius_px: R, the largest radius that the estimator can express, equal to that of the reblurring network.
        width: Channels of the estimator's features.
        fusion: How the features enter the network, see `GuidedNetwork`.
        basis: Basis of the kernel weights, equal to that of the reblurring network.
    """

    radius_px: Annotated[int, Field(ge=1, le=LARGEST_RADIUS_PX)]
    width: Annotated[int, Field(ge=1, le=4096)]
    fusion: Fusion = "modulation"
    basis: BasisName = "hats"


class GuidedNetwork(nn.Module):
    """Any deblurring network with a blur estimator and the fusion of the two.

    `modulation`: the estimator's features scale and shift the network's features. The network's attribute
    `guided_levels` names the modules whose outputs are modulated, with their channels: those at the two highest
    resolutions of its encoder. Without this attribute the input of the network is shifted. `concat`: image and kernel
    weights are concatenated and weighted by channel attention, and a convolution of them shifts the input.

    The network itself is unchanged and its weights keep their names (below `network.`). Until the fusion is trained
    the outputs are those of the network alone, bit for bit.

    Args:
        network: `B -> D` or `B -> [D_0, D_1, …]`.
        guide: Settings of estimator and fusion.

    Raises:
        ConfigError: `guided_levels` names a module that the network does not have.
    """

    def __init__(self, network: nn.Module, guide: Guide) -> None:
        super().__init__()
        self.network = network
        self.estimator = BlurEstimator(guide.radius_px, guide.width, basis=guide.basis)
        self.size_multiple = int(getattr(network, "size_multiple", 1))
        self.reach_px = reach_px(network) + REACH_PX
        levels: Mapping[str, int] = getattr(network, "guided_levels", {})
        self.fusion: nn.Module
        if guide.fusion == "concat":
            self.fusion = _Concatenation(self.estimator.head.out_channels)
        elif levels:
            self.fusion = _Modulation(network, levels, guide.width)
        else:
            self.fusion = _Shift(guide.width)

    def forward(self, blurred: Tensor) -> list[Tensor]:
        """The outputs of the network; in training mode followed by the estimator's kernel weights, (B, K, H, W)."""
        features = self.estimator.features(blurred)
        outputs = self.fusion(self.network, self.estimator, blurred, features)
        listed = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        return [*listed, self.estimator.weights(features, blurred.shape[-2:])] if self.training else listed


def add_guide(network: nn.Module, guide: Guide | None) -> nn.Module:
    """Adds a guide to `network`; returns it unchanged for None."""
    return network if guide is None else GuidedNetwork(network, guide)


def unwrap_guide(network: nn.Module) -> nn.Module:
    """The deblurring network inside a guided, maybe wrapped network; one without a guide is returned unchanged."""
    guided = next((module for module in network.modules() if isinstance(module, GuidedNetwork)), None)
    return network if guided is None else guided.network


class _Modulation(nn.Module):
    """Scales and shifts of the network's features (SFT: Wang et al., "Recovering Realistic Texture in Image
    Super-Resolution by Deep Spatial Feature Transform", CVPR 2018)."""

    def __init__(self, network: nn.Module, levels: Mapping[str, int], width: int) -> None:
        super().__init__()
        if unknown := levels.keys() - {name for name, _ in network.named_modules()}:
            raise ConfigError(
                f"guided_levels of {type(network).__name__} names {min(unknown)!r}, but it has no such module",
                hint="name them as in its named_modules(), or leave the attribute out",
            )
        self.levels = tuple(levels)
        self.changes = nn.ModuleList(
            _zero_initialise(nn.Conv2d(width, 2 * count, 3, padding=1)) for count in levels.values()
        )

    def forward(self, network: nn.Module, estimator: BlurEstimator, blurred: Tensor, features: Tensor) -> object:
        del estimator
        with ExitStack() as hooks:
            # Hooks for one call only, so that copies of the network carry none.
            for name, change in zip(self.levels, self.changes, strict=True):
                hook = _modulation_hook(change(features), blurred.shape[-2])
                hooks.enter_context(network.get_submodule(name).register_forward_hook(hook))
            return network(blurred)


class _Shift(nn.Module):
    """A shift of the network's input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = _zero_initialise(nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, network: nn.Module, estimator: BlurEstimator, blurred: Tensor, features: Tensor) -> object:
        del estimator
        return network(blurred + _upsample_cells(self.change(features), 1, blurred.shape[-2:]))


class _Concatenation(nn.Module):
    """A shift of the input by image and kernel weights under channel attention (Hu et al., "Squeeze-and-Excitation
    Networks", CVPR 2018), as in the published code, with four hidden channels instead of two, which may die."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        channels = 3 + maps
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, 4, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(4, channels, 1),
            nn.Sigmoid(),
        )
        self.change = _zero_initialise(nn.Conv2d(channels, 3, 1))

    def forward(self, network: nn.Module, estimator: BlurEstimator, blurred: Tensor, features: Tensor) -> object:
        both = torch.cat([blurred, estimator.weights(features, blurred.shape[-2:])], dim=1)
        return network(blurred + self.change(both * self.attention(both)))


def _modulation_hook(change: Tensor, height: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
    """A hook that modulates a module's output by scales and shifts per cell of an image of `height` rows."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        del inputs
        rows, columns = output.shape[-2:]
        # Rounded in integers: the ONNX exporter does not support quotients of dynamic sides.
        stride = (height + rows // 2) // rows
        scale, shift = _upsample_cells(change, stride, (rows, columns)).chunk(2, dim=1)
        if scale.shape[1] != output.shape[1]:
            raise ConfigError(
                f"guided_levels says {scale.shape[1]} channels, the {type(module).__name__} has {output.shape[1]}",
                hint="correct the network's attribute guided_levels",
            )
        return output + (output * scale + shift)

    return hook


def _upsample_cells(cells: Tensor, stride: int, size: tuple[int, ...]) -> Tensor:
    """Upsamples values per cell to a level of `stride` image pixels per pixel, cropped to the level's `size`."""
    rows, columns = (-(-CELL_PX * length // stride) for length in cells.shape[-2:])
    return F.interpolate(cells, (rows, columns), mode="bilinear", align_corners=False)[..., : size[0], : size[1]]


def _zero_initialise(convolution: nn.Conv2d) -> nn.Conv2d:
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution
