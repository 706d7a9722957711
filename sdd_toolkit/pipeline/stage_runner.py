"""The shape shared by stages that take a manifest pair by pair and write the next manifest.

What was finished is appended to a journal beside the output as it comes in, so that a run that was killed loses
only the pairs in flight; the output itself appears once, whole. A second run gives the bytes the first one would.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sdd_toolkit.config import Section
from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.pipeline import configurations, manifest
from sdd_toolkit.records import Reason, Report, Verdict, value_counts
from sdd_toolkit.storage.files import resolve_inside, sha256_of, writing_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import FileRef, PairRecord, Step

JOURNAL = ".journal"
SectionT = TypeVar("SectionT", bound=Section)


@dataclass(frozen=True, slots=True)
class Job(Generic[SectionT]):
    """What a worker gets: one pair as the input manifest has it, and where things lie.

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
        """Where the file of `ref` lies; refused if it would leave the root."""
        return resolve_inside(self.root, ref.path)


def rejected(record: PairRecord, reason: Reason, detail: str = "") -> PairRecord:
    """`record` with a verdict against it; its earlier measurements stay."""
    return replace(record, verdict=Verdict(keep=False, reason=reason, detail=detail))


def altered(job: Job[SectionT]) -> str:
    """Which of the pair's two files is missing or not the one that was ingested, and how; empty if both are."""
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


def work_through(
    stage: str,
    source: Path,
    out: Path,
    config: SectionT,
    work: Callable[[Job[SectionT]], PairRecord],
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
    intact: Callable[[PairRecord], bool] = lambda record: True,
    also_reads: Callable[[PairRecord], Mapping[str, str]] = lambda record: {},
    revise: Callable[[PairRecord, PairRecord], PairRecord | None] = lambda record, earlier: None,
    known: Callable[[PairRecord], PairRecord | None] = lambda record: None,
) -> Report:
    """Reads `source`, runs `work` on every pair that is not done yet and writes `out`.

    A pair is done if the earlier output, or the journal of a killed run, holds it with the same `Step`; one whose files
    were missing or changed is tried again.

    Args:
        stage: The stage's name in the provenance.
        source: Input manifest.
        out: Output manifest.
        config: Goes into the provenance and to `work`.
        work: Picklable; returns the record with its new facts; a bad pair is a `rejected` record, not an
            exception. The provenance step is added here.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Do every pair again.
        track: Shows progress.
        intact: Whether what `work` wrote for a record besides the manifest is still there.
        also_reads: SHA-256, by a name, of what `work` reads for a record besides its two files.
        revise: What `work` would make of a record, from what an earlier run made of it under another configuration;
            None if it takes the files to tell.
        known: What `work` would make of a record, from what the record says; None if it takes the files to tell. Not
            asked with `overwrite`.

    Raises:
        ManifestError: `source` is not a manifest.
        InputError: `out` is `source`, or cannot be written.
        ConfigError: The executor's name is unknown.
    """
    started = time.monotonic()
    workers_of(executor)
    if out.resolve() == source.resolve():
        raise InputError(f"{out} is both input and output of `{stage}`", hint="give another --out")
    root, pairs = manifest.stream_records(source)
    journal = out.with_name(out.name + JOURNAL)
    before = {} if overwrite else {**manifest.read_finished(out), **_recovered(journal)}
    # Lines, not records: of a hundred thousand pairs that saves a gigabyte.
    finished: dict[str, str] = {}
    reasons: list[Reason | None] = []
    jobs: list[Job[SectionT]] = []
    steps: dict[str, Step] = {}
    total = skipped = 0
    for record, line in pairs:
        total += 1
        step = manifest.step_of(stage, config, record, line=line, **also_reads(record))
        told = before.pop(record.id, None)
        earlier = None if told is None else manifest.record_of(told)
        done = earlier is not None and manifest.unchanged(earlier, step) and not _to_retry(earlier)
        if told and earlier and done and intact(earlier):
            finished[record.id] = told
            reasons.append(manifest.reason_of(earlier))
            skipped += 1
        elif told_already := _without_files(record, earlier, step, revise) or (None if overwrite else known(record)):
            told_already = replace(told_already, history=(*manifest.history_before(record, stage), step))
            finished[record.id] = manifest.to_json(told_already)
            reasons.append(manifest.reason_of(told_already))
        else:
            steps[record.id] = step
            jobs.append(Job(record=record, root=root, folder=out.parent.resolve(), config=config))
    with _opened(journal, overwrite) as lines, track(stage, len(jobs)) as advance:
        for outcome in run_tasks(work, jobs, executor, sees=(root, source.resolve())):
            record = outcome.task.record
            if outcome.result is None:
                # No step: the next run tries this pair again.
                record = rejected(record, Reason.TIMED_OUT if outcome.timed_out else Reason.WORKER_DIED)
                line = manifest.to_json(record)
            else:
                history = (*manifest.history_before(record, stage), steps[record.id])
                record = replace(outcome.result, history=history)
                line = manifest.to_json(record)
                _append(lines, line)
            finished[record.id] = line
            reasons.append(manifest.reason_of(record))
            advance(note=record.id)
    configurations.copy_configurations(source.parent, out.parent, stage, config)
    manifest.write_lines(out, root, (finished[name] for name in sorted(finished)))
    journal.unlink(missing_ok=True)
    return Report(
        stage=stage,
        total=total,
        done=total - skipped,
        skipped=skipped,
        rejected=value_counts(reasons),
        seconds=time.monotonic() - started,
        outputs=(str(out),),
    )


def _without_files(
    record: PairRecord,
    earlier: PairRecord | None,
    step: Step,
    revise: Callable[[PairRecord, PairRecord], PairRecord | None],
) -> PairRecord | None:
    """What `revise` makes of an earlier run's measurements, where they are of the same files."""
    if earlier is None or _to_retry(earlier) or not manifest.measured_alike(earlier, step):
        return None
    return revise(record, earlier)


def _to_retry(record: PairRecord) -> bool:
    """Whether a pair failed for want of its files: they may be back by now."""
    return record.verdict is not None and record.verdict.reason is Reason.CHANGED


def _recovered(journal: Path) -> dict[str, str]:
    """The lines of a killed run by id; one torn by the kill is left out."""
    if not journal.is_file():
        return {}
    return manifest.lines_by_id(journal.read_text(encoding="utf-8", errors="replace").split("\n"))


@contextmanager
def _opened(journal: Path, overwrite: bool) -> Iterator[TextIO]:
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        stream = journal.open("w" if overwrite else "a", encoding="utf-8", newline="\n")
        # Ends the line a kill may have torn.
        stream.write("\n")
    except OSError as error:
        raise writing_failed(journal, error) from error
    try:
        yield stream
    except BaseException:
        with suppress(OSError):  # what could not be written cannot be written now; the first error is the one to tell
            stream.close()
        raise
    try:
        stream.close()
    except OSError as error:
        raise writing_failed(journal, error) from error


def _append(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except OSError as error:
        raise writing_failed(Path(stream.name), error) from error
