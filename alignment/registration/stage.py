"""The align stage: registers every pair of a manifest and writes `aligned.jsonl` and the residual flows."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alignment.config import AlignConfig
from alignment.registration.alignment_record import scale_alignment
from alignment.registration.masks import check_masks, find_mask, read_mask
from alignment.registration.register import compute_registration
from alignment.residual_flow import estimate as dense
from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap, copy_to, load_for_manifest
from sdd_toolkit.calibration.lens_breathing import zoom_prior_of
from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.imaging.frame import HalfFrame
from sdd_toolkit.metadata.colour_notes import gamut_notes
from sdd_toolkit.metadata.orientation import describe_tags
from sdd_toolkit.pipeline import stage_runner
from sdd_toolkit.pipeline.configurations import CONFIGURATIONS
from sdd_toolkit.pipeline.manifest import measurement_fingerprint, read_manifest
from sdd_toolkit.quality import sharpness
from sdd_toolkit.raw.development import DevelopConfig
from sdd_toolkit.recorded_config import RECORDED_CONFIG
from sdd_toolkit.records import Reason
from sdd_toolkit.storage.files import resolve_inside, sha256_of, write_bytes
from sdd_toolkit.storage.targets import check_own

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdd_toolkit.calibration.breathing_model import ZoomPrior
    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import Alignment, PairRecord, Report

STAGE = "align"
OUTPUT = "aligned.jsonl"
FLOW_FOLDER = "flow"
# The fastest level of zlib: nearly all of a flow is zeros.
_COMPRESSION = 1


def align_pairs(
    manifest: Path,
    out: Path,
    config: AlignConfig,
    *,
    masks: Path | None = None,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Aligns every pair of a manifest.

    Args:
        manifest: `ingested.jsonl` of `sdd ingest`, or a later manifest.
        out: Folder for `aligned.jsonl` and `flow/ID.npz` (arrays `flow`, float16 (H/4, W/4, 2), full-size pixels on
            the sharp frame's grid, `confidence` and `occlusion`, uint8 (H/4, W/4)).
        config: Section `[align]`.
        masks: White where the sharp frame may be used: an image for all pairs, or a folder of `ID.png`; a pair
            without one is aligned by the whole frame. A pair is aligned again if its mask changed.
        develop: Whether hot pixels are repaired; their map lies beside the manifest (`sdd hotpixels`).
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Align every pair again.
        track: Shows progress.

    Raises:
        ManifestError: The manifest cannot be read.
        InputError: The output cannot be written, or there are no such masks.
    """
    ids = [record.id for record in read_manifest(manifest).records]
    if masks is not None:
        masks = masks.resolve()
        check_masks(masks, ids)
    flows = [resolve_inside(out, f"{FLOW_FOLDER}/{name}.npz") for name in ids] if (out / FLOW_FOLDER).is_dir() else []
    check_own((out / OUTPUT, out / CONFIGURATIONS, out / RECORDED_CONFIG, *flows), overwrite=overwrite)
    hot_pixels = load_for_manifest(manifest, develop)
    copy_to(manifest, out, hot_pixels, overwrite=overwrite)
    stage = _AlignStage(config, out, masks, hot_pixels)
    return stage_runner.work_through(stage, manifest, out / OUTPUT, executor=executor, overwrite=overwrite, track=track)


class _AlignStage(stage_runner.PairStage[AlignConfig]):
    """Reads masks and hot pixels besides the frames, and writes a residual flow beside the manifest."""

    def __init__(self, config: AlignConfig, out: Path, masks: Path | None, hot_pixels: HotPixelMap) -> None:
        super().__init__(STAGE, config, partial(align_pair, masks=masks, hot_pixels=hot_pixels))
        self.reads = () if masks is None else (masks,)
        self.out = out
        self.masks = masks
        self.hot_pixels = hot_pixels
        self.sha256_of = cache(sha256_of)

    def extra_inputs(self, record: PairRecord) -> dict[str, str]:
        mask = find_mask(self.masks, record.id)
        return {**({} if mask is None else {"mask": self.sha256_of(mask)}), **self.hot_pixels.inputs(record)}

    def is_intact(self, record: PairRecord) -> bool:
        flow_file = record.alignment.flow_file if record.alignment else None
        return flow_file is None or resolve_inside(self.out, flow_file).is_file()


