"""A deblurring network guided by a blur estimator, and unchanged by it at first.

What the estimator sees enters the network through convolutions that start at zero.
"""

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
    """What guides a network; a checkpoint's header holds it.

    Attributes:
        radius_px: R, the largest radius the estimator can express, that of the reblurring it learns from.
        width: Channels of its features.
        fusion: How they enter the network, see `GuidedNetwork`.
        basis: What the kernel weights are of, likewise that of the reblurring.
    """

    radius_px: Annotated[int, Field(ge=1, le=LARGEST_RADIUS_PX)]
    width: Annotated[int, Field(ge=1, le=4096)]
    fusion: Fusion = "modulation"
    basis: BasisName = "hats"


class GuidedNetwork(nn.Module):
    """Any deblurring network with a blur estimator and the fusion of the two.

    `modulation`: the estimator's features scale and shift the network's. A network's attribute `guided_levels` names
    the modules whose outputs are modulated, with their channels: those at the two highest resolutions of its encoder.
    One that has none is shifted at its input. `concat`: the estimator's kernel weights stand beside the image, each
    weighted by attention, and a convolution makes a shift of the input of them all.

    The network itself stays what it was, its weights keep their names (below `network.`), and until the fusion has
    learnt something it answers as before, bit for bit.

    Args:
        network: `B -> D` or `B -> [D_0, D_1, …]`.
        guide: Estimator and fusion.

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
        """The network's outputs; while training, the estimator's kernel weights, (B, K, H, W), after them."""
        features = self.estimator.features(blurred)
        outputs = self.fusion(self.network, self.estimator, blurred, features)
        listed = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        return [*listed, self.estimator.weights(features, blurred.shape[-2:])] if self.training else listed


def guided(network: nn.Module, guide: Guide | None) -> nn.Module:
    """`network` with this guide, or as it is where there is none."""
    return network if guide is None else GuidedNetwork(network, guide)


def unguided(network: nn.Module) -> nn.Module:
    """The deblurring network alone, whatever guides or wraps it; one without a guide as it is."""
    found = next((module for module in network.modules() if isinstance(module, GuidedNetwork)), None)
    return network if found is None else found.network


class _Modulation(nn.Module):
    """Scales and shifts of the network's features (SFT: Wang et al., "Recovering Realistic Texture in Image
    Super-Resolution by Deep Spatial Feature Transform", CVPR 2018)."""

    def __init__(self, network: nn.Module, levels: Mapping[str, int], width: int) -> None:
        super().__init__()
        if unknown := levels.keys() - {name for name, _ in network.named_modules()}:
            raise ConfigError(
                f"guided_levels of {type(network).__name__} names {min(unknown)!r}, which it has no module of",
                hint="name them as in its named_modules(), or leave the attribute out",
            )
        self.levels = tuple(levels)
        self.changes = nn.ModuleList(_zero(nn.Conv2d(width, 2 * count, 3, padding=1)) for count in levels.values())

    def forward(self, network: nn.Module, estimator: BlurEstimator, blurred: Tensor, features: Tensor) -> object:
        del estimator
        with ExitStack() as hooks:
            # Hooks for this one call: nothing stays on the network that a copy of it would carry along.
            for name, change in zip(self.levels, self.changes, strict=True):
                hook = _modulating(change(features), blurred.shape[-2])
                hooks.enter_context(network.get_submodule(name).register_forward_hook(hook))
            return network(blurred)


class _Shift(nn.Module):
    """A shift of the network's input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = _zero(nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, network: nn.Module, estimator: BlurEstimator, blurred: Tensor, features: Tensor) -> object:
        del estimator
        return network(blurred + _enlarged(self.change(features), 1, blurred.shape[-2:]))


class _Concatenation(nn.Module):
    """A shift of the input by image and kernel weights under channel attention (Hu et al., "Squeeze-and-Excitation
    Networks", CVPR 2018), as in the published code; its two hidden channels, which may die, are four here."""

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
        self.change = _zero(nn.Conv2d(channels, 3, 1))

    def forward(self, network: nn.Module, estimator: BlurEstimator, blurred: Tensor, features: Tensor) -> object:
        both = torch.cat([blurred, estimator.weights(features, blurred.shape[-2:])], dim=1)
        return network(blurred + self.change(both * self.attention(both)))


def _modulating(change: Tensor, height: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
    """A hook that modulates a module's output by scales and shifts known per cell of an image of `height`."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        del inputs
        rows, columns = output.shape[-2:]
        # Rounded in whole numbers: the ONNX exporter knows no quotient of sides that are free.
        stride = (height + rows // 2) // rows
        scale, shift = _enlarged(change, stride, (rows, columns)).chunk(2, dim=1)
        if scale.shape[1] != output.shape[1]:
            raise ConfigError(
                f"guided_levels says {scale.shape[1]} channels, the {type(module).__name__} has {output.shape[1]}",
                hint="correct the network's attribute guided_levels",
            )
        return output + (output * scale + shift)

    return hook


def _enlarged(cells: Tensor, stride: int, size: tuple[int, ...]) -> Tensor:
    """Values per cell at a level where one pixel stands for `stride` of the image, cut to the level's `size`."""
    rows, columns = (-(-CELL_PX * length // stride) for length in cells.shape[-2:])
    return F.interpolate(cells, (rows, columns), mode="bilinear", align_corners=False)[..., : size[0], : size[1]]


def _zero(convolution: nn.Conv2d) -> nn.Conv2d:
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution
