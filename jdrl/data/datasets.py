"""Packed patches for any torch training loop: a map-style data set, and a shuffled, resumable stream of batches.

`docs/reading.md` has examples. The crops of the JDRL trainer are in `jdrl.data.crops`.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

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


class PatchSample(TypedDict):
    """One patch. In a batch every tensor has one more first axis, and `pair` is a list.

    Attributes:
        blur: (3, H, W) uint8 or uint16 as stored; `channels_last` in memory.
        sharp: As `blur`.
        valid: (1, H, W) bool, with `masks` only.
        flow: (2, H, W) float32 u[blur→sharp], pixels, with `masks` only.
        pair: The pair's id.
        top: First row of the patch in its pair, pixels.
        left: First column, pixels.
    """

    blur: Tensor
    sharp: Tensor
    valid: NotRequired[Tensor]
    flow: NotRequired[Tensor]
    pair: str
    top: int
    left: int


class LoaderOptions(TypedDict, total=False):
    """Processes and memory of the reading of a `PatchStream`; they do not change its batches.

    Attributes:
        workers: Processes that read; they stay alive between epochs. Default 0.
        start: Start method of these: `spawn` (default), or `fork`, which is quicker but must not follow a use of CUDA.
        pin_memory: Whether batches come in page-locked memory. Default False.
    """

    workers: int
    start: str
    pin_memory: bool


class PatchDataset(Dataset[PatchSample]):
    """The patches of a folder of shards, or of one split of it, by number.

    It can be pickled and forked: every process opens its own files.

    Args:
        shards: Folder with `index.json`.
        split: `train`, `val` or `test`; None means all.
        masks: Also read `valid` and `flow`, which halves the rate.
        keep: Selects patches; None keeps all.
        transform: Augmentation, called with every sample; its result replaces the sample.

    Raises:
        InputError: There is no index, no such split, or no patch.
        IntegrityError: A shard is damaged; the message names it.

    Example:
        >>> dataset = PatchDataset("shards", "train", masks=True)
        >>> len(dataset), dataset[0]["blur"].shape, dataset[0]["flow"].dtype
        (2, torch.Size([3, 16, 16]), torch.float32)
    """

    def __init__(
        self,
        shards: Path | str,
        split: str | None = None,
        *,
        masks: bool = False,
        keep: Callable[[Patch], bool] | None = None,
        transform: Callable[[PatchSample], PatchSample] | None = None,
    ) -> None:
        self.reader = ShardReader(shards, split)
        self.patches = tuple(patch for patch in self.reader.patches if keep is None or keep(patch))
        self.masks = masks
        self.transform = transform
        if not self.patches:
            raise InputError(f"{shards} has no patches to read", hint="another split, or a milder `keep`")
        # Forked workers must not inherit open files.
        self.reader.close()

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, number: int) -> PatchSample:
        patch, side = self.patches[number], self.reader.index.patch_size
        window = patch.pair, patch.top, patch.left, side, side
        if self.masks:
            packed = self.reader.read_window(*window)
            sample = _build_sample(patch, packed.blur, packed.sharp)
            sample["valid"] = torch.from_numpy(packed.valid)[None]
            sample["flow"] = _to_channels_first(packed.flow)
        else:
            sample = _build_sample(patch, *self.reader.read_images(*window))
        return sample if self.transform is None else self.transform(sample)


class PatchStream:
    """Shuffled batches of patches, epoch after epoch; one iteration runs to the end of the epoch.

    The sequence of batches depends on the seed, the rank and the number of ranks, never on `workers`. `state_dict`
    holds the position in it; a stream of another process that loads it continues with the next batch. The state is
    the same on all ranks, so one of them may store it for all.

    Args:
        dataset: The patches.
        batch: Patches in a batch of this rank.
        seed: Of the shuffling; the same on all ranks.
        shuffle: See `SampleOrder`.
        drop_last: Whether patches that do not divide evenly are left out, see `SampleOrder`.
        rank: Default: of `torch.distributed` if it is initialised, else of the environment, else 0.
        world_size: As `rank`; give both or none.
        **loading: Worker processes and memory, see `LoaderOptions`.

    Raises:
        InputError: The patches do not fill one batch.
        ValueError: Only one of `rank` and `world_size` is given.

    Example:
        >>> stream = PatchStream(PatchDataset("shards"), batch=1, seed=1)
        >>> for batch in stream:
        ...     state = stream.state_dict()
        >>> batch["sharp"].shape, state["batch_number"], stream.epoch
        (torch.Size([1, 3, 16, 16]), 2, 1)
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
        **loading: Unpack[LoaderOptions],
    ) -> None:
        if (rank is None) != (world_size is None):
            raise ValueError("give both rank and world_size or none")
        position = _rank_and_world_size() if rank is None or world_size is None else (rank, world_size)
        self.order = SampleOrder(len(dataset), batch, seed, shuffle, *position, drop_last)
        self.epoch = 0
        self.batch_number = 0
        if not len(self):
            raise InputError(
                f"{len(dataset)} patches do not fill one batch of {batch} on {position[1]} ranks",
                hint="a smaller batch, or drop_last=False",
            )
        self._content = _fingerprint(dataset.patches)
        self._loader = _build_loader(dataset, _RemainingBatches(self), **loading)

    def __len__(self) -> int:
        return self.order.batches_per_epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the remaining batches of the epoch. A batch counts as read when it is yielded."""
        for batch in self._loader:
            self.batch_number += 1
            yield batch
        self.epoch, self.batch_number = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int | str]:
        """The position of the stream: small, to be stored with a checkpoint."""
        return {"epoch": self.epoch, "batch_number": self.batch_number, **self._identity()}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Moves the stream to the position of `state`.

        Raises:
            InputError: The state belongs to other patches, another seed, batch or number of ranks.
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


def collate(samples: Sequence[PatchSample]) -> dict[str, Any]:
    """Stacks samples to a batch without moving pixels: they stay channels last, as on disk, which is much faster."""
    batch: dict[str, Any] = default_collate(
        [{key: _to_channels_last(value) for key, value in sample.items()} for sample in samples]
    )
    return {key: value.permute(0, 3, 1, 2) if _is_image(value, 4) else value for key, value in batch.items()}


class _RemainingBatches(Sampler[list[int]]):
    """The batches of numbers that a stream has still to read in its epoch."""

    def __init__(self, stream: PatchStream) -> None:
        # A reference cycle would be collected in an order that closes the workers' queues before the workers are
        # told to stop; the loader would then wait 5 s for each of them.
        self.stream: PatchStream = weakref.proxy(stream)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.stream.order.batches(self.stream.epoch, self.stream.batch_number))

    def __len__(self) -> int:
        return self.stream.order.batches_per_epoch - self.stream.batch_number


def _build_loader(
    dataset: PatchDataset,
    batches: _RemainingBatches,
    *,
    workers: int = 0,
    start: str = "spawn",
    pin_memory: bool = False,
) -> DataLoader[PatchSample]:
    """The options are those of `LoaderOptions`."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_limit_threads if workers else None,
        multiprocessing_context=start if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


def _to_channels_last(value: object) -> object:
    return value.permute(1, 2, 0) if isinstance(value, Tensor) and _is_image(value, 3) else value


def _is_image(value: object, axes: int) -> bool:
    return isinstance(value, Tensor) and value.ndim == axes


def _build_sample(patch: Patch, blur: NDArray[Any], sharp: NDArray[Any]) -> PatchSample:
    return {
        "blur": _to_channels_first(blur),
        "sharp": _to_channels_first(sharp),
        "pair": patch.pair,
        "top": patch.top,
        "left": patch.left,
    }


def _to_channels_first(image: NDArray[Any]) -> Tensor:
    """(H, W, C) to (C, H, W), not copied: batching copies anyway."""
    return torch.from_numpy(np.asarray(image)).permute(2, 0, 1)


def _fingerprint(patches: tuple[Patch, ...]) -> str:
    lines = "\n".join(f"{patch.pair} {patch.top} {patch.left}" for patch in patches)
    return fingerprint_text(lines)


def _rank_and_world_size() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return rank_of_environment()


def _limit_threads(worker: int) -> None:
    del worker
    torch.set_num_threads(1)
