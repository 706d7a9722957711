"""The stage that takes pairs out of other people's data sets: straight into shards, or into a manifest to align.

No pixel is changed: no alignment, no warp, no crop. What cannot be taken is listed with its reason.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from sdd_toolkit.config import Section
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.layouts import catalogue, sidecar
from sdd_toolkit.layouts.pixels import bit_depth
from sdd_toolkit.layouts.shard_tasks import ImportedFrames, ImportShardTask, build_import_shard, plan_import
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.packing.splits import SPLITS, assign_splits
from sdd_toolkit.pipeline import configurations, manifest
from sdd_toolkit.raw.development import Demosaic
from sdd_toolkit.records import FileRef, PairRecord, Reason, Report, Verdict, value_counts
from sdd_toolkit.shards.folder import ShardNote, intact_shards, publish_index, remove_unlisted, unlisted_shards
from sdd_toolkit.shards.index import INDEX_NAME, TRANSFER, FailedPair, Index
from sdd_toolkit.shards.library_versions import library_versions
from sdd_toolkit.storage.files import resolve_inside, sha256_of, write_csv, write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.layouts.listing import SourcePair
    from sdd_toolkit.layouts.sidecar import Export
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.records import FrameMeta

MANIFEST = "ingested.jsonl"
SPLIT_LISTS = "splits.toml"
STAGE = "import"
_BIT_DEPTH = {Encoding.SRGB8: 8, Encoding.SRGB16: 16, Encoding.LINEAR16: 16}


class RunOptions(TypedDict, total=False):
    """How data sets are imported, whatever becomes of them; see `run`."""

    layout: str
    blur: str | None
    sharp: str | None
    executor: str
    track: Track


class ImportConfig(Section):
    """What was imported as what; part of every imported pair's history."""

    layout: str
    blur: str | None = None
    sharp: str | None = None


