"""Less memory or less time for any network, its answers and gradients unchanged up to rounding."""

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
    """Makes `network` forget what its blocks computed and compute it again for the gradient, in place.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. Between forward and backward only the blocks'
    inputs are kept. Names of weights stay; dropout draws the same again. A block must not change its input in place.
    """
    for block in blocks(network):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The largest parts of a network that hold layers of their own, found below chains and lists of such parts.

    A single layer is none: it keeps little besides its input.
    """
    for part in network.children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict) or not _has_own_layer(part):
            yield from blocks(part)
        else:
            yield part


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` through torch.compile.

    Raises:
        ConfigError: There is no compiler here for this device.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler is told in a different way on every device
        raise ConfigError(
            f"torch.compile finds no compiler for {device.type} here: {str(error).splitlines()[0]}",
            hint="install one (g++ for the CPU, Triton for CUDA), or leave [train] compile off",
        ) from error
    return cast("nn.Module", torch.compile(network))


def _has_own_layer(part: nn.Module) -> bool:
    return any(_is_layer(child) for child in part.children())


def _is_layer(part: nn.Module) -> bool:
    return not any(part.children()) and any(True for _ in part.parameters())
