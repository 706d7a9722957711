"""Localises networks that average or attend over their whole input: statistics of windows replace global ones.

Trained on crops, such a network expects statistics of crops (Chu et al., "Improving Image Restoration by Revisiting
Global Information Aggregation", ECCV 2022), and its output at a pixel depends on the whole input. Here the network
first runs on windows of the crops' size, each alone as in training, and its averages are recorded. Then it runs on the
frame, whole or in tiles, with the windows' statistics, interpolated linearly between their centres, at every pixel.
These do not depend on the tiles: only the reach of the convolutions remains at a tile's border.
"""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jdrl.networks.build import reach_px, restore
from jdrl.networks.memory import copy_without_memory
from jdrl.networks.mprnet import Halves
from jdrl.networks.restormer import ChannelMixing

if TYPE_CHECKING:
    from collections.abc import Iterator

DENSE_WINDOWS, MAX_WINDOWS = 4, 12
"""Largest numbers of windows along one side without gaps, and with: up to a window's width, and wider beyond."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The averages of a network in the windows of a frame.

    Attributes:
        values: One (rows, columns, B, …) for each average, in the order of a forward pass.
        shape: (height, width) of the frame, pixels.
        window_px: Side of the windows.
    """

    values: tuple[Tensor, ...]
    shape: tuple[int, int]
    window_px: int


class LocalisedNetwork(nn.Module):
    """A network that takes its statistics in windows; see `localise`.

    Attributes:
        network: The localised network; called directly it uses global statistics.
        window_px: Side of the windows, pixels.
        size_multiple: As of the network.
    """

    def __init__(self, network: nn.Module, window_px: int, shared: _SharedStatistics) -> None:
        super().__init__()
        self.network, self.window_px, self._shared = network, window_px, shared
        self.size_multiple = int(getattr(network, "size_multiple", 1))
        self.reach_px = reach_px(network)

    def forward(self, blurred: Tensor) -> list[Tensor]:
        """Maps `(B, 3, H, W)` to the network's outputs, final output first."""
        return self.run_on_tile(blurred, self.measure_statistics(blurred), 0, 0)

    def measure_statistics(self, frame: Tensor) -> Statistics | None:
        """Measures the statistics of a frame, (B, 3, H, W) on any device; None if one window covers it."""
        height, width = frame.shape[-2:]
        if max(height, width) <= self.window_px:
            return None
        device = next(self.parameters()).device
        tops, lefts = (_window_starts(length, self.window_px) for length in (height, width))
        recorded = []
        for top in tops:
            for left in lefts:
                window = frame[..., top : top + self.window_px, left : left + self.window_px]
                with self._shared.recording() as averages:
                    restore(self.network, window.to(device))
                recorded.append(averages)
        grid = (len(tops), len(lefts))
        stacks = (torch.stack(averages) for averages in zip(*recorded, strict=True))
        values = tuple(stack.reshape(*grid, *stack.shape[1:]) for stack in stacks)
        return Statistics(values, (height, width), self.window_px)

    def run_on_tile(self, tile: Tensor, statistics: Statistics | None, top: int, left: int) -> list[Tensor]:
        """Runs the network on a tile of a frame.

        Args:
            tile: (B, 3, H, W), on the network's device.
            statistics: Of the frame.
            top: First row of the tile in the frame, pixels.
            left: First column, pixels.
        """
        if statistics is None:
            return restore(self.network, tile)
        height, width = (side + -side % self.size_multiple for side in tile.shape[-2:])
        with self._shared.replaying(_TilePosition(statistics, (top, left), (height, width))):
            return restore(self.network, tile)


def localise(network: nn.Module, window_px: int) -> nn.Module:
    """Copies a network and makes the copy average and attend over windows instead of its whole input.

    Averages by `nn.AdaptiveAvgPool2d(1)` and Restormer's attention become those of windows, and MPRNet does not divide
    the frame. Where the layers after an average cannot take a map of averages (`flatten` and linear layers), the mean
    over all windows is used. Nothing is retrained, and outputs for inputs that one window covers are unchanged.

    Args:
        network: Not changed; returned itself if it takes no statistics.
        window_px: Side of the windows in pixels of the image: that of the training crops.
    """
    shared = _SharedStatistics()
    local = LocalisedNetwork(copy.deepcopy(network), window_px, shared)
    replaced = _replace_modules(local, shared)
    if not replaced:
        return network
    means = [module for module in replaced if isinstance(module, _WindowMean)]
    if means and not _accepts_maps(local):
        for module in means:
            module.as_map = False
    return local


