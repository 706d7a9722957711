"""The report stage: one self-contained HTML page on a data set at any stage, and its numbers as CSV."""

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
from sdd_toolkit.execution.landlock import FileAccess, folders_of
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.measurement_table import TEXT_COLUMNS, build_table
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.pipeline.dataset_folder import DatasetFolder
from sdd_toolkit.records import REASON_TEXT, Report
from sdd_toolkit.report.pictures import PairPictures, PictureTask, picture_pair
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.storage.targets import check_own
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
    """Section `[report]`: pictures and rows of the page; its numbers and the CSV always cover all pairs."""

    title: str = Field(default="", description="Heading of the page; empty: the name of the data set's folder.")
    max_pictures: int = Field(default=40, ge=0, description="Number of pairs with pictures; they set the file size.")
    max_rows: int = Field(
        default=2000, ge=0, description="Number of pairs in the table of the page; the CSV lists all."
    )
    picture_width_px: int = Field(default=640, ge=64, le=4096, description="Width of the pictures on the slider.")
    jpeg_quality: int = Field(default=82, ge=1, le=100, description="JPEG quality of all pictures.")


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """The content of a build folder.

    Attributes:
        manifest: The manifest of the latest stage.
        root: Folder that its file paths are relative to.
        records: Its pairs, sorted by id.
        packed: Ids of the packed pairs; None if nothing was packed.
        rejected_files: (path, reason, detail) of every file that is in no pair; None if not listed.
        thresholds: The resolved configuration by section; empty if it was not written.
        notes: Files that cannot be read, and pairs that could not be packed.
        fingerprint: Fingerprint of all of these.
        shards: Folder of the packed pairs, if there are any.
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
    """Writes `out/report.html` and `out/pairs.csv`, unless they are up to date.

    Args:
        dataset: A build folder after any stage, or one of its manifests.
        out: Folder of the report.
        config: Section `[report]`.
        shards: Folder of its shards; `shards` in the build folder if None.
        executor: Executor that draws the pictures, see `sdd_toolkit.execution.executor`.
        overwrite: Whether to write the report again although its inputs are unchanged.
        track: Shows progress.

    Raises:
        InputError: There is no manifest.
    """
    started = time.monotonic()
    inputs = find_inputs(dataset, shards)
    outputs = (out / PAGE, out / TABLE)
    check_own(outputs, overwrite=overwrite)
    stamp = fingerprint_text(f"{inputs.fingerprint} {config.fingerprint()} {__version__}")
    total = len(inputs.records)
    up_to_date = not overwrite and all(path.is_file() for path in outputs) and stamp in _read_start(outputs[0])
    if not up_to_date:
        frame = build_table(inputs.records)
        write_text(outputs[1], to_csv(frame))
        drawn = _picture_pairs(inputs, config, executor, track)
        # Imported late: matplotlib takes as long to load as the pictures of several pairs.
        from sdd_toolkit.report.page import render_page

        write_text(outputs[0], render_page(_assemble_page(inputs, frame, drawn, config, stamp)))
    return Report(
        stage="report",
        total=total,
        done=0 if up_to_date else total,
        skipped=total if up_to_date else 0,
        rejected=manifest.reject_counts(inputs.records),
        seconds=time.monotonic() - started,
        outputs=tuple(str(path) for path in outputs),
    )


def find_inputs(dataset: Path, shards: Location | None = None) -> ReportInputs:
    """Reads the inputs of the report from a build folder after any stage.

    Args:
        dataset: The folder, or a manifest in it.
        shards: Folder of its shards; `shards` in the folder if None.

    Raises:
        InputError: There is no manifest.
        ManifestError: The manifest of the latest stage cannot be read.
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
    """Chooses the pairs to picture: some for every reason for rejection, and kept pairs evenly spaced.

    Rejected pairs are at most half of the choice, or more if there are few kept ones. They are chosen from the reasons
    in turn, in the order of their names, so that each reason is represented as far as the limit allows.

    Args:
        records: All pairs, in the order of the manifest.
        limit: Largest number of pairs.

    Returns:
        Their ids, sorted.
    """
    kept = [record.id for record in records if record.verdict is None or record.verdict.keep]
    by_reason: dict[str, list[str]] = {}
    for record in records:
        if record.verdict is not None and not record.verdict.keep:
            by_reason.setdefault(str(record.verdict.reason or ""), []).append(record.id)
    queues = [by_reason[reason] for reason in sorted(by_reason)]
    deepest = max(map(len, queues), default=0)
    in_turn = [queue[turn] for turn in range(deepest) for queue in queues if turn < len(queue)]
    share = max(limit // 2, min(len(queues), limit), limit - len(kept))
    rejected = in_turn[:share]
    spaced = np.linspace(0, len(kept) - 1, min(limit - len(rejected), len(kept))).round().astype(int)
    return tuple(sorted([*rejected, *(kept[position] for position in spaced)]))


def to_csv(frame: pd.DataFrame) -> str:
    """Formats a table as CSV with nine significant digits.

    An untrusted text that a spreadsheet would interpret as a formula is prefixed by an apostrophe.
    """
    texts = {
        name: frame[name].map(lambda text: f"'{text}" if text.startswith(_FORMULA_STARTS) else text)
        for name in TEXT_COLUMNS
    }
    return str(frame.assign(**texts).to_csv(index=False, lineterminator="\n", float_format="%.9g"))


def _picture_pairs(inputs: ReportInputs, config: ReportConfig, executor: str, track: Track) -> dict[str, PairPictures]:
    wanted = set(choose_pictured_pairs(inputs.records, config.max_pictures))
    tasks = [
        PictureTask(
            record=record,
            root=inputs.root,
            folder=inputs.manifest.parent.resolve(),
            shards=inputs.shards if record.id in (inputs.packed or ()) else None,
            width_px=config.picture_width_px,
            jpeg_quality=config.jpeg_quality,
        )
        for record in inputs.records
        if record.id in wanted
    ]
    files = [task.root / ref.path for task in tasks for ref in (task.record.blur, task.record.sharp)]
    read = [*folders_of(files), inputs.manifest.parent.resolve(), *([] if inputs.shards is None else [inputs.shards])]
    drawn: dict[str, PairPictures] = {}
    with track("report", len(tasks)) as advance:
        for outcome in run_tasks(picture_pair, tasks, executor, access=FileAccess(tuple(read))):
            drawn[outcome.task.record.id] = outcome.result or _WORKER_DIED
            advance(note=outcome.task.record.id)
    return drawn


def _assemble_page(
    inputs: ReportInputs, frame: pd.DataFrame, drawn: dict[str, PairPictures], config: ReportConfig, stamp: str
) -> Page:
    from sdd_toolkit.report.page import Page

    return Page(
        title=config.title or inputs.manifest.parent.resolve().name or "data set",
        stage=inputs.manifest.stem,
        records=inputs.records,
        frame=frame,
        pictures=drawn,
        listed=frozenset(choose_pictured_pairs(inputs.records, config.max_rows)) | frozenset(drawn),
        packed=inputs.packed,
        rejected_files=inputs.rejected_files,
        thresholds=inputs.thresholds,
        notes=inputs.notes,
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
