"""The stage `ingest`: folders of RAW files and images to a manifest of pairs and a list of all other files."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture import inspection
from capture.inspection import Inspection, Task, inspect
from capture.naming import numbered, safe_names
from capture.pairing import pair, settle
from capture.scan import scan
from capture.scenes import Frame, group, natural, role_of
from capture.table import read_table
from sdd_toolkit import manifest
from sdd_toolkit.build import Dataset
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.executor import run_tasks, workers_of
from sdd_toolkit.files import PARTIAL, write_text, writing_failed
from sdd_toolkit.manifest import Manifest
from sdd_toolkit.progress import silent
from sdd_toolkit.stages import JOURNAL
from sdd_toolkit.types import FileRef, PairKind, PairRecord, Reason, RejectedFile, Report

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TextIO

    from capture.config import IngestConfig
    from capture.pairing import Couple, Leftover
    from capture.scan import Found, Scan
    from capture.table import Row
    from sdd_toolkit.progress import Track

MANIFEST = "ingested.jsonl"
REJECTED = "rejected_files.csv"


@dataclass(frozen=True, slots=True)
class Ingested:
    """What ingest found: every file is in `pairs` or in `rejected`.

    Attributes:
        pairs: The manifest to be.
        rejected: All files in no pair, sorted by path.
        files: How many files were found.
        unchanged: How many of them were known from an earlier run.
    """

    pairs: Manifest
    rejected: tuple[RejectedFile, ...]
    files: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class _Match:
    """One pair before it is a record; `scene` and `id` are not yet safe for files, an empty id is to be made."""

    scene: str
    id: str
    couple: Couple


def run(
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

    A file unchanged since an earlier run into the same folder is not read again.

    Args:
        sources: Folders, searched with all below them, or single files.
        out: Folder of the data set.
        config: Grouping and pairing.
        table: The pairs, for `pairing = "csv"`.
        executor: See `sdd_toolkit.executor`.
        overwrite: Read every file again.
        track: Shows progress.

    Raises:
        InputError: A source is missing, there is no photograph, the table is wrong, or `out` cannot be written.
        ConfigError: The executor's name is unknown.
    """
    started = time.monotonic()
    memory = out / inspection.MEMORY
    if overwrite:
        memory.unlink(missing_ok=True)
    found = collect(sources, out, config, table=table, executor=executor, memory=memory, track=track)
    manifest.write(out / MANIFEST, found.pairs)
    write_text(out / REJECTED, _as_csv(found.rejected))
    counts = Counter(entry.reason.value for entry in found.rejected)
    return Report(
        stage="ingest",
        total=found.files,
        done=found.files - found.unchanged,
        skipped=found.unchanged,
        rejected=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        seconds=time.monotonic() - started,
        outputs=(str(out / MANIFEST), str(out / REJECTED)),
    )


def collect(
    sources: Sequence[Path],
    out: Path,
    config: IngestConfig,
    *,
    table: Path | None = None,
    executor: str = "serial",
    memory: Path | None = None,
    track: Track = silent,
) -> Ingested:
    """Everything `run` writes, without writing it; `memory` is where findings on files are kept, None for nowhere."""
    workers_of(executor)
    rows = _rows(table, sources, config)
    named = [path for row in rows for path in (row.blur, row.sharp)]
    if not sources and not named:
        raise InputError("no folder to search", hint="sdd ingest DIR --out DATASET")
    listing = scan([*sources, *named], _our_own(sources, out))
    tasks = [Task(file.path, file.ref, _decode(config)) for file in listing.files]
    known = inspection.remembered(memory) if memory else {}
    known = {task.name: known[task.name] for task in tasks if inspection.still_true(known.get(task.name), task)}
    seen = dict(known)
    todo = list({task.name: task for task in tasks if task.name not in known}.values())
    with _noting(memory) as lines, track("ingest", len(todo)) as advance:
        for outcome in run_tasks(inspect, todo, executor):
            entry = outcome.result or replace(
                Inspection(outcome.task.name, 0, 0, pixels=False),
                failure="the worker process died on it (out of memory?)",
            )
            seen[entry.name] = entry
            if lines is not None:
                inspection.note(lines, entry)
            advance(note=entry.name)
    if memory:
        inspection.remember(memory, seen.values())
    return _assembled(listing, seen, rows, config, unchanged=len(known))