def align_pair(
    job: stage_runner.Job[AlignConfig],
    masks: Path | None = None,
    hot_pixels: HotPixelMap = HotPixelMap(),  # noqa: B008 frozen
) -> PairRecord:
    """Aligns one pair, writes its flow and measures its quality; a pair that cannot be aligned gets a verdict."""
    record = replace(job.record, alignment=None, quality=None, verdict=None, measured=None)
    if changed := stage_runner.describe_change(job):
        return stage_runner.reject(record, Reason.CHANGED, changed)
    mask_file = find_mask(masks, record.id)
    try:
        blur = frames.read_half(job.locate(record.blur), hot_pixels.of(record.blur_meta), record.blur_turn)
        sharp = frames.read_half(job.locate(record.sharp), hot_pixels.of(record.sharp_meta))
        more = [note for note in gamut_notes(blur.out_of_gamut, sharp.out_of_gamut) if note not in record.notes]
        record = replace(record, notes=(*record.notes, *more))
        if blur.size != sharp.size:
            sizes = f"{_size_text(blur.size)} and {_size_text(sharp.size)} px"
            tags = describe_tags(record.blur_meta, record.sharp_meta)
            record = stage_runner.reject(record, Reason.SIZE_MISMATCH, f"{sizes}; {tags}" if tags else sizes)
            return _with_quality(record, blur, sharp, hot_pixels)
        mask = None if mask_file is None else read_mask(mask_file, sharp.size)
    except InputError as error:
        # A manifest names no absolute path: the data set may be moved.
        detail = error.what.replace(f"{job.root}/", "")
        detail = detail.replace(f"{mask_file.parent}/", "") if mask_file else detail
        return stage_runner.reject(record, Reason.UNREADABLE, detail)
    try:
        prior = zoom_prior_of(record, job.config.breathing)
        alignment, residual = align_halves(blur, sharp, job.config, mask=mask, prior=prior)
    except ValueError as error:
        return _with_quality(stage_runner.reject(record, Reason.NOT_ALIGNED, str(error)), blur, sharp, hot_pixels)
    flow_file = f"{FLOW_FOLDER}/{record.id}.npz"
    path = resolve_inside(job.folder, flow_file)
    if residual is None:
        path.unlink(missing_ok=True)
    else:
        alignment = replace(alignment, flow_file=flow_file)
        write_bytes(path, to_npz(residual))
    record = _with_quality(replace(record, alignment=alignment), blur, sharp, hot_pixels)
    if alignment.failure is None:
        return record
    return stage_runner.reject(record, alignment.failure, alignment.detail)


def _with_quality(record: PairRecord, blur: HalfFrame, sharp: HalfFrame, hot_pixels: HotPixelMap) -> PairRecord:
    quality = sharpness.measure_pair(blur, sharp, record.alignment)
    return replace(record, quality=quality, measured=measurement_fingerprint(record, hot_pixels.inputs(record)))


def align_halves(
    blur: HalfFrame,
    sharp: HalfFrame,
    config: AlignConfig,
    mask: NDArray[np.bool_] | None = None,
    prior: ZoomPrior | None = None,
) -> tuple[Alignment, dense.EncodedFlow | None]:
    """Registers two half-size frames.

    Args:
        blur: At half size.
        sharp: At half size, of the same size.
        config: Section `[align]`.
        mask: (h, w) bool, where the sharp half-size frame may be used.
        prior: Expected zoom.

    Returns:
        The alignment in full-size pixels, and the residual flow encoded for storage, if there is one.

    Raises:
        ValueError: The frames are too small.
    """
    clipped = (blur.clipped, sharp.clipped)
    result = compute_registration(
        blur.rgb, sharp.rgb, config, mask=mask, prior=prior, tolerance_px=config.precise_px, clipped=clipped
    )
    alignment = scale_alignment(result.alignment, 2, sharp.size)
    if result.estimate is None or result.residual is None:
        return alignment, None
    level = result.estimate.reduction.bit_length()
    return alignment, dense.encode_flow(result.residual, result.sizes[:level], unit_px=2.0)


def to_npz(stored: dense.EncodedFlow) -> bytes:
    """The npz file of an encoded residual flow; equal flows give equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("flow", "confidence", "occlusion"):
            array = io.BytesIO()
            np.lib.format.write_array(array, getattr(stored, name), allow_pickle=False)
            # Every member has the same date, so that equal arrays give equal bytes.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue(), zipfile.ZIP_DEFLATED, _COMPRESSION)
    return content.getvalue()


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
