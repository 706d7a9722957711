"""Training crops from shards. A crop is a pure function of (seed, number), so runs repeat and resume exactly.

The n-th sample of a run is crop n mod P of the pass n div P over the P patches in that pass's own random order;
neither worker processes nor interruptions can change it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from jdrl.data.batch import Batch
from jdrl.data.unaligned_pairs import register_batch
from jdrl.flow.warping import in_bounds, warp
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.execution.process_pool import prepare_worker
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jdrl.config import TrainConfig
    from sdd_toolkit.imaging.encoding import Encoding
    from sdd_toolkit.shards.schema import PackedPair, Patch

_LOG = logging.getLogger(__name__)
_MARGIN_STEP_PX = 8
_RESIDUAL_PX = 4  # how far beyond the stored flow the joint phase may look
_SEARCH_PX = 32  # how far all of them may where there is none


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is learnt from: numbered crops, and a fixed list of crops to validate on (maybe empty)."""

    crops: Crops
    validation: list[Batch]
    encoding: Encoding
    sha256: str


@dataclass(frozen=True, slots=True)
class CropPosition:
    """Where a crop is cut, and which of the eight turns it gets."""

    pair: str
    top: int
    left: int
    turn: int


def set_up_data(shards: Path, config: TrainConfig) -> DataSet:
    """The training crops and the validation crops: from the `val` split, else from held-out training scenes."""
    with ShardReader(shards, split="train") as reader:
        train, held_out = training_patches(reader, config)
        validation = validation_batches(reader, held_out, config) if held_out else []
        encoding = reader.encoding
        has_own = any(shard.split == "val" and shard.patches for shard in reader.index.shards)
        if has_own:
            train = reader.patches
    if has_own:
        with ShardReader(shards, split="val") as reader:
            check_crop(reader, config)
            validation = validation_batches(reader, reader.patches, config)
    if not validation:
        _LOG.warning("too few scenes to hold one out: training without validation")
    crops = Crops(shards, train, config, length=config.steps * config.batch)
    return DataSet(crops, validation, encoding, sha256_of(shards / "index.json"))


def collate(samples: Sequence[Batch]) -> Batch:
    """Batches of one or more crops, joined, with the largest of their margins."""
    margin_px = max(sample.margin_px for sample in samples)
    parts = zip(*(sample.widened(margin_px).parts() for sample in samples), strict=True)
    return Batch(*(torch.cat(part) for part in parts))


class Crops(Dataset[Batch]):
    """The endless, numbered sequence of random training crops.

    Args:
        shards: Folder of the data set.
        patches: Where crops may be cut; see `training_patches`.
        config: crop, augment and seed are used.
        length: How many numbers a loader may ask for.
    """

    def __init__(self, shards: Path, patches: Sequence[Patch], config: TrainConfig, length: int) -> None:
        # The split is named: frames of another split cannot be read through this reader.
        self.reader = ShardReader(shards, split="train")
        self.patches = tuple(patches)
        self.config = config
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Batch:
        spot = self.spot(number)
        margin_px = least_margin_px(self.config)
        return read_crop(self.reader, spot.pair, spot.top, spot.left, self.config.crop, margin_px).turned(spot.turn)

    def spot(self, number: int) -> CropPosition:
        """Where crop `number` is cut: its offset is uniform over the whole patch."""
        sweep, place = divmod(number, len(self.patches))
        patch = self.patches[_order(self.config.seed, sweep, len(self.patches))[place]]
        draw = np.random.default_rng([self.config.seed, 1, number])
        room = self.reader.index.patch_size - self.config.crop
        down, right = (int(offset) for offset in draw.integers(0, room, size=2, endpoint=True))
        turn = int(draw.integers(0, 8)) if self.config.augment else 0
        return CropPosition(patch.pair, patch.top + down, patch.left + right, turn)


def loader(
    crops: Crops, first_step: int, config: TrainConfig, *, pin_memory: bool, rank: int = 0, ranks: int = 1
) -> DataLoader[Batch]:
    """What one of `ranks` processes computes from `first_step` to the last one, in order: `accumulate` parts a step.

    Together the parts of all processes are the batch of the step, whoever takes them. A loader process holds at most
    `prefetch` parts, and none of the pixels it has read before.
    """
    return DataLoader(
        crops,
        batch_sampler=batches_of_rank(first_step, config, rank, ranks),
        collate_fn=collate,
        num_workers=config.workers,
        worker_init_fn=_prepare_loader if config.workers else None,
        # spawn, not fork: OpenCV's and torch's threads do not survive a fork.
        multiprocessing_context="spawn" if config.workers else None,
        prefetch_factor=config.prefetch if config.workers else None,
        pin_memory=pin_memory,
    )


def batches_of_rank(first_step: int, config: TrainConfig, rank: int, ranks: int) -> Iterator[list[int]]:
    """The numbers of the crops that process `rank` takes through the network, pass by pass."""
    count = config.batch // (ranks * config.accumulate)
    for part in range(first_step * config.accumulate, config.steps * config.accumulate):
        start = (part * ranks + rank) * count
        yield list(range(start, start + count))


def load_batch(crops: Crops, step: int, batch: int) -> Batch:
    """The batch of one step, made again."""
    return collate([crops[number] for number in range(step * batch, (step + 1) * batch)])


