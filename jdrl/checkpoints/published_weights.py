"""Reads published network weights from a file without unpickling code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jdrl.checkpoints.checkpoint import read_tensors
from sdd_toolkit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_weights(path: Path) -> Mapping[str, object]:
    """Reads the content of a weights file; no code in it is run.

    Args:
        path: A `.safetensors` file, or a file of `torch.save`.

    Raises:
        CheckpointError: The file cannot be read, or holds more than tensors and plain values.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint="check the path") from error
    except Exception as error:  # a damaged file may make the reader raise anything
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and plain values, which could run code: refused",
            hint="fetch it again; or ask its authors for a file of tensors only",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, no weights by name",
            hint="give the file that its authors published",
        )
    return {str(name): value for name, value in content.items()}
