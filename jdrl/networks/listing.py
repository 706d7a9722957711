"""What networks cost: parameters, and multiply-accumulates for a megapixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from jdrl.networks.build import build_network
from jdrl.networks.catalogue import KNOWN

_SIDE_PX = 256


@dataclass(frozen=True, slots=True)
class Description:
    """A network in its published configuration.

    Attributes:
        name: As `sdd train --network` takes it.
        parameters: How many numbers it learns.
        gmac_per_megapixel: 10^9 multiply-accumulates for 10^6 pixels; None if they cannot be counted.
        size_multiple: The sides of images are extended to multiples of it.
        paper: Where it comes from; empty for networks of other packages.
        licence: Of the published code and weights; empty likewise.
    """

    name: str
    parameters: int
    gmac_per_megapixel: float | None
    size_multiple: int
    paper: str
    licence: str


def describe(name: str) -> Description:
    """Builds a network without memory and counts.

    Raises:
        ConfigError: There is no such network, or it cannot be built.
    """
    with torch.device("meta"):
        network = build_network(name).eval()
    known = KNOWN.get(name)
    return Description(
        name,
        sum(parameter.numel() for parameter in network.parameters()),
        _gmac_per_megapixel(network),
        int(getattr(network, "size_multiple", 1)),
        known.paper if known else "",
        known.licence if known else "",
    )


def _gmac_per_megapixel(network: torch.nn.Module) -> float | None:
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network(torch.empty(1, 3, _SIDE_PX, _SIDE_PX, device="meta"))
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    # Of a multiply-accumulate torch counts both.
    return counter.get_total_flops() / 2 / _SIDE_PX**2 / 1e3
