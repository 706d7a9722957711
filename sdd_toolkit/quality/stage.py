"""The filter stage: measures every pair on half-size frames and judges it; all pairs stay, with their verdicts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap, load_for_manifest
from sdd_toolkit.errors import ManifestError, RawError
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
# Verdicts of earlier stages on pairs without two readable frames, which cannot be measured, are final.
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
    """Writes `out/filtered.jsonl`: every pair of a manifest with its `Quality` and `Verdict`.

    `sdd align` measures quality too, while it has the frames. Its measurements, or those of an earlier run with other
    thresholds, are reused without opening a photograph if they are of the same files, alignment and hot pixels. So a
    file that changed since is not noticed here; `sdd ingest` notices it, and `sdd pack` before development.

    Args:
        manifest: `aligned.jsonl` of `sdd align`.
        out: Folder for `filtered.jsonl`.
        config: Section `[filter]`.
        develop: Section `[develop]`: whether hot pixels are repaired before measuring.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Measure every pair again.
        track: Shows progress.

    Raises:
        ManifestError: `manifest` cannot be read, or holds a pair that was never aligned.
        InputError: `out` cannot be written.
    """
    hot_pixels = load_for_manifest(manifest, develop)
    stage = _FilterStage(config, hot_pixels)
    return work_through(stage, manifest, out / "filtered.jsonl", executor=executor, overwrite=overwrite, track=track)


class _FilterStage(PairStage[FilterConfig]):
    """Judges by existing measurements where a new one would give the same."""

    def __init__(self, config: FilterConfig, hot_pixels: HotPixelMap) -> None:
        super().__init__(STAGE, config, partial(measure_and_judge, hot_pixels=hot_pixels))
        self.hot_pixels = hot_pixels

    def check(self, record: PairRecord) -> None:
        # Pairs that could not be aligned have a verdict.
        if record.alignment is None and record.verdict is None:
            raise ManifestError(f"the pair {record.id!r} was never aligned", hint="run `sdd align` first")

    def extra_inputs(self, record: PairRecord) -> dict[str, str]:
        return self.hot_pixels.inputs(record)

    def update_from_earlier(self, record: PairRecord, earlier: PairRecord) -> PairRecord | None:
        return rejudge(record, earlier, self.config)

    def from_record(self, record: PairRecord) -> PairRecord | None:
        return judge_from_record(record, self.config, self.hot_pixels)


def measure_and_judge(job: Job[FilterConfig], hot_pixels: HotPixelMap = HotPixelMap()) -> PairRecord:  # noqa: B008 frozen
    """Measures and judges one pair, with hot and dead pixels repaired."""
    record = job.record
    if record.verdict is not None and record.verdict.reason in _FINAL:
        return record
    if change := describe_change(job):
        return reject(record, Reason.CHANGED, change)
    try:
        blur = read_half(job.locate(record.blur), hot_pixels.of(record.blur_meta), record.blur_turn)
        sharp = read_half(job.locate(record.sharp), hot_pixels.of(record.sharp_meta))
    except RawError as error:
        return reject(record, Reason.UNREADABLE, error.what)
    measured = measurement_fingerprint(record, hot_pixels.inputs(record))
    return _with_verdict(record, sharpness.measure_pair(blur, sharp, record.alignment), measured, job.config)


def rejudge(record: PairRecord, earlier: PairRecord, config: FilterConfig) -> PairRecord | None:
    """Judges a pair by the measurements of an earlier run; None if there are none."""
    unmeasured = earlier.verdict is not None and earlier.verdict.reason in _FINAL
    if earlier.quality is None or unmeasured:
        return None
    return _with_verdict(record, earlier.quality, earlier.measured, config)


def judge_from_record(record: PairRecord, config: FilterConfig, hot_pixels: HotPixelMap) -> PairRecord | None:
    """Judges a pair by the measurements in its record; None if they are not of its present files and hot pixels."""
    if record.verdict is not None and record.verdict.reason in _FINAL:
        return record
    if record.quality is None or record.measured != measurement_fingerprint(record, hot_pixels.inputs(record)):
        return None
    return _with_verdict(record, record.quality, record.measured, config)


def _with_verdict(record: PairRecord, quality: Quality, measured: str | None, config: FilterConfig) -> PairRecord:
    record = replace(record, quality=quality, measured=measured)
    if record.alignment is None and record.verdict is not None:
        return record
    return replace(record, verdict=judge(quality, record.alignment, config))
