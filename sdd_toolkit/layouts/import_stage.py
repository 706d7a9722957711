"""Imports a data set in a published layout into shards or into a manifest (`sdd import`).

Code values are unchanged, except that frames with another colour profile than sRGB are converted to sRGB primaries.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from sdd_toolkit.config import Section
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.layouts import catalogue, sidecar
from sdd_toolkit.layouts.frame_bands import BandReader
from sdd_toolkit.layouts.listing import LEADS_OUT
from sdd_toolkit.layouts.pixels import bit_depth
from sdd_toolkit.layouts.shard_tasks import ImportedFrames, plan_import
from sdd_toolkit.metadata.colour_notes import conversion_notes
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.packing.splits import SPLIT_LISTS, SPLITS, assign_splits, scenes_by_split
from sdd_toolkit.pipeline import configurations, manifest
from sdd_toolkit.records import FileRef, PairRecord, Reason, Report, Verdict, value_counts
from sdd_toolkit.shards.folder import check_own_set
from sdd_toolkit.shards.index import INDEX_NAME, FailedPair, Index
from sdd_toolkit.shards.shard_set import WrittenShards, discard_set, index_of, publish_set, write_shards
from sdd_toolkit.storage.files import sha256_of, write_csv, write_text
from sdd_toolkit.storage.linked_stores import common_root, locate_source, target_folders
from sdd_toolkit.storage.targets import check_own, sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.layouts.listing import SourcePair
    from sdd_toolkit.layouts.sidecar import Export
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.records import FrameMeta, RejectedFile
    from sdd_toolkit.shards.index import ShardHeader

log = logging.getLogger(__name__)

MANIFEST = "ingested.jsonl"
REJECTED = "rejected_files.csv"
STAGE = "import"
_BIT_DEPTH = {Encoding.SRGB8: 8, Encoding.SRGB16: 16, Encoding.LINEAR16: 16}


class ImportConfig(Section):
    """The layout of an imported data set; part of every imported pair's history.

    Attributes:
        layout: One of `catalogue.LAYOUT_NAMES`.
        blur: For two plain folders: the folder of the blurred frames, relative to the data set.
        sharp: The folder of the sharp frames.
    """

    layout: str = "auto"
    blur: str | None = None
    sharp: str | None = None


@dataclass(frozen=True, slots=True)
class _Survey:
    """The pairs of a data set, examined but not decoded.

    Attributes:
        source: The configuration with the layout that was recognised.
        export: The description of the export, if the data set is one.
        frames: The pairs, sorted by id.
        failed: The files and pairs that are left out, sorted by id.
        warnings: What the user should know about how pairs and splits were found.
    """

    source: ImportConfig
    export: Export | None
    frames: tuple[ImportedFrames, ...]
    failed: tuple[FailedPair, ...]
    warnings: tuple[str, ...]


def import_dataset(
    root: Path,
    out: Path,
    config: PackConfig,
    source: ImportConfig = ImportConfig(),  # noqa: B008 frozen
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
    follow_links: bool = False,
) -> Report:
    """Packs the pairs of a data set in another layout into the folder `out`, sRGB pixels unchanged.

    Splits are those of the layout or of the folders' names; `[pack.split]` divides other scenes, its lists count most.
    The bit depth is that of most pairs unless `[pack] encoding` is set; pairs of the other depth are left out. Resumes
    as `pack_dataset` does.

    Args:
        root: Folder of the data set; outside it nothing is read but the stores of `storage.linked_stores`.
        out: Folder of the shards.
        config: Section `[pack]`: name, codec, shards and patches.
        source: Layout of the data set.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Keep nothing of an earlier run.
        track: Shows progress.
        follow_links: Follow links to files and folders wherever they lead.

    Raises:
        InputError: No layout fits, no pair can be imported, or `out` cannot be written.
        ConfigError: The executor's name is unknown.
    """
    started = time.monotonic()
    workers_of(executor)
    _check_outside(root, out)
    survey = _survey(source, BandReader(root, executor, track, follow_links))
    encoding = _encoding(config, survey)
    fitting, other_depth = _by_bit_depth(survey.frames, _BIT_DEPTH[encoding])
    splits, moved = _splits(fitting, config)
    check_own_set(out, [frame.id for frame in survey.frames], overwrite=overwrite)
    tasks = plan_import(root, out, fitting, splits, config, encoding, survey.export, follow_links)
    sees = (root, *target_folders(root, _files_of(fitting)))
    written = write_shards(out, tasks, stage=STAGE, executor=executor, overwrite=overwrite, track=track, sees=sees)
    failed = [*survey.failed, *other_depth, *written.failed]
    if not written.pair_count:
        discard_set(out)
        raise _nothing_to_import(root, survey, failed)
    publish_set(out, _index(written, tasks[0].header, root, survey, splits, config, failed))
    _warn((*survey.warnings, *moved))
    done = written.pair_count - written.skipped
    return _report(len(survey.frames), done, written.skipped, failed, started, out / INDEX_NAME)


def import_as_manifest(
    root: Path,
    out: Path,
    source: ImportConfig = ImportConfig(),  # noqa: B008 frozen
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
    follow_links: bool = False,
) -> Report:
    """Writes the pairs of a data set as `out/ingested.jsonl`, for `sdd align` and the steps after it.

    Beside it: `splits.toml` with the layout's splits, which `sdd pack` takes, and `rejected_files.csv` with the files
    left out.

    Args:
        root: Folder of the data set; outside it nothing is read but the stores of `storage.linked_stores`.
        out: Folder of the manifest.
        source: Layout of the data set.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Whether files of others in `out` are replaced.
        track: Shows progress.
        follow_links: Follow links to files and folders wherever they lead.

    Raises:
        InputError: No layout fits, no pair is there, or `out` cannot be written.
        ConfigError: The executor's name is unknown.
    """
    started = time.monotonic()
    workers_of(executor)
    _check_outside(root, out)
    names = (MANIFEST, SPLIT_LISTS, REJECTED, configurations.CONFIGURATIONS)
    check_own((out / name for name in names), overwrite=overwrite)
    survey = _survey(source, BandReader(root, executor, track, follow_links), ignore_export=True)
    if not survey.frames:
        raise _nothing_to_import(root, survey, ())
    outer = common_root(root, _files_of(survey.frames))
    records = tuple(_manifest_record(entry, root.resolve().relative_to(outer)) for entry in survey.frames)
    lists = {split: sorted({f.record.scene for f in survey.frames if f.split == split}) for split in SPLITS}
    lines = [f"{split} = {manifest.to_json(scenes)}" for split, scenes in lists.items() if scenes]
    configurations.copy_configurations(out, out, STAGE, survey.source)
    manifest.write_manifest(out / MANIFEST, manifest.Manifest(outer, records))
    write_text(out / SPLIT_LISTS, sealed("[pack.split]\n" + "".join(f"{line}\n" for line in lines), ".toml"))
    rows = [(entry.id, entry.reason, entry.detail) for entry in survey.failed]
    write_csv(out / REJECTED, ("path", "reason", "detail"), rows)
    _warn(survey.warnings)
    return _report(len(records), len(records), 0, survey.failed, started, out / MANIFEST)


def _warn(warnings: Iterable[str]) -> None:
    for text in warnings:
        log.warning("%s", text)


def _check_outside(root: Path, out: Path) -> None:
    """Refuses an output inside the input: the next run would import it."""
    if out.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{out} lies in {root}, which is read", hint="give a folder beside it")


def _files_of(frames: Iterable[ImportedFrames]) -> list[str]:
    return [ref.path for entry in frames for ref in (entry.blur, entry.sharp)]


def _manifest_record(entry: ImportedFrames, below: Path) -> PairRecord:
    refs = entry.record.blur, entry.record.sharp
    blur, sharp = (replace(ref, path=(below / ref.path).as_posix()) for ref in refs)
    return replace(entry.record, blur=blur, sharp=sharp, verdict=None)


def _survey(source: ImportConfig, bands: BandReader, *, ignore_export: bool = False) -> _Survey:
    """Examines every pair of a data set without decoding it."""
    root = bands.root
    layout, listing = catalogue.survey_folder(root, source.layout, source.blur, source.sharp, bands)
    source = ImportConfig(layout=layout, blur=source.blur, sharp=source.sharp)
    frames: list[ImportedFrames] = []
    failed = [FailedPair(_path_id(entry.path), entry.reason, entry.detail) for entry in listing.unpaired]
    examine = partial(
        examine_pair, root=root, source=source, ignore_export=ignore_export, follow_links=bands.follow_links
    )
    files = [path for pair in listing.pairs for path in (pair.blur, pair.sharp)]
    access = FileAccess((root, *target_folders(root, files)))
    with bands.track("survey", len(listing.pairs)) as advance:
        for outcome in run_tasks(examine, listing.pairs, bands.executor, access=access):
            result = outcome.result or FailedPair(outcome.task.id, Reason.WORKER_DIED)
            if isinstance(result, FailedPair):
                failed.append(result)
            else:
                frames.append(result)
            advance(note=outcome.task.id)
    return _Survey(
        source,
        export=sidecar.read_marker(root) if layout == "exported" else None,
        frames=tuple(sorted(frames, key=lambda entry: entry.id)),
        failed=tuple(sorted(failed, key=lambda entry: entry.id)),
        warnings=(*listing.warnings, *_link_warning(root, listing.unpaired)),
    )


def _link_warning(root: Path, unpaired: Iterable[RejectedFile]) -> list[str]:
    count = sum(entry.detail == LEADS_OUT for entry in unpaired)
    what = f"{count} links lead out of {root} and are left out"
    return [f"{what}; --follow-links takes them, if you trust who made them"] if count else []


def _path_id(path: str) -> str:
    # Ids of pairs hold no slash, so no file can be mistaken for a pair.
    return path if "/" in path else f"./{path}"


def examine_pair(
    pair: SourcePair, root: Path, source: ImportConfig, *, ignore_export: bool = False, follow_links: bool = False
) -> ImportedFrames | FailedPair:
    """The record of a pair from its files, without decoding them; runs in a worker.

    Args:
        pair: Its files.
        root: Folder of the data set.
        source: The step's configuration.
        ignore_export: Describe the files themselves, even if an export names the pair they come from.
        follow_links: See `listing.list_files`.
    """
    try:
        blur_path, sharp_path = (
            locate_source(root, path, follow_links=follow_links) for path in (pair.blur, pair.sharp)
        )
        bits = bit_depth(blur_path), bit_depth(sharp_path)
        blur_meta, sharp_meta = read_meta(blur_path), read_meta(sharp_path)
        blur, sharp = _file_ref(pair.blur, blur_path), _file_ref(pair.sharp, sharp_path)
    except (InputError, OSError) as error:
        return FailedPair(pair.id, Reason.UNREADABLE, _error_text(error, root))
    if bits[0] != bits[1]:
        return FailedPair(pair.id, Reason.UNSUPPORTED, f"{bits[0]} bits against {bits[1]}")
    origin = None if ignore_export else pair.origin
    if origin is None:
        blur_meta = _with_f_number(blur_meta, pair.f_number)
        verdict = Verdict(keep=True)
        notes = conversion_notes(blur_meta, sharp_meta)
        record = PairRecord(
            pair.id, pair.scene, pair.kind, blur, sharp, blur_meta, sharp_meta, verdict=verdict, notes=notes
        )
    elif (blur.sha256, sharp.sha256) != (origin.blur_sha256, origin.sharp_sha256):
        return FailedPair(pair.id, Reason.CHANGED, "a file is not the one that was exported")
    else:
        record = origin.record
    step = manifest.step_of(STAGE, source, record, imported=[blur.sha256, sharp.sha256])
    record = replace(record, history=(*manifest.history_before(record, STAGE), step))
    valid, box = (None, None) if origin is None else (origin.valid, origin.box)
    return ImportedFrames(record, pair.split, blur, sharp, bits[0], valid, box)


def _file_ref(name: str, path: Path) -> FileRef:
    return FileRef(name, path.stat().st_size, sha256_of(path))


def _error_text(error: Exception, root: Path) -> str:
    if isinstance(error, OSError):
        return str(error.strerror or error)
    what = error.what if isinstance(error, RawError | InputError) else str(error)
    # Absolute paths are left out: they are private, and output bytes must not depend on them.
    return what.replace(f"{root}/", "")


def _with_f_number(meta: FrameMeta, f_number: float | None) -> FrameMeta:
    if f_number is None or meta.exposure.f_number is not None:
        return meta
    return replace(meta, exposure=replace(meta.exposure, f_number=f_number))


def _encoding(config: PackConfig, survey: _Survey) -> Encoding:
    if survey.export is not None:
        return survey.export.encoding
    if "encoding" in config.model_fields_set:
        return config.encoding
    deep = sum(entry.bits == 16 for entry in survey.frames)
    return Encoding.SRGB16 if deep and 2 * deep >= len(survey.frames) else Encoding.SRGB8


def _by_bit_depth(frames: Sequence[ImportedFrames], bits: int) -> tuple[list[ImportedFrames], list[FailedPair]]:
    """The pairs of one bit depth, and the others as failures."""
    fitting = [entry for entry in frames if entry.bits == bits]
    others = [entry for entry in frames if entry.bits != bits]
    return fitting, [
        FailedPair(entry.id, Reason.UNSUPPORTED, f"{entry.bits} bits in a data set of {bits}") for entry in others
    ]


def _splits(frames: Sequence[ImportedFrames], config: PackConfig) -> tuple[dict[str, str], list[str]]:
    """The split of every scene, and a warning where a list of `[pack.split]` differs from the layout.

    Lists of `[pack.split]` count most, then the splits of the layout; its fractions divide the other scenes.
    """
    given = {entry.record.scene: entry.split for entry in frames if entry.split is not None}
    listed = {scene: split for split in SPLITS for scene in getattr(config.split, split)}
    moved = sorted(scene for scene, split in listed.items() if given.get(scene, split) != split)
    free = [entry.record.scene for entry in frames if entry.split is None or entry.record.scene in listed]
    splits = {**given, **(assign_splits(free, config.split, known=given) if free or listed else {})}
    if not moved:
        return splits, []
    first = f"{moved[0]} from {given[moved[0]]} to {listed[moved[0]]}"
    return splits, [f"[pack.split] moves {len(moved)} scenes out of the split of the data set, {first} first"]


def _nothing_to_import(root: Path, survey: _Survey, failed: Sequence[FailedPair]) -> InputError:
    first = f"; {failed[0].id}: {failed[0].reason.value} {failed[0].detail}" if failed else ""
    what = f"{root} holds no pair that can be imported ({survey.source.layout}){first}"
    return InputError(what, hint="see docs/interop.md")


def _index(
    written: WrittenShards,
    header: ShardHeader,
    root: Path,
    survey: _Survey,
    splits: Mapping[str, str],
    config: PackConfig,
    failed: Sequence[FailedPair],
) -> Index:
    export = survey.export
    folder_name = export.name if export else root.resolve().name
    own = {
        section.fingerprint(): configurations.configuration_entry(stage, section)
        for stage, section in (("pack", config), (STAGE, survey.source))
    }
    return index_of(
        written,
        header,
        name=(config.name if "name" in config.model_fields_set else folder_name) or "imported",
        config=config.fingerprint(),
        splits=scenes_by_split(splits),
        configs={**(export.configs if export else {}), **own},
        failed=sorted(failed, key=lambda failure: failure.id),
    )


def _report(pairs: int, done: int, skipped: int, failed: Sequence[FailedPair], started: float, output: Path) -> Report:
    return Report(
        stage=STAGE,
        total=pairs + len(failed),
        done=done,
        skipped=skipped,
        rejected=value_counts(failure.reason for failure in failed),
        seconds=time.monotonic() - started,
        outputs=(str(output),),
    )
