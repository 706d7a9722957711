"""One worker makes one shard: how pairs are cut into shards, how a shard is finished, how a deadly pair is found.

Shared by what packs photographs, what imports other data sets and what makes sets of sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.executor import is_orphaned, on_cluster, run_tasks
from sdd_toolkit.records import Reason, ShardInfo
from sdd_toolkit.shards.folder import ShardNote, write_note
from sdd_toolkit.shards.index import FailedPair
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import replace_atomically, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from sdd_toolkit.shards.index import ShardHeader
    from sdd_toolkit.shards.schema import PackedPair, Patch, StoredPair
    from sdd_toolkit.storage.locations import Location

Item = TypeVar("Item")
BuiltT = TypeVar("BuiltT")
_MEMORY_HINT = "run the same again with fewer workers, e.g. --executor local:1"


class ShardTask(Protocol):
    """One shard to be, as it is handed to a worker."""

    @property
    def name(self) -> str:
        """Its file name."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The pairs it is to hold."""

    def only(self, pair_id: str) -> Self:
        """The same with one pair."""

    def without(self, lost: tuple[FailedPair, ...]) -> Self:
        """The same, these pairs left out with their reasons."""


Task = TypeVar("Task", bound=ShardTask)


def assign_to_shards(split: str, items: Sequence[Item], per_shard: int) -> list[tuple[str, tuple[Item, ...]]]:
    """The shards of a split: their file names, which say how many there are, and what goes into each."""
    count = -(-len(items) // per_shard)
    return [
        (f"{split}-{number:05d}-of-{count:05d}.h5", tuple(items[number * per_shard : (number + 1) * per_shard]))
        for number in range(count)
    ]


def finalise(
    out: Location,
    name: str,
    plan: str,
    header: ShardHeader,
    pairs: Iterable[tuple[PackedPair | StoredPair, Sequence[Patch]]],
    failed: Sequence[FailedPair] = (),
) -> ShardNote:
    """Writes one shard, whole or not at all, and notes that it is finished.

    Args:
        out: Folder of the shards.
        name: The shard's file name.
        plan: Fingerprint of everything its bytes depend on.
        header: What it says of itself.
        pairs: What goes into it, taken one at a time.
        failed: The pairs that do not; may grow while `pairs` are taken.

    Raises:
        InputError: The disk is full or cannot be written, or nobody waits for the shard any more.
        IntegrityError: A stored pair cannot be taken over.
    """
    with replace_atomically(out / name, shared=on_cluster()) as partial:
        ids, patches = write_shard(partial, header, pairs)
        if is_orphaned():
            raise InputError(f"nobody waits for {name} any more", hint="run the same again")
        size, digest = partial.stat().st_size, sha256_of(partial)
    shard = ShardInfo(name, header.split, pairs=ids, patches=patches, bytes=size, sha256=digest)
    note = ShardNote(plan=plan, shard=shard, failed=tuple(failed))
    write_note(out, note)
    return note


def build_shard(
    build: Callable[[Task], BuiltT],
    packs: Callable[[Task], bool],
    tasks: Sequence[Task],
    executor: str,
    sees: Sequence[Path] = (),
) -> Iterator[BuiltT]:
    """What `build` returns for each shard, as they get ready, the largest begun first.

    A pair that kills its worker, or takes too long, is found by trying the pairs of its shard one by one, and left out.

    Args:
        build: Makes a whole shard; picklable, as are the tasks.
        packs: Makes the only pair of a task, and throws it away.
        tasks: The shards.
        executor: See `sdd_toolkit.execution.executor`.
        sees: Paths that every worker must see.

    Raises:
        InputError: A worker dies again and again, or what `run_tasks` raises.
    """
    dead = []
    largest_first = sorted(tasks, key=_pairs_of, reverse=True)
    for outcome in run_tasks(build, largest_first, executor, pairs=_pairs_of, sees=sees):
        if outcome.result is None:
            dead.append(outcome.task)
        else:
            yield outcome.result
    for task in dead:
        trials = run_tasks(packs, [task.only(pair_id) for pair_id in task.ids], executor)
        lost = tuple(
            FailedPair(trial.task.ids[0], Reason.TIMED_OUT if trial.timed_out else Reason.WORKER_DIED)
            for trial in trials
            if trial.result is None
        )
        for outcome in run_tasks(build, [task.without(lost)], executor, pairs=_pairs_of):
            if outcome.result is None:
                raise InputError(f"the worker that writes {task.name} dies again and again", hint=_MEMORY_HINT)
            yield outcome.result


def _pairs_of(task: ShardTask) -> int:
    return len(task.ids)
