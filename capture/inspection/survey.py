"""All files looked at: what is known from earlier runs is taken over, the rest is read by workers in batches."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from capture.inspection import inspection_cache
from capture.inspection.inspection_cache import Inspection
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.storage.files import write_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    from capture.inspection.inspect_files import InspectionBatch
    from capture.inspection.scan import ScannedFile
    from capture.inspection.thumbnails import Thumbnail
    from sdd_toolkit.execution.progress import Track

_FILES_PER_BATCH = 32
_WORKER_DIED = "the worker process died on it (out of memory?)"


class Survey:
    """What is known of the files of one run, by their place in the manifest's root.

    Attributes:
        inspections: The findings by `Found.ref`.
        unchanged: How many files were known from an earlier run.
    """

    def __init__(
        self, files: Sequence[ScannedFile], memory: Path | None, executor: str, ask: bool, track: Track
    ) -> None:
        """Reads what is not known yet.

        Args:
            files: All files, in order.
            memory: Where findings are kept; None for nowhere.
            executor: See `sdd_toolkit.execution.executor`.
            ask: Whether ExifTool is to be asked.
            track: Shows progress.
        """
        self._paths = {file.ref: file.path for file in files}
        self._memory, self._executor, self._track = memory, executor, track
        known = inspection_cache.read_cache(memory) if memory else {}
        self.inspections: dict[str, Inspection] = {}
        todo: dict[str, Inspection | None] = {}
        for ref, path in self._paths.items():
            entry = known.get(ref)
            try:
                state = os.stat(path)
            except OSError:
                todo[ref] = None
                continue
            if entry is not None and inspection_cache.is_unchanged(entry, state, ask):
                self.inspections[ref] = entry
            else:
                same = entry is not None and entry.bytes == state.st_size and entry.exiftool == ask
                todo[ref] = entry if same else None
        self.unchanged = len(self.inspections)
        if todo:
            self._inspect(todo, ask)

    def measure_pixels(self, refs: Sequence[str]) -> dict[str, Inspection]:
        """The findings on these files with their pixels looked at, each once; those of a worker that died too."""
        from capture.inspection.inspect_files import InspectionTask, measure_pixels

        todo = [ref for ref in refs if not self.inspections[ref].decoded and self.inspections[ref].meta is not None]
        tasks = [InspectionTask(self._paths[ref], ref, self.inspections[ref]) for ref in dict.fromkeys(todo)]
        if tasks:
            with self._noting() as lines, self._track("pixels", len(tasks)) as advance:
                for outcome in run_tasks(measure_pixels, tasks, self._executor):
                    task = outcome.task
                    lost = replace(self.inspections[task.name], decoded=True, pixel_failure=_WORKER_DIED)
                    self._note(lines, outcome.result or lost)
                    advance(note=task.name)
        return {ref: self.inspections[ref] for ref in refs}

    def read_thumbnails(self, files: Sequence[ScannedFile]) -> dict[str, Thumbnail]:
        """A thumbnail of every file, by its name; those of a worker that died say so."""
        from capture.inspection.inspect_files import InspectionTask
        from capture.inspection.thumbnails import Thumbnail, read_thumbnail

        tasks = [InspectionTask(file.path, file.name) for file in files]
        looks: dict[str, Thumbnail] = {}
        with self._track("compare", len(tasks)) as advance:
            for outcome in run_tasks(read_thumbnail, tasks, self._executor):
                name = outcome.task.name
                looks[name] = outcome.result or Thumbnail(name, failure=_WORKER_DIED)
                advance(note=name)
        return looks

    def save(self) -> None:
        """Writes the memory anew, in a fixed order: a run killed just before this left it in the order of arrival."""
        if self._memory:
            inspection_cache.write_cache(self._memory, self.inspections.values())

    def _inspect(self, todo: dict[str, Inspection | None], ask: bool) -> None:
        from capture.inspection.inspect_files import InspectionBatch, InspectionTask

        tasks = [InspectionTask(self._paths[ref], ref, entry) for ref, entry in todo.items()]
        size = max(1, min(_FILES_PER_BATCH, len(tasks) // (4 * workers_of(self._executor)) or 1))
        batches = [InspectionBatch(tuple(tasks[place : place + size]), ask) for place in range(0, len(tasks), size)]
        with self._noting() as lines, self._track("ingest", len(tasks)) as advance:
            for batch, entries in self._in_batches(batches):
                for entry in entries:
                    self._note(lines, entry)
                advance(len(entries), note=batch.tasks[-1].name)

    def _in_batches(
        self, batches: Sequence[InspectionBatch]
    ) -> Iterator[tuple[InspectionBatch, tuple[Inspection, ...]]]:
        """Every batch and its findings; one whose worker died is done again file by file, so one file is lost."""
        from capture.inspection.inspect_files import InspectionBatch, inspect_batch

        again: list[InspectionBatch] = []
        for outcome in run_tasks(inspect_batch, batches, self._executor):
            if outcome.result is not None:
                yield outcome.task, outcome.result
            else:
                again += [InspectionBatch((task,), outcome.task.ask) for task in outcome.task.tasks]
        for outcome in run_tasks(inspect_batch, again, self._executor) if again else ():
            name = outcome.task.tasks[0].name
            yield (
                outcome.task,
                outcome.result or (Inspection(name, 0, 0, exiftool=outcome.task.ask, failure=_WORKER_DIED),),
            )

    def _note(self, lines: TextIO | None, entry: Inspection) -> None:
        self.inspections[entry.name] = entry
        if lines is not None:
            inspection_cache.append_to_cache(lines, entry)

    @contextmanager
    def _noting(self) -> Iterator[TextIO | None]:
        if self._memory is None:
            yield None
            return
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            stream = self._memory.open("a", encoding="utf-8", newline="\n")
            stream.write("\n")  # ends the line a kill may have torn
        except OSError as error:
            raise write_error(self._memory, error) from error
        try:
            yield stream
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                stream.close()
            raise
        try:
            stream.close()
        except OSError as error:
            raise write_error(self._memory, error) from error