def _assembled(
    listing: Scan, seen: Mapping[str, Inspection], rows: Sequence[Row], config: IngestConfig, unchanged: int
) -> Ingested:
    in_table = {path.resolve() for row in rows for path in (row.blur, row.sharp)}
    ordered = sorted(listing.files, key=lambda file: (file.path not in in_table, natural(file.name)))
    usable, copies, rejected = _sifted(ordered, seen, in_table)
    if rows:
        matches, left = _from_table(usable, seen, rows, config)
    else:
        matches, left = _by_rules(usable, copies, seen, config)
    paired = {frame.name for match in matches for frame in match.couple}
    copied = [RejectedFile(file.name, Reason.DUPLICATE, f"the same bytes as {twin}") for file, twin in copies.items()]
    rejected += [entry for entry in copied if entry.path not in paired]
    rejected += [RejectedFile(frame.name, reason, word) for frame, reason, word in left]
    records = _records(matches, {file.name: seen[file.ref] for file in (*usable, *copies)}, listing.root.name, config)
    return Ingested(
        pairs=Manifest(listing.root, records),
        rejected=tuple(sorted((*rejected, *listing.rejected), key=lambda entry: natural(entry.path))),
        files=len(listing.files) + len(listing.rejected),
        unchanged=unchanged,
    )


def _sifted(
    files: Sequence[Found], seen: Mapping[str, Inspection], in_table: Collection[Path]
) -> tuple[list[Found], dict[Found, str], list[RejectedFile]]:
    """The usable files; copies of them not named in a table, each with the name of its twin; the unreadable."""
    usable: list[Found] = []
    copies: dict[Found, str] = {}
    rejected: list[RejectedFile] = []
    first: dict[str, str] = {}
    for file in files:
        entry = seen[file.ref]
        if entry.meta is None:
            rejected.append(RejectedFile(file.name, Reason.UNREADABLE, entry.failure))
        elif entry.sha256 in first and file.path not in in_table:
            copies[file] = first[entry.sha256]
        else:
            first.setdefault(entry.sha256, file.name)
            usable.append(file)
    return usable, copies, rejected


def _by_rules(
    files: Sequence[Found], copies: Collection[Found], seen: Mapping[str, Inspection], config: IngestConfig
) -> tuple[list[_Match], list[Leftover]]:
    frames = [_frame(file, seen[file.ref]) for file in files]
    matches: list[_Match] = []
    left: list[Leftover] = []
    for scene in group(frames, config):
        result = pair(scene, config)
        matches += [_Match(scene.name, "", couple) for couple in result.pairs]
        left += result.left
    shared = [_frame(file, seen[file.ref]) for file in copies]
    content = {file.name: seen[file.ref].sha256 for file in (*files, *copies)}
    matches += _sharing(frames, shared, content, {frame.name for match in matches for frame in match.couple}, config)
    paired = {frame.name for match in matches for frame in match.couple}
    return matches, [entry for entry in left if entry[0].name not in paired]


def _sharing(
    frames: Sequence[Frame],
    shared: Sequence[Frame],
    content: Mapping[str, str],
    paired: Collection[str],
    config: IngestConfig,
) -> list[_Match]:
    """Pairs of scenes that would have none without a copy of another scene's file; whether it fits, align will tell.

    Args:
        frames: One frame of each content.
        shared: The copies.
        content: SHA-256 by name.
        paired: Names of the frames in pairs already.
        config: Grouping and pairing.
    """
    names = {frame.name for frame in shared}
    matches: list[_Match] = []
    for scene in group([*frames, *shared], config) if shared else ():
        own = {frame.name for frame in scene.frames} - names
        if 0 < len(own) < len(scene.frames) and own.isdisjoint(paired):
            matches += [
                _Match(scene.name, "", (blur, sharp))
                for blur, sharp in pair(scene, config).pairs
                if not own.isdisjoint((blur.name, sharp.name)) and content[blur.name] != content[sharp.name]
            ]
    return matches


def _from_table(
    files: Sequence[Found], seen: Mapping[str, Inspection], rows: Sequence[Row], config: IngestConfig
) -> tuple[list[_Match], list[Leftover]]:
    frames = {file.path: _frame(file, seen[file.ref]) for file in files}
    content = {file.name: seen[file.ref].sha256 for file in files}
    row_of: dict[Couple, Row] = {}
    contents: set[tuple[str, str]] = set()
    for row in rows:
        blur, sharp = frames.get(row.blur.resolve()), frames.get(row.sharp.resolve())
        if blur is None or sharp is None or content[blur.name] == content[sharp.name]:
            continue
        same = content[blur.name], content[sharp.name]
        if same not in contents:
            contents.add(same)
            row_of[blur, sharp] = row
    why = "in no row of the table whose two files can be used"
    result = settle(list(frames.values()), list(row_of), why, config.max_exposure_ev)
    matches = [
        _Match(row_of[couple].scene or row_of[couple].id or _scene_of(couple), row_of[couple].id, couple)
        for couple in result.pairs
    ]
    return matches, _telling_copies(result.left, files, content)


