"""Builds shards in worker processes, one shard a task; a pair that crashes its worker is isolated and left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.executor import is_orphaned, on_cluster, run_tasks
from sdd_toolkit.execution.landlock import FileAccess
from sdd_toolkit.records import Reason, ShardInfo
from sdd_toolkit.shards.folder import ShardNote, write_note
from sdd_toolkit.shards.index import FailedPair, ShardHeader
from sdd_toolkit.shards.schema import PackedPair, Patch, StoredPair
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import replace_atomically, sha256_of
from sdd_toolkit.storage.locations import Location

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class ShardItem(Protocol):
    """The input of one pair of a shard."""

    @property
    def id(self) -> str:
        """The pair's id."""


Item = TypeVar("Item")
ItemT = TypeVar("ItemT", bound=ShardItem)
PackedItem: TypeAlias = "tuple[PackedPair | StoredPair, Sequence[Patch]] | FailedPair"
_MEMORY_HINT = "run the same again with fewer workers, e.g. --executor local:1"


@dataclass(frozen=True, slots=True)
class ShardTask(ABC, Generic[ItemT]):
    """One shard to build, as it is sent to a worker: a subclass defines how one of its pairs is packed.

    Attributes:
        name: File name of the shard.
        header: Its file attributes.
        fingerprint: 16 hex digits over everything its bytes depend on.
        items: The input of each pair, in the order of the shard.
        out: Folder of the shards.
        lost: Pairs that crashed an earlier worker: left out, with their reasons.
    """

    name: str
    header: ShardHeader
    fingerprint: str
    items: tuple[ItemT, ...]
    out: Location
    lost: tuple[FailedPair, ...] = field(default=(), kw_only=True)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the pairs, in the order of the shard."""
        return tuple(item.id for item in self.items)

    @abstractmethod
    def pack(self, item: ItemT) -> PackedItem:
        """One pair with its patches, or the reason why it is left out; runs in a worker."""


@dataclass(frozen=True, slots=True)
class BuiltShard:
    """A shard that a worker has just finished.

    Attributes:
        note: The note that lies beside it.
        copied: Number of its pairs that were copied from another shard.
    """

    note: ShardNote
    copied: int


def assign_to_shards(split: str, items: Sequence[Item], per_shard: int) -> list[tuple[str, tuple[Item, ...]]]:
    """The shards of a split as (file name, items); the name holds the shard's number and their count."""
    count = -(-len(items) // per_shard)
    return [
        (f"{split}-{number:05d}-of-{count:05d}.h5", tuple(items[number * per_shard : (number + 1) * per_shard]))
        for number in range(count)
    ]


def build_shard(task: ShardTask[Any]) -> BuiltShard:
    """Writes one shard, whole or not at all, and then its note; runs in a worker.

    Raises:
        InputError: The disk is full or cannot be written, or the main process is gone.
        IntegrityError: A stored pair cannot be copied.
    """
    failed: list[FailedPair] = []
    copied: list[str] = []
    lost = {failure.id: failure for failure in task.lost}

    def pairs() -> Iterator[tuple[PackedPair | StoredPair, Sequence[Patch]]]:
        for item in task.items:
            packed = lost.get(item.id) or task.pack(item)
            if isinstance(packed, FailedPair):
                failed.append(packed)
                continue
            if isinstance(packed[0], StoredPair):
                copied.append(item.id)
            yield packed

    with replace_atomically(task.out / task.name, shared=on_cluster()) as partial:
        ids, patches = write_shard(partial, task.header, pairs())
        if is_orphaned():
            raise InputError(f"{task.name} is dropped: the main process is gone", hint="run the same again")
        size, digest = partial.stat().st_size, sha256_of(partial)
    shard = ShardInfo(task.name, task.header.split, pairs=ids, patches=patches, bytes=size, sha256=digest)
    note = ShardNote(plan=task.fingerprint, shard=shard, failed=tuple(failed))
    write_note(task.out, note)
    return BuiltShard(note, len(copied))


def build_shards(tasks: Sequence[ShardTask[Any]], executor: str, sees: Sequence[Path] = ()) -> Iterator[BuiltShard]:
    """Builds all shards, the largest first, and yields each as it is finished.

    After a worker dies or exceeds its time-out, the pairs of its shard are packed one by one in workers of their own;
    those that fail again are left out, and the shard is built without them.

    Args:
        tasks: The shards.
        executor: See `sdd_toolkit.execution.executor`.
        sees: Paths that workers read, and that must exist for every one.

    Raises:
        InputError: A worker dies although every pair alone can be packed, or as `run_tasks`.
    """
    access = FileAccess(tuple(sees), tuple({task.out for task in tasks}))
    dead = []
    largest_first = sorted(tasks, key=_pair_count, reverse=True)
    for outcome in run_tasks(build_shard, largest_first, executor, pairs=_pair_count, sees=sees, access=access):
        if outcome.result is None:
            dead.append(outcome.task)
        else:
            yield outcome.result
    for task in dead:
        alone = [replace(task, items=(item,)) for item in task.items]
        lost = tuple(
            FailedPair(trial.task.ids[0], Reason.TIMED_OUT if trial.timed_out else Reason.WORKER_DIED)
            for trial in run_tasks(_can_pack, alone, executor, access=access)
            if trial.result is None
        )
        for outcome in run_tasks(build_shard, [replace(task, lost=lost)], executor, pairs=_pair_count, access=access):
            if outcome.result is None:
                raise InputError(f"the worker that writes {task.name} dies again and again", hint=_MEMORY_HINT)
            yield outcome.result


def _can_pack(task: ShardTask[Any]) -> bool:
    """Packs the only pair of a task and drops the result."""
    return not isinstance(task.pack(task.items[0]), FailedPair)


def _pair_count(task: ShardTask[Any]) -> int:
    return len(task.items)
