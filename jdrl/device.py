"""Which device to compute on."""

from __future__ import annotations

import torch

from sdd_toolkit.errors import InputError


def device_name(device: str) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA where there is one.

    Raises:
        InputError: CUDA was asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", hint="use --device cpu or auto")
    return device
