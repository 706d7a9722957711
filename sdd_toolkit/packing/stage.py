"""Packs the kept pairs of a manifest into HDF5 shards: developed, warped, cropped, encoded (`sdd pack`)."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from sdd_toolkit.calibration import lensfun_profile
from sdd_toolkit.calibration.hot_pixel_map import load_for_manifest
from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.execution.landlock import folders_of
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.packing.plan import plan_shards
from sdd_toolkit.packing.reuse import reusable_pairs
from sdd_toolkit.packing.shard_task import PackTask
from sdd_toolkit.packing.splits import assign_splits, published_splits, scenes_by_split
from sdd_toolkit.pipeline import configurations
from sdd_toolkit.pipeline.manifest import Manifest, read_manifest, reject_counts
from sdd_toolkit.raw.development import DevelopConfig, LensCorrection
from sdd_toolkit.records import PairRecord, Report
from sdd_toolkit.shards import superseded
from sdd_toolkit.shards.folder import check_own_set
from sdd_toolkit.shards.index import INDEX_NAME, Index, ShardHeader
from sdd_toolkit.shards.shard_set import WrittenShards, discard_set, index_of, publish_set, write_shards
from sdd_toolkit.storage.files import resolve_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.shards.folder import ShardNote
    from sdd_toolkit.storage.locations import Location


def pack_dataset(
    manifest: Path,
    out: Location,
    config: PackConfig,
    *,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
    accept: Callable[[Index], None] | None = None,
) -> Report:
    """Packs the kept pairs of a filtered manifest into the folder `out`: shards, then `index.json`.

    Pairs that cannot be packed are listed in the index with their reason; a later run tries them again. Finished
    shards of an earlier run that the plan still holds are kept after their hash is checked. From other shards, pairs
    whose pixels would be the same are copied chunk by chunk; the others are developed.

    Args:
        manifest: Written by `sdd filter`.
        out: Folder of the shards, on disk or in a store; shards of another plan in it are removed.
        config: Section `[pack]`.
        develop: How RAW files are developed.
        executor: See `sdd_toolkit.execution.executor`; each worker holds one pair in memory.
        overwrite: Keep nothing of an earlier run.
        track: Shows progress, one step a pair.
        accept: Called with the index before it is written; an error that it raises leaves the shards without one.

    Raises:
        ManifestError: Not a manifest, not filtered, or a path leaves its root.
        InputError: No pair to pack, `out` cannot be written, it holds an index of an unknown version, or lenses that
            are to be corrected are not known.
        ConfigError: The split lists or the executor's name do not fit.
    """
    started = time.monotonic()
    workers_of(executor)
    source = read_manifest(manifest)
    check_own_set(out, [record.id for record in source.records], overwrite=overwrite)
    kept = _kept_records(source, manifest, out)
    if develop.lens_correction is LensCorrection.LENSFUN:
        lensfun_profile.check_known(kept)
    splits = _splits(source, kept, manifest.parent, config)
    tasks = _plan_tasks(source, kept, manifest, out, splits, config, develop)
    written = write_shards(
        out,
        tasks,
        stage="pack",
        executor=executor,
        overwrite=overwrite,
        track=track,
        prepare=lambda missing, notes: _with_reusable_pairs(out, missing, notes, executor, overwrite=overwrite),
        sees=(*folders_of(_files_of(source, kept)), manifest.parent.resolve()),
    )
    if not written.pair_count:
        discard_set(out)
        raise _nothing_packed(written)
    index = _index(written, kept, manifest.parent, splits, config, develop)
    if accept is not None:
        accept(index)
    publish_set(out, index)
    return _report(written, len(kept), started, out)


def _kept_records(source: Manifest, manifest: Path, out: Location) -> tuple[PairRecord, ...]:
    """The pairs that the filter kept, their paths checked; without any, `out` is emptied."""
    for record in source.records:
        if record.verdict is None:
            raise ManifestError(f"{manifest}: the pair {record.id!r} has no verdict", hint="run `sdd filter` first")
    kept = tuple(record for record in source.records if record.verdict is not None and record.verdict.keep)
    for record in kept:
        source.locate(record.blur)
        source.locate(record.sharp)
        if record.alignment is not None and record.alignment.flow_file is not None:
            resolve_inside(manifest.parent, record.alignment.flow_file)
    if not kept:
        discard_set(out)
        reasons = ", ".join(f"{count} {reason}" for reason, count in reject_counts(source.records).items())
        raise InputError(
            f"{manifest} keeps none of its {len(source.records)} pairs" + (f" ({reasons})" if reasons else ""),
            hint="`sdd report` shows the reason of every pair and file",
        )
    return kept


def _splits(source: Manifest, kept: Sequence[PairRecord], folder: Path, config: PackConfig) -> dict[str, str]:
    """The split of every scene that is kept."""
    scenes = {record.scene for record in source.records}
    lists = published_splits(folder, config.split, scenes, given="split" in config.model_fields_set)
    return assign_splits((record.scene for record in kept), lists, scenes)


def _files_of(source: Manifest, kept: Sequence[PairRecord]) -> list[Path]:
    return [source.root / ref.path for record in kept for ref in (record.blur, record.sharp)]


def _report(written: WrittenShards, kept: int, started: float, out: Location) -> Report:
    return Report(
        stage="pack",
        total=kept,
        done=written.pair_count - written.skipped,
        skipped=written.skipped,
        rejected=dict(sorted(Counter(failure.reason.value for failure in written.failed).items())),
        seconds=time.monotonic() - started,
        outputs=(str(out / INDEX_NAME),),
        copied=written.copied,
    )


def _nothing_packed(written: WrittenShards) -> InputError:
    failed, first = len(written.failed), written.failed[0]
    return InputError(
        f"none of the {failed} kept pairs could be packed; {first.id}: {first.reason.value} {first.detail}",
        hint="are the source files where the manifest says?",
    )


def _plan_tasks(
    source: Manifest,
    kept: Sequence[PairRecord],
    manifest: Path,
    out: Location,
    splits: Mapping[str, str],
    config: PackConfig,
    develop: DevelopConfig,
) -> list[PackTask]:
    hot_pixels = load_for_manifest(manifest, develop)
    return [
        PackTask(
            name=plan.name,
            header=_header(plan.split, config, develop),
            fingerprint=plan.fingerprint,
            items=plan.records,
            out=out.resolve(),
            root=source.root,
            folder=manifest.parent.resolve(),
            config=config,
            develop=develop,
            hot_pixels=hot_pixels,
        )
        for plan in plan_shards(kept, splits, config, develop, hot_pixels)
    ]


def _header(split: str, config: PackConfig, develop: DevelopConfig) -> ShardHeader:
    return ShardHeader(
        split,
        config.encoding,
        config.patch_size,
        config.profile.codec,
        config.warp,
        config.brightness,
        develop.demosaic,
        develop.lens_correction,
    )


def _with_reusable_pairs(
    out: Location, tasks: list[PackTask], notes: Mapping[str, ShardNote], executor: str, *, overwrite: bool
) -> list[PackTask]:
    """Moves the shards of an earlier plan aside and hands their pairs to the tasks."""
    if overwrite:
        superseded.delete_all(out)
    elif tasks:
        superseded.move_aside(out, notes)
    stored = reusable_pairs(out, executor) if tasks else {}
    return [replace(task, reusable={name: stored[name] for name in task.ids if name in stored}) for task in tasks]


def _index(
    written: WrittenShards,
    kept: Sequence[PairRecord],
    folder: Path,
    splits: Mapping[str, str],
    config: PackConfig,
    develop: DevelopConfig,
) -> Index:
    own = {
        section.fingerprint(): configurations.configuration_entry(name, section)
        for name, section in (("pack", config), ("develop", develop))
    }
    earlier = configurations.configurations_of(kept, configurations.read_configurations(folder))
    return index_of(
        written,
        _header("", config, develop),
        name=config.name,
        config=config.fingerprint(),
        splits=scenes_by_split(splits),
        configs={**earlier, **own},
        failed=written.failed,
    )
