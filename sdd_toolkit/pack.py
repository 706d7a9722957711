"""The stage that develops kept pairs at full size, brings the blurred frame onto the sharp one and writes shards.

A shard is built by one worker from start to end: `NAME.h5.partial`, closed, synced, hashed, renamed, then noted in
`NAME.h5.json`. The index is written last and makes the notes superfluous. So a killed run leaves whole shards with
notes, or nothing, and the next run takes over whatever the plan still wants.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sdd_toolkit import __version__, lens_correction
from sdd_toolkit.config import Section
from sdd_toolkit.develop import Encoding
from sdd_toolkit.development import DevelopConfig, LensCorrection
from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.executor import abandoned, on_cluster, run_tasks, workers_of
from sdd_toolkit.files import inside, replacing, sha256_of
from sdd_toolkit.hot_pixel_map import HotPixelMap, beside
from sdd_toolkit.manifest import Manifest, reject_counts, to_json
from sdd_toolkit.manifest import read as read_manifest
from sdd_toolkit.pack_pair import pack_pair
from sdd_toolkit.patches import patches_of
from sdd_toolkit.progress import silent
from sdd_toolkit.shards.folder import Note, clear, intact, publish, strays, write_note
from sdd_toolkit.shards.index import (
    INDEX_NAME,
    TRANSFER,
    VERSION,
    Brightness,
    FailedPair,
    Index,
    ShardHeader,
    Warp,
)
from sdd_toolkit.shards.schema import PackedPair, Patch
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.splits import SPLITS, SplitConfig, assign
from sdd_toolkit.stages import Job, altered
from sdd_toolkit.types import PairRecord, Reason, Report, ShardInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sdd_toolkit.locations import Place
    from sdd_toolkit.progress import Track

_MEMORY_HINT = "run the same again with fewer workers, e.g. --executor local:1"


class PackConfig(Section):
    """How kept pairs become shards, section `[pack]`."""

    name: str = Field(default="defocus-pairs", min_length=1, description="Name of the data set.")
    encoding: Encoding = Field(default=Encoding.SRGB8, description="srgb8, srgb16 or linear16.")
    codec: Literal["bitshuffle-lz4", "gzip", "none"] = Field(
        default="bitshuffle-lz4", description="Compression of the chunks; gzip and none need no HDF5 plugin to read."
    )
    pairs_per_shard: int = Field(default=16, ge=1, description="Pairs in one HDF5 file.")
    patch_size: int = Field(default=512, ge=16, description="Edge of the training patches in packed px.")
    train_overlap: float = Field(
        default=0.6, ge=0, le=0.95, description="Overlap of training patches; others have none."
    )
    warp: Warp = Field(
        default=Warp.HOMOGRAPHY,
        description="homography, or homography+flow: the residual flow is applied too, in the same resampling.",
    )
    brightness: Brightness = Field(
        default=Brightness.GAIN,
        description="gain, or full: colour gain, vignetting and offset too; to the blurred frame, in linear light.",
    )
    min_valid_fraction: float = Field(
        default=1.0, ge=0, le=1, description="Patches with a smaller share of valid pixels are left out."
    )
    min_size_px: int = Field(
        default=256, ge=8, description="Pairs that overlap on a smaller box of packed px are left out: too_small."
    )
    split: SplitConfig = Field(default=SplitConfig(), description="How scenes are shared out.")


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard to be: its name says its split, its number and how many there are.

    Attributes:
        name: File name.
        split: Its split.
        records: Its pairs, sorted by id.
        plan: Fingerprint of everything its bytes depend on.
    """

    name: str
    split: str
    records: tuple[PairRecord, ...]
    plan: str


@dataclass(frozen=True, slots=True)
class _Task:
    plan: ShardPlan
    root: Path
    folder: Path
    out: Place
    config: PackConfig
    develop: DevelopConfig
    hot_pixels: HotPixelMap
    killers: tuple[FailedPair, ...] = ()


