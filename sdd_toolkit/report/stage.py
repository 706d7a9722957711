"""The report of a data set in the making or made: one HTML page that needs nothing else, and its numbers as CSV."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from sdd_toolkit.config import Section
from sdd_toolkit.errors import InputError, SddError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.measurement_table import TEXT_COLUMNS, build_table
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.pipeline.dataset_folder import DatasetFolder
from sdd_toolkit.records import REASON_TEXT, Report
from sdd_toolkit.report.pictures import PairPictures, PictureTask, picture_pair
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import PairRecord
    from sdd_toolkit.report.page import Page
    from sdd_toolkit.storage.locations import Location

REJECTED_FILES = "rejected_files.csv"
PAGE, TABLE = "report.html", "pairs.csv"
_WORKER_DIED = PairPictures(notes=("the worker process died on this pair",))
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class ReportConfig(Section):
    """What the report shows. The numbers and the CSV always hold every pair."""

    title: str = Field(default="", description="Heading of the page; empty: the name of the data set's folder.")
    max_pictures: int = Field(default=40, ge=0, description="How many pairs are pictured; they make up the file size.")
    max_rows: int = Field(default=2000, ge=0, description="How many pairs the page's table lists; the CSV lists all.")
    picture_width_px: int = Field(default=640, ge=64, le=4096, description="Width of the slider's pictures.")
    jpeg_quality: int = Field(default=82, ge=1, le=100, description="JPEG quality of all pictures.")


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """What a build folder holds.

    Attributes:
        manifest: The furthest manifest that is there.
        root: Folder its file paths are relative to.
        records: Its pairs, sorted by id.
        packed: Ids of the packed pairs; None if nothing was packed.
        rejected_files: (path, reason, detail) of every file that ended in no pair; None if not listed.
        thresholds: The resolved configuration by section; empty if it was not written.
        notes: What is there but cannot be read, and what could not be packed.
        fingerprint: Changes with any of these.
        shards: Where the packed pairs lie, if there are any.
    """

    manifest: Path
    root: Path
    records: tuple[PairRecord, ...]
    packed: frozenset[str] | None
    rejected_files: tuple[tuple[str, str, str], ...] | None
    thresholds: dict[str, Any]
    notes: tuple[str, ...]
    fingerprint: str
    shards: Location


def write_report(
    dataset: Path,
    out: Path,
    config: ReportConfig,
    *,
    shards: Location | None = None,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Writes `out`/report.html and `out`/pairs.csv; leaves them alone if nothing they show has changed.

    Args:
        dataset: A build folder, or one of its manifests; whatever stages it has been through are shown.
        out: Folder of the report.
        config: What to show.
        shards: Where its shards lie; the folder `shards` in it if not given.
        executor: Who reads the pictures; see `executor`.
        overwrite: Write anew although nothing changed (the source files are back, say).
        track: Shows the progress.

    Raises:
        InputError: There is no manifest.
    """
    started = time.monotonic()
    found = find_inputs(dataset, shards)
    outputs = (out / PAGE, out / TABLE)
    stamp = fingerprint_text(f"{found.fingerprint} {config.fingerprint()} {__version__}")
    total = len(found.records)
    fresh = not overwrite and all(path.is_file() for path in outputs) and stamp in _read_start(outputs[0])
    if not fresh:
        frame = build_table(found.records)
        write_text(outputs[1], to_csv(frame))
        shown = _picture_pairs(found, config, executor, track)
        # Here, not above: what draws the figures takes as long to load as some pairs to picture.
        from sdd_toolkit.report.page import render_page

        write_text(outputs[0], render_page(_assemble_page(found, frame, shown, config, stamp)))
    return Report(
        stage="report",
        total=total,
        done=0 if fresh else total,
        skipped=total if fresh else 0,
        rejected=manifest.reject_counts(found.records),
        seconds=time.monotonic() - started,
        outputs=tuple(str(path) for path in outputs),
    )


def find_inputs(dataset: Path, shards: Location | None = None) -> ReportInputs:
    """Whatever of a build folder is there; `dataset` is the folder or a manifest in it.

    Raises:
        InputError: There is no manifest.
        ManifestError: The furthest manifest cannot be read.
    """
    layout = DatasetFolder(dataset.parent if dataset.is_file() else dataset, shards)
    manifests = (dataset, layout.filtered, layout.aligned, layout.ingested)
    path = next((candidate for candidate in manifests if candidate.is_file()), None)
    if path is None:
        raise InputError(
            f"{dataset} holds no manifest ({', '.join(candidate.name for candidate in manifests[1:])})",
            hint="give the folder that `sdd build` or `sdd ingest` wrote",
        )
    content, notes = manifest.read_manifest(path), list[str]()
    digest = hashlib.sha256()
    for source in (path, layout.folder / REJECTED_FILES, layout.config, layout.shards / "index.json"):
        digest.update(hashlib.sha256(source.read_bytes() if source.is_file() else b"").digest())
    return ReportInputs(
        manifest=path,
        root=content.root,
        records=tuple(sorted(content.records, key=lambda record: record.id)),
        packed=_packed_ids(layout.shards, notes),
        rejected_files=_read_rejected_files(layout.folder / REJECTED_FILES, notes),
        thresholds=_read_thresholds(layout.config, notes),
        notes=tuple(notes),
        fingerprint=digest.hexdigest(),
        shards=layout.shards.resolve(),
    )


