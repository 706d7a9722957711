"""The filter stage: measures every aligned pair on half-size frames and judges it. Keeps all, with reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sdd_toolkit import quality
from sdd_toolkit.errors import RawError
from sdd_toolkit.frames import read_half
from sdd_toolkit.progress import silent
from sdd_toolkit.select import FilterConfig, judge
from sdd_toolkit.stages import Job, altered, rejected, work_through
from sdd_toolkit.types import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.progress import Track
    from sdd_toolkit.types import PairRecord, Report

STAGE = "filter"
# Without two readable frames there is nothing to measure: these verdicts of earlier stages stand.
_FINAL = (Reason.UNREADABLE, Reason.CHANGED, Reason.WORKER_DIED)


def run(
    manifest: Path,
    out: Path,
    config: FilterConfig,
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Writes `out/filtered.jsonl`: every pair of `manifest` with its `Quality` and `Verdict`.

    Raises:
        ManifestError: `manifest` cannot be read.
        InputError: `out` cannot be written.
    """
    return work_through(
        STAGE,
        manifest,
        out / "filtered.jsonl",
        config,
        examine,
        executor=executor,
        overwrite=overwrite,
        track=track,
    )


def examine(job: Job[FilterConfig]) -> PairRecord:
    """Measures and judges one pair."""
    record = job.record
    if record.verdict is not None and record.verdict.reason in _FINAL:
        return record
    if problem := altered(job):
        return rejected(record, Reason.CHANGED, problem)
    try:
        blur, sharp = (read_half(job.locate(ref)) for ref in (record.blur, record.sharp))
    except RawError as error:
        return rejected(record, Reason.UNREADABLE, error.what)
    clipped = max(float(frame.clipped.mean()) for frame in (blur, sharp))
    facts = quality.measure(blur.rgb, sharp.rgb, clipped, record.alignment)
    if record.alignment is None and record.verdict is not None:
        return replace(record, quality=facts)
    return replace(record, quality=facts, verdict=judge(facts, record.alignment, job.config))