@dataclass(frozen=True, slots=True)
class _TilePosition:
    """A tile in its frame: statistics, (top, left) and (height, width) in pixels."""

    statistics: Statistics
    corner: tuple[int, int]
    sides: tuple[int, int]

    def window_weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The weight of every window at every pixel of features (…, H, W) of the tile: (rows, H) and (columns, W).

        On the CPU, wherever the features are: the weights are inspected, which would make a GPU wait.
        """
        return self._weights_along(0, x).to(x.dtype), self._weights_along(1, x).to(x.dtype)

    def _weights_along(self, side: int, x: Tensor) -> Tensor:
        """In float64."""
        length, window = self.statistics.shape[side], min(self.statistics.window_px, self.statistics.shape[side])
        count, pixels = _window_count(length, window), x.shape[side - 2]
        if count == 1:
            return torch.ones(1, pixels, dtype=torch.float64)
        spacing = (length - window) / (count - 1)
        pitch = self.sides[side] / pixels
        centres = self.corner[side] + pitch * (torch.arange(pixels, dtype=torch.float64) + 0.5)
        index = ((centres - window / 2) / spacing).clamp(0, count - 1)
        windows = torch.arange(count, dtype=torch.float64)
        return (1 - (index - windows[:, None]).abs()).clamp(min=0)


@dataclass(slots=True)
class _SharedStatistics:
    """The state shared by the replaced modules of a network: idle, recording statistics, or replaying them."""

    recorded: list[Tensor] | None = None
    position: _TilePosition | None = None
    replayed: Iterator[Tensor] = field(default_factory=lambda: iter(()))

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        self.recorded = []
        try:
            yield self.recorded
        finally:
            self.recorded = None

    @contextmanager
    def replaying(self, position: _TilePosition) -> Iterator[None]:
        self.position, self.replayed = position, iter(position.statistics.values)
        try:
            yield
        finally:
            self.position = None

    @property
    def idle(self) -> bool:
        return self.recorded is None and self.position is None


class _WindowMean(nn.Module):
    """Replaces `nn.AdaptiveAvgPool2d(1)`."""

    def __init__(self, shared: _SharedStatistics) -> None:
        super().__init__()
        self.shared, self.as_map = shared, True

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, C, H, W)` to (B, C, 1, 1), or to a map of the windows' means."""
        position = self.shared.position
        if position is None:
            means = F.adaptive_avg_pool2d(x, 1)
            if self.shared.recorded is not None:
                self.shared.recorded.append(means)
            return means
        means = next(self.shared.replayed).to(x.dtype)
        if not self.as_map:
            return means.mean((0, 1))
        down, across = (weights.to(x.device) for weights in position.window_weights(x))
        return torch.einsum("ry,rbkx->bkyx", down, torch.einsum("cx,rcbk->rbkx", across, means.flatten(3)))


class _WindowMixing(nn.Module):
    """Replaces Restormer's `ChannelMixing`."""

    def __init__(self, shared: _SharedStatistics) -> None:
        super().__init__()
        self.shared, self.mixing = shared, ChannelMixing()

    def forward(self, matrices: Tensor, values: Tensor) -> Tensor:
        """As `ChannelMixing`; on a tile by the windows' matrices instead of `matrices`."""
        position = self.shared.position
        if position is None:
            if self.shared.recorded is not None:
                self.shared.recorded.append(matrices)
            mixed: Tensor = self.mixing(matrices, values)
            return mixed
        windows = next(self.shared.replayed).to(values.dtype)
        mixed = torch.zeros_like(values)
        down, across = position.window_weights(values)
        for row, vertical in zip(windows, down, strict=True):
            top, bottom = _support(vertical)
            for matrix, horizontal in zip(row, across, strict=True):
                left, right = _support(horizontal)
                if top == bottom or left == right:
                    continue
                weight = (vertical[top:bottom, None] * horizontal[left:right]).to(values.device)
                mixed[..., top:bottom, left:right] += weight * self.mixing(matrix, values[..., top:bottom, left:right])
        return mixed


class _UndividedHalves(nn.Module):
    """Replaces MPRNet's `Halves`, whose position would depend on the tile."""

    def __init__(self, shared: _SharedStatistics, halves: Halves) -> None:
        super().__init__()
        self.shared, self.halves = shared, halves

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Divides `(B, C, H, W)` in two while idle, else returns it whole."""
        if not self.shared.idle:
            return (x,)
        divided: tuple[Tensor, ...] = self.halves(x)
        return divided


def _replace_modules(local: LocalisedNetwork, shared: _SharedStatistics) -> list[nn.Module]:
    """Replaces, in place, modules that take statistics or divide the image; returns the new modules."""
    replaced: list[nn.Module] = []
    for name, module in list(local.named_modules(remove_duplicate=False)):
        new: nn.Module
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1), [1, 1]):
            new = _WindowMean(shared)
        elif isinstance(module, ChannelMixing):
            new = _WindowMixing(shared)
        elif isinstance(module, Halves):
            new = _UndividedHalves(shared, module)
        else:
            continue
        parent, _, attribute = name.rpartition(".")
        setattr(local.get_submodule(parent), attribute, new)
        replaced.append(new)
    return replaced


def _accepts_maps(local: LocalisedNetwork) -> bool:
    """Whether the layers after an average accept a map of averages; tried on the meta device."""
    frame = torch.empty(1, 3, local.window_px, 2 * local.window_px, device="meta")
    try:
        with torch.no_grad():
            copy_without_memory(local)(frame)
    except Exception:  # a custom network may raise anything on a map
        return False
    return True


def _window_count(length: int, window: int) -> int:
    dense = math.ceil(length / window)
    return dense if dense <= DENSE_WINDOWS else min(MAX_WINDOWS, max(DENSE_WINDOWS, math.ceil(dense / 2)))


def _window_starts(length: int, window_px: int) -> list[int]:
    """The first pixels of the windows along one side, evenly spread from border to border."""
    window = min(window_px, length)
    count = _window_count(length, window)
    return [round(index * (length - window) / max(1, count - 1)) for index in range(count)]


def _support(weights: Tensor) -> tuple[int, int]:
    """(first, end) of the pixels where a window has weight."""
    pixels = weights.nonzero().flatten()
    return (int(pixels[0]), int(pixels[-1]) + 1) if len(pixels) else (0, 0)
