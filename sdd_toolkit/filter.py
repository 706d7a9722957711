"""The filter stage: measures every aligned pair on half-size frames and judges it. Keeps all, with reasons."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sdd_toolkit import quality
from sdd_toolkit.development import DevelopConfig
from sdd_toolkit.errors import RawError
from sdd_toolkit.frames import read_half
from sdd_toolkit.hot_pixel_map import HotPixelMap, beside
from sdd_toolkit.progress import silent
from sdd_toolkit.select import FilterConfig, judge
from sdd_toolkit.stages import Job, altered, rejected, work_through
from sdd_toolkit.types import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.progress import Track
    from sdd_toolkit.types import PairRecord, Quality, Report

STAGE = "filter"
# Without two readable frames there is nothing to measure: these verdicts of earlier stages stand.
_FINAL = (Reason.UNREADABLE, Reason.CHANGED, Reason.WORKER_DIED, Reason.TIMED_OUT)


def run(
    manifest: Path,
    out: Path,
    config: FilterConfig,
    *,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Writes `out/filtered.jsonl`: every pair of `manifest` with its `Quality` and `Verdict`.

    Where nothing but thresholds changed since an earlier run, its measurements are judged anew and no photograph is
    opened. So a file that changed since is not noticed here; `sdd ingest` does, and `sdd pack` before it develops one.

    Raises:
        ManifestError: `manifest` cannot be read.
        InputError: `out` cannot be written.
    """
    hot_pixels = beside(manifest, develop)
    return work_through(
        STAGE,
        manifest,
        out / "filtered.jsonl",
        config,
        partial(examine, hot_pixels=hot_pixels),
        executor=executor,
        overwrite=overwrite,
        track=track,
        also_reads=hot_pixels.inputs,
        revise=partial(judged, config=config),
    )


def examine(job: Job[FilterConfig], hot_pixels: HotPixelMap = HotPixelMap()) -> PairRecord:  # noqa: B008 frozen
    """Measures and judges one pair, its hot and dead pixels repaired."""
    record = job.record
    if record.verdict is not None and record.verdict.reason in _FINAL:
        return record
    if problem := altered(job):
        return rejected(record, Reason.CHANGED, problem)
    try:
        files = ((record.blur, record.blur_meta), (record.sharp, record.sharp_meta))
        blur, sharp = (read_half(job.locate(ref), hot_pixels.of(meta)) for ref, meta in files)
    except RawError as error:
        return rejected(record, Reason.UNREADABLE, error.what)
    clipped = max(float(frame.clipped.mean()) for frame in (blur, sharp))
    return _judged(record, quality.measure(blur.rgb, sharp.rgb, clipped, record.alignment), job.config)


def judged(record: PairRecord, earlier: PairRecord, config: FilterConfig) -> PairRecord | None:
    """`record` under the thresholds of `config` by what was measured of it before; None if that was nothing."""
    unmeasured = earlier.verdict is not None and earlier.verdict.reason in _FINAL
    return None if earlier.quality is None or unmeasured else _judged(record, earlier.quality, config)


def _judged(record: PairRecord, facts: Quality, config: FilterConfig) -> PairRecord:
    if record.alignment is None and record.verdict is not None:
        return replace(record, quality=facts)
    return replace(record, quality=facts, verdict=judge(facts, record.alignment, config))
