"""The network that ships inside the package, where there is one yet."""

from __future__ import annotations

from pathlib import Path

from torch import nn

import jdrl
from jdrl.checkpoints.checkpoint import CheckpointHeader, load_network, read_header

WEIGHTS = Path(jdrl.__file__).with_name("weights") / "default.safetensors"


def shipped_header() -> CheckpointHeader | None:
    """Its name, options and encoding."""
    return read_header(WEIGHTS) if WEIGHTS.is_file() else None


def shipped_network() -> nn.Module | None:
    return load_network(WEIGHTS)[0] if WEIGHTS.is_file() else None
