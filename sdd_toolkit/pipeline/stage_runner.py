"""Runs a stage over a manifest pair by pair, with a journal to resume from, and writes the next manifest.

Each finished pair is appended to a journal beside the output, so that a killed run loses only the pairs in flight; the
output itself appears once, whole. A resumed run writes the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sdd_toolkit.config import Section
from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess, folders_of
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.pipeline import configurations, manifest
from sdd_toolkit.recorded_config import RECORDED_CONFIG
from sdd_toolkit.records import Reason, Report, Verdict, value_counts
from sdd_toolkit.storage.files import resolve_inside, sha256_of, write_error
from sdd_toolkit.storage.targets import check_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TextIO

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import FileRef, PairRecord, Step

JOURNAL = ".journal"
SectionT = TypeVar("SectionT", bound=Section)


@dataclass(frozen=True, slots=True)
class Job(Generic[SectionT]):
    """A task for a worker: one pair of the input manifest, the folders and the configuration.

    Attributes:
        record: The pair.
        root: Folder that the pair's file paths are relative to.
        folder: Folder of the output manifest, for files written beside it.
        config: The stage's configuration.
    """

    record: PairRecord
    root: Path
    folder: Path
    config: SectionT

    def locate(self, ref: FileRef) -> Path:
        """The path of the file of `ref`; refused if it would leave the root."""
        return resolve_inside(self.root, ref.path)


def reject(record: PairRecord, reason: Reason, detail: str = "") -> PairRecord:
    """`record` with a verdict against it; its measurements are kept."""
    return replace(record, verdict=Verdict(keep=False, reason=reason, detail=detail))


def describe_change(job: Job[SectionT]) -> str:
    """Names a file of the pair that is missing or differs from the ingested one, and the difference; empty if none."""
    for name, ref in (("blur", job.record.blur), ("sharp", job.record.sharp)):
        path = job.locate(ref)
        try:
            if not path.is_file():
                return f"{name} file {ref.path} is missing"
            if path.stat().st_size != ref.bytes:
                return f"{name} file {ref.path} has {path.stat().st_size} bytes, ingested were {ref.bytes}"
            if sha256_of(path) != ref.sha256:
                return f"{name} file {ref.path} has another SHA-256 than when it was ingested"
        except OSError as error:
            return f"{name} file {ref.path[:200]} cannot be read: {error.strerror or error}"
    return ""


class PairStage(Generic[SectionT]):
    """A stage that takes a manifest pair by pair; its methods are hooks that the stages override.

    Attributes:
        name: The stage's name in the provenance.
        config: The stage's section; goes into the provenance and to `work`.
        work: Picklable function that a worker calls; returns the record with its new facts. A bad pair is a
            record with a verdict (`reject`), not an exception. The provenance step is added by `work_through`.
        reads: What `work` reads besides the sources and the folder of its manifest.
    """

    def __init__(self, name: str, config: SectionT, work: Callable[[Job[SectionT]], PairRecord]) -> None:
        self.name = name
        self.config = config
        self.work = work
        self.reads: tuple[Path, ...] = ()

    def check(self, record: PairRecord) -> None:
        """Raises ManifestError where a record lacks what an earlier stage should have added."""

    def extra_inputs(self, record: PairRecord) -> Mapping[str, str]:
        """SHA-256, by a name, of all that `work` reads for `record` besides its two files."""
        return {}

    def is_intact(self, record: PairRecord) -> bool:
        """Whether the files that `work` wrote for a finished record beside the manifest still exist."""
        return True

    def update_from_earlier(self, record: PairRecord, earlier: PairRecord) -> PairRecord | None:
        """The result of `work` derived from its result under another configuration; None if that takes the files."""
        return None

    def from_record(self, record: PairRecord) -> PairRecord | None:
        """The result of `work` derived from the record alone; None if that takes the files. Not for `overwrite`."""
        return None


@dataclass(slots=True)
class _Output:
    """The output manifest as it grows.

    Attributes:
        lines: By pair id. Lines, not records: of a hundred thousand pairs that saves a gigabyte.
        reasons: Why each pair was rejected; None if it was not.
        unchanged: Number of pairs taken from an earlier run as they were.
    """

    lines: dict[str, str] = field(default_factory=dict)
    reasons: list[Reason | None] = field(default_factory=list)
    unchanged: int = 0

    def add(self, record: PairRecord, line: str | None = None) -> str:
        """Adds a record; `line` is its JSON where it is known. Returns the line."""
        line = manifest.to_json(record) if line is None else line
        self.lines[record.id] = line
        self.reasons.append(manifest.reason_of(record))
        return line

    def report(self, stage: str, out: Path, seconds: float) -> Report:
        """The counts of the whole manifest, written to `out`."""
        return Report(
            stage=stage,
            total=len(self.lines),
            done=len(self.lines) - self.unchanged,
            skipped=self.unchanged,
            rejected=value_counts(self.reasons),
            seconds=seconds,
            outputs=(str(out),),
        )


def work_through(
    stage: PairStage[SectionT],
    source: Path,
    out: Path,
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Reads `source`, runs `stage.work` on every pair that is not done yet and writes `out`.

    A pair is done if the earlier output, or the journal of a killed run, holds it with the same `Step`; one whose files
    were missing or changed is tried again.

    Args:
        stage: The stage.
        source: Input manifest.
        out: Output manifest.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Do every pair again.
        track: Shows progress.

    Raises:
        ManifestError: `source` is not a manifest.
        InputError: `source` holds no pair, `out` is `source`, or cannot be written.
        ConfigError: The executor's name is unknown.
    """
    started = time.monotonic()
    workers_of(executor)
    check_output(stage.name, source, out)
    check_own((out, out.parent / configurations.CONFIGURATIONS, out.parent / RECORDED_CONFIG), overwrite=overwrite)
    root, pairs = manifest.stream_records(source)
    journal = out.with_name(out.name + JOURNAL)
    earlier = {} if overwrite else {**manifest.read_finished(out), **_read_journal(journal)}
    output = _Output()
    steps: dict[str, Step] = {}
    jobs: list[Job[SectionT]] = []
    for record, step in _unfinished(stage, pairs, earlier, output, overwrite):
        steps[record.id] = step
        jobs.append(Job(record=record, root=root, folder=out.parent.resolve(), config=stage.config))
    if not (jobs or output.lines):
        raise no_pairs(source)
    files = [root / ref.path for job in jobs for ref in (job.record.blur, job.record.sharp)]
    access = FileAccess((*folders_of(files), source.parent.resolve(), *stage.reads), (out.parent.resolve(),))
    with _open_journal(journal, overwrite) as stream, track(stage.name, len(jobs)) as advance:
        for outcome in run_tasks(stage.work, jobs, executor, sees=(root, source.resolve()), access=access):
            record = outcome.task.record
            if outcome.result is None:
                # No step: the next run tries this pair again.
                output.add(reject(record, Reason.TIMED_OUT if outcome.timed_out else Reason.WORKER_DIED))
            else:
                _append(stream, output.add(_with_step(outcome.result, record, steps[record.id])))
            advance(note=record.id)
    configurations.copy_configurations(source.parent, out.parent, stage.name, stage.config)
    manifest.write_lines(out, root, (output.lines[name] for name in sorted(output.lines)))
    journal.unlink(missing_ok=True)
    return output.report(stage.name, out, time.monotonic() - started)


