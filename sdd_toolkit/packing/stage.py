"""The stage that develops kept pairs at full size, brings the blurred frame onto the sharp one and writes shards.

A shard is built by one worker from start to end: `NAME.h5.partial`, closed, synced, hashed, renamed, then noted in
`NAME.h5.json`. The index is written last and makes the notes superfluous. So a killed run leaves whole shards with
notes, or nothing, and the next run takes over whatever the plan still wants.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.calibration import lensfun_profile
from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap, load_for_manifest
from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.imaging.perceptual_hash import hash_of
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.pair import pack_pair
from sdd_toolkit.packing.plan import ShardPlan, plan_shards
from sdd_toolkit.packing.reuse import pixel_fingerprint, rechoose_patches, reusable_pairs
from sdd_toolkit.packing.splits import SPLITS, assign_splits
from sdd_toolkit.pipeline import configurations
from sdd_toolkit.pipeline.manifest import Manifest, read_manifest, reject_counts
from sdd_toolkit.pipeline.stage_runner import Job, describe_change
from sdd_toolkit.raw.development import DevelopConfig, LensCorrection
from sdd_toolkit.records import PairRecord, Reason, Report
from sdd_toolkit.shards import superseded
from sdd_toolkit.shards.building import build_shard, finalise
from sdd_toolkit.shards.folder import ShardNote, intact_shards, publish_index, remove_unlisted, unlisted_shards
from sdd_toolkit.shards.index import (
    INDEX_NAME,
    TRANSFER,
    FailedPair,
    Index,
    ShardHeader,
)
from sdd_toolkit.shards.library_versions import library_versions
from sdd_toolkit.shards.schema import PackedPair, Patch, ReuseKeys, StoredPair
from sdd_toolkit.storage.files import resolve_inside
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.shards.superseded import ReusablePair
    from sdd_toolkit.storage.locations import Location


@dataclass(frozen=True, slots=True)
class _Task:
    plan: ShardPlan
    root: Path
    folder: Path
    out: Location
    config: PackConfig
    develop: DevelopConfig
    hot_pixels: HotPixelMap
    sources: Mapping[str, tuple[ReusablePair, ...]] = field(default_factory=dict)
    lost: tuple[FailedPair, ...] = ()

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(record.id for record in self.plan.records)

    def only(self, pair_id: str) -> _Task:
        mine = tuple(record for record in self.plan.records if record.id == pair_id)
        return replace(self, plan=replace(self.plan, records=mine))

    def without(self, lost: tuple[FailedPair, ...]) -> _Task:
        return replace(self, lost=lost)


@dataclass(frozen=True, slots=True)
class _Built:
    note: ShardNote
    copied: int


def pack_dataset(
    manifest: Path,
    out: Location,
    config: PackConfig,
    *,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Packs the kept pairs of a filtered manifest into the folder `out`: shards, then `index.json`.

    Pairs that cannot be packed are listed in the index with their reason; a later run tries them again. Shards
    that an earlier run finished and the plan still holds are kept after their hash is checked. Of other shards those
    pairs are taken over, chunk by chunk, whose pixels would come out the same; the others are developed.

    Args:
        manifest: Written by `sdd filter`.
        out: Folder of the shards, on disk or in a store; shards of another plan in it are removed.
        config: See `PackConfig`.
        develop: How RAW files are developed.
        executor: See `sdd_toolkit.execution.executor`; each worker holds one pair in memory.
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
    kept = _kept_records(source, manifest)
    if not kept:
        remove_unlisted(out, {})
        superseded.delete_all(out)
        reasons = ", ".join(f"{count} {reason}" for reason, count in reject_counts(source.records).items())
        raise InputError(
            f"{manifest} keeps none of its {len(source.records)} pairs" + (f" ({reasons})" if reasons else ""),
            hint="`sdd report` shows what spoke against every pair and file",
        )
    if develop.lens_correction is LensCorrection.LENSFUN:
        lensfun_profile.check_known(kept)
    hot_pixels = load_for_manifest(manifest, develop)
    splits = assign_splits((record.scene for record in kept), config.split, {record.scene for record in source.records})
    plans = plan_shards(kept, splits, config, develop, hot_pixels)
    notes: dict[str, ShardNote] = {}
    if not overwrite:
        names = {plan.name: tuple(record.id for record in plan.records) for plan in plans}
        notes = intact_shards(out, {plan.name: plan.plan for plan in plans}, names)
    todo = [plan for plan in plans if plan.name not in notes]
    skipped = sum(len(note.shard.pairs) for note in notes.values())
    if overwrite:
        superseded.delete_all(out)
    elif todo:
        superseded.move_aside(out, notes)
    if todo or unlisted_shards(out, notes):
        remove_unlisted(out, notes)
    stored = reusable_pairs(out, executor) if todo else {}
    folder = manifest.parent.resolve()
    tasks = [
        _Task(plan, source.root, folder, out.resolve(), config, develop, hot_pixels, _of(plan, stored)) for plan in todo
    ]
    copied = 0
    with track("pack", sum(len(task.plan.records) for task in tasks)) as advance:
        for built in build_shard(_build_shard, _try, tasks, executor, sees=(source.root, folder)):
            note = notes[built.note.shard.name] = built.note
            copied += built.copied
            advance(len(note.shard.pairs) + len(note.failed), note.shard.name)
    configs = configurations.configurations_of(kept, configurations.read_configurations(manifest.parent))
    index = _index(config, develop, splits, [notes[plan.name] for plan in plans], configs)
    if not any(shard.pairs for shard in index.shards):
        remove_unlisted(out, {})
        superseded.delete_all(out)
        first = index.failed[0]
        raise InputError(
            f"none of the {len(kept)} kept pairs could be packed; {first.id}: {first.reason.value} {first.detail}",
            hint="are the source files where the manifest says?",
        )
    publish_index(out, index)
    superseded.delete_all(out)
    return Report(
        stage="pack",
        total=len(kept),
        done=sum(len(shard.pairs) for shard in index.shards) - skipped,
        skipped=skipped,
        rejected=dict(sorted(Counter(failure.reason.value for failure in index.failed).items())),
        seconds=time.monotonic() - started,
        outputs=(str(out / INDEX_NAME),),
        copied=copied,
    )


def _kept_records(source: Manifest, path: Path) -> tuple[PairRecord, ...]:
    for record in source.records:
        if record.verdict is None:
            raise ManifestError(f"{path}: the pair {record.id!r} has no verdict", hint="run `sdd filter` first")
    kept = tuple(record for record in source.records if record.verdict is not None and record.verdict.keep)
    for record in kept:
        source.locate(record.blur)
        source.locate(record.sharp)
        if record.alignment is not None and record.alignment.flow_file is not None:
            resolve_inside(path.parent, record.alignment.flow_file)
    return kept


def _of(plan: ShardPlan, stored: Mapping[str, tuple[ReusablePair, ...]]) -> Mapping[str, tuple[ReusablePair, ...]]:
    return {record.id: stored[record.id] for record in plan.records if record.id in stored}


def _try(task: _Task) -> bool:
    return not isinstance(_packed(task, task.plan.records[0]), FailedPair)


def _build_shard(task: _Task) -> _Built:
    config, plan = task.config, task.plan
    patching = config.patching(plan.split)
    failed: list[FailedPair] = []
    copied: list[str] = []

    def pairs() -> Iterator[tuple[PackedPair | StoredPair, Sequence[Patch]]]:
        for record in plan.records:
            pair = _packed(task, record)
            if isinstance(pair, FailedPair):
                failed.append(pair)
            elif isinstance(pair, StoredPair):
                copied.append(pair.id)
                yield pair, rechoose_patches(pair, patching)
            else:
                yield pair, patching.patches(pair)

    header = ShardHeader(
        plan.split,
        config.encoding,
        config.patch_size,
        config.profile.codec,
        config.warp,
        config.brightness,
        task.develop.demosaic,
        task.develop.lens_correction,
    )
    note = finalise(task.out, plan.name, plan.plan, header, pairs(), failed)
    return _Built(note, len(copied))


def _packed(task: _Task, record: PairRecord) -> PackedPair | StoredPair | FailedPair:
    for failure in task.lost:
        if failure.id == record.id:
            return failure
    pixels = pixel_fingerprint(record, task.folder, task.config, task.develop, task.hot_pixels)
    patching = task.config.patching(task.plan.split).fingerprint()
    for source in task.sources.get(record.id, ()):
        if source.marks.pixels == pixels and min(source.size) >= task.config.min_size_px:
            return StoredPair(record.id, record, source.path, source.id, patching)
    job = Job(record=record, root=task.root, folder=task.folder, config=task.config)
    if change := describe_change(job):
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
    return replace(pair, marks=ReuseKeys(pixels, patching, hash_of(pair.sharp)))


def _index(
    config: PackConfig,
    develop: DevelopConfig,
    splits: Mapping[str, str],
    notes: Sequence[ShardNote],
    configs: configurations.Configurations,
) -> Index:
    own = {
        section.fingerprint(): configurations.configuration_entry(name, section)
        for name, section in (("pack", config), ("develop", develop))
    }
    return Index(
        name=config.name,
        encoding=config.encoding,
        transfer=TRANSFER[config.encoding],
        patch_size=config.patch_size,
        codec=config.profile.codec,
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
        configs=dict(sorted({**configs, **own}.items())),
        libraries=library_versions(),
    )
