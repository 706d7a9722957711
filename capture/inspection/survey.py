"""Inspects all files of a run: cached inspections are reused, the other files are read by workers in batches."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from capture.inspection import inspection_cache
from capture.inspection.inspection_cache import Inspection
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess, folders_of
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.metadata.exiftool import find_program
from sdd_toolkit.storage.files import write_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from capture.inspection.inspect_files import InspectionBatch
    from capture.inspection.scan import ScannedFile
    from capture.inspection.thumbnails import Thumbnail
    from sdd_toolkit.execution.progress import Track

_FILES_PER_BATCH = 32
_WORKER_DIED = "the worker process died on it (out of memory?)"


class Survey:
    """The inspections of the files of one run.

    Attributes:
        inspections: By `ScannedFile.ref`.
        unchanged: Number of files whose inspection was cached.
    """

    def __init__(
        self, files: Sequence[ScannedFile], cache: Path | None, executor: str, use_exiftool: bool, track: Track
    ) -> None:
        """Inspects the files without a valid cached inspection.

        Args:
            files: All files, in order.
            cache: File of the cache; None for none.
            executor: See `sdd_toolkit.execution.executor`.
            use_exiftool: Whether ExifTool may complete the metadata.
            track: Shows progress.
        """
        self._paths = {file.ref: file.path for file in files}
        self._cache, self._executor, self._track = cache, executor, track
        program = find_program() if use_exiftool else None
        self._access = FileAccess(
            folders_of(list(self._paths.values())), run=() if program is None else (Path(program),)
        )
        cached = inspection_cache.read_cache(cache) if cache else {}
        self._thumbnails: dict[str, Thumbnail] = {}
        self.inspections: dict[str, Inspection] = {}
        pending: dict[str, Inspection | None] = {}
        for ref, path in self._paths.items():
            inspection = cached.get(ref)
            try:
                state = os.stat(path)
            except OSError:
                pending[ref] = None
                continue
            if inspection is not None and inspection_cache.is_unchanged(inspection, state, use_exiftool):
                self.inspections[ref] = inspection
            else:
                comparable = inspection is not None and (
                    (inspection.bytes, inspection.exiftool) == (state.st_size, use_exiftool)
                )
                pending[ref] = inspection if comparable else None
        self.unchanged = len(self.inspections)
        if pending:
            self._inspect(pending, use_exiftool)

    def measure_pixels(self, refs: Sequence[str]) -> dict[str, Inspection]:
        """Decodes these files, each once, and returns their inspections; a dead worker counts as a failure."""
        from capture.inspection.inspect_files import InspectionTask, measure_pixels

        pending = [ref for ref in refs if not self.inspections[ref].decoded and self.inspections[ref].meta is not None]
        tasks = [InspectionTask(self._paths[ref], ref, self.inspections[ref]) for ref in dict.fromkeys(pending)]
        if tasks:
            with self._open_cache() as stream, self._track("pixels", len(tasks)) as advance:
                for outcome in run_tasks(measure_pixels, tasks, self._executor, access=self._access):
                    name = outcome.task.name
                    failed = replace(self.inspections[name], decoded=True, pixel_failure=_WORKER_DIED)
                    self._add(stream, outcome.result or failed)
                    advance(note=name)
        return {ref: self.inspections[ref] for ref in refs}

    def read_thumbnails(self, files: Sequence[ScannedFile]) -> dict[str, Thumbnail]:
        """A thumbnail of every file, by its name, each read once; a dead worker counts as a failure."""
        from capture.inspection.inspect_files import InspectionTask
        from capture.inspection.thumbnails import Thumbnail, read_thumbnail

        tasks = [InspectionTask(file.path, file.name) for file in files if file.name not in self._thumbnails]
        with self._track("compare", len(tasks)) as advance:
            for outcome in run_tasks(read_thumbnail, tasks, self._executor, access=self._access):
                name = outcome.task.name
                self._thumbnails[name] = outcome.result or Thumbnail(name, failure=_WORKER_DIED)
                advance(note=name)
        return {file.name: self._thumbnails[file.name] for file in files}

    def save(self) -> None:
        """Rewrites the cache in the order of the names, instead of the order in which workers finished."""
        if self._cache:
            inspection_cache.write_cache(self._cache, self.inspections.values())

    def _inspect(self, pending: dict[str, Inspection | None], use_exiftool: bool) -> None:
        from capture.inspection.inspect_files import InspectionBatch, InspectionTask

        tasks = [InspectionTask(self._paths[ref], ref, known) for ref, known in pending.items()]
        size = max(1, min(_FILES_PER_BATCH, len(tasks) // (4 * workers_of(self._executor)) or 1))
        batches = [
            InspectionBatch(tuple(tasks[start : start + size]), use_exiftool) for start in range(0, len(tasks), size)
        ]
        with self._open_cache() as stream, self._track("ingest", len(tasks)) as advance:
            for batch, inspections in self._run_batches(batches):
                for inspection in inspections:
                    self._add(stream, inspection)
                advance(len(inspections), note=batch.tasks[-1].name)

    def _run_batches(
        self, batches: Sequence[InspectionBatch]
    ) -> Iterator[tuple[InspectionBatch, tuple[Inspection, ...]]]:
        """Every batch with its inspections; a batch whose worker died is repeated file by file, so one file is lost."""
        from capture.inspection.inspect_files import InspectionBatch, inspect_batch

        single: list[InspectionBatch] = []
        for outcome in run_tasks(inspect_batch, batches, self._executor, access=self._access):
            if outcome.result is not None:
                yield outcome.task, outcome.result
            else:
                single += [InspectionBatch((task,), outcome.task.use_exiftool) for task in outcome.task.tasks]
        for outcome in run_tasks(inspect_batch, single, self._executor, access=self._access) if single else ():
            name = outcome.task.tasks[0].name
            failed = Inspection(name, 0, 0, exiftool=outcome.task.use_exiftool, failure=_WORKER_DIED)
            yield outcome.task, outcome.result or (failed,)

    def _add(self, stream: TextIO | None, inspection: Inspection) -> None:
        self.inspections[inspection.name] = inspection
        if stream is not None:
            inspection_cache.append_to_cache(stream, inspection)

    @contextmanager
    def _open_cache(self) -> Iterator[TextIO | None]:
        """The cache, opened for appending; None without one."""
        if self._cache is None:
            yield None
            return
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            stream = self._cache.open("a", encoding="utf-8", newline="\n")
            stream.write("\n")  # ends a line that a kill may have torn
        except OSError as error:
            raise write_error(self._cache, error) from error
        try:
            yield stream
        except BaseException:
            with suppress(OSError):  # the first error is the one to report
                stream.close()
            raise
        try:
            stream.close()
        except OSError as error:
            raise write_error(self._cache, error) from error
