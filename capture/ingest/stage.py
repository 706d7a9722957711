"""The stage `ingest`: folders of RAW files and images to a manifest of pairs and a list of all other files."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.ingest.last_run import LAST_RUN_FILE, hash_state, read_last_report, save_run
from capture.inspection import inspection_cache
from capture.inspection.scan import scan_folders
from capture.pairing.pair_table import read_table
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.formats.containers import RAW_SUFFIXES
from sdd_toolkit.records import PairKind, Reason, RejectedFile, Report, value_counts
from sdd_toolkit.storage.files import PARTIAL, write_csv

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from capture.config import IngestConfig
    from capture.inspection.inspection_cache import Inspection
    from capture.inspection.scan import Scan, ScannedFile
    from capture.inspection.survey import Survey
    from capture.pairing.pair_table import TableRow
    from capture.pairing.records import NamedMatch
    from capture.pairing.rules import Leftover
    from capture.pairing.scenes import Frame
    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.pipeline.manifest import Manifest

MANIFEST = "ingested.jsonl"
REJECTED = "rejected_files.csv"


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What ingest found: every file is in `pairs` or in `rejected`.

    Attributes:
        pairs: The manifest to be.
        rejected: All files in no pair, sorted by path.
        files: How many files were found.
        unchanged: How many of them were known from an earlier run.
        evidence: The evidence for each pair, by its id.
        clock_notes: Corrections that were made to the cameras' clocks.
    """

    pairs: Manifest
    rejected: tuple[RejectedFile, ...]
    files: int
    unchanged: int
    evidence: Mapping[str, str]
    clock_notes: tuple[str, ...] = ()


