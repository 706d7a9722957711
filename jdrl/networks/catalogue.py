"""The networks there are: those of this toolkit, those of installed packages, and any factory a user names."""

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
"""Entry points of this group are networks, too."""


@dataclass(frozen=True, slots=True)
class Known:
    """A network of this toolkit, written anew from its paper.

    Attributes:
        factory: `module:callable`.
        paper: Where it comes from.
        licence: Of the published code and weights, which are the user's to bring.
        options: What its published configuration sets besides the defaults.
    """

    factory: str
    paper: str
    licence: str
    options: Mapping[str, object] = field(default_factory=dict)


_NAFNET = Known("jdrl.networks.nafnet:NAFNet", "Chen et al., ECCV 2022, arXiv 2204.04676", "MIT")
KNOWN: Mapping[str, Known] = {
    "nafnet": _NAFNET,
    "nafnet64": Known(_NAFNET.factory, _NAFNET.paper, _NAFNET.licence, {"width": 64}),
    "unet": Known("jdrl.networks.unet:UNet", "Abuolaim and Brown, ECCV 2020; Li et al., AAAI 2023", "none stated"),
    "restormer": Known("jdrl.networks.restormer:Restormer", "Zamir et al., CVPR 2022, arXiv 2111.09881", "MIT"),
    "mprnet": Known("jdrl.networks.mprnet:MPRNet", "Zamir et al., CVPR 2021, arXiv 2102.02808", "academic use"),
    "ifan": Known("jdrl.networks.ifan:IFAN", "Lee et al., CVPR 2021, arXiv 2108.13610", "AGPL-3.0"),
}


def names() -> tuple[str, ...]:
    """All names but those of factories: this toolkit's, then those of installed packages."""
    return (*KNOWN, *sorted(point.name for point in _installed() if point.name not in KNOWN))


def is_factory(name: str) -> bool:
    """Whether a name is `module:callable`: using it runs code that only the user can vouch for."""
    return ":" in name


def factory_of(name: str) -> Factory:
    """What makes a network.

    Args:
        name: Of this toolkit, of an entry point in the group `sdd_toolkit.networks`, or `module:callable`.

    Raises:
        ConfigError: There is none, or it cannot be imported.
    """
    if is_factory(name):
        return _loaded(EntryPoint(name, name, GROUP))
    if name in KNOWN:
        return _loaded(EntryPoint(name, KNOWN[name].factory, GROUP))
    for point in _installed():
        if point.name == name:
            return _loaded(point)
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"unknown network {name!r}", hint=f"{hint}valid: {', '.join(names())}, or your own as package.module:factory"
    )


def _installed() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _loaded(point: EntryPoint) -> Factory:
    hint = "is the package that holds it installed, and the part before the colon a module of it?"
    try:
        # Not `EntryPoint.load`, which takes any text for a module.
        module, _, attribute = point.value.partition(":")
        found: object = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"network {point.name!r}: cannot load {point.value}: {error}", hint=hint) from error
    if not callable(found):
        raise ConfigError(f"network {point.name!r}: {point.value} is no class or function", hint=hint)
    return found
