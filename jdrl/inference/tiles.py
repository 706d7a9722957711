"""How an image is cut into tiles, how large they are, how far they overlap, and how they are blended.

In the outer 3/8 of an overlap a tile has no weight, because there the network has looked beyond the tile; over the
middle quarter its weight rises smoothly. Where 3/8 of the overlap is the network's reach, the result is that of the
whole frame.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.networks import Localised, reach_px
from jdrl.networks.memory import peak_bytes

if TYPE_CHECKING:
    from torch import nn

    from jdrl.config import Tiling

TRIM, BLEND = 3 / 8, 1 / 4
MEMORY_BYTES = 1536 << 20
"""For what a network computes for a tile, on the CPU. Convolutions take about half as much again to work in; with that,
torch, the weights and a frame of 4096x2160 a process stays below 4 GB (docs/benchmarks/infer.md)."""

_STEP_PX = 16
_PROBE_PX = 256


def tiling(network: nn.Module, config: Tiling) -> tuple[int, int]:
    """Side and overlap of tiles, pixels, as configured or as suits the network on its device; side 0: the whole image.

    An overlap that is not configured covers the network's reach, or half a tile where that is less.
    """
    overlap = math.ceil(reach_px(network) / TRIM) if config.overlap is None else config.overlap
    if config.tile is None:
        # An overlap that somebody asked for counts more than the memory.
        tile = max(largest_tile(network), 2 * (config.overlap or 0))
    else:
        tile = config.tile
    return tile, min(overlap, tile // 2)


def largest_tile(network: nn.Module) -> int:
    """Side of the largest tile that fits into memory, pixels: a multiple of 16."""
    bytes_per_px = _bytes_per_px(network)
    if bytes_per_px is None:
        return 1024
    device = next(network.parameters()).device
    available = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else MEMORY_BYTES
    return max(1, int(math.sqrt(available / bytes_per_px)) // _STEP_PX) * _STEP_PX


def _bytes_per_px(network: nn.Module) -> float | None:
    """Memory grows with the pixels of a tile; a localised network shows all of its on more than a window."""
    multiple = int(getattr(network, "size_multiple", 1))
    side = max(_PROBE_PX, network.window_px if isinstance(network, Localised) else 0)
    height = math.ceil(side / multiple) * multiple
    peak = peak_bytes(network, height, 2 * height)
    return None if peak is None else peak / (2 * height * height)


def spans(length: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """(first, end) of the tiles along one side: evenly spread, overlapping by at least `overlap`.

    Every tile starts at a multiple of `multiple`, so that pooling in a tile falls on the same pixels as in the frame.
    Smaller tiles than that allows are made larger.
    """
    tile = tile and max(tile, multiple + overlap)
    if tile == 0 or length <= tile:
        return [(0, length)]
    widest = (tile - overlap) // multiple * multiple
    count = math.ceil((length - overlap) / widest)
    stride = math.ceil((length - tile) / ((count - 1) * multiple)) * multiple
    return [(start, min(length, start + tile)) for start in range(0, length - tile + stride, stride)]


def ramp(first: int, end: int, length: int, overlap: int) -> Tensor:
    """(end - first,) weights of a tile along one side: 1 inside, towards a neighbour smoothly down to almost 0."""
    place = torch.arange(first, end, dtype=torch.float32)
    weight = torch.ones_like(place)
    if overlap == 0:
        return weight
    for inner, distance in ((first > 0, place - first + 0.5), (end < length, end - place - 0.5)):
        if inner:
            rise = ((distance / overlap - TRIM) / BLEND).clamp(0, 1)
            weight = weight * (0.5 - 0.5 * torch.cos(math.pi * rise))
    # Never quite zero, so that the quotient exists where rounding leaves a pixel to one tile's edge only.
    return weight.clamp_(min=1e-6)
