"""Random training crops. A crop is a pure function of (seed, number), so runs repeat and resume exactly.

The n-th sample of a run is crop n mod P of pass n div P over the P patches, in that pass's own random order.
Neither the number of loader processes nor an interruption changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from jdrl.data.aligned_crops import MARGIN_STEP_PX, read_crop
from jdrl.data.batch import Batch
from sdd_toolkit.execution.worker_setup import prepare_worker
from sdd_toolkit.shards.reader import ShardReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jdrl.config import TrainConfig
    from jdrl.flow.global_motion import GlobalMotion
    from sdd_toolkit.shards.schema import Patch

_SEARCH_PX = 32  # margin where no flow is stored and the displacement is unknown
_LOCAL_PX = 16  # where the pair is registered by its global motion, but its local motion is unknown


Motions: TypeAlias = "Mapping[str, GlobalMotion | None]"


@dataclass(frozen=True, slots=True)
class CropPosition:
    """The place of a crop in its pair.

    Attributes:
        pair: The pair's id.
        top: First row, pixels.
        left: First column, pixels.
        turn: Number of its symmetry, 0 … 7, see `jdrl.data.batch.rotate_quarter`.
    """

    pair: str
    top: int
    left: int
    turn: int


class CropDataset(Dataset[Batch]):
    """The endless, numbered sequence of random training crops.

    Args:
        shards: Folder of the data set.
        patches: Patches that crops are cut from; see `jdrl.data.training_data.split_patches`.
        config: crop, augment and seed are used.
        length: How many numbers a loader may request.
        motions: Flow of pairs that have none in the shards; without them, or with None, it is zero.
    """

    def __init__(
        self, shards: Path, patches: Sequence[Patch], config: TrainConfig, length: int, motions: Motions | None = None
    ) -> None:
        # The split is named: frames of another split cannot be read through this reader.
        self.reader = ShardReader(shards, split="train")
        self.patches = tuple(patches)
        self.config = config
        self.length = length
        self.motions = motions or {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Batch:
        position = self.sample_crop(number)
        motion = self.motions.get(position.pair)
        margin_px = min_margin_px(self.config, motion)
        crop = read_crop(self.reader, position.pair, position.top, position.left, self.config.crop, margin_px, motion)
        return crop.rotate_quarter(position.turn)

    def sample_crop(self, number: int) -> CropPosition:
        """Draws the position of crop `number`; its offset is uniform over the whole patch."""
        epoch, index = divmod(number, len(self.patches))
        patch = self.patches[_epoch_order(self.config.seed, epoch, len(self.patches))[index]]
        draw = np.random.default_rng([self.config.seed, 1, number])
        slack = self.reader.index.patch_size - self.config.crop
        down, right = (int(offset) for offset in draw.integers(0, slack, size=2, endpoint=True))
        turn = int(draw.integers(0, 8)) if self.config.augment else 0
        return CropPosition(patch.pair, patch.top + down, patch.left + right, turn)


def min_margin_px(config: TrainConfig, motion: GlobalMotion | None = None) -> int:
    """The smallest margin of the sharp frame around a crop, pixels; larger where no flow is stored."""
    if config.warm_up_flow != "estimated":
        return MARGIN_STEP_PX
    return _SEARCH_PX if motion is None else _LOCAL_PX


def collate_crops(samples: Sequence[Batch]) -> Batch:
    """Joins batches of one or more crops into one, with the largest of their margins."""
    margin_px = max(sample.margin_px for sample in samples)
    fields = zip(*(sample.widen_margin(margin_px).tensors() for sample in samples), strict=True)
    return Batch(*(torch.cat(tensors) for tensors in fields))


def build_loader(
    crops: CropDataset, first_step: int, config: TrainConfig, *, pin_memory: bool, rank: int = 0, ranks: int = 1
) -> DataLoader[Batch]:
    """The loader of one of `ranks` processes from `first_step` to the last step, in order: `accumulate` parts a step.

    Together the parts of all processes are the batch of the step, however they are distributed. A loader process
    holds at most `prefetch` parts, and no pixels that were read before.
    """
    return DataLoader(
        crops,
        batch_sampler=batches_of_rank(first_step, config, rank, ranks),
        collate_fn=collate_crops,
        num_workers=config.workers,
        worker_init_fn=_prepare_loader if config.workers else None,
        # spawn, not fork: OpenCV's and torch's threads do not survive a fork.
        multiprocessing_context="spawn" if config.workers else None,
        prefetch_factor=config.prefetch if config.workers else None,
        pin_memory=pin_memory,
    )


def batches_of_rank(first_step: int, config: TrainConfig, rank: int, ranks: int) -> Iterator[list[int]]:
    """The numbers of the crops that process `rank` takes through the network, one list for each forward pass."""
    count = config.batch // (ranks * config.accumulate)
    for part in range(first_step * config.accumulate, config.steps * config.accumulate):
        start = (part * ranks + rank) * count
        yield list(range(start, start + count))


def load_batch(crops: CropDataset, step: int, batch: int) -> Batch:
    """Reads the batch of one step again, `batch` crops."""
    return collate_crops([crops[number] for number in range(step * batch, (step + 1) * batch)])


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def _prepare_loader(worker: int) -> None:
    del worker
    torch.set_num_threads(1)
    prepare_worker()
