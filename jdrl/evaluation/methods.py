"""Methods under evaluation: whatever turns the blurred frame of a pair into an output, a checkpoint or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jdrl.checkpoints.checkpoint import load_network, locate, read_header, weights_file
from jdrl.evaluation.score_card import CheckpointInfo
from jdrl.inference.deblur import deblur
from jdrl.inference.tiles import choose_tiling
from sdd_toolkit.errors import CheckpointError, InputError
from sdd_toolkit.storage.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from jdrl.config import EvaluateConfig
    from jdrl.data.batch import Batch
    from sdd_toolkit.imaging.encoding import Encoding
    from sdd_toolkit.shards.reader import ShardReader


class Method(Protocol):
    """What is scored."""

    @property
    def info(self) -> CheckpointInfo:
        """Its label, and what it is."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on it, for whoever reads its scores."""
        ...

    def restore(self, pair: str, truth: Batch) -> Tensor:
        """The output for a pair: (1, 3, H, W) in [0, 1], rounded to the levels of the data set."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedModel:
    """A loaded checkpoint: its network, and the size and overlap of its tiles."""

    info: CheckpointInfo
    folder: Path
    encoding: Encoding
    network: nn.Module
    tile_px: int
    overlap_px: int
    notes: tuple[str, ...] = ()

    def restore(self, pair: str, truth: Batch) -> Tensor:
        """Deblurs a pair; see `Method.restore`."""
        del pair
        restored = deblur(self.network, truth.blur[0], tile=self.tile_px, overlap=self.overlap_px)
        return round_to_levels(restored[None].to(truth.blur.device), self.encoding)


def round_to_levels(image: Tensor, encoding: Encoding) -> Tensor:
    """Rounds values in [0, 1] to the levels of a data set, as files of them would be."""
    return (image * encoding.white).round() / encoding.white


def load_models(
    paths: Sequence[Path], network: str | None, config: EvaluateConfig, device: torch.device
) -> list[EvaluatedModel]:
    """Loads the networks of checkpoints onto `device`.

    Raises:
        CheckpointError: A checkpoint cannot be used.
    """
    folders = [locate(path) for path in paths]
    names = [read_header(folder).network for folder in folders]
    models: list[EvaluatedModel] = []
    for folder, name in zip(folders, names, strict=True):
        # With several checkpoints `network` refers to those that have it.
        loaded, header = load_network(folder, None if network in names and network != name else network)
        label = folder.stem if folder.is_file() else f"{folder.resolve().parent.name}/{folder.name}"
        same_label = sum(model.info.label.partition(" #")[0] == label for model in models)
        label = f"{label} #{same_label + 1}" if same_label else label
        info = CheckpointInfo(label, header.step, header.network, sha256_of(weights_file(folder)))
        loaded.to(device)
        tile, overlap = choose_tiling(loaded, config)
        models.append(EvaluatedModel(info, folder, header.encoding, loaded, tile, overlap))
    return models


def check_encoding(reader: ShardReader, models: Sequence[EvaluatedModel], shards: Path, split: str) -> None:
    """Checks that the data set has pairs, of the encoding that the checkpoints were trained on.

    Raises:
        InputError: The split is empty.
        CheckpointError: A checkpoint was trained on another encoding.
    """
    if not reader.pair_ids:
        raise InputError(f"the split {split!r} of {shards} holds no pairs", hint="pack more scenes, or --split")
    for model in models:
        if reader.encoding != model.encoding:
            raise CheckpointError(
                f"{model.folder} was trained on {model.encoding} images, {shards} holds {reader.encoding}",
                hint="evaluate on a data set packed with the same encoding",
            )
