"""Writes the shards of a set made of other sets: the pairs in a new order, their chunks copied without decoding."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.packing.reuse import rechoose_patches
from sdd_toolkit.packing.splits import SPLITS
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.records import ShardInfo
from sdd_toolkit.shards.building import ShardTask, assign_to_shards
from sdd_toolkit.shards.folder import check_own_set, finished_shards
from sdd_toolkit.shards.index import VERSION, damaged_shard_error
from sdd_toolkit.shards.schema import StoredPair
from sdd_toolkit.shards.shard_set import publish_set, write_shards
from sdd_toolkit.shards.stored_patches import read_patches
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.packing.patches import Patching
    from sdd_toolkit.shards.building import PackedItem
    from sdd_toolkit.shards.folder import ShardNote
    from sdd_toolkit.shards.index import Index


@dataclass(frozen=True, slots=True)
class Member:
    """A pair of an existing set and its part in the new one.

    Attributes:
        pair: Its location; its new id and record.
        source: The shard that holds it, from the index of its set.
        split: Its new split.
        patching: The rule by which its patches are chosen anew; None: they are copied.
    """

    pair: StoredPair
    source: ShardInfo
    split: str
    patching: Patching | None = None

    @property
    def id(self) -> str:
        """Its new id."""
        return self.pair.id


class CopyTask(ShardTask[Member]):
    """One shard of copied pairs."""

    __slots__ = ()

    def pack(self, item: Member) -> PackedItem:
        """The stored pair, with its patches copied or chosen anew."""
        pair = item.pair
        if item.patching is not None:
            return pair, rechoose_patches(pair, item.patching)
        return pair, tuple(replace(patch, pair=pair.id) for patch in read_patches(pair.path, pair.stored_id))


@dataclass(frozen=True, slots=True)
class _SourceShard:
    path: Path
    shard: ShardInfo


@dataclass(frozen=True, slots=True)
class RearrangedSet:
    """A set made of other sets, to be written.

    Attributes:
        stage: Name of the stage that makes it.
        members: Its pairs, in any order.
        index: Its index without `shards` and `plans`.
        left_out: Number of pairs that it leaves out, by reason.
    """

    stage: str
    members: Sequence[Member]
    index: Index
    left_out: Mapping[str, int] = field(default_factory=dict)


def write_rearranged(
    new: RearrangedSet, out: Path, pairs_per_shard: int, *, executor: str, overwrite: bool, track: Track
) -> int:
    """Writes the shards of a new set into `out`, then its index.

    Args:
        new: The new set.
        out: Its folder.
        pairs_per_shard: Pairs in one file.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Whether another set in `out` is replaced.
        track: Shows progress, one step a pair.

    Returns:
        Number of pairs in shards that an earlier run had finished.

    Raises:
        InputError: `out` holds another set or cannot be written, or workers die.
        IntegrityError: A source shard is missing or damaged; names it.
    """
    workers_of(executor)
    check_own_set(out, (), overwrite=overwrite)
    tasks = _plan_tasks(new.members, out, new.index, pairs_per_shard)
    planned = {task.name: task.fingerprint for task in tasks}
    if not overwrite and any(planned.get(note.shard.name) != note.plan for note in finished_shards(out)):
        raise InputError(f"{out} holds another data set", hint="give another --out, or --overwrite")
    prepare = partial(_with_intact_sources, executor=executor)
    written = write_shards(
        out,
        tasks,
        stage=new.stage,
        executor=executor,
        overwrite=overwrite,
        track=track,
        prepare=prepare,
        sees=_folders(tasks),
    )
    if written.failed:
        lost = ", ".join(failure.id for failure in written.failed)
        raise InputError(
            f"the worker that copies {lost} died",
            hint="run the same again with fewer workers, e.g. --executor local:1",
        )
    publish_set(out, replace(new.index, shards=written.shards, plans=planned))
    return written.skipped


def _plan_tasks(members: Sequence[Member], out: Path, index: Index, pairs_per_shard: int) -> list[CopyTask]:
    tasks = []
    for split in SPLITS:
        header = index.header(split)
        of_split = sorted((member for member in members if member.split == split), key=lambda member: member.id)
        for name, part in assign_to_shards(split, of_split, pairs_per_shard):
            facts = {"format": VERSION, "toolkit": __version__, "name": name, "header": asdict(header)}
            facts["pairs"] = [_facts(member) for member in part]
            fingerprint = fingerprint_text(to_json(facts))
            tasks.append(CopyTask(name, header, fingerprint, part, out))
    return tasks


def _facts(member: Member) -> list[object]:
    """Everything that the bytes of a copied pair depend on."""
    patching = None if member.patching is None else asdict(member.patching)
    return [member.source.sha256, member.pair.stored_id, to_json(member.pair.record), member.pair.patching, patching]


def _with_intact_sources(tasks: list[CopyTask], notes: Mapping[str, ShardNote], executor: str) -> list[CopyTask]:
    """The same tasks, after the SHA-256 of every shard they copy from was checked."""
    sources = {member.pair.path: member.source for task in tasks for member in task.items}
    shards = [_SourceShard(path, shard) for path, shard in sorted(sources.items())]
    for outcome in run_tasks(_damage, shards, executor, access=FileAccess(_folders(tasks))):
        if outcome.result != "":
            raise damaged_shard_error(str(outcome.task.path), outcome.result or "the worker that read it died")
    return tasks


def _folders(tasks: Sequence[CopyTask]) -> tuple[Path, ...]:
    """The folders of the shards that pairs are copied from."""
    return tuple(sorted({member.pair.path.parent.resolve() for task in tasks for member in task.items}))


def _damage(source: _SourceShard) -> str:
    """The difference between a shard's bytes and the index; empty if there is none."""
    try:
        size = source.path.stat().st_size
        if size != source.shard.bytes:
            return f"{size} bytes, the index says {source.shard.bytes}"
        return "" if sha256_of(source.path) == source.shard.sha256 else "SHA-256 differs from the index"
    except OSError as error:
        return error.strerror or str(error)