def import_dataset(
    root: Path,
    out: Path,
    config: PackConfig,
    *,
    layout: str = "auto",
    blur: str | None = None,
    sharp: str | None = None,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Packs the pairs of a data set in another layout into the folder `out`, their pixels as they are.

    Splits are those of the layout; `[pack.split]` shares out the pairs of two plain folders. The bit depth is that of
    most pairs unless `[pack] encoding` is set; pairs of the other depth are left out. Resumes like `pack.run`.

    Args:
        root: Folder of the data set; nothing outside it is read.
        out: Folder of the shards.
        config: Section `[pack]`: name, codec, shards and patches.
        layout: See `known.survey`.
        blur: For two plain folders: where the blurred frames lie, relative to `root`.
        sharp: The same of the sharp ones.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Keep nothing of an earlier run.
        track: Shows progress.

    Raises:
        InputError: No layout fits, no pair can be taken, or `out` cannot be written.
        ConfigError: The executor's name is unknown.
    """
    started = time.monotonic()
    workers_of(executor)
    _check_outside(root, out)
    found, export, how, frames, failed = _survey(root, layout, blur, sharp, executor, track)
    encoding = _encoding(config, export, frames)
    fitting = [entry for entry in frames if entry.bits == _BIT_DEPTH[encoding]]
    failed += [
        FailedPair(entry.record.id, Reason.UNSUPPORTED, f"{entry.bits} bits in a data set of {_BIT_DEPTH[encoding]}")
        for entry in frames
        if entry.bits != _BIT_DEPTH[encoding]
    ]
    splits = _splits(fitting, config)
    tasks = plan_import(root, out, fitting, splits, config, encoding, export)
    notes: dict[str, ShardNote] = {}
    if not overwrite:
        members = {task.name: tuple(entry.record.id for entry in task.frames) for task in tasks}
        notes = intact_shards(out, {task.name: task.plan for task in tasks}, members)
    todo = [task for task in tasks if task.name not in notes]
    skipped = sum(len(note.shard.pairs) for note in notes.values())
    if todo or unlisted_shards(out, notes):
        remove_unlisted(out, notes)
    with track(STAGE, sum(len(task.frames) for task in todo)) as advance:
        for note in build_import_shard(todo, executor):
            notes[note.shard.name] = note
            advance(len(note.shard.pairs) + len(note.failed), note.shard.name)
    failed += [failure for task in tasks for failure in notes[task.name].failed]
    done = sum(len(note.shard.pairs) for note in notes.values())
    if not done:
        remove_unlisted(out, {})
        first = f"; {failed[0].id}: {failed[0].reason.value} {failed[0].detail}" if failed else ""
        raise InputError(f"{root} holds no pair that can be imported ({found}){first}", hint="see docs/interop.md")
    known_as = config.name if "name" in config.model_fields_set else export.name if export else root.resolve().name
    publish_index(out, _index(known_as or "imported", config, encoding, export, how, splits, tasks, notes, failed))
    return _report(len(frames), done - skipped, skipped, failed, started, out / INDEX_NAME)


def import_as_manifest(
    root: Path,
    out: Path,
    *,
    layout: str = "auto",
    blur: str | None = None,
    sharp: str | None = None,
    executor: str = "serial",
    track: Track = silent,
) -> Report:
    """Writes the pairs as `out/ingested.jsonl` instead, for `sdd align` and what follows.

    Beside it: `splits.toml` with the layout's splits as `[pack.split]`, `rejected_files.csv` with what was left out.

    Args:
        root: Folder of the data set.
        out: Folder for the manifest.
        layout: See `run`.
        blur: See `run`.
        sharp: See `run`.
        executor: See `run`.
        track: Shows progress.

    Raises:
        InputError: No layout fits, no pair is there, or `out` cannot be written.
    """
    started = time.monotonic()
    workers_of(executor)
    _check_outside(root, out)
    found, _, how, frames, failed = _survey(root, layout, blur, sharp, executor, track, plain=True)
    if not frames:
        raise InputError(f"{root} holds no pair that can be imported ({found})", hint="see docs/interop.md")
    records = tuple(replace(entry.record, verdict=None) for entry in frames)
    lists = {split: sorted({f.record.scene for f in frames if f.split == split}) for split in SPLITS}
    lines = [f"{split} = {manifest.to_json(scenes)}" for split, scenes in lists.items() if scenes]
    configurations.copy_configurations(out, out, STAGE, how)
    manifest.write_manifest(out / MANIFEST, manifest.Manifest(root.resolve(), records))
    write_text(out / SPLIT_LISTS, "[pack.split]\n" + "".join(f"{line}\n" for line in lines))
    rows = [(entry.id, entry.reason, entry.detail) for entry in failed]
    write_csv(out / "rejected_files.csv", ("path", "reason", "detail"), rows)
    return _report(len(frames), len(frames), 0, failed, started, out / MANIFEST)


def _check_outside(root: Path, out: Path) -> None:
    """What is written among the files that are read would be read the next time."""
    if out.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{out} lies in {root}, which is read", hint="give a folder beside it")


def _survey(
    root: Path,
    layout: str,
    blur: str | None,
    sharp: str | None,
    executor: str,
    track: Track,
    plain: bool = False,
) -> tuple[str, Export | None, ImportConfig, list[ImportedFrames], list[FailedPair]]:
    """The layout, what an export says, the step's configuration, every pair's facts, and what is in no pair."""
    found, listing = catalogue.survey_folder(root, layout, blur, sharp)
    export = sidecar.read_marker(root) if found == "exported" else None
    how = ImportConfig(layout=found, blur=blur, sharp=sharp)
    frames: list[ImportedFrames] = []
    failed = [FailedPair(_path_id(entry.path), entry.reason, entry.detail) for entry in listing.left]
    with track("survey", len(listing.pairs)) as advance:
        for outcome in run_tasks(partial(examine_pair, root=root, how=how, plain=plain), listing.pairs, executor):
            result = outcome.result or FailedPair(outcome.task.id, Reason.WORKER_DIED)
            if isinstance(result, FailedPair):
                failed.append(result)
            else:
                frames.append(result)
            advance(note=outcome.task.id)
    failed.sort(key=lambda entry: entry.id)
    return found, export, how, sorted(frames, key=lambda entry: entry.record.id), failed


def _path_id(path: str) -> str:
    # Ids of pairs hold no slash: so no file is taken for a pair.
    return path if "/" in path else f"./{path}"


def examine_pair(pair: SourcePair, root: Path, how: ImportConfig, plain: bool = False) -> ImportedFrames | FailedPair:
    """What is known of a pair without decoding it; runs in a worker.

    Args:
        pair: Its files.
        root: Folder of the data set.
        how: The step's configuration.
        plain: Tell of the files as they are, even if an export says where they come from.
    """
    try:
        paths = [resolve_inside(root, path) for path in (pair.blur, pair.sharp)]
        bits = [bit_depth(path) for path in paths]
        metas = [read_meta(path) for path in paths]
        refs = [
            FileRef(name, path.stat().st_size, sha256_of(path))
            for name, path in zip((pair.blur, pair.sharp), paths, strict=True)
        ]
    except (InputError, OSError) as error:
        return FailedPair(pair.id, Reason.UNREADABLE, _error_text(error, root))
    if bits[0] != bits[1]:
        return FailedPair(pair.id, Reason.UNSUPPORTED, f"{bits[0]} bits against {bits[1]}")
    origin = None if plain else pair.origin
    if origin is None:
        blur_meta = _with_f_number(metas[0], pair.f_number)
        record = PairRecord(pair.id, pair.scene, pair.kind, refs[0], refs[1], blur_meta, metas[1])
        record = replace(record, verdict=Verdict(keep=True))
    elif (refs[0].sha256, refs[1].sha256) != (origin.blur_sha256, origin.sharp_sha256):
        return FailedPair(pair.id, Reason.CHANGED, "a file is not the one that was exported")
    else:
        record = origin.record
    step = manifest.step_of(STAGE, how, record, imported=[ref.sha256 for ref in refs])
    record = replace(record, history=(*manifest.history_before(record, STAGE), step))
    valid, box = (None, None) if origin is None else (origin.valid, origin.box)
    return ImportedFrames(record, pair.split, refs[0], refs[1], bits[0], valid, box)


def _error_text(error: Exception, root: Path) -> str:
    if isinstance(error, OSError):
        return str(error.strerror or error)
    what = error.what if isinstance(error, RawError | InputError) else str(error)
    # Where the folder lies on this machine is nobody's business and would make bytes depend on it.
    return what.replace(f"{root}/", "")


def _with_f_number(meta: FrameMeta, f_number: float | None) -> FrameMeta:
    if f_number is None or meta.exposure.f_number is not None:
        return meta
    return replace(meta, exposure=replace(meta.exposure, f_number=f_number))


def _encoding(config: PackConfig, export: Export | None, frames: Sequence[ImportedFrames]) -> Encoding:
    if export is not None:
        return export.encoding
    if "encoding" in config.model_fields_set:
        return config.encoding
    deep = sum(entry.bits == 16 for entry in frames)
    return Encoding.SRGB16 if deep and 2 * deep >= len(frames) else Encoding.SRGB8


def _splits(frames: Sequence[ImportedFrames], config: PackConfig) -> dict[str, str]:
    """The split of every scene: the layout's, or by `[pack.split]` where it has none."""
    given = {entry.record.scene: entry.split for entry in frames if entry.split is not None}
    free = [entry.record.scene for entry in frames if entry.split is None]
    return {**given, **(assign_splits(free, config.split) if free else {})}


def _index(
    name: str,
    config: PackConfig,
    encoding: Encoding,
    export: Export | None,
    how: ImportConfig,
    splits: Mapping[str, str],
    tasks: Sequence[ImportShardTask],
    notes: Mapping[str, ShardNote],
    failed: Iterable[FailedPair],
) -> Index:
    header = tasks[0].header
    sections = (("pack", config), (STAGE, how))
    configs = {section.fingerprint(): configurations.configuration_entry(stage, section) for stage, section in sections}
    return Index(
        name=name,
        encoding=encoding,
        transfer=TRANSFER[encoding],
        patch_size=config.patch_size,
        codec=config.profile.codec,
        toolkit=__version__,
        config=config.fingerprint(),
        splits={split: tuple(sorted(s for s in splits if splits[s] == split)) for split in SPLITS},
        shards=tuple(notes[task.name].shard for task in tasks),
        plans={task.name: task.plan for task in tasks},
        failed=tuple(sorted(failed, key=lambda entry: entry.id)),
        warp=header.warp,
        brightness=header.brightness,
        demosaic=header.demosaic,
        lens_correction=header.lens_correction,
        reduction=2 if header.demosaic is Demosaic.HALF else 1,
        transfer_parameters=encoding.transfer,
        configs=dict(sorted({**(export.configs if export else {}), **configs}.items())),
        libraries=library_versions(),
    )


def _report(pairs: int, done: int, skipped: int, failed: Sequence[FailedPair], started: float, output: Path) -> Report:
    return Report(
        stage=STAGE,
        total=pairs + len(failed),
        done=done,
        skipped=skipped,
        rejected=value_counts(entry.reason for entry in failed),
        seconds=time.monotonic() - started,
        outputs=(str(output),),
    )
