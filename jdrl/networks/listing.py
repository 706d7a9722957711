"""The cost of networks: parameters, and multiply-accumulates for a megapixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from jdrl.networks.build import build_network
from jdrl.networks.catalogue import BUILT_IN

_SIDE_PX = 256


@dataclass(frozen=True, slots=True)
class NetworkDescription:
    """A network in its published configuration, or one whose weights ship.

    Attributes:
        name: As `sdd train --network` takes it.
        parameters: Number of trained numbers.
        gmac_per_megapixel: 10^9 multiply-accumulates for 10^6 pixels; None if they cannot be counted.
        size_multiple: The sides of images are extended to multiples of it.
        paper: Authors, venue and arXiv number; empty for networks of other packages.
        licence: Of the published code and weights, or of those that ship; empty for networks of other packages.
        weights_mb: Size of the weights that ship, 10^6 bytes; None for a network without.
        card: Path of their model card; empty for a network without.
    """

    name: str
    parameters: int
    gmac_per_megapixel: float | None
    size_multiple: int
    paper: str
    licence: str
    weights_mb: float | None = None
    card: str = ""


def describe_network(name: str, options: Mapping[str, object] | None = None) -> NetworkDescription:
    """Builds a network on the meta device and counts its parameters and operations.

    Args:
        name: One of `jdrl.networks.network_names()`.
        options: Where they differ from those of its published configuration.

    Raises:
        ConfigError: There is no such network, or it cannot be built.
    """
    with torch.device("meta"):
        network = build_network(name, **(options or {})).eval()
    entry = BUILT_IN.get(name)
    return NetworkDescription(
        name,
        sum(parameter.numel() for parameter in network.parameters()),
        _gmac_per_megapixel(network),
        int(getattr(network, "size_multiple", 1)),
        entry.paper if entry else "",
        entry.licence if entry else "",
    )


def _gmac_per_megapixel(network: torch.nn.Module) -> float | None:
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network(torch.empty(1, 3, _SIDE_PX, _SIDE_PX, device="meta"))
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    # torch counts a multiply-accumulate as two operations.
    return counter.get_total_flops() / 2 / _SIDE_PX**2 / 1e3
