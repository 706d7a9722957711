"""The pictures of one pair for the report: slider, flow map and alignment check, as data URIs.

A pair that was packed is shown as it lies in the shards; every other one as its source files show it, aligned if
it could be. A picture that cannot be made is left out with the reason.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sdd_toolkit import develop, files, frames, geometry, resampling, residual_flow
from sdd_toolkit.errors import SddError
from sdd_toolkit.report_flow import faded, flow_colours, nice_scale_px, reduced
from sdd_toolkit.shards.reader import ShardReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.frames import HalfFrame
    from sdd_toolkit.locations import Place
    from sdd_toolkit.types import Alignment, PairRecord

CHECK_WINDOW_PX = (180, 240)
_CHECK_ENLARGED = 2
_FLOW_WIDTH_PX = 320
_SEARCH_WIDTH_PX = 480
_LARGEST_DISC_PX = 40.0


@dataclass(frozen=True, slots=True)
class PictureTask:
    """What a worker needs to picture one pair.

    Attributes:
        root: Folder the pair's file paths are relative to.
        folder: Folder of the manifest, which `Alignment.flow_file` is relative to.
        shards: Folder of the shards that hold this pair; None if it is not packed.
    """

    record: PairRecord
    root: Path
    folder: Path
    shards: Place | None
    width_px: int
    jpeg_quality: int


@dataclass(frozen=True, slots=True)
class PairPictures:
    """Data URIs of one pair; None where there is nothing to show.

    Attributes:
        size: (height, width) of the frame the slider shows, in its pixels.
        caption: What the slider shows and where it comes from.
        flow_scale_px: Length of flow that is drawn in full colour, full-size pixels.
        before: Red-cyan overlay of a textured window as shot; `after` the same once aligned.
        notes: Why something is missing.
    """

    size: tuple[int, int] = (2, 3)
    blurred: str | None = None
    sharp: str | None = None
    caption: str = ""
    flow: str | None = None
    flow_scale_px: float = 0.0
    before: str | None = None
    after: str | None = None
    notes: tuple[str, ...] = ()


def pictures(task: PictureTask) -> PairPictures:
    """All pictures of one pair; whatever cannot be read becomes a note, never an exception."""
    shown, notes = PairPictures(), list[str]()
    for part in (_with_shards, _with_sources, _with_flow):
        try:
            shown = part(task, shown)
        except SddError as error:
            notes.append(error.what.replace(f"{task.root}/", "").replace(f"{task.folder}/", ""))
    return replace(shown, notes=tuple(notes))


def overlay(blurred: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Red-cyan overlay of two (H, W) brightnesses: grey where they agree, coloured fringes where they do not.

    Returns:
        (H, W, 3) RGB, the blurred frame in red, the sharp one in green and blue.
    """
    return np.stack([blurred, sharp, sharp], axis=-1)


def disc_blurred(image: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """`image` (H, W[, C]) out of focus by a disc of `radius_px`; pixels on its rim count as far as it covers them."""
    reach = int(np.ceil(radius_px))
    if reach < 1:
        return image
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    disc = np.clip(radius_px + 0.5 - np.hypot(axis[:, None], axis[None, :]), 0.0, 1.0)
    blurred = cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)


def telling_window(
    brightness: NDArray[np.uint8],
    displacement_px: NDArray[np.float32],
    box: tuple[int, int, int, int],
    size: tuple[int, int],
) -> tuple[int, int, int, int]:
    """The window with most texture that moved most, where an alignment shows best.

    Args:
        brightness: (H, W).
        displacement_px: (H, W) length of the motion before alignment.
        box: (left, top, right, bottom) the window must lie in.
        size: (height, width) wished for; cut to the box.

    Returns:
        (top, left, height, width).
    """
    left, top, right, bottom = box
    height, width = min(size[0], bottom - top), min(size[1], right - left)
    plane = brightness[top:bottom, left:right].astype(np.float32)
    slope = np.hypot(cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1))
    total = cv2.integral(slope * (1.0 + displacement_px[top:bottom, left:right]))
    score = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    return top + int(row), left + int(column), height, width


def jpeg(image: NDArray[np.uint8], quality: int) -> str:
    """(H, W, 3) RGB as a JPEG data URI, colour not subsampled."""
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    _, content = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    )
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode("ascii")