def training_patches(reader: ShardReader, config: TrainConfig) -> tuple[tuple[Patch, ...], tuple[Patch, ...]]:
    """(to train on, to validate on) of a reader of the train split, divided by scene.

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
    held = held_out(sorted(set(scenes.values())), config.validation_fraction)
    train = tuple(patch for patch in reader.patches if scenes[patch.pair] not in held)
    validation = tuple(patch for patch in reader.patches if scenes[patch.pair] in held)
    return (train, validation) if train else (reader.patches, ())


def check_crop(reader: ShardReader, config: TrainConfig) -> None:
    """Raises ConfigError where a crop does not fit into the data set's patches."""
    if config.crop > reader.index.patch_size:
        raise ConfigError(
            f"crop = {config.crop} is larger than the data set's patches of {reader.index.patch_size} px",
            hint=f"set [train] crop to at most {reader.index.patch_size}, or pack with larger patches",
        )


def held_out(scenes: Sequence[str], fraction: float) -> frozenset[str]:
    """The scenes kept for validation: those whose hash falls below `fraction`, so that adding one moves no other.

    At least one where there are two, never all.
    """
    if fraction == 0 or len(scenes) < 2:
        return frozenset()
    place = {scene: int.from_bytes(hashlib.sha256(scene.encode()).digest()[:8]) / 2**64 for scene in scenes}
    ordered = sorted(scenes, key=place.__getitem__)
    count = sum(value < fraction for value in place.values())
    return frozenset(ordered[: min(max(count, 1), len(scenes) - 1)])


def validation_batches(reader: ShardReader, patches: Sequence[Patch], config: TrainConfig) -> list[Batch]:
    """Up to `validation_crops` centre crops, spread evenly over the patches, always the same ones."""
    count = min(config.validation_crops, len(patches))
    picked = [patches[number * len(patches) // count] for number in range(count)]
    inset = (reader.index.patch_size - config.crop) // 2
    margin_px = least_margin_px(config)
    crops = [
        read_crop(reader, patch.pair, patch.top + inset, patch.left + inset, config.crop, margin_px) for patch in picked
    ]
    return [register_batch(crop) for crop in crops] if config.warm_up_flow == "estimated" else crops


def least_margin_px(config: TrainConfig) -> int:
    """How much of the sharp frame around a crop is read at least: more where nobody knows how far off it lies."""
    return _SEARCH_PX if config.warm_up_flow == "estimated" else _MARGIN_STEP_PX


def read_crop(
    reader: ShardReader, pair: str, top: int, left: int, size: int, margin_px: int = _MARGIN_STEP_PX
) -> Batch:
    """One crop of a pair. The sharp frame is read with a margin and warped before it is cut: no border is made up.

    The margin is `margin_px`, a multiple of 8, or more: wide enough for the stored flow and 4 px more, unless the
    photograph ends before.

    Raises:
        IntegrityError: A shard is missing or damaged.
    """
    height, width = reader.shape(pair)
    margin = margin_px
    while True:
        row, column = max(0, top - margin), max(0, left - margin)
        bottom, right = min(height, top + size + margin), min(width, left + size + margin)
        packed = reader.read_window(pair, row, column, bottom - row, right - column)
        inner = slice(top - row, top - row + size), slice(left - column, left - column + size)
        reach = math.ceil(float(np.abs(packed.flow[inner]).max(initial=0.0))) + 1 + _RESIDUAL_PX
        if reach <= margin or margin >= max(height, width):
            break
        margin = -(-reach // _MARGIN_STEP_PX) * _MARGIN_STEP_PX
    whole = aligned(packed)
    # What of the margin lies beyond the photograph is filled, and known to be.
    missing = (margin - left + column, left + size + margin - right, margin - top + row, top + size + margin - bottom)
    return Batch(
        blur=whole.blur[..., inner[0], inner[1]],
        wide_sharp=F.pad(whole.wide_sharp, missing, mode="replicate"),
        sharp_on_blur=whole.sharp_on_blur[..., inner[0], inner[1]],
        valid=whole.valid[..., inner[0], inner[1]],
        flow=whole.flow[..., inner[0], inner[1]],
        wide_valid=F.pad(whole.wide_valid, missing),
    )


def aligned(packed: PackedPair) -> Batch:
    """A pair, or a window of one, as tensors with the sharp frame warped onto the blurred one.

    Args:
        packed: As `ShardReader.read_window` returns it: its flow has the size of its images.

    Returns:
        A batch of one without a margin. `valid` is 0 also where the flow points outside the window.
    """
    flow = torch.from_numpy(np.ascontiguousarray(packed.flow, dtype=np.float32)).permute(2, 0, 1)[None]
    sharp = as_tensor(packed.sharp)
    valid = torch.from_numpy(np.ascontiguousarray(packed.valid, dtype=np.float32))[None, None]
    return Batch(
        blur=as_tensor(packed.blur),
        wide_sharp=sharp,
        sharp_on_blur=warp(sharp, flow),
        valid=valid * in_bounds(flow),
        flow=flow,
        wide_valid=torch.ones_like(valid),
    )


def as_tensor(image: NDArray[np.uint8] | NDArray[np.uint16]) -> Tensor:
    """(H, W, 3) integers to (1, 3, H, W) float32 in [0, 1]."""
    scaled = image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None]


@lru_cache(maxsize=2)
def _order(seed: int, sweep: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, sweep]).permutation(count)


def _prepare_loader(worker: int) -> None:
    del worker
    torch.set_num_threads(1)
    prepare_worker()
