"""A trained network ready for photographs: from a checkpoint of ours, or from published weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jdrl.checkpoint import load_network, locate, read_tensors
from jdrl.networks import build_network, load_published, localised
from sdd_toolkit.develop import Encoding
from sdd_toolkit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn


PUBLISHED_WINDOW_PX = 384
"""Windows for published weights, whose training crops nobody recorded: the largest that their papers speak of."""


@dataclass(frozen=True, slots=True)
class Deblurrer:
    """What deblurs images.

    Attributes:
        network: In evaluation mode, on the CPU.
        encoding: Of the images it was trained on.
        crop_px: Side of the crops it was trained on, pixels; None where nobody knows.
    """

    network: nn.Module
    encoding: Encoding
    crop_px: int | None


def of_checkpoint(path: Path, network: str | None = None) -> Deblurrer:
    """A checkpoint folder's, or that of a training run; arguments and errors as of `jdrl.checkpoint.load_network`."""
    loaded, header = load_network(locate(path), network)
    return Deblurrer(loaded, header.encoding, header.crop_px)


def of_weights(path: Path, network: str) -> Deblurrer:
    """Published weights in the layout their authors gave them, for images as people see them (sRGB).

    Args:
        path: A `.safetensors` file, or what `torch.save` wrote.
        network: See `jdrl.networks.build_network`; with its published configuration.

    Raises:
        CheckpointError: The file cannot be read, holds more than tensors and plain values, or does not fit.
        ConfigError: There is no such network.
    """
    built = build_network(network)
    load_published(built, read_weights(path))
    return Deblurrer(localised(built, PUBLISHED_WINDOW_PX).eval(), Encoding.SRGB16, None)


def read_weights(path: Path) -> Mapping[str, object]:
    """What a file of weights holds; nothing in it is run.

    Args:
        path: A `.safetensors` file, or what `torch.save` wrote.

    Raises:
        CheckpointError: It cannot be read, or holds more than tensors and plain values.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint="check the path") from error
    except Exception as error:  # what a damaged file makes the reader raise is anybody's guess
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