def _with_sources(task: PictureTask, shown: PairPictures) -> PairPictures:
    """The slider as the source files show it, unless the shards gave one, and the alignment check if there is one."""
    blur, sharp = (frames.read_half(files.inside(task.root, ref.path)) for ref in (task.record.blur, task.record.sharp))
    alignment = task.record.alignment
    if alignment is None or alignment.failure is not None or not blur.size == sharp.size == alignment.size:
        if shown.blurred is not None:
            return shown
        pair = [_seen(frame, _narrowed(frame.rgb, task.width_px)) for frame in (blur, sharp)]
        return _with_slider(task, shown, pair[0], pair[1], "Source files as shot, not aligned")
    blur = _matched(blur, sharp, alignment.gain)
    if shown.blurred is None:
        small_blur, small_sharp = (_narrowed(frame.rgb, task.width_px) for frame in (blur, sharp))
        factor = small_sharp.shape[1] / alignment.size[1]
        to_small = geometry.scaled(alignment.homography, factor)
        moved = resampling.warp(small_blur, to_small, small_sharp.shape[:2], radial=alignment.radial)
        cut, seen = _slices(alignment.box, factor, small_sharp.shape), _seen(sharp, small_sharp)
        shown = _with_slider(task, shown, _seen(blur, moved)[cut], seen[cut], "Source files, the blurred frame aligned")
    before, after = _check(blur, sharp, alignment)
    return replace(shown, before=jpeg(before, task.jpeg_quality), after=jpeg(after, task.jpeg_quality))


def _with_shards(task: PictureTask, shown: PairPictures) -> PairPictures:
    """The slider and the flow map as packed."""
    if task.shards is None:
        return shown
    with ShardReader(task.shards) as reader:
        encoding, reduction = reader.encoding, reader.index.reduction
        outline, size = reader.outline(task.record.id), reader.shape(task.record.id)
        blur, sharp = (
            develop.encode(develop.decode(_narrowed(packed, task.width_px), encoding), develop.Encoding.SRGB8)
            for packed in reader.read_images(task.record.id, 0, 0, *size)
        )
        flow = reader.read_flow(task.record.id)
    shown = _with_slider(task, shown, blur, sharp, "The packed pair, as training sees it")
    confidence = _packed_confidence(task, flow.shape[:2], outline.box, reduction)
    return _with_flow_map(task, shown, flow * np.float32(reduction), confidence)


def _with_flow(task: PictureTask, shown: PairPictures) -> PairPictures:
    """The flow map from the alignment's own file, unless the shards gave one."""
    alignment = task.record.alignment
    if shown.flow or alignment is None or alignment.flow_file is None or alignment.failure is not None:
        return shown
    residual = residual_flow.read(files.inside(task.folder, alignment.flow_file), alignment.size)
    seen = _slices(alignment.box, 1.0 / residual_flow.FLOW_FACTOR, residual.flow.shape)
    return _with_flow_map(task, shown, residual.flow[seen], _sure(residual)[seen])


def _with_slider(
    task: PictureTask, shown: PairPictures, blur: NDArray[Any], sharp: NDArray[Any], caption: str
) -> PairPictures:
    pair = [_narrowed(picture.astype(np.uint8), task.width_px) for picture in (blur, sharp)]
    blurred, target = (jpeg(picture, task.jpeg_quality) for picture in pair)
    height, width = pair[1].shape[:2]
    return replace(shown, size=(height, width), blurred=blurred, sharp=target, caption=caption)


