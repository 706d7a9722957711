"""Restores a photograph at the scales that its blur asks for, and leaves alone what is sharp.

A network that has learnt circles of confusion of some pixels does nothing to blur of 40 px. Reduced by 4 the same blur
is one of 10 px: D_small - B_small, what the network changes there, is enlarged and added to the photograph, which so
keeps the detail that was lost by reducing it. The local blur (`local_blur`) weights the scales from place to place, and
lets the change fade where the photograph is sharp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.image_checks import colour_image
from jdrl.inference.local_blur import CELL_PX, estimate_blur_map
from jdrl.inference.tiled import deblur

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

Scale = Literal["auto", "1", "1/2", "1/4"]

SHARP_PX = (1.1, 1.8)
"""Radii up to which nothing is changed, and from which on everything is; between them the change fades."""
FULL_SCALE_PX = 5.0
"""The radius up to which a photograph is restored at its own scale; at twice that at 1/2, at four times at 1/4."""

_SHRINKS = {"1": 1, "1/2": 2, "1/4": 4}


@dataclass(frozen=True, slots=True)
class Restoration:
    """How a photograph is restored.

    Attributes:
        tile: As for `jdrl.inference.tiled.deblur`, at every scale.
        overlap: Likewise.
        scale: That of the network; `auto` chooses by the local blur.
        strength: Factor of the network's change.
        everywhere: Whether what is sharp is changed, too.
        bfloat16: As for `jdrl.inference.tiled.deblur`.
    """

    tile: int
    overlap: int
    scale: Scale = "auto"
    strength: float = 1.0
    everywhere: bool = False
    bfloat16: bool = False


@torch.inference_mode()
def restore_photograph(network: nn.Module, image: Tensor, restoration: Restoration) -> Tensor:
    """Restores a photograph.

    Args:
        network: As for `jdrl.inference.tiled.deblur`.
        image: (3, H, W) in [0, 1], with the curve that the network was trained on; uint8 and uint16 are scaled.
        restoration: Scale and strength. Scale "1" with `everywhere` is the network's own answer.

    Returns:
        (3, H, W) in [0, 1], float32, on the CPU.

    Raises:
        TypeError: As of `jdrl.inference.tiled.deblur`.
        ValueError: As of `jdrl.inference.tiled.deblur`.
        InputError: A tile does not fit into memory.
        CheckpointError: The network returns values that are not finite.
    """
    image = colour_image(image, "image")
    if restoration.strength == 0:
        return image.clamp(0, 1)
    change: Tensor | None = None
    for shrink, weights in choose_scales(image, restoration).items():
        scaled = _scaled_change(network, image, shrink, weights, restoration)
        change = scaled if change is None else change.add_(scaled)
    if change is None:
        return image.clamp(0, 1)
    return change.mul_(restoration.strength).add_(image).clamp_(0, 1)


def choose_scales(image: Tensor, restoration: Restoration) -> dict[int, NDArray[np.float32]]:
    """The weights of the network's change at each scale.

    Args:
        image: (3, H, W) in [0, 1].
        restoration: Scale, and whether sharp parts are changed.

    Returns:
        By the factor of reduction, 1, 2 or 4: (rows, columns) weights of the cells of `local_blur`, from 0 to 1;
        scales without any weight are left out.
    """
    rows, columns = (-(-side // CELL_PX) for side in image.shape[-2:])
    by_blur = restoration.scale == "auto" or not restoration.everywhere
    radius_px = estimate_blur_map(image.permute(1, 2, 0).numpy()) if by_blur else None
    change = np.ones((rows, columns), np.float32)
    if radius_px is not None and not restoration.everywhere:
        change = _rise(radius_px, *SHARP_PX)
    if restoration.scale != "auto":
        weights = {_SHRINKS[restoration.scale]: change}
    elif radius_px is None:
        weights = {1: change}
    else:
        octave = np.log2(np.maximum(radius_px / np.float32(FULL_SCALE_PX), 1)).clip(0, 2)
        weights = {2**level: change * np.maximum(1 - np.abs(octave - level), 0) for level in range(3)}
    return {shrink: weight.astype(np.float32) for shrink, weight in weights.items() if weight.any()}


def _rise(radius_px: NDArray[np.float32], first: float, last: float) -> NDArray[np.float32]:
    """0 up to `first`, 1 from `last` on, smooth between."""
    share = np.clip(np.log(radius_px / first) / np.log(last / first), 0, 1)
    rise: NDArray[np.float32] = share * share * (3 - 2 * share)
    return rise


def _scaled_change(
    network: nn.Module, image: Tensor, shrink: int, weights: NDArray[np.float32], restoration: Restoration
) -> Tensor:
    """What the network changes at a scale, weighted, (3, H, W) at full size."""
    small = _reduce(image, shrink)
    height, width = small.shape[-2:]
    cells = torch.from_numpy(weights)[None, None]
    weight = F.interpolate(cells, scale_factor=CELL_PX // shrink, mode="bilinear")[0, :, :height, :width]
    change = deblur(
        network,
        small,
        tile=restoration.tile,
        overlap=restoration.overlap,
        wanted=weight[0] > 0,
        bfloat16=restoration.bfloat16,
    )
    change.sub_(small).mul_(weight)
    if shrink == 1:
        return change
    full = F.interpolate(change[None], scale_factor=shrink, mode="bicubic")[0]
    return full[:, : image.shape[-2], : image.shape[-1]]


def _reduce(image: Tensor, shrink: int) -> Tensor:
    """The means of blocks of `shrink` x `shrink` pixels, (3, H, W); the border is repeated to fill the last."""
    if shrink == 1:
        return image
    down, right = (-side % shrink for side in image.shape[-2:])
    return F.avg_pool2d(F.pad(image[None], (0, right, 0, down), mode="replicate"), shrink)[0]