def ingest_photographs(
    sources: Sequence[Path],
    out: Path,
    config: IngestConfig,
    *,
    table: Path | None = None,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Writes `out/ingested.jsonl` and `out/rejected_files.csv`.

    A file unchanged since an earlier run into the same folder is not opened again; if nothing changed at all, what
    that run wrote is left as it is.

    Args:
        sources: Folders, searched with all below them, or single files.
        out: Folder of the data set.
        config: Grouping and pairing.
        table: The pairs, for `pairing = "csv"`.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Read every file again.
        track: Shows progress.

    Raises:
        InputError: A source is missing, there is no photograph, the table is wrong, or `out` cannot be written.
        ConfigError: The executor's name is unknown.
    """
    started = time.monotonic()
    memory = out / inspection_cache.CACHE_FILE
    if overwrite:
        memory.unlink(missing_ok=True)
        (out / LAST_RUN_FILE).unlink(missing_ok=True)
    workers_of(executor)
    rows, listing = _list_files(sources, out, config, table)
    state = hash_state(listing, config, table)
    report = read_last_report(out, state)
    if report is None:
        found = _inspect_and_pair(rows, listing, config, executor=executor, memory=memory, track=track)
        # First: a run that finds its manifest done does not come here again.
        _copy_configuration(out, config)
        report = _write_result(out, found)
        save_run(out, state, len(listing.files), report)
    return replace(report, seconds=time.monotonic() - started)


def _copy_configuration(out: Path, config: IngestConfig) -> None:
    from sdd_toolkit.pipeline import configurations

    configurations.copy_configurations(out, out, "ingest", config)


def count_pairs(out: Path) -> int:
    """How many pairs the manifest in `out` lists: its lines but the header."""
    return max((out / MANIFEST).read_bytes().count(b"\n") - 1, 0)


def _write_result(out: Path, found: IngestResult) -> Report:
    from sdd_toolkit.pipeline import manifest

    manifest.write_manifest(out / MANIFEST, found.pairs)
    rows = [(entry.path, entry.reason, entry.detail) for entry in found.rejected]
    write_csv(out / REJECTED, ("path", "reason", "detail"), rows)
    return Report(
        stage="ingest",
        total=found.files,
        done=found.files - found.unchanged,
        skipped=found.unchanged,
        rejected=value_counts(entry.reason for entry in found.rejected),
        seconds=0.0,
        outputs=(str(out / MANIFEST), str(out / REJECTED)),
    )


def find_pairs(
    sources: Sequence[Path],
    out: Path,
    config: IngestConfig,
    *,
    table: Path | None = None,
    executor: str = "serial",
    memory: Path | None = None,
    track: Track = silent,
) -> IngestResult:
    """Everything `run` writes, without writing it; `memory` is where findings on files are kept, None for nowhere."""
    workers_of(executor)
    rows, listing = _list_files(sources, out, config, table)
    return _inspect_and_pair(rows, listing, config, executor=executor, memory=memory, track=track)


def _list_files(
    sources: Sequence[Path], out: Path, config: IngestConfig, table: Path | None
) -> tuple[tuple[TableRow, ...], Scan]:
    rows = _read_rows(table, sources, config)
    named = [path for row in rows for path in (row.blur, row.sharp)]
    if not sources and not named:
        raise InputError("no folder to search", hint="sdd ingest DIR --out DATASET")
    return rows, scan_folders([*sources, *named], _toolkit_outputs(sources, out))


def _inspect_and_pair(
    rows: Sequence[TableRow], listing: Scan, config: IngestConfig, *, executor: str, memory: Path | None, track: Track
) -> IngestResult:
    from capture.inspection.survey import Survey

    ask = config.exiftool and _has_exiftool()
    survey = Survey(listing.files, memory, executor, ask, track)
    if config.check_pixels:
        survey.measure_pixels([file.ref for file in listing.files])
    found = _form_pairs(listing, survey, rows, config)
    survey.save()
    return found


def _has_exiftool() -> bool:
    from sdd_toolkit.metadata.exiftool import program

    return program() is not None


def _form_pairs(listing: Scan, survey: Survey, rows: Sequence[TableRow], config: IngestConfig) -> IngestResult:
    from capture.pairing.records import build_records, pair_by_rules, pair_by_table
    from capture.pairing.scenes import natural_key
    from sdd_toolkit.pipeline.manifest import Manifest

    in_table = {path.resolve() for row in rows for path in (row.blur, row.sharp)}
    ordered = sorted(listing.files, key=lambda file: (file.path not in in_table, natural_key(file.name)))
    usable, copies, rejected = _split_usable(ordered, survey.inspections, in_table, config.check_pixels)
    content = {file.name: survey.inspections[file.ref].sha256 for file in (*usable, *copies)}
    frames, notes = _build_frames([*usable, *copies], survey.inspections, config)
    own, shared = ([frames[file.name] for file in files] for files in (usable, copies))
    undecodable: dict[str, str] = {}
    if rows:
        named, left = pair_by_table(usable, frames, content, rows, config)
    elif config.pairing is PairKind.AUTO:
        named, left = _pair_by_content(usable, own, survey, undecodable, config)
    else:
        own = _measure_detail(own, usable, survey, undecodable, config)
        named, left = pair_by_rules(own, shared, content, config)
    paired = {frame.name for entry in named for frame in (entry.match.blur, entry.match.sharp)}
    copied = [RejectedFile(file.name, Reason.DUPLICATE, f"the same bytes as {twin}") for file, twin in copies.items()]
    rejected += [entry for entry in copied if entry.path not in paired]
    rejected += [RejectedFile(frame.name, reason, word) for frame, reason, word in left]
    rejected += [RejectedFile(name, Reason.UNREADABLE, word) for name, word in undecodable.items()]
    entries = {file.name: survey.inspections[file.ref] for file in (*usable, *copies)}
    records, evidence = build_records(named, entries, listing.root.name, config)
    return IngestResult(
        pairs=Manifest(listing.root, records),
        rejected=tuple(sorted((*rejected, *listing.rejected), key=lambda entry: natural_key(entry.path))),
        files=len(listing.files) + len(listing.rejected),
        unchanged=survey.unchanged,
        evidence=evidence,
        clock_notes=notes,
    )


def _build_frames(
    files: Sequence[ScannedFile], seen: Mapping[str, Inspection], config: IngestConfig
) -> tuple[dict[str, Frame], tuple[str, ...]]:
    """The frames of usable files by name, on one clock, and what was assumed for it."""
    from capture.pairing.clocks import correct_clocks
    from capture.pairing.scenes import Frame

    frames = [Frame(file.name, meta) for file in files if (meta := seen[file.ref].meta) is not None]
    right, notes = correct_clocks(frames, config)
    return {frame.name: frame for frame in right}, notes


def _measure_detail(
    frames: Sequence[Frame],
    files: Sequence[ScannedFile],
    survey: Survey,
    undecodable: dict[str, str],
    config: IngestConfig,
) -> list[Frame]:
    """The frames with fine detail where a rule compares it; those whose pixels fail go to `undecodable`."""
    from capture.pairing.rules import needs_detail
    from capture.pairing.scenes import group_scenes

    wanted = {
        frame.name for scene in group_scenes(frames, config) if needs_detail(scene, config) for frame in scene.frames
    }
    refs = {file.name: file.ref for file in files if file.name in wanted}
    entries = survey.measure_pixels(list(refs.values()))
    undecodable |= {name: word for name, ref in refs.items() if (word := entries[ref].pixel_failure)}
    return [
        replace(frame, detail=entries[refs[frame.name]].detail) if frame.name in refs else frame
        for frame in frames
        if frame.name not in undecodable
    ]


def _pair_by_content(
    files: Sequence[ScannedFile],
    frames: Sequence[Frame],
    survey: Survey,
    undecodable: dict[str, str],
    config: IngestConfig,
) -> tuple[list[NamedMatch], list[Leftover]]:
    from capture.pairing.by_content import pair_by_content
    from capture.pairing.records import name_content_groups

    looks = survey.read_thumbnails(files)
    undecodable |= {name: entry.failure for name, entry in looks.items() if entry.failure}
    return name_content_groups(
        pair_by_content([frame for frame in frames if frame.name not in undecodable], looks, config)
    )


def _split_usable(
    files: Sequence[ScannedFile], seen: Mapping[str, Inspection], in_table: Collection[Path], pixels: bool
) -> tuple[list[ScannedFile], dict[ScannedFile, str], list[RejectedFile]]:
    """The usable files; copies of them, each with the name of its twin; those that are unreadable or a RAW's JPEG.

    What a table names is neither a copy nor a RAW's JPEG.
    """
    usable: list[ScannedFile] = []
    copies: dict[ScannedFile, str] = {}
    rejected: list[RejectedFile] = []
    first: dict[str, str] = {}
    for file in files:
        entry = seen[file.ref]
        if entry.meta is None or (pixels and entry.pixel_failure):
            rejected.append(RejectedFile(file.name, Reason.UNREADABLE, entry.failure or entry.pixel_failure))
        elif entry.sha256 in first and file.path not in in_table:
            copies[file] = first[entry.sha256]
        else:
            first.setdefault(entry.sha256, file.name)
            usable.append(file)
    raws = {_shot_key(file): file.name for file in usable if PurePosixPath(file.name).suffix.lower() in RAW_SUFFIXES}
    beside = [file for file in usable if _is_jpeg(file) and _shot_key(file) in raws and file.path not in in_table]
    why = "the camera's own picture of"
    rejected += [RejectedFile(file.name, Reason.DUPLICATE, f"{why} {raws[_shot_key(file)]}") for file in beside]
    cameras_own = set(beside)
    return [file for file in usable if file not in cameras_own], copies, rejected


def _shot_key(file: ScannedFile) -> tuple[str, str]:
    """Folder and stem: cameras name the JPEG of a shot like its RAW file."""
    path = PurePosixPath(file.name)
    return str(path.parent), path.stem.lower()


def _is_jpeg(file: ScannedFile) -> bool:
    return PurePosixPath(file.name).suffix.lower() in (".jpg", ".jpeg")


def _read_rows(table: Path | None, sources: Sequence[Path], config: IngestConfig) -> tuple[TableRow, ...]:
    if (table is not None) != (config.pairing is PairKind.CSV):
        raise ConfigError(
            f"pairing {config.pairing.value!r} {'without' if table is None else 'with'} a table",
            hint="--table FILE goes with --pairing csv, and neither without the other",
        )
    rows = read_table(table, [source for source in sources if source.is_dir()]) if table is not None else ()
    if table is not None and not rows:
        raise InputError(f"{table} lists no pair", hint="a first line blur,sharp and one line a pair")
    return rows


def _toolkit_outputs(sources: Sequence[Path], out: Path) -> list[Path]:
    """What not to search: the data set's folder, or, where sources lie in it, what the stages write there."""
    if any(source.resolve().is_relative_to(out.resolve()) for source in sources):
        from sdd_toolkit.pipeline.configurations import CONFIGURATIONS
        from sdd_toolkit.pipeline.dataset_folder import DatasetFolder
        from sdd_toolkit.pipeline.stage_runner import JOURNAL
        from sdd_toolkit.storage.folder_lock import LOCK_FILES

        layout = DatasetFolder(out)
        texts = (
            *(layout.ingested, layout.fused, layout.aligned, layout.filtered, layout.config),
            *(out / REJECTED, out / inspection_cache.CACHE_FILE, out / LAST_RUN_FILE, out / CONFIGURATIONS),
        )
        # A killed run leaves journals and partial files.
        endings = ("", JOURNAL, PARTIAL)
        locks = [out / name for name in LOCK_FILES]
        written = [*locks, *(path.with_name(path.name + ending) for path in texts for ending in endings)]
        return [*written, out / "shards", layout.report, out / "flow", out / "fused"]
    return [out]