def _packed_confidence(
    task: PictureTask, size: tuple[int, ...], box: tuple[int, int, int, int] | None, reduction: int
) -> NDArray[np.float32]:
    """How sure the packed flow is, which the shards do not hold; all of it where the alignment's own file is gone."""
    alignment, everything = task.record.alignment, np.ones(size, dtype=np.float32)
    if alignment is None or alignment.flow_file is None or box is None:
        return everything
    try:
        residual = residual_flow.read(files.inside(task.folder, alignment.flow_file), alignment.size)
    except SddError:
        return everything
    if reduction == 2:
        residual = residual_flow.halved(residual)
    left, top, right, bottom = (edge // residual_flow.FLOW_FACTOR for edge in box)
    found = _sure(residual)[top:bottom, left:right]
    return found if found.shape == everything.shape else everything


def _sure(residual: residual_flow.ResidualFlow) -> NDArray[np.float32]:
    return np.where(residual.occlusion, np.float32(0), residual.confidence)


def _with_flow_map(
    task: PictureTask, shown: PairPictures, flow: NDArray[np.float32], confidence: NDArray[np.float32]
) -> PairPictures:
    """The flow drawn on the scale of the textured pixels, faded where it is not sure.

    In flat areas a flow is anybody's guess, and often long.
    """
    alignment = task.record.alignment
    scale_px = nice_scale_px(alignment.residual_p95_px if alignment is not None else 0.0)
    factor = min(flow.shape[1] // _FLOW_WIDTH_PX, flow.shape[0])
    if factor > 1:
        flow, confidence = reduced(flow, confidence, factor)
    picture = _narrowed(faded(flow_colours(flow, scale_px), confidence), _FLOW_WIDTH_PX)
    return replace(shown, flow=jpeg(picture, task.jpeg_quality), flow_scale_px=scale_px)


def _check(blur: HalfFrame, sharp: HalfFrame, alignment: Alignment) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Overlays of the most telling window before and after alignment, half-size pixels enlarged twice.

    The sharp frame is given the measured blur, so that a coloured fringe means misplaced, not out of focus.
    """
    top, left, height, width = _where_to_check(sharp, alignment)
    radius_px = min(alignment.coc_px / 2.0, _LARGEST_DISC_PX)
    margin = int(np.ceil(radius_px))
    first_row, first_column = max(0, top - margin), max(0, left - margin)
    around = sharp.rgb[first_row : top + height + margin, first_column : left + width + margin]
    softened = disc_blurred(np.ascontiguousarray(around), radius_px)[top - first_row :, left - first_column :]
    target = _brightness(_seen(sharp, softened[:height, :width]))
    to_window = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=np.float64)
    to_window = to_window @ geometry.scaled(alignment.homography, 0.5)
    moved = resampling.warp(blur.rgb, to_window, (height, width), radial=alignment.radial)
    as_shot = blur.rgb[top : top + height, left : left + width]
    size = (height * _CHECK_ENLARGED, width * _CHECK_ENLARGED)
    before, after = (
        _resized(overlay(_brightness(_seen(blur, rgb)), target), size, cv2.INTER_CUBIC) for rgb in (as_shot, moved)
    )
    return before, after


def _where_to_check(sharp: HalfFrame, alignment: Alignment) -> tuple[int, int, int, int]:
    """`telling_window` on the half-size grid, searched at thumbnail size in the texture that the blur leaves."""
    small = _narrowed(sharp.rgb, _SEARCH_WIDTH_PX)
    factor = small.shape[1] / alignment.size[1]
    seen = _brightness(_seen(sharp, disc_blurred(small, min(alignment.coc_px * factor, _LARGEST_DISC_PX))))
    moved = geometry.displacement(geometry.scaled(alignment.homography, factor), seen.shape)
    rows, columns = _slices(alignment.box, factor, seen.shape)
    box = (columns.start, rows.start, min(columns.stop, seen.shape[1]), min(rows.stop, seen.shape[0]))
    wished = (max(1, round(CHECK_WINDOW_PX[0] * 2 * factor)), max(1, round(CHECK_WINDOW_PX[1] * 2 * factor)))
    found = telling_window(seen, np.linalg.norm(moved, axis=-1), box, wished)
    top, left = (round(edge / (2 * factor)) for edge in found[:2])
    full = sharp.rgb.shape
    height, width = min(CHECK_WINDOW_PX[0], full[0]), min(CHECK_WINDOW_PX[1], full[1])
    return min(top, full[0] - height), min(left, full[1] - width), height, width


def _seen(frame: HalfFrame, rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Some pixels of `frame` as `develop.preview` shows them."""
    return develop.preview(replace(frame, rgb=rgb))


def _brightness(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _matched(blur: HalfFrame, sharp: HalfFrame, gain: float) -> HalfFrame:
    """The blurred frame at the sharp one's brightness and white balance."""
    return replace(blur, rgb=blur.rgb * np.float32(gain), white_balance=sharp.white_balance)


def _slices(box: tuple[int, int, int, int], factor: float, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the full-size `box` on a grid `factor` times as large, of `size`; at least one pixel."""
    left, top, right, bottom = (round(edge * factor) for edge in box)
    first_row, first_column = min(max(top, 0), size[0] - 1), min(max(left, 0), size[1] - 1)
    return slice(first_row, max(bottom, first_row + 1)), slice(first_column, max(right, first_column + 1))


def _narrowed(image: NDArray[Any], width_px: int) -> NDArray[Any]:
    """`image` at most `width_px` wide, averaged."""
    height, width = image.shape[:2]
    if width <= width_px:
        return image
    # OpenCV halves ten times as fast as it averages over other blocks.
    if width >= 4 * width_px and height % 2 == width % 2 == 0:
        return _narrowed(_resized(image, (height // 2, width // 2)), width_px)
    return _resized(image, (max(1, round(height * width_px / width)), width_px))


def _resized(image: NDArray[Any], size: tuple[int, int], interpolation: int = cv2.INTER_AREA) -> NDArray[Any]:
    resized = cv2.resize(image, (size[1], size[0]), interpolation=interpolation)
    return np.asarray(resized, dtype=image.dtype)