def no_pairs(source: Path) -> InputError:
    """The error for a manifest without pairs."""
    return InputError(f"{source} holds no pair", hint="rejected_files.csv of `sdd ingest` says why; try --pairing auto")


def check_output(stage: str, source: Path, out: Path) -> None:
    """Refuses to write the manifest `out` over the input `source`.

    Raises:
        InputError: They are the same file.
    """
    if out.resolve() == source.resolve():
        raise InputError(f"{out} is both input and output of `{stage}`", hint="give another --out")


def _unfinished(
    stage: PairStage[SectionT],
    pairs: Iterable[tuple[PairRecord, str]],
    earlier_lines: dict[str, str],
    output: _Output,
    overwrite: bool,
) -> Iterator[tuple[PairRecord, Step]]:
    """The pairs that need work, with their steps; those that need none are added to `output`."""
    for record, line in pairs:
        stage.check(record)
        step = manifest.step_of(stage.name, stage.config, record, line=line, **stage.extra_inputs(record))
        earlier_line = earlier_lines.pop(record.id, None)
        earlier = None if earlier_line is None else manifest.try_parse_record(earlier_line)
        if earlier is not None and _needs_retry(earlier):
            earlier = None
        if earlier is not None and manifest.has_step(earlier, step) and stage.is_intact(earlier):
            output.add(earlier, earlier_line)
            output.unchanged += 1
            continue
        update = None
        if earlier is not None and manifest.has_step_of_other_config(earlier, step):
            update = stage.update_from_earlier(record, earlier)
        if update is None and not overwrite:
            update = stage.from_record(record)
        if update is None:
            yield record, step
        else:
            output.add(_with_step(update, record, step))


def _with_step(result: PairRecord, record: PairRecord, step: Step) -> PairRecord:
    """The result of a stage with the history of its input and the stage's own step."""
    return replace(result, history=(*manifest.history_before(record, step.stage), step))


def _needs_retry(record: PairRecord) -> bool:
    """Whether a pair failed because files were missing; it is tried again."""
    return record.verdict is not None and record.verdict.reason is Reason.CHANGED


def _read_journal(journal: Path) -> dict[str, str]:
    """The lines of a killed run by pair id; a line torn by the kill is left out."""
    if not journal.is_file():
        return {}
    return manifest.lines_by_id(journal.read_text(encoding="utf-8", errors="replace").split("\n"))


@contextmanager
def _open_journal(journal: Path, overwrite: bool) -> Iterator[TextIO]:
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        stream = journal.open("w" if overwrite else "a", encoding="utf-8", newline="\n")
        # Ends a line that a kill may have torn.
        stream.write("\n")
    except OSError as error:
        raise write_error(journal, error) from error
    try:
        yield stream
    except BaseException:
        with suppress(OSError):  # closing writes what is buffered: the first error counts
            stream.close()
        raise
    try:
        stream.close()
    except OSError as error:
        raise write_error(journal, error) from error


def _append(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except OSError as error:
        raise write_error(Path(stream.name), error) from error
