"""Networks that average or attend over their whole input, made to do so over windows of the frame.

Trained on crops, such a network has met the statistics of crops only (Chu et al., "Improving Image Restoration by
Revisiting Global Information Aggregation", ECCV 2022), and its answer for a pixel depends on what else it is shown.
Here it is first run on windows of the crops' size, each alone as in training, and what it averages there is kept. Then
it is run on the frame, whole or in tiles, and every pixel is given the windows' statistics, interpolated linearly
between their centres. They do not depend on the tiles: of a tile's border only the reach of the convolutions is left.
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
from jdrl.networks.memory import weightless
from jdrl.networks.mprnet import Halves
from jdrl.networks.restormer import ChannelMixing

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_WINDOWS = 12
"""Along one side; of a frame that is longer they are a sample."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a network averages in the windows of a frame.

    Attributes:
        values: One (rows, columns, B, …) for each average, in the order in which a forward pass takes them.
        shape: (height, width) of the frame, pixels.
        window_px: Side of the windows.
    """

    values: tuple[Tensor, ...]
    shape: tuple[int, int]
    window_px: int


class Localised(nn.Module):
    """A network that takes statistics in windows; see `localised`.

    Attributes:
        network: What is localised. Called directly it answers as ever.
        window_px: Side of the windows, pixels.
        size_multiple: As of the network.
    """

    def __init__(self, network: nn.Module, window_px: int, task: _Task) -> None:
        super().__init__()
        self.network, self.window_px, self._task = network, window_px, task
        self.size_multiple = int(getattr(network, "size_multiple", 1))
        self.reach_px = reach_px(network)

    def forward(self, blurred: Tensor) -> list[Tensor]:
        """`(B, 3, H, W)` to the network's outputs, the first final."""
        return self.on_tile(blurred, self.measured(blurred), 0, 0)

    def measured(self, frame: Tensor) -> Statistics | None:
        """The statistics of a frame, (B, 3, H, W) on any device; None if a window covers it."""
        height, width = frame.shape[-2:]
        if max(height, width) <= self.window_px:
            return None
        device = next(self.parameters()).device
        tops, lefts = (_starts(length, self.window_px) for length in (height, width))
        taken = []
        for top in tops:
            for left in lefts:
                window = frame[..., top : top + self.window_px, left : left + self.window_px]
                with self._task.measuring() as found:
                    restore(self.network, window.to(device))
                taken.append(found)
        grid = (len(tops), len(lefts))
        stacked = (torch.stack(each) for each in zip(*taken, strict=True))
        values = tuple(each.reshape(*grid, *each.shape[1:]) for each in stacked)
        return Statistics(values, (height, width), self.window_px)

    def on_tile(self, tile: Tensor, statistics: Statistics | None, top: int, left: int) -> list[Tensor]:
        """The outputs for a tile of a frame.

        Args:
            tile: (B, 3, H, W), on the network's device.
            statistics: The frame's.
            top: Where the tile lies in the frame, pixels.
            left: See `top`.
        """
        if statistics is None:
            return restore(self.network, tile)
        height, width = (side + -side % self.size_multiple for side in tile.shape[-2:])
        with self._task.applying(_Place(statistics, (top, left), (height, width))):
            return restore(self.network, tile)


def localised(network: nn.Module, window_px: int) -> nn.Module:
    """A copy that averages and attends over windows instead of over its whole input.

    Averages by `nn.AdaptiveAvgPool2d(1)`, and Restormer's attention, are those of windows. MPRNet works on the frame
    undivided. Where what follows an average takes no map of averages (`flatten` and linear layers), the frame's windows
    are averaged. Nothing is retrained, and inputs that a window covers are answered as before.

    Args:
        network: Left as it is. One that takes no statistics is returned itself.
        window_px: Side of the windows in pixels of the image: that of the crops it was trained on.
    """
    task = _Task()
    local = Localised(copy.deepcopy(network), window_px, task)
    replaced = _replace(local, task)
    if not replaced:
        return network
    means = [module for module in replaced if isinstance(module, _WindowMean)]
    if means and not _takes_maps(local):
        for module in means:
            module.spread = False
    return local