def run(
    manifest: Path,
    out: Place,
    config: PackConfig,
    *,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Packs the kept pairs of a filtered manifest into the folder `out`: shards, then `index.json`.

    Pairs that cannot be packed are listed in the index with their reason; a later run tries them again. Shards
    that an earlier run finished and the plan still holds are kept after their hash is checked.

    Args:
        manifest: Written by `sdd filter`.
        out: Folder of the shards, on disk or in a store; shards of another plan in it are removed.
        config: See `PackConfig`.
        develop: How RAW files are developed.
        executor: See `sdd_toolkit.executor`; each worker holds one pair in memory.
        overwrite: Keep nothing of an earlier run.
        track: Shows progress, one step a pair.

    Raises:
        ManifestError: Not a manifest, not filtered, or a path leaves its root.
        InputError: No pair to pack, `out` cannot be written, it holds an index of an unknown version, or lenses that
            are to be corrected are not known.
        ConfigError: The split lists or the executor's name do not fit.
    """
    started = time.monotonic()
    workers_of(executor)
    source = read_manifest(manifest)
    kept = _kept(source, manifest)
    if not kept:
        clear(out, {})
        reasons = ", ".join(f"{count} {reason}" for reason, count in reject_counts(source.records).items())
        raise InputError(
            f"{manifest} keeps none of its {len(source.records)} pairs" + (f" ({reasons})" if reasons else ""),
            hint="`sdd report` shows what spoke against every pair and file",
        )
    if develop.lens_correction is LensCorrection.LENSFUN:
        lens_correction.check_known(kept)
    hot_pixels = beside(manifest, develop)
    splits = assign((record.scene for record in kept), config.split, {record.scene for record in source.records})
    plans = plan_shards(kept, splits, config, develop, hot_pixels)
    notes: dict[str, Note] = {}
    if not overwrite:
        names = {plan.name: tuple(record.id for record in plan.records) for plan in plans}
        notes = intact(out, {plan.name: plan.plan for plan in plans}, names)
    tasks = [
        _Task(plan, source.root, manifest.parent.resolve(), out.resolve(), config, develop, hot_pixels)
        for plan in plans
        if plan.name not in notes
    ]
    skipped = sum(len(note.shard.pairs) for note in notes.values())
    if tasks or strays(out, notes):
        clear(out, notes)
    with track("pack", sum(len(task.plan.records) for task in tasks)) as advance:
        for note in _built(tasks, executor):
            notes[note.shard.name] = note
            advance(len(note.shard.pairs) + len(note.failed), note.shard.name)
    index = _index(config, develop, splits, [notes[plan.name] for plan in plans])
    if not any(shard.pairs for shard in index.shards):
        clear(out, {})
        first = index.failed[0]
        raise InputError(
            f"none of the {len(kept)} kept pairs could be packed; {first.id}: {first.reason.value} {first.detail}",
            hint="are the source files where the manifest says?",
        )
    publish(out, index)
    return Report(
        stage="pack",
        total=len(kept),
        done=sum(len(shard.pairs) for shard in index.shards) - skipped,
        skipped=skipped,
        rejected=dict(sorted(Counter(failure.reason.value for failure in index.failed).items())),
        seconds=time.monotonic() - started,
        outputs=(str(out / INDEX_NAME),),
    )


def plan_shards(
    records: Sequence[PairRecord],
    splits: Mapping[str, str],
    config: PackConfig,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    hot_pixels: HotPixelMap = HotPixelMap(),  # noqa: B008 frozen
) -> tuple[ShardPlan, ...]:
    """Which pair goes into which shard: by split, then in the order of ids.

    Args:
        records: The pairs to pack.
        splits: The split of every scene.
        config: See `PackConfig`.
        develop: How RAW files are developed.
        hot_pixels: What is repaired before.
    """
    developed: dict[str, object] = develop.model_dump(mode="json", exclude={"hot_pixels"})
    if develop.lens_correction is not LensCorrection.NONE:
        developed["lensfunpy"] = lens_correction.version()
    values = config.model_dump(mode="json", exclude={"name", "split", "pairs_per_shard"})
    plans = []
    for split in SPLITS:
        members = sorted((r for r in records if splits[r.scene] == split), key=lambda record: record.id)
        count = -(-len(members) // config.pairs_per_shard)
        for number in range(count):
            mine = tuple(members[number * config.pairs_per_shard : (number + 1) * config.pairs_per_shard])
            name = f"{split}-{number:05d}-of-{count:05d}.h5"
            facts = {"format": VERSION, "toolkit": __version__, "config": values, "develop": developed}
            facts |= {"name": name, "hot_pixels": [hot_pixels.inputs(record) for record in mine]}
            facts["records"] = list(mine)
            plan = hashlib.sha256(to_json(facts).encode()).hexdigest()[:16]
            plans.append(ShardPlan(name=name, split=split, records=mine, plan=plan))
    return tuple(plans)


def _kept(source: Manifest, path: Path) -> tuple[PairRecord, ...]:
    for record in source.records:
        if record.verdict is None:
            raise ManifestError(f"{path}: the pair {record.id!r} has no verdict", hint="run `sdd filter` first")
    kept = tuple(record for record in source.records if record.verdict is not None and record.verdict.keep)
    for record in kept:
        source.locate(record.blur)
        source.locate(record.sharp)
        if record.alignment is not None and record.alignment.flow_file is not None:
            inside(path.parent, record.alignment.flow_file)
    return kept


def _built(tasks: Sequence[_Task], executor: str) -> Iterator[Note]:
    """The notes of the shards as they get ready. A pair that kills its worker is found and left out."""
    dead = []
    for outcome in run_tasks(_build_shard, tasks, executor, pairs=_pairs_of, sees=_seen(tasks)):
        if outcome.result is None:
            dead.append(outcome.task)
        else:
            yield outcome.result
    for task in dead:
        alone = [replace(task, plan=replace(task.plan, records=(record,))) for record in task.plan.records]
        killers = tuple(
            FailedPair(trial.task.plan.records[0].id, Reason.TIMED_OUT if trial.timed_out else Reason.WORKER_DIED)
            for trial in run_tasks(_try, alone, executor)
            if trial.result is None
        )
        for outcome in run_tasks(_build_shard, [replace(task, killers=killers)], executor, pairs=_pairs_of):
            if outcome.result is None:
                raise InputError(f"the worker that writes {task.plan.name} dies again and again", hint=_MEMORY_HINT)
            yield outcome.result


def _pairs_of(task: _Task) -> int:
    return len(task.plan.records)


def _seen(tasks: Sequence[_Task]) -> tuple[Path, ...]:
    return (tasks[0].root, tasks[0].folder) if tasks else ()


def _try(task: _Task) -> bool:
    return isinstance(_packed(task, task.plan.records[0]), PackedPair)


def _build_shard(task: _Task) -> Note:
    config, plan = task.config, task.plan
    failed: list[FailedPair] = []

    def pairs() -> Iterator[tuple[PackedPair, Sequence[Patch]]]:
        overlap = config.train_overlap if plan.split == "train" else 0.0
        for record in plan.records:
            pair = _packed(task, record)
            if isinstance(pair, FailedPair):
                failed.append(pair)
            else:
                yield pair, patches_of(pair, config.patch_size, overlap, config.min_valid_fraction)

    path = task.out / plan.name
    header = ShardHeader(
        plan.split,
        config.encoding,
        config.patch_size,
        config.codec,
        config.warp,
        config.brightness,
        task.develop.demosaic,
        task.develop.lens_correction,
    )
    with replacing(path, shared=on_cluster()) as partial:
        ids, patches = write_shard(partial, header, pairs())
        if abandoned():
            raise InputError(f"nobody waits for {plan.name} any more", hint="run the same again")
        size, digest = partial.stat().st_size, sha256_of(partial)
    shard = ShardInfo(plan.name, plan.split, pairs=ids, patches=patches, bytes=size, sha256=digest)
    note = Note(plan=plan.plan, shard=shard, failed=tuple(failed))
    write_note(task.out, note)
    return note


def _packed(task: _Task, record: PairRecord) -> PackedPair | FailedPair:
    for killer in task.killers:
        if killer.id == record.id:
            return killer
    job = Job(record=record, root=task.root, folder=task.folder, config=task.config)
    if change := altered(job):
        return FailedPair(record.id, Reason.CHANGED, change)
    pair = pack_pair(
        record,
        job.locate(record.blur),
        job.locate(record.sharp),
        task.folder,
        task.config.encoding,
        task.config.min_size_px,
        warp_by=task.config.warp,
        brightness=task.config.brightness,
        develop=task.develop,
        hot_pixels=task.hot_pixels,
    )
    if isinstance(pair, FailedPair):
        # Where the sources lie on this machine is nobody's business and would make bytes depend on it.
        return replace(pair, detail=pair.detail.replace(f"{task.root}/", ""))
    return pair


def _index(config: PackConfig, develop: DevelopConfig, splits: Mapping[str, str], notes: Sequence[Note]) -> Index:
    return Index(
        name=config.name,
        encoding=config.encoding,
        transfer=TRANSFER[config.encoding],
        patch_size=config.patch_size,
        codec=config.codec,
        toolkit=__version__,
        config=config.fingerprint(),
        splits={split: tuple(sorted(s for s in splits if splits[s] == split)) for split in SPLITS},
        shards=tuple(note.shard for note in notes),
        plans={note.shard.name: note.plan for note in notes},
        failed=tuple(failure for note in notes for failure in note.failed),
        warp=config.warp,
        brightness=config.brightness,
        demosaic=develop.demosaic,
        lens_correction=develop.lens_correction,
        reduction=develop.reduction,
        transfer_parameters=config.encoding.transfer,
    )
