"""The catalogue of networks: built-in ones, entry points of installed packages, and any `module:factory`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from sdd_toolkit.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    Factory = Callable[..., nn.Module]

GROUP = "sdd_toolkit.networks"
"""Group of the entry points by which packages add networks."""


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """A built-in network, written anew from its paper.

    Attributes:
        factory: `module:callable`.
        paper: Authors, venue and arXiv number.
        licence: Of the published code and weights, which are not part of this toolkit.
        options: Options of its published configuration that differ from the defaults.
    """

    factory: str
    paper: str
    licence: str
    options: Mapping[str, object] = field(default_factory=dict)


_NAFNET = NetworkEntry("jdrl.networks.nafnet:NAFNet", "Chen et al., ECCV 2022, arXiv 2204.04676", "MIT")
BUILT_IN: Mapping[str, NetworkEntry] = {
    "nafnet": _NAFNET,
    "nafnet64": NetworkEntry(_NAFNET.factory, _NAFNET.paper, _NAFNET.licence, {"width": 64}),
    "unet": NetworkEntry(
        "jdrl.networks.unet:UNet", "Abuolaim and Brown, ECCV 2020; Li et al., AAAI 2023", "none stated"
    ),
    "restormer": NetworkEntry("jdrl.networks.restormer:Restormer", "Zamir et al., CVPR 2022, arXiv 2111.09881", "MIT"),
    "mprnet": NetworkEntry("jdrl.networks.mprnet:MPRNet", "Zamir et al., CVPR 2021, arXiv 2102.02808", "academic use"),
    "ifan": NetworkEntry("jdrl.networks.ifan:IFAN", "Lee et al., CVPR 2021, arXiv 2108.13610", "AGPL-3.0"),
}


def network_names() -> tuple[str, ...]:
    """The names of all networks: built-in ones, then those of installed packages."""
    return (*BUILT_IN, *sorted(point.name for point in _entry_points() if point.name not in BUILT_IN))


def is_factory(name: str) -> bool:
    """Whether a name is `module:callable`: using it runs code of the user's choice."""
    return ":" in name


def find_factory(name: str) -> Factory:
    """Finds the class or function that builds a network.

    Args:
        name: A built-in network, an entry point in the group `sdd_toolkit.networks`, or `module:callable`.

    Raises:
        ConfigError: There is no such network, or it cannot be imported.
    """
    if is_factory(name):
        return _import_factory(EntryPoint(name, name, GROUP))
    if name in BUILT_IN:
        return _import_factory(EntryPoint(name, BUILT_IN[name].factory, GROUP))
    for point in _entry_points():
        if point.name == name:
            return _import_factory(point)
    close = difflib.get_close_matches(name, network_names(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"unknown network {name!r}",
        hint=f"{hint}valid: {', '.join(network_names())}, or your own as package.module:factory",
    )


def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _import_factory(point: EntryPoint) -> Factory:
    hint = "is the package that holds it installed, and the part before the colon a module of it?"
    try:
        # Not `EntryPoint.load`, which accepts any text as a module name.
        module, _, attribute = point.value.partition(":")
        target: object = importlib.import_module(module)
        for name in attribute.split("."):
            target = getattr(target, name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"network {point.name!r}: cannot load {point.value}: {error}", hint=hint) from error
    if not callable(target):
        raise ConfigError(f"network {point.name!r}: {point.value} is no class or function", hint=hint)
    return target
