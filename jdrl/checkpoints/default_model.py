"""The default network: its weights ship inside the package, so that `sdd deblur` works right after installation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jdrl.checkpoints.arguments import DEFAULT, MODEL_CARD, default_checkpoint
from jdrl.checkpoints.checkpoint import read_header
from jdrl.networks.listing import NetworkDescription, describe_network

if TYPE_CHECKING:
    from jdrl.checkpoints.checkpoint import CheckpointHeader

LICENCE = "Apache-2.0"


def default_header() -> CheckpointHeader:
    """The header of the default network: its name, options, encoding and training configuration.

    Raises:
        CheckpointError: The installation lacks it.
    """
    return read_header(default_checkpoint())


def describe_default() -> NetworkDescription:
    """The size and the cost of the default network, the licence of its weights, and its model card.

    Raises:
        CheckpointError: The installation lacks it.

    Example:
        >>> describe_default().weights_mb < 8
        True
    """
    header = default_header()
    network = describe_network(header.network, header.network_options)
    size_mb = default_checkpoint().stat().st_size / 1e6
    return replace(network, name=DEFAULT, licence=LICENCE, weights_mb=size_mb, card=str(MODEL_CARD))