@dataclass(frozen=True, slots=True)
class _Place:
    """A tile in its frame: statistics, (top, left) and (height, width) in pixels."""

    statistics: Statistics
    corner: tuple[int, int]
    sides: tuple[int, int]

    def shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, H) and (columns, W): the share of every window in every pixel of features (…, H, W) of the tile.

        On the CPU, wherever the features are: what is asked of shares would make a GPU wait.
        """
        return self._along(0, x).to(x.dtype), self._along(1, x).to(x.dtype)

    def _along(self, side: int, x: Tensor) -> Tensor:
        """In float64."""
        length, window = self.statistics.shape[side], min(self.statistics.window_px, self.statistics.shape[side])
        count, pixels = _count(length, window), x.shape[side - 2]
        if count == 1:
            return torch.ones(1, pixels, dtype=torch.float64)
        spacing = (length - window) / (count - 1)
        pitch = self.sides[side] / pixels
        centres = self.corner[side] + pitch * (torch.arange(pixels, dtype=torch.float64) + 0.5)
        index = ((centres - window / 2) / spacing).clamp(0, count - 1)
        windows = torch.arange(count, dtype=torch.float64)
        return (1 - (index - windows[:, None]).abs()).clamp(min=0)


@dataclass(slots=True)
class _Task:
    """What the replaced modules of one network are to do: nothing unusual, measure, or use what was measured."""

    taken: list[Tensor] | None = None
    place: _Place | None = None
    given: Iterator[Tensor] = field(default_factory=lambda: iter(()))

    @contextmanager
    def measuring(self) -> Iterator[list[Tensor]]:
        self.taken = []
        try:
            yield self.taken
        finally:
            self.taken = None

    @contextmanager
    def applying(self, place: _Place) -> Iterator[None]:
        self.place, self.given = place, iter(place.statistics.values)
        try:
            yield
        finally:
            self.place = None

    @property
    def idle(self) -> bool:
        return self.taken is None and self.place is None


class _WindowMean(nn.Module):
    """In place of `nn.AdaptiveAvgPool2d(1)`."""

    def __init__(self, task: _Task) -> None:
        super().__init__()
        self.task, self.spread = task, True

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to (B, C, 1, 1), or to a map of the windows' means."""
        place = self.task.place
        if place is None:
            means = F.adaptive_avg_pool2d(x, 1)
            if self.task.taken is not None:
                self.task.taken.append(means)
            return means
        means = next(self.task.given).to(x.dtype)
        if not self.spread:
            return means.mean((0, 1))
        down, across = (shares.to(x.device) for shares in place.shares(x))
        return torch.einsum("ry,rbkx->bkyx", down, torch.einsum("cx,rcbk->rbkx", across, means.flatten(3)))


class _WindowMixing(nn.Module):
    """In place of Restormer's `ChannelMixing`."""

    def __init__(self, task: _Task) -> None:
        super().__init__()
        self.task, self.mixing = task, ChannelMixing()

    def forward(self, matrices: Tensor, values: Tensor) -> Tensor:
        """As `ChannelMixing`; on a tile by the windows' matrices, whatever those given are."""
        place = self.task.place
        if place is None:
            if self.task.taken is not None:
                self.task.taken.append(matrices)
            mixed: Tensor = self.mixing(matrices, values)
            return mixed
        windows = next(self.task.given).to(values.dtype)
        mixed = torch.zeros_like(values)
        down, across = place.shares(values)
        for row, vertical in zip(windows, down, strict=True):
            top, bottom = _support(vertical)
            for matrix, horizontal in zip(row, across, strict=True):
                left, right = _support(horizontal)
                if top == bottom or left == right:
                    continue
                share = (vertical[top:bottom, None] * horizontal[left:right]).to(values.device)
                mixed[..., top:bottom, left:right] += share * self.mixing(matrix, values[..., top:bottom, left:right])
        return mixed


class _Undivided(nn.Module):
    """In place of MPRNet's `Halves`, which lie elsewhere in every tile."""

    def __init__(self, task: _Task, halves: Halves) -> None:
        super().__init__()
        self.task, self.halves = task, halves

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """`(B, C, H, W)` in two, or as it is."""
        if not self.task.idle:
            return (x,)
        divided: tuple[Tensor, ...] = self.halves(x)
        return divided


def _replace(local: Localised, task: _Task) -> list[nn.Module]:
    """Replaces in place what takes statistics or divides; returns what stands there now."""
    replaced: list[nn.Module] = []
    for name, module in list(local.named_modules(remove_duplicate=False)):
        new: nn.Module
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1), [1, 1]):
            new = _WindowMean(task)
        elif isinstance(module, ChannelMixing):
            new = _WindowMixing(task)
        elif isinstance(module, Halves):
            new = _Undivided(task, module)
        else:
            continue
        parent, _, own = name.rpartition(".")
        setattr(local.get_submodule(parent), own, new)
        replaced.append(new)
    return replaced


def _takes_maps(local: Localised) -> bool:
    """Whether the network goes on from maps of averages, tried without memory."""
    frame = torch.empty(1, 3, local.window_px, 2 * local.window_px, device="meta")
    try:
        with torch.no_grad():
            weightless(local)(frame)
    except Exception:  # what somebody's own network makes of a map is anybody's guess
        return False
    return True


def _count(length: int, window: int) -> int:
    return min(MOST_WINDOWS, math.ceil(length / window))


def _starts(length: int, window_px: int) -> list[int]:
    """Where the windows along one side begin: evenly spread from border to border."""
    window = min(window_px, length)
    count = _count(length, window)
    return [round(place * (length - window) / max(1, count - 1)) for place in range(count)]


def _support(shares: Tensor) -> tuple[int, int]:
    """(first, end) of the pixels that a window has a share in."""
    places = shares.nonzero().flatten()
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