def _telling_copies(left: Sequence[Leftover], files: Sequence[Found], content: Mapping[str, str]) -> list[Leftover]:
    """`left`, where a file without partner that equals an earlier one is called a duplicate."""
    first: dict[str, str] = {}
    for file in files:
        first.setdefault(content[file.name], file.name)
    told: list[Leftover] = []
    for frame, reason, word in left:
        twin = first[content[frame.name]]
        copy = reason is Reason.NO_PARTNER and twin != frame.name
        told.append((frame, Reason.DUPLICATE, f"the same bytes as {twin}") if copy else (frame, reason, word))
    return told


def _scene_of(couple: Couple) -> str:
    path = PurePosixPath(couple[1].name)
    return str(path.parent / role_of(path.stem)[1])


def _records(
    matches: Sequence[_Match], entries: Mapping[str, Inspection], root: str, config: IngestConfig
) -> tuple[PairRecord, ...]:
    ordered = sorted(matches, key=lambda match: (match.scene, *(natural(frame.name) for frame in match.couple)))
    names = safe_names(name or root for match in ordered for name in (match.scene, match.id))
    scenes = [names[match.scene or root] for match in ordered]
    # An id the table gives is as unique as a scene's name; the others are numbered around it.
    ids = numbered([names[match.id] if match.id else scene for match, scene in zip(ordered, scenes, strict=True)])
    records = []
    for name, scene, match in zip(ids, scenes, ordered, strict=True):
        blur, sharp = (entries[frame.name] for frame in match.couple)
        record = PairRecord(
            id=name,
            scene=scene,
            kind=config.pairing,
            blur=FileRef(blur.name, blur.bytes, blur.sha256),
            sharp=FileRef(sharp.name, sharp.bytes, sharp.sha256),
            blur_meta=match.couple[0].meta,
            sharp_meta=match.couple[1].meta,
        )
        records.append(replace(record, history=(manifest.step_of("ingest", config, record),)))
    return tuple(records)


def _frame(file: Found, entry: Inspection) -> Frame:
    if entry.meta is None:
        raise ValueError(f"{file.name} cannot be used")
    return Frame(file.name, entry.meta, entry.detail)


def _rows(table: Path | None, sources: Sequence[Path], config: IngestConfig) -> tuple[Row, ...]:
    if (table is not None) != (config.pairing is PairKind.CSV):
        raise ConfigError(
            f"pairing {config.pairing.value!r} {'without' if table is None else 'with'} a table",
            hint="--table FILE goes with --pairing csv, and neither without the other",
        )
    rows = read_table(table, [source for source in sources if source.is_dir()]) if table is not None else ()
    if table is not None and not rows:
        raise InputError(f"{table} lists no pair", hint="a first line blur,sharp and one line a pair")
    return rows


def _decode(config: IngestConfig) -> bool:
    return config.check_pixels or (config.pairing is PairKind.FOCUS and config.reference == "detail")


def _our_own(sources: Sequence[Path], out: Path) -> list[Path]:
    """What not to search: the data set's folder, or, where sources lie in it, what the stages write there."""
    if any(source.resolve().is_relative_to(out.resolve()) for source in sources):
        layout = Dataset(out)
        texts = (
            *(layout.ingested, layout.fused, layout.aligned, layout.filtered, layout.config),
            *(out / REJECTED, out / inspection.MEMORY),
        )
        # A killed run leaves journals and partial files.
        endings = ("", JOURNAL, PARTIAL)
        written = [path.with_name(path.name + ending) for path in texts for ending in endings]
        return [*written, layout.shards, layout.report, out / "flow", out / "fused"]
    return [out]


@contextmanager
def _noting(memory: Path | None) -> Iterator[TextIO | None]:
    if memory is None:
        yield None
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        stream = memory.open("a", encoding="utf-8", newline="\n")
        stream.write("\n")  # ends the line a kill may have torn
    except OSError as error:
        raise writing_failed(memory, error) from error
    with stream:
        yield stream


def _as_csv(rejected: Sequence[RejectedFile]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("path", "reason", "detail"))
    writer.writerows((entry.path, entry.reason.value, entry.detail) for entry in rejected)
    return buffer.getvalue()


def overview(found: Ingested) -> str:
    """The pairs and the files left over as a table for people."""
    lines = [
        f"{record.id}: {record.blur.path} -> {record.sharp.path}{_settings(record)}"
        for record in sorted(found.pairs.records, key=lambda record: natural(record.id))
    ]
    lines += [f"  {entry.path}: {entry.reason.value}, {entry.detail}" for entry in found.rejected]
    counts = f"{len(found.pairs.records)} pairs; {len(found.rejected)} of {found.files} files in none"
    return "\n".join([*lines, counts])


def _settings(record: PairRecord) -> str:
    numbers = [meta.exposure.f_number for meta in (record.blur_meta, record.sharp_meta)]
    known = " to ".join(f"f/{number:g}" if number else "?" for number in numbers)
    return f" ({known})" if any(numbers) else ""
