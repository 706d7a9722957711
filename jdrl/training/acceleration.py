"""Gradient checkpointing and torch.compile for any network; outputs and gradients are equal up to rounding."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sdd_toolkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


def recompute_blocks(network: nn.Module) -> None:
    """Enables gradient checkpointing of a network's blocks, in place.

    Between forward and backward pass only the inputs of the blocks are kept; the backward pass computes the blocks
    again (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). Names of weights stay, and dropout
    draws the same numbers again. A block must not change its input in place.
    """
    for block in find_blocks(network):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def find_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yields the blocks of a network: its largest modules with layers as direct children.

    Containers of such modules are searched recursively. A single layer is no block: it keeps little beside its input.
    """
    for module in network.children():
        if isinstance(module, nn.ModuleList | nn.ModuleDict) or not _has_own_layer(module):
            yield from find_blocks(module)
        else:
            yield module


def compile_network(network: nn.Module, device: torch.device) -> nn.Module:
    """Compiles `network` with torch.compile.

    Raises:
        ConfigError: There is no compiler for this device.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(8, device=device))
    except Exception as error:  # every device reports a missing compiler by another class
        raise ConfigError(
            f"torch.compile finds no compiler for {device.type} here: {str(error).splitlines()[0]}",
            hint="install one (g++ for the CPU, Triton for CUDA), or leave [train] compile off",
        ) from error
    return cast("nn.Module", torch.compile(network))


def _has_own_layer(module: nn.Module) -> bool:
    return any(_is_layer(child) for child in module.children())


def _is_layer(module: nn.Module) -> bool:
    return not any(module.children()) and any(True for _ in module.parameters())
