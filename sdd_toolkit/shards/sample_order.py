"""The order of training samples: a pure function of seed and epoch, divided among ranks and into batches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """One rank's part of every epoch.

    All ranks have equally many samples, so that none waits for another at the end. Where `count` does not divide by
    `world_size`, `drop_last` leaves the surplus of that epoch's order out; without it the first samples of the order
    are read a second time to fill up. Otherwise every sample is read exactly once an epoch.

    Attributes:
        count: Samples in all.
        batch: Samples in a batch of this rank.
        seed: Seed of the shuffling; the same on all ranks.
        shuffle: A new random order every epoch; False: the stored order.
        rank: Number of this part, from 0.
        world_size: Number of parts.
        drop_last: Leave out samples that do not fill a rank's share or a batch; False: a last, smaller batch.
    """

    count: int
    batch: int
    seed: int = 0
    shuffle: bool = True
    rank: int = 0
    world_size: int = 1
    drop_last: bool = True

    def __post_init__(self) -> None:
        if not (self.count > 0 and self.batch > 0 and 0 <= self.rank < self.world_size):
            raise ValueError(f"no order of {self.count} samples for rank {self.rank} of {self.world_size}")

    @property
    def samples_per_epoch(self) -> int:
        """Samples that each rank reads in an epoch."""
        share = self.count // self.world_size if self.drop_last else -(-self.count // self.world_size)
        return share // self.batch * self.batch if self.drop_last else share

    @property
    def batches_per_epoch(self) -> int:
        """Batches that each rank reads in an epoch."""
        return -(-self.samples_per_epoch // self.batch)

    def samples(self, epoch: int) -> NDArray[np.int64]:
        """The numbers of this rank's samples in the order they are read."""
        everything = np.arange(self.count)
        if self.shuffle:
            everything = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        own = np.arange(self.samples_per_epoch) * self.world_size + self.rank
        return everything[own % self.count]

    def batches(self, epoch: int, first: int = 0) -> list[list[int]]:
        """This rank's batches from number `first` of an epoch on."""
        samples = self.samples(epoch).tolist()
        return [samples[start : start + self.batch] for start in range(first * self.batch, len(samples), self.batch)]


def rank_of_environment(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(rank, world size) from the variables `RANK` and `WORLD_SIZE` that `torchrun` sets; (0, 1) without them."""
    return int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
