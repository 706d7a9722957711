"""The torch device of a command, from its option `--device`."""

from __future__ import annotations

import torch

from sdd_toolkit.errors import InputError


def resolve_device(device: str) -> str:
    """Resolves `auto` to `cuda`, if there is a CUDA device, or `cpu`.

    Raises:
        InputError: `cuda` without a CUDA device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", hint="use --device cpu or auto")
    return device
