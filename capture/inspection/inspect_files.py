"""Inspects files in a worker process: hash and metadata of a batch, pixels of a file where a rule needs them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from capture.inspection.inspection_cache import Inspection
from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import read_structure
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.metadata import exif, exiftool

if TYPE_CHECKING:
    from io import BufferedReader


@dataclass(frozen=True, slots=True)
class InspectionTask:
    """One file to inspect.

    Attributes:
        path: The file.
        name: Its path relative to the manifest's root.
        known: An earlier inspection, if the file has kept its size.
    """

    path: Path
    name: str
    known: Inspection | None = None


@dataclass(frozen=True, slots=True)
class InspectionBatch:
    """Files that one worker inspects in one go, and whether it may run ExifTool."""

    tasks: tuple[InspectionTask, ...]
    use_exiftool: bool


def inspect_batch(batch: InspectionBatch) -> tuple[Inspection, ...]:
    """Hashes files and reads their metadata; every failure is part of the result, in the order of the tasks."""
    inspections: list[Inspection] = []
    incomplete: dict[Path, int] = {}
    for index, task in enumerate(batch.tasks):
        inspection, is_incomplete = _inspect(task, batch.use_exiftool)
        inspections.append(inspection)
        if is_incomplete:
            incomplete[task.path] = index
    if batch.use_exiftool and incomplete:
        for path, tags in exiftool.read_tags(list(incomplete)).items():
            inspection = inspections[incomplete[path]]
            if inspection.meta is not None:
                completed = exif.complete_with_exiftool(inspection.meta, tags)
                inspections[incomplete[path]] = replace(inspection, meta=completed)
    return tuple(inspections)


def measure_pixels(task: InspectionTask) -> Inspection:
    """`task.known`, completed by decoding the pixels: whether that succeeds, their size, their fine detail."""
    from sdd_toolkit.quality import sharpness  # few files are measured

    inspection = task.known
    if inspection is None or inspection.meta is None:
        raise ValueError(f"{task.name} was not inspected")
    inspection = replace(inspection, decoded=True)
    try:
        half = frames.read_half(task.path)
    except RawError as error:
        return replace(inspection, pixel_failure=_failure_text(error, task.path))
    meta = inspection.meta
    if meta is not None and meta.size is None:
        inspection = replace(inspection, meta=replace(meta, size=_stored_size(half.size, meta.orientation)))
    return replace(inspection, detail=sharpness.relative_detail(half.rgb))


def _inspect(task: InspectionTask, use_exiftool: bool) -> tuple[Inspection, bool]:
    """The inspection, and whether ExifTool may complete its metadata."""
    path = task.path
    inspection = Inspection(task.name, 0, 0, exiftool=use_exiftool)
    try:
        with path.open("rb") as stream:
            state = os.fstat(stream.fileno())
            inspection = replace(inspection, bytes=state.st_size, modified_ns=state.st_mtime_ns)
            if task.known is not None and task.known.sha256 and task.known.sha256 == _sha256(stream):
                return replace(task.known, modified_ns=state.st_mtime_ns), False
            parsed = exif.read_exif(path, stream, read_structure(stream, path))
            inspection = replace(inspection, meta=parsed.meta, provenance=parsed.provenance)
            return replace(inspection, sha256=_sha256(stream)), parsed.needs_exiftool
    except RawError as error:
        return replace(inspection, failure=_failure_text(error, path)), False
    except OSError as error:
        return replace(inspection, failure=error.strerror or str(error)), False


def _sha256(stream: BufferedReader) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _failure_text(error: RawError, path: Path) -> str:
    return error.what.replace(str(path), path.name)


def _stored_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The size before orientation: codes from 5 on swap the sides."""
    return (size[1], size[0]) if orientation >= 5 else size
