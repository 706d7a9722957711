"""The filter stage: measures every aligned pair on half-size frames and judges it. Keeps all, with reasons."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap, load_for_manifest
from sdd_toolkit.errors import RawError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.frames.reading import read_half
from sdd_toolkit.pipeline.manifest import measurement_fingerprint
from sdd_toolkit.pipeline.stage_runner import Job, PairStage, describe_change, reject, work_through
from sdd_toolkit.quality import sharpness
from sdd_toolkit.quality.criteria import FilterConfig, judge
from sdd_toolkit.raw.development import DevelopConfig
from sdd_toolkit.records import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import PairRecord, Quality, Report

STAGE = "filter"
# Without two readable frames there is nothing to measure: these verdicts of earlier stages stand.
_FINAL = (Reason.UNREADABLE, Reason.CHANGED, Reason.WORKER_DIED, Reason.TIMED_OUT)


def filter_pairs(
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

    `sdd align` measures too, while it has the frames. Where its measurements, or those of an earlier run that differs
    in nothing but thresholds, are of these files, this alignment and these hot pixels, they are judged and no
    photograph is opened. So a file that changed since is not noticed here; `sdd ingest` does, and `sdd pack` before it
    develops one. `overwrite` measures all anew.

    Raises:
        ManifestError: `manifest` cannot be read.
        InputError: `out` cannot be written.
    """
    hot_pixels = load_for_manifest(manifest, develop)
    stage = _FilterStage(config, hot_pixels)
    return work_through(stage, manifest, out / "filtered.jsonl", executor=executor, overwrite=overwrite, track=track)


class _FilterStage(PairStage[FilterConfig]):
    """Judges by measurements that exist, where they are those that it would make."""

    def __init__(self, config: FilterConfig, hot_pixels: HotPixelMap) -> None:
        super().__init__(STAGE, config, partial(measure_and_judge, hot_pixels=hot_pixels))
        self.hot_pixels = hot_pixels

    def extra_inputs(self, record: PairRecord) -> dict[str, str]:
        return self.hot_pixels.inputs(record)

    def update_from_earlier(self, record: PairRecord, earlier: PairRecord) -> PairRecord | None:
        return rejudge(record, earlier, self.config)

    def from_record(self, record: PairRecord) -> PairRecord | None:
        return judge_from_record(record, self.config, self.hot_pixels)


def measure_and_judge(job: Job[FilterConfig], hot_pixels: HotPixelMap = HotPixelMap()) -> PairRecord:  # noqa: B008 frozen
    """Measures and judges one pair, its hot and dead pixels repaired."""
    record = job.record
    if record.verdict is not None and record.verdict.reason in _FINAL:
        return record
    if problem := describe_change(job):
        return reject(record, Reason.CHANGED, problem)
    try:
        files = ((record.blur, record.blur_meta), (record.sharp, record.sharp_meta))
        blur, sharp = (read_half(job.locate(ref), hot_pixels.of(meta)) for ref, meta in files)
    except RawError as error:
        return reject(record, Reason.UNREADABLE, error.what)
    measured = measurement_fingerprint(record, hot_pixels.inputs(record))
    return _with_verdict(record, sharpness.measure_pair(blur, sharp, record.alignment), measured, job.config)


def rejudge(record: PairRecord, earlier: PairRecord, config: FilterConfig) -> PairRecord | None:
    """`record` under the thresholds of `config` by what was measured of it before; None if that was nothing."""
    unmeasured = earlier.verdict is not None and earlier.verdict.reason in _FINAL
    if earlier.quality is None or unmeasured:
        return None
    return _with_verdict(record, earlier.quality, earlier.measured, config)


def judge_from_record(record: PairRecord, config: FilterConfig, hot_pixels: HotPixelMap) -> PairRecord | None:
    """`record` judged by what it says was measured; None if that was of anything else than `examine` would open."""
    if record.verdict is not None and record.verdict.reason in _FINAL:
        return record
    if record.quality is None or record.measured != measurement_fingerprint(record, hot_pixels.inputs(record)):
        return None
    return _with_verdict(record, record.quality, record.measured, config)


def _with_verdict(record: PairRecord, facts: Quality, measured: str | None, config: FilterConfig) -> PairRecord:
    record = replace(record, quality=facts, measured=measured)
    if record.alignment is None and record.verdict is not None:
        return record
    return replace(record, verdict=judge(facts, record.alignment, config))
