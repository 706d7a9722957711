"""The data of a training run: crops of the `train` split, and fixed validation crops of `val` or held-out scenes."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jdrl.data.aligned_crops import read_crop
from jdrl.data.crops import CropDataset, Motions, min_margin_px
from jdrl.data.unaligned_pairs import align_for_validation
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jdrl.config import TrainConfig
    from jdrl.data.batch import Batch
    from sdd_toolkit.imaging.encoding import Encoding
    from sdd_toolkit.shards.schema import Patch

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The crops of a run.

    Attributes:
        crops: Random training crops, by number.
        validation: Validation crops, always the same ones; may be empty.
        encoding: Of the data set's images.
        sha256: Of the data set's index.json.
    """

    crops: CropDataset
    validation: list[Batch]
    encoding: Encoding
    sha256: str


def load_training_data(shards: Path, config: TrainConfig, motions: Motions | None = None) -> TrainingData:
    """Opens the training crops and reads the validation crops: of the `val` split, else of held-out training scenes.

    Args:
        shards: Folder of the data set.
        config: The run's.
        motions: Flow of pairs that have none in the shards.

    Raises:
        InputError: The train split has no patches.
        ConfigError: The crop is larger than the patches.
        IntegrityError: A shard is missing or damaged.
    """
    with ShardReader(shards, split="train") as reader:
        train, held_out = split_patches(reader, config)
        validation = validation_batches(reader, held_out, config, motions) if held_out else []
        encoding = reader.encoding
        has_val_split = any(shard.split == "val" and shard.patches for shard in reader.index.shards)
        if has_val_split:
            train = reader.patches
    if has_val_split:
        with ShardReader(shards, split="val") as reader:
            check_crop(reader, config)
            validation = validation_batches(reader, reader.patches, config, motions)
    if not validation:
        _LOG.warning("too few scenes to hold one out: training without validation")
    crops = CropDataset(shards, train, config, length=config.steps * config.batch, motions=motions)
    return TrainingData(crops, validation, encoding, sha256_of(shards / "index.json"))


def split_patches(reader: ShardReader, config: TrainConfig) -> tuple[tuple[Patch, ...], tuple[Patch, ...]]:
    """Divides the patches of the train split by scene into (training, validation).

    The second is empty where the data set is too small to give up a scene, or `validation_fraction` is 0.

    Raises:
        InputError: The train split has no patches.
        ConfigError: The crop is larger than the patches.
    """
    if not reader.patches:
        raise InputError(
            "the train split holds no patches",
            hint=f"pack larger frames, or smaller patches: [pack] patch_size is {reader.index.patch_size} px",
        )
    check_crop(reader, config)
    scenes = {pair: reader.record(pair).scene for pair in reader.pair_ids}
    held_out = choose_held_out(sorted(set(scenes.values())), config.validation_fraction)
    train = tuple(patch for patch in reader.patches if scenes[patch.pair] not in held_out)
    validation = tuple(patch for patch in reader.patches if scenes[patch.pair] in held_out)
    return (train, validation) if train else (reader.patches, ())


def check_crop(reader: ShardReader, config: TrainConfig) -> None:
    """Raises ConfigError where a crop does not fit into the data set's patches."""
    if config.crop > reader.index.patch_size:
        raise ConfigError(
            f"crop = {config.crop} is larger than the data set's patches of {reader.index.patch_size} px",
            hint=f"set [train] crop to at most {reader.index.patch_size}, or pack with larger patches",
        )


def choose_held_out(scenes: Sequence[str], fraction: float) -> frozenset[str]:
    """Chooses the validation scenes by a hash of their names, so that a new scene moves no other.

    At least one where there are two scenes, never all.
    """
    if fraction == 0 or len(scenes) < 2:
        return frozenset()
    hashes = {scene: int.from_bytes(hashlib.sha256(scene.encode()).digest()[:8]) / 2**64 for scene in scenes}
    ordered = sorted(scenes, key=hashes.__getitem__)
    count = sum(value < fraction for value in hashes.values())
    return frozenset(ordered[: min(max(count, 1), len(scenes) - 1)])


def validation_batches(
    reader: ShardReader, patches: Sequence[Patch], config: TrainConfig, motions: Motions | None = None
) -> list[Batch]:
    """Reads up to `validation_crops` centre crops, spread evenly over the patches, always the same ones."""
    count = min(config.validation_crops, len(patches))
    chosen = [patches[number * len(patches) // count] for number in range(count)]
    inset = (reader.index.patch_size - config.crop) // 2
    crops = []
    for patch in chosen:
        motion = (motions or {}).get(patch.pair)
        margin_px = min_margin_px(config, motion)
        crops.append(
            read_crop(reader, patch.pair, patch.top + inset, patch.left + inset, config.crop, margin_px, motion)
        )
    return [align_for_validation(crop) for crop in crops] if config.warm_up_flow == "estimated" else crops
