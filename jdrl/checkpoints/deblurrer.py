"""A trained network ready for photographs: from a checkpoint of ours, or from published weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jdrl.checkpoints.checkpoint import load_network, locate
from jdrl.checkpoints.published_weights import read_weights
from jdrl.networks import build_network, load_published, localised
from sdd_toolkit.imaging.encoding import Encoding

if TYPE_CHECKING:
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
    """The deblurrer of a checkpoint or of a training run; arguments and errors as of `checkpoint.load_network`."""
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
