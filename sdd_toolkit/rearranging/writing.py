"""The shards of a set that is made of other sets: their pairs in another order, their chunks as they are.

One worker writes one shard, as when packing, and a killed run is resumed the same way: from the notes beside them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.packing.reuse import rechoose_patches
from sdd_toolkit.packing.splits import SPLITS
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.records import ShardInfo
from sdd_toolkit.shards.building import assign_to_shards, finalise
from sdd_toolkit.shards.folder import (
    ShardNote,
    finished_shards,
    intact_shards,
    publish_index,
    remove_unlisted,
    unlisted_shards,
)
from sdd_toolkit.shards.index import VERSION, damaged_shard_error
from sdd_toolkit.shards.schema import StoredPair
from sdd_toolkit.shards.stored_patches import read_patches
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.packing.patches import Patching
    from sdd_toolkit.shards.index import Index, ShardHeader
    from sdd_toolkit.shards.schema import Patch


@dataclass(frozen=True, slots=True)
class Member:
    """A pair of a set that is there, and what becomes of it.

    Attributes:
        pair: Where it lies; its new id and record.
        source: The shard it lies in, as its index says.
        split: Its new split.
        patching: How its patches are chosen anew; None: it keeps those it has.
    """

    pair: StoredPair
    source: ShardInfo
    split: str
    patching: Patching | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    name: str
    split: str
    members: tuple[Member, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Task:
    plan: _Plan
    out: Path
    header: ShardHeader


@dataclass(frozen=True, slots=True)
class _Whole:
    path: Path
    shard: ShardInfo


def write_rearranged(
    stage: str,
    members: Sequence[Member],
    out: Path,
    index: Index,
    pairs_per_shard: int,
    *,
    executor: str,
    overwrite: bool,
    track: Track,
) -> int:
    """Writes the members' shards into `out`, then `index` with them in it.

    Args:
        stage: Its name, for the progress.
        members: The pairs, in any order.
        out: Folder of the new set.
        index: What the new index says besides `shards` and `plans`.
        pairs_per_shard: Pairs in one file.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Whether another set in `out` may go.
        track: Shows progress, one step a pair.

    Returns:
        How many pairs were there already.

    Raises:
        InputError: `out` holds another set or cannot be written.
        IntegrityError: A source shard is missing or damaged; names it.
    """
    workers_of(executor)
    plans = _plans(members, index, pairs_per_shard)
    wanted = {plan.name: plan.fingerprint for plan in plans}
    notes: dict[str, ShardNote] = {}
    if not overwrite:
        if any(wanted.get(note.shard.name) != note.plan for note in finished_shards(out)):
            raise InputError(f"{out} holds another data set", hint="give another --out, or --overwrite")
        notes = intact_shards(out, wanted, {plan.name: _ids(plan) for plan in plans})
    todo = [plan for plan in plans if plan.name not in notes]
    skipped = sum(len(note.shard.pairs) for note in notes.values())
    _check_sources(todo, executor)
    if todo or unlisted_shards(out, notes):
        remove_unlisted(out, notes)
    tasks = [_Task(plan, out, index.header(plan.split)) for plan in todo]
    with track(stage, len(members) - skipped) as advance:
        for outcome in run_tasks(_build, tasks, executor):
            if outcome.result is None:
                what = f"the worker that writes {outcome.task.plan.name} died"
                raise InputError(what, hint="run the same again with fewer workers, e.g. --executor local:1")
            notes[outcome.task.plan.name] = outcome.result
            advance(len(outcome.result.shard.pairs), outcome.task.plan.name)
    shards = tuple(notes[plan.name].shard for plan in plans)
    publish_index(out, replace(index, shards=shards, plans=wanted))
    return skipped


def _plans(members: Sequence[Member], index: Index, pairs_per_shard: int) -> tuple[_Plan, ...]:
    plans = []
    for split in SPLITS:
        mine = sorted((each for each in members if each.split == split), key=lambda each: each.pair.id)
        for name, part in assign_to_shards(split, mine, pairs_per_shard):
            facts = {"format": VERSION, "toolkit": __version__, "name": name, "header": asdict(index.header(split))}
            facts["pairs"] = [_facts(member) for member in part]
            fingerprint = fingerprint_text(to_json(facts))
            plans.append(_Plan(name, split, part, fingerprint))
    return tuple(plans)


def _facts(member: Member) -> list[object]:
    chosen = None if member.patching is None else asdict(member.patching)
    return [member.source.sha256, member.pair.stored_id, to_json(member.pair.record), member.pair.patching, chosen]


def _ids(plan: _Plan) -> tuple[str, ...]:
    return tuple(member.pair.id for member in plan.members)


def _check_sources(plans: Sequence[_Plan], executor: str) -> None:
    needed = {member.pair.path: member.source for plan in plans for member in plan.members}
    tasks = [_Whole(path, shard) for path, shard in sorted(needed.items())]
    for outcome in run_tasks(_fault, tasks, executor):
        if outcome.result != "":
            raise damaged_shard_error(str(outcome.task.path), outcome.result or "the worker that read it died")


def _fault(task: _Whole) -> str:
    """What is wrong with the bytes of a shard; empty if nothing is."""
    try:
        size = task.path.stat().st_size
        if size != task.shard.bytes:
            return f"{size} bytes, the index says {task.shard.bytes}"
        return "" if sha256_of(task.path) == task.shard.sha256 else "SHA-256 differs from the index"
    except OSError as error:
        return error.strerror or str(error)


def _build(task: _Task) -> ShardNote:
    def pairs() -> Iterator[tuple[StoredPair, Sequence[Patch]]]:
        for member in task.plan.members:
            yield member.pair, _patches(member)

    return finalise(task.out, task.plan.name, task.plan.fingerprint, task.header, pairs())


def _patches(member: Member) -> tuple[Patch, ...]:
    pair = member.pair
    if member.patching is not None:
        return rechoose_patches(pair, member.patching)
    return tuple(replace(patch, pair=pair.id) for patch in read_patches(pair.path, pair.stored_id))
