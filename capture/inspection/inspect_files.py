"""Looking at files, in a worker: hash and metadata of a batch, pixels of one where a rule asks for them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from capture.inspection.inspection_cache import Inspection
from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import structure_of
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.metadata import exif, exiftool

if TYPE_CHECKING:
    from io import BufferedReader


@dataclass(frozen=True, slots=True)
class InspectionTask:
    """One file to look at.

    Attributes:
        path: Where it is.
        name: Its path relative to the manifest's root.
        known: What an earlier run found, if the file is as long as it was then.
    """

    path: Path
    name: str
    known: Inspection | None = None


@dataclass(frozen=True, slots=True)
class InspectionBatch:
    """Files one worker looks at in one go; `ask` lets it run ExifTool."""

    tasks: tuple[InspectionTask, ...]
    ask: bool


def inspect_batch(batch: InspectionBatch) -> tuple[Inspection, ...]:
    """Hashes files and reads their metadata; every failure is part of the result, in the order of the tasks."""
    found: list[Inspection] = []
    open_questions: dict[Path, int] = {}
    for place, task in enumerate(batch.tasks):
        entry, ask = _inspect(task, batch.ask)
        found.append(entry)
        if ask:
            open_questions[task.path] = place
    if batch.ask and open_questions:
        for path, tags in exiftool.ask(list(open_questions)).items():
            entry = found[open_questions[path]]
            if entry.meta is not None:
                found[open_questions[path]] = replace(entry, meta=exif.completed_by_exiftool(entry.meta, tags))
    return tuple(found)


def measure_pixels(task: InspectionTask) -> Inspection:
    """`task.known` with what the pixels tell: that they can be decoded, their size and their fine detail."""
    from sdd_toolkit.quality import sharpness  # few files are measured

    entry = task.known
    if entry is None or entry.meta is None:
        raise ValueError(f"{task.name} was not inspected")
    entry = replace(entry, decoded=True)
    try:
        half = frames.read_half(task.path)
    except RawError as error:
        return replace(entry, pixel_failure=_failure_text(error, task.path))
    meta = entry.meta
    if meta is not None and meta.size is None:
        entry = replace(entry, meta=replace(meta, size=_stored_size(half.size, meta.orientation)))
    return replace(entry, detail=sharpness.relative_detail(half.rgb))


def _inspect(task: InspectionTask, ask: bool) -> tuple[Inspection, bool]:
    path = task.path
    entry = Inspection(task.name, 0, 0, exiftool=ask)
    try:
        with path.open("rb") as stream:
            state = os.fstat(stream.fileno())
            entry = replace(entry, bytes=state.st_size, modified_ns=state.st_mtime_ns)
            if task.known is not None and task.known.sha256 and task.known.sha256 == _sha256(stream):
                return replace(task.known, modified_ns=state.st_mtime_ns), False
            told = exif.read(path, stream, structure_of(stream, path))
            return replace(entry, sha256=_sha256(stream), meta=told.meta), told.ask
    except RawError as error:
        return replace(entry, failure=_failure_text(error, path)), False
    except OSError as error:
        return replace(entry, failure=error.strerror or str(error)), False


def _sha256(stream: BufferedReader) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _failure_text(error: RawError, path: Path) -> str:
    return error.what.replace(str(path), path.name)


def _stored_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The size before orientation: codes from 5 on swap the sides."""
    return (size[1], size[0]) if orientation >= 5 else size
