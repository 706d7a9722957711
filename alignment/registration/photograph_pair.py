"""Alignment of two photographs without a manifest: transform, aligned frame, and a picture to check it by."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.registration.masks import read_mask
from alignment.registration.stage import align_halves, to_npz
from alignment.transforms import transform as transforms
from alignment.transforms.apply import ApplyOptions, add_flow, apply_file, result_files
from alignment.transforms.mapping import Mapping, map_in_bands
from sdd_toolkit.errors import InputError
from sdd_toolkit.frames.reading import read_half, read_white_balance
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.frame import preview
from sdd_toolkit.imaging.orientation import UPRIGHT
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.metadata.orientation import describe_tags, describe_turn, turn_of_blurred
from sdd_toolkit.records import REASON_TEXT, Report
from sdd_toolkit.storage.files import write_bytes
from sdd_toolkit.storage.targets import check_targets

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from alignment.config import AlignConfig
    from alignment.residual_flow.estimate import EncodedFlow
    from alignment.transforms.transform import Transform
    from sdd_toolkit.imaging.frame import HalfFrame
    from sdd_toolkit.records import Alignment, FrameMeta

_CHECK_WIDTH_PX = 1200
_CHECK_GAP_PX = 8
_LOG = logging.getLogger(__name__)


def align_photographs(
    blur: Path,
    sharp: Path,
    out: Path,
    config: AlignConfig,
    *,
    mask: Path | None = None,
    follow_flow: bool = False,
    strip: bool = False,
    overwrite: bool = False,
) -> tuple[Report, Transform]:
    """Aligns one photograph to another and writes the transform, the aligned frame and a picture to check it by.

    Args:
        blur: The defocused photograph, RAW or image; BLUR below is its name.
        sharp: Its sharp partner.
        out: Folder for `BLUR.json` (the transform), `BLUR_flow.npz` (residual flow), `BLUR_aligned.tif` or `.png` with
            `BLUR_aligned_valid.png`, and `BLUR_check.png`.
        config: Section `[align]`.
        mask: Image, white where the sharp frame may be used.
        follow_flow: Whether the aligned frame follows the residual flow too.
        strip: Whether the aligned frame gets no metadata but the colour profile.
        overwrite: Whether files of an earlier run are replaced.

    Returns:
        The report, and the transform.

    Raises:
        RawError: A file cannot be read.
        InputError: They cannot be aligned, or a file exists at the path of a result.
    """
    started = time.monotonic()
    inputs = [path for path in (blur, sharp, mask) if path is not None]
    transform_file, flow_file, check_file = (out / f"{blur.stem}{end}" for end in (".json", "_flow.npz", "_check.png"))
    targets = (transform_file, flow_file, check_file, *result_files(blur, out))
    check_targets(targets, inputs, overwrite=overwrite)
    metas = read_meta(blur), read_meta(sharp)
    turn = turn_of_blurred(*metas)
    if turn != UPRIGHT:
        _LOG.warning("%s and %s: %s", blur.name, sharp.name, describe_turn(*metas))
    halves = read_half(blur, turn=turn), read_half(sharp)
    _check_sizes(blur, sharp, halves, metas)
    alignment, residual = _align(blur, sharp, halves, config, mask)
    transform = replace(transforms.from_alignment(alignment, blur.name, sharp.name), turn=turn)
    if residual is not None:
        write_bytes(flow_file, to_npz(residual))
        transform = replace(transform, flow=flow_file.name)
    mapping = Mapping(transform)
    if follow_flow and residual is not None:
        mapping = add_flow(mapping, flow_file)
    balance = read_white_balance(sharp)
    aligned_file = apply_file(blur, out, mapping, ApplyOptions(strip=strip), balance=balance)
    write_image(check_file, draw_check(*halves, mapping))
    transforms.write_transform(transform_file, transform)
    written = (transform_file, aligned_file, check_file)
    report = Report("align", 1, 1, 0, {}, time.monotonic() - started, tuple(map(str, written)))
    return report, transform


def draw_check(blur: HalfFrame, sharp: HalfFrame, mapping: Mapping) -> NDArray[np.uint8]:
    """Draws the blurred frame in red over the sharp one in cyan, left as shot, right aligned: fringes are misalignment.

    Args:
        blur: At half size.
        sharp: At half size.
        mapping: From full-size blurred frame to sharp frame.

    Returns:
        (h, w, 3) RGB.
    """
    frame = replace(blur, rgb=blur.rgb * np.float32(mapping.transform.gain), white_balance=sharp.white_balance)
    warped = np.concatenate([band.pixels for band in map_in_bands(frame.rgb, replace(mapping, scale=0.5))])
    target = _preview_grey(sharp)
    panels = [np.stack([_preview_grey(half), target, target], axis=-1) for half in (frame, replace(frame, rgb=warped))]
    gap = np.full((len(target), _CHECK_GAP_PX, 3), 255, dtype=np.uint8)
    return np.concatenate([panels[0], gap, panels[1]], axis=1)


def _check_sizes(
    blur: Path, sharp: Path, halves: tuple[HalfFrame, HalfFrame], metas: tuple[FrameMeta, FrameMeta]
) -> None:
    if halves[0].size != halves[1].size:
        sizes = " and ".join(f"{width}x{height}" for height, width in (half.size for half in halves))
        hint = describe_tags(*metas) or "give two frames of one camera"
        raise InputError(f"{blur} and {sharp} differ in size: {sizes} px", hint=hint)


def _align(
    blur: Path, sharp: Path, halves: tuple[HalfFrame, HalfFrame], config: AlignConfig, mask: Path | None
) -> tuple[Alignment, EncodedFlow | None]:
    allowed = None if mask is None else read_mask(mask, halves[1].size)
    try:
        alignment, residual = align_halves(*halves, config, mask=allowed)
    except ValueError as error:
        raise InputError(f"cannot align {blur} to {sharp}: {error}", hint="give larger frames") from error
    if alignment.failure is not None:
        reason = REASON_TEXT[alignment.failure]
        raise InputError(f"cannot align {blur} to {sharp}: {reason}", hint=alignment.detail or "see docs/alignment.md")
    return alignment, residual


def _preview_grey(frame: HalfFrame) -> NDArray[np.uint8]:
    """(h, w) grey preview of a frame, at most `_CHECK_WIDTH_PX` wide."""
    grey = cv2.cvtColor(preview(frame), cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    if width > _CHECK_WIDTH_PX:
        grey = cv2.resize(
            grey, (_CHECK_WIDTH_PX, round(height * _CHECK_WIDTH_PX / width)), interpolation=cv2.INTER_AREA
        )
    return np.asarray(grey, dtype=np.uint8)