def choose_pictured_pairs(records: Sequence[PairRecord], limit: int) -> tuple[str, ...]:
    """Ids of the pairs to picture: of every reason some, the rest kept pairs evenly spaced over the manifest.

    Rejected pairs get at most half of the places (all that the kept ones leave free), dealt out in turn to the
    reasons in the order of their names, so that each is represented as long as there are places at all.
    """
    good = [record.id for record in records if record.verdict is None or record.verdict.keep]
    by_reason: dict[str, list[str]] = {}
    for record in records:
        if record.verdict is not None and not record.verdict.keep:
            by_reason.setdefault(str(record.verdict.reason or ""), []).append(record.id)
    queues = [by_reason[reason] for reason in sorted(by_reason)]
    deepest = max(map(len, queues), default=0)
    dealt = [queue[turn] for turn in range(deepest) for queue in queues if turn < len(queue)]
    places = max(limit // 2, min(len(queues), limit), limit - len(good))
    bad = dealt[:places]
    spaced = np.linspace(0, len(good) - 1, min(limit - len(bad), len(good))).round().astype(int)
    return tuple(sorted([*bad, *(good[position] for position in spaced)]))


def to_csv(frame: pd.DataFrame) -> str:
    """The table as CSV, nine significant digits.

    A text that a spreadsheet would take for a formula is preceded by an apostrophe: names come from strangers.
    """
    texts = {
        name: frame[name].map(lambda text: f"'{text}" if text.startswith(_FORMULA_STARTS) else text)
        for name in TEXT_COLUMNS
    }
    return str(frame.assign(**texts).to_csv(index=False, lineterminator="\n", float_format="%.9g"))


def _picture_pairs(found: ReportInputs, config: ReportConfig, executor: str, track: Track) -> dict[str, PairPictures]:
    wanted = set(choose_pictured_pairs(found.records, config.max_pictures))
    tasks = [
        PictureTask(
            record=record,
            root=found.root,
            folder=found.manifest.parent.resolve(),
            shards=found.shards if record.id in (found.packed or ()) else None,
            width_px=config.picture_width_px,
            jpeg_quality=config.jpeg_quality,
        )
        for record in found.records
        if record.id in wanted
    ]
    shown: dict[str, PairPictures] = {}
    with track("report", len(tasks)) as advance:
        for outcome in run_tasks(picture_pair, tasks, executor):
            shown[outcome.task.record.id] = outcome.result or _WORKER_DIED
            advance(note=outcome.task.record.id)
    return shown


def _assemble_page(
    found: ReportInputs, frame: pd.DataFrame, shown: dict[str, PairPictures], config: ReportConfig, stamp: str
) -> Page:
    from sdd_toolkit.report.page import Page

    return Page(
        title=config.title or found.manifest.parent.resolve().name or "data set",
        stage=found.manifest.stem,
        records=found.records,
        frame=frame,
        pictures=shown,
        listed=frozenset(choose_pictured_pairs(found.records, config.max_rows)) | frozenset(shown),
        packed=found.packed,
        rejected_files=found.rejected_files,
        thresholds=found.thresholds,
        notes=found.notes,
        stamp=stamp,
    )


def _packed_ids(shards: Location, notes: list[str]) -> frozenset[str] | None:
    if not (shards / "index.json").is_file():
        return None
    try:
        with ShardReader(shards) as reader:
            ids, failed = frozenset(reader.pair_ids), reader.index.failed
    except SddError as error:
        notes.append(f"the shards cannot be read: {error.what}")
        return None
    for pair in failed:
        detail = f" ({pair.detail})" if pair.detail else ""
        notes.append(f"{pair.id} was kept but could not be packed: {REASON_TEXT[pair.reason]}{detail}")
    return ids


def _read_rejected_files(path: Path, notes: list[str]) -> tuple[tuple[str, str, str], ...] | None:
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as stream:
            rows = [[row.get(name) or "" for name in ("path", "reason", "detail")] for row in csv.DictReader(stream)]
    except (OSError, csv.Error) as error:
        notes.append(f"{path.name} cannot be read: {error}")
        return None
    return tuple((file, reason, detail) for file, reason, detail in rows)


def _read_thresholds(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        notes.append(f"{path.name} is not a configuration")
        return {}
    return content


def _read_start(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.read(2000)
