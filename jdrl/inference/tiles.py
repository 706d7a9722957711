"""Tiles of large images: their size and overlap, their positions, and the weights by which they are blended.

In the outer 3/8 of an overlap a tile has no weight, because the network's receptive field extends beyond the tile; over
the middle quarter its weight rises smoothly. If 3/8 of the overlap is the network's reach, the result is that of the
whole frame.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.networks import LocalisedNetwork, reach_px
from jdrl.networks.memory import peak_bytes

if TYPE_CHECKING:
    from torch import nn

    from jdrl.config import Tiling

TRIM, BLEND = 3 / 8, 1 / 4
MEMORY_BYTES = 1536 << 20
"""Limit of a network's activations for a tile, on the CPU. Convolutions use about half as much again as scratch memory;
with that, torch, the weights and a frame of 4096x2160 a process stays below 4 GB (docs/benchmarks/infer.md)."""

_STEP_PX = 16
_PROBE_PX = 256


def choose_tiling(network: nn.Module, config: Tiling) -> tuple[int, int]:
    """Chooses side and overlap of tiles, pixels: as configured, or to fit the memory of the network's device.

    A side of 0 means the whole image. By default the overlap covers the network's reach, but at most half a tile.
    """
    overlap = math.ceil(reach_px(network) / TRIM) if config.overlap is None else config.overlap
    if config.tile is None:
        # A configured overlap takes precedence over the memory limit.
        tile = max(largest_tile_px(network), 2 * (config.overlap or 0))
    else:
        tile = config.tile
    return tile, min(overlap, tile // 2)


def largest_tile_px(network: nn.Module) -> int:
    """Side of the largest tile that fits into memory, pixels: a multiple of 16."""
    bytes_per_px = _bytes_per_px(network)
    if bytes_per_px is None:
        return 1024
    device = next(network.parameters()).device
    available = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else MEMORY_BYTES
    return max(1, int(math.sqrt(available / bytes_per_px)) // _STEP_PX) * _STEP_PX


def _bytes_per_px(network: nn.Module) -> float | None:
    """Memory per pixel of a tile; measured on more than a window, so that localised networks use their statistics."""
    multiple = int(getattr(network, "size_multiple", 1))
    side = max(_PROBE_PX, network.window_px if isinstance(network, LocalisedNetwork) else 0)
    height = math.ceil(side / multiple) * multiple
    peak = peak_bytes(network, height, 2 * height)
    return None if peak is None else peak / (2 * height * height)


def tile_spans(length: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """(first, end) of the tiles along one side: evenly spread, overlapping by at least `overlap`.

    Every tile starts at a multiple of `multiple`, so that pooling groups the same pixels as in the frame. Tiles too
    small for this are enlarged.
    """
    tile = tile and max(tile, multiple + overlap)
    if tile == 0 or length <= tile:
        return [(0, length)]
    widest = (tile - overlap) // multiple * multiple
    count = math.ceil((length - overlap) / widest)
    stride = math.ceil((length - tile) / ((count - 1) * multiple)) * multiple
    return [(start, min(length, start + tile)) for start in range(0, length - tile + stride, stride)]


def blend_weights(first: int, end: int, length: int, overlap: int) -> Tensor:
    """The weights of a tile along one side, (end - first,): 1 inside, falling smoothly to almost 0 at a neighbour."""
    pixel = torch.arange(first, end, dtype=torch.float32)
    weight = torch.ones_like(pixel)
    if overlap == 0:
        return weight
    for has_neighbour, distance in ((first > 0, pixel - first + 0.5), (end < length, end - pixel - 0.5)):
        if has_neighbour:
            rise = ((distance / overlap - TRIM) / BLEND).clamp(0, 1)
            weight = weight * (0.5 - 0.5 * torch.cos(math.pi * rise))
    # Never zero, so that the weighted mean exists where rounding leaves a pixel to the edge of one tile.
    return weight.clamp_(min=1e-6)
