"""Loads a trained network for inference, from a checkpoint of this toolkit or from published weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jdrl.checkpoints.checkpoint import load_network, locate
from jdrl.checkpoints.published_weights import read_weights
from jdrl.networks import BUILT_IN, build_network, check_weights, localise, match_weights
from jdrl.networks.published_layout import PublishedWeights, describe_content, find_weights
from sdd_toolkit.errors import CheckpointError
from sdd_toolkit.imaging.encoding import Encoding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn


PUBLISHED_WINDOW_PX = 384
"""Side of the windows for published weights, whose training crops are not recorded: the largest of their papers."""


@dataclass(frozen=True, slots=True)
class Deblurrer:
    """A network for inference.

    Attributes:
        network: In evaluation mode, on the CPU.
        encoding: Of the images it was trained on.
        crop_px: Side of the crops it was trained on, pixels; None if unknown.
        notes: What was chosen in a file that holds more than one set of weights.
    """

    network: nn.Module
    encoding: Encoding
    crop_px: int | None
    notes: tuple[str, ...] = ()


def of_checkpoint(path: Path, network: str | None = None) -> Deblurrer:
    """Loads the deblurrer of a checkpoint or of a training run; arguments and errors as of `checkpoint.load_network`.

    Example:
        A run is a folder of `sdd train`; here a checkpoint of an untrained network stands in for one:

        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from jdrl.checkpoints.checkpoint import CheckpointHeader, save_checkpoint
        >>> options = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
        >>> header = CheckpointHeader(1, "nafnet", options, Encoding.SRGB8, "0" * 64, {})
        >>> run = save_checkpoint(Path(mkdtemp()), header, build_network("nafnet", **options).state_dict(), {}).parent
        >>> of_checkpoint(run).encoding
        <Encoding.SRGB8: 'srgb8'>
    """
    loaded, header = load_network(locate(path), network)
    return Deblurrer(loaded, header.encoding, header.crop_px)


def of_weights(path: Path, network: str) -> Deblurrer:
    """Loads published weights in their authors' layout, for sRGB-encoded images.

    Args:
        path: A `.safetensors` file, or a file of `torch.save`.
        network: Name for `jdrl.networks.build_network`; its published configuration is used.

    Raises:
        CheckpointError: The file cannot be read, holds more than tensors and plain values, or does not fit.
        ConfigError: There is no such network.
    """
    built = build_network(network)
    content = read_weights(path)
    found = find_weights(content, built.state_dict())
    try:
        built.load_state_dict(check_weights(built, found.tensors))
    except CheckpointError as error:
        raise CheckpointError(
            f"{path}: {error.what}. Found {describe_content(content)}", hint=_name_network(content) or error.hint
        ) from error
    localised = localise(built, PUBLISHED_WINDOW_PX).eval()
    return Deblurrer(localised, Encoding.SRGB16, None, _describe_choice(path, found))


def _describe_choice(path: Path, found: PublishedWeights) -> tuple[str, ...]:
    """Notes on what was chosen, where a file holds more than one set of weights."""
    others = f", not those in {', '.join(found.others)}" if found.others else ""
    chosen = f"{path.name}: the {'averaged ' if found.averaged else ''}weights in {found.place} are used{others}"
    left = f"{path.name}: {found.left_out} tensors beside {found.place} are left out"
    notes = ((bool(found.averaged or found.others), chosen), (found.left_out > 0, left))
    return tuple(note for applies, note in notes if applies)


def _name_network(content: Mapping[str, object]) -> str | None:
    """A hint that names the built-in network whose weights these are."""
    for name in BUILT_IN:
        with torch.device("meta"):
            network = build_network(name)
        try:
            match_weights(network, content)
        except CheckpointError:
            continue
        return f"these are weights of {name}: --network {name}"
    return None
