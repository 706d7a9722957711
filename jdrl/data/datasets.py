"""Patches for anybody's training loop: a map-style data set, and a shuffled stream of batches that resumes exactly.

`docs/reading.md` shows them at work. JDRL's own crops are in `data.py`.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from sdd_toolkit.errors import InputError
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.sample_order import SampleOrder, rank_of_environment
from sdd_toolkit.storage.fingerprint import fingerprint_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.shards.schema import Patch


class Sample(TypedDict):
    """One patch; in a batch all have one more first axis, `pair` is a list, images are `channels_last` in memory.

    `blur` and `sharp` are (3, H, W) uint8 or uint16 as stored; `valid` (1, H, W) bool and `flow` (2, H, W) float32
    only if asked for; `top` and `left` tell where the patch lies in its pair.
    """

    blur: Tensor
    sharp: Tensor
    valid: NotRequired[Tensor]
    flow: NotRequired[Tensor]
    pair: str
    top: int
    left: int


class PatchDataset(Dataset[Sample]):
    """The patches of a folder of shards, or of one split of it, by number.

    It can be pickled and survives a fork: every process opens its own files.

    Args:
        shards: Folder with `index.json`.
        split: `train`, `val` or `test`; None means all.
        masks: Also read `valid` and `flow`, which halves the rate.
        keep: Which patches to take; None means all.
        transform: Called with every sample, for augmentation; what it returns is the sample.

    Raises:
        InputError: No index there, no such split, or no patch to read.
        IntegrityError: A shard is damaged; names it.
    """

    def __init__(
        self,
        shards: Path | str,
        split: str | None = None,
        *,
        masks: bool = False,
        keep: Callable[[Patch], bool] | None = None,
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.reader = ShardReader(shards, split)
        self.patches = tuple(patch for patch in self.reader.patches if keep is None or keep(patch))
        self.masks = masks
        self.transform = transform
        if not self.patches:
            raise InputError(f"{shards} has no patches to read", hint="another split, or a milder `keep`")
        # Not to hand open files to workers that are forked.
        self.reader.close()

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, number: int) -> Sample:
        patch, edge = self.patches[number], self.reader.index.patch_size
        place = patch.pair, patch.top, patch.left, edge, edge
        if self.masks:
            window = self.reader.read_window(*place)
            sample = _sample(patch, window.blur, window.sharp)
            sample["valid"] = torch.from_numpy(window.valid)[None]
            sample["flow"] = _planes(window.flow)
        else:
            sample = _sample(patch, *self.reader.read_images(*place))
        return sample if self.transform is None else self.transform(sample)


class PatchStream:
    """Batches of patches, epoch after epoch; iterating it runs to the end of the epoch.

    The sequence of batches depends on the seed, the rank and the number of ranks, never on `workers`. `state_dict`
    tells which batches were handed out; with it another process goes on with the next one. It is
    the same on all ranks, so one of them may store it for all.

    Args:
        dataset: What to read.
        batch: Patches in a batch of this rank.
        seed: Of the shuffling; the same on all ranks.
        shuffle: See `Order`.
        drop_last: See `Order`: what becomes of patches that do not divide evenly.
        rank: Default: of `torch.distributed` if it is initialised, else of the environment, else 0.
        world_size: As `rank`; give both or none.
        workers: Processes that read; they stay alive between epochs.
        start: How these start: `spawn`, or `fork`, which is quicker but must not follow a use of CUDA.
        pin_memory: Batches come in page-locked memory.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        batch: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
        workers: int = 0,
        start: str = "spawn",
        pin_memory: bool = False,
    ) -> None:
        if (rank is None) != (world_size is None):
            raise ValueError("give both rank and world_size or none")
        here = _place() if rank is None or world_size is None else (rank, world_size)
        self.order = SampleOrder(len(dataset), batch, seed, shuffle, *here, drop_last)
        self.epoch = 0
        self.batch_number = 0
        if not len(self):
            raise InputError(
                f"{len(dataset)} patches do not fill one batch of {batch} on {here[1]} ranks",
                hint="a smaller batch, or drop_last=False",
            )
        self._content = _digest(dataset.patches)
        self._loader = DataLoader(
            dataset,
            batch_sampler=_Rest(self),
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=_one_thread if workers else None,
            multiprocessing_context=start if workers else None,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        return self.order.batches_per_epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """What is left of the epoch. A batch counts as read when it is handed out."""
        for batch in self._loader:
            self.batch_number += 1
            yield batch
        self.epoch, self.batch_number = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int | str]:
        """Where the stream is: small, to be stored with a checkpoint."""
        return {"epoch": self.epoch, "batch_number": self.batch_number, **self._identity()}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Goes to where `state` was taken.

        Raises:
            InputError: It belongs to other patches, another seed, batch or number of ranks: not to be continued.
        """
        for key, value in self._identity().items():
            if state.get(key) != value:
                raise InputError(
                    f"the state of the stream has {key} = {state.get(key)!r}, here it is {value!r}",
                    hint="resume with the same data set, seed, batch and number of ranks, or start anew",
                )
        self.epoch, self.batch_number = int(state["epoch"]), int(state["batch_number"])

    def _identity(self) -> dict[str, int | str]:
        order = self.order
        same = {"batch": order.batch, "seed": order.seed, "world_size": order.world_size}
        return {**same, "shuffle": order.shuffle, "drop_last": order.drop_last, "content": self._content}


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Samples as a batch. Pixels stay as they lie on disk, channel by channel last, which is many times quicker."""
    batch: dict[str, Any] = default_collate(
        [{key: _channels_last(value) for key, value in each.items()} for each in samples]
    )
    return {key: value.permute(0, 3, 1, 2) if _is_image(value, 4) else value for key, value in batch.items()}


def _channels_last(value: object) -> object:
    return value.permute(1, 2, 0) if isinstance(value, Tensor) and _is_image(value, 3) else value


def _is_image(value: object, axes: int) -> bool:
    return isinstance(value, Tensor) and value.ndim == axes


class _Rest(Sampler[list[int]]):
    """The batches of numbers a stream has still to read in its epoch."""

    def __init__(self, stream: PatchStream) -> None:
        # A cycle would be collected in an order that closes the workers' queues before they are told to stop, and then
        # each of them would be waited for, 5 s.
        self.stream: PatchStream = weakref.proxy(stream)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.stream.order.batches(self.stream.epoch, self.stream.batch_number))

    def __len__(self) -> int:
        return self.stream.order.batches_per_epoch - self.stream.batch_number


def _sample(patch: Patch, blur: NDArray[Any], sharp: NDArray[Any]) -> Sample:
    return {"blur": _planes(blur), "sharp": _planes(sharp), "pair": patch.pair, "top": patch.top, "left": patch.left}


def _planes(image: NDArray[Any]) -> Tensor:
    """(H, W, C) to (C, H, W), not copied: batching copies anyway."""
    return torch.from_numpy(np.asarray(image)).permute(2, 0, 1)


def _digest(patches: tuple[Patch, ...]) -> str:
    places = "\n".join(f"{patch.pair} {patch.top} {patch.left}" for patch in patches)
    return fingerprint_text(places)


def _place() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return rank_of_environment()


def _one_thread(worker: int) -> None:
    del worker
    torch.set_num_threads(1)
