"""The pictures of one pair for the report: slider, flow map and alignment check, as data URIs.

A pair that was packed is shown as it lies in the shards; every other one as its source files show it, aligned if
it could be. A picture that cannot be made is left out with the reason.
"""

from __future__ import annotations

import base64
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from sdd_toolkit import develop, files, frames, geometry
from sdd_toolkit.errors import InputError, SddError
from sdd_toolkit.report_figures import flow_colours, nice_scale_px
from sdd_toolkit.shards import ShardReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.frames import HalfFrame
    from sdd_toolkit.types import Alignment, PairRecord

CHECK_WINDOW_PX = (180, 240)
_CHECK_ENLARGED = 2
_FLOW_WIDTH_PX = 320
_SEARCH_WIDTH_PX = 480

PixelT = TypeVar("PixelT", np.uint8, np.uint16, np.float32)


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
    shards: Path | None
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
    for part in (_with_sources, _with_shards, _with_flow):
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


def disc_blurred(image: NDArray[np.uint8], radius_px: float) -> NDArray[np.uint8]:
    """`image` (H, W) out of focus by a disc of `radius_px`, its rim weighted by the covered share of the pixel."""
    reach = int(np.ceil(radius_px))
    if reach < 1:
        return image
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    disc = np.clip(radius_px + 0.5 - np.hypot(axis[:, None], axis[None, :]), 0.0, 1.0).astype(np.float32)
    blurred = cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.uint8)


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


def read_flow(path: Path) -> NDArray[np.float32]:
    """The (h, w, 2) residual flow that `sdd align` wrote.

    Raises:
        InputError: Missing, damaged or not a flow field.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            flow = arrays["flow"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no flow field", hint="run `sdd align --overwrite`") from error
    if flow.ndim != 3 or flow.shape[2] != 2 or 0 in flow.shape:
        raise InputError(f"{path}: a flow field of shape {flow.shape}", hint="run `sdd align --overwrite`")
    return np.asarray(flow, dtype=np.float32)


def _with_sources(task: PictureTask, shown: PairPictures) -> PairPictures:
    """The slider as the source files show it and, if they could be aligned, the alignment check."""
    blur, sharp = (frames.read_half(files.inside(task.root, ref.path)) for ref in (task.record.blur, task.record.sharp))
    alignment = task.record.alignment
    if alignment is None or alignment.failure is not None or not blur.size == sharp.size == alignment.size:
        return _with_slider(
            task, shown, develop.preview(blur), develop.preview(sharp), "Source files as shot, not aligned"
        )
    blurred, target = develop.preview(_matched(blur, sharp, alignment.gain)), develop.preview(sharp)
    small = _narrowed(target, task.width_px)
    factor = small.shape[1] / alignment.size[1]
    moved = _warped(_resized(blurred, small.shape[:2]), geometry.scaled(alignment.homography, factor), small.shape[:2])
    cut = _slices(alignment.box, factor)
    shown = _with_slider(task, shown, moved[cut], small[cut], "Source files, the blurred frame aligned")
    before, after = (jpeg(picture, task.jpeg_quality) for picture in _check(blurred, target, alignment))
    return replace(shown, before=before, after=after)


def _with_shards(task: PictureTask, shown: PairPictures) -> PairPictures:
    """The slider and the flow map as packed, in place of what the source files gave."""
    if task.shards is None:
        return shown
    with ShardReader(task.shards) as reader:
        pair, encoding = reader.read(task.record.id), reader.encoding
    blur, sharp = (
        develop.encode(develop.decode(_narrowed(packed, task.width_px), encoding), develop.Encoding.SRGB8)
        for packed in (pair.blur, pair.sharp)
    )
    shown = _with_slider(task, shown, blur, sharp, "The packed pair, as training sees it")
    return _with_flow_map(task, shown, pair.flow)


def _with_flow(task: PictureTask, shown: PairPictures) -> PairPictures:
    """The flow map from the alignment's own file, unless the shards gave one."""
    alignment = task.record.alignment
    if shown.flow or alignment is None or alignment.flow_file is None or alignment.failure is not None:
        return shown
    flow = read_flow(files.inside(task.folder, alignment.flow_file))
    return _with_flow_map(task, shown, flow[_slices(alignment.box, flow.shape[1] / alignment.size[1])])


def _with_slider(
    task: PictureTask, shown: PairPictures, blur: NDArray[Any], sharp: NDArray[Any], caption: str
) -> PairPictures:
    pair = [_narrowed(picture.astype(np.uint8), task.width_px) for picture in (blur, sharp)]
    blurred, target = (jpeg(picture, task.jpeg_quality) for picture in pair)
    height, width = pair[1].shape[:2]
    return replace(shown, size=(height, width), blurred=blurred, sharp=target, caption=caption)


def _with_flow_map(task: PictureTask, shown: PairPictures, flow: NDArray[np.float32]) -> PairPictures:
    length = np.linalg.norm(flow.astype(np.float64), axis=-1)
    length = length[np.isfinite(length)]
    scale_px = nice_scale_px(float(np.percentile(length, 99))) if length.size else nice_scale_px(0.0)
    picture = _narrowed(flow_colours(flow, scale_px), _FLOW_WIDTH_PX)
    return replace(shown, flow=jpeg(picture, task.jpeg_quality), flow_scale_px=scale_px)


def _check(
    blurred: NDArray[np.uint8], sharp: NDArray[np.uint8], alignment: Alignment
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Overlays of the most telling window before and after alignment, half-size pixels enlarged twice.

    The sharp frame is given the measured blur, so that a coloured fringe means misplaced, not out of focus.
    """
    homography = geometry.scaled(alignment.homography, 0.5)
    grey_blur, grey_sharp = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (blurred, sharp))
    softened = disc_blurred(np.asarray(grey_sharp, dtype=np.uint8), alignment.coc_px / 2.0)
    top, left, height, width = _where_to_check(softened, alignment)
    window = (slice(top, top + height), slice(left, left + width))
    to_window = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=np.float64)
    aligned = _warped(np.asarray(grey_blur, dtype=np.uint8), to_window @ homography, (height, width))
    size = (height * _CHECK_ENLARGED, width * _CHECK_ENLARGED)
    before, after = (overlay(first, softened[window]) for first in (grey_blur[window], aligned))
    return _resized(before, size, cv2.INTER_CUBIC), _resized(after, size, cv2.INTER_CUBIC)


def _where_to_check(softened: NDArray[np.uint8], alignment: Alignment) -> tuple[int, int, int, int]:
    """`telling_window` of a half-size frame, searched at thumbnail size."""
    small = _narrowed(softened, _SEARCH_WIDTH_PX)
    factor = small.shape[1] / alignment.size[1]
    moved = geometry.displacement(geometry.scaled(alignment.homography, factor), small.shape)
    rows, columns = _slices(alignment.box, factor)
    box = (columns.start, rows.start, columns.stop, rows.stop)
    wished = (max(1, round(CHECK_WINDOW_PX[0] * 2 * factor)), max(1, round(CHECK_WINDOW_PX[1] * 2 * factor)))
    found = telling_window(small, np.linalg.norm(moved, axis=-1), box, wished)
    top, left = (round(edge / (2 * factor)) for edge in found[:2])
    height, width = (min(wish, length) for wish, length in zip(CHECK_WINDOW_PX, softened.shape, strict=True))
    return min(top, softened.shape[0] - height), min(left, softened.shape[1] - width), height, width


def _matched(blur: HalfFrame, sharp: HalfFrame, gain: float) -> HalfFrame:
    """The blurred frame at the sharp one's brightness and white balance."""
    return replace(blur, rgb=blur.rgb * np.float32(gain), white_balance=sharp.white_balance)


def _slices(box: tuple[int, int, int, int], factor: float) -> tuple[slice, slice]:
    """Rows and columns of the full-size `box` on a grid `factor` times as large; at least one pixel."""
    left, top, right, bottom = (round(edge * factor) for edge in box)
    return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


def _warped(image: NDArray[np.uint8], homography: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    moved = geometry.warp(image.astype(np.float32), homography, size)
    return np.asarray(np.clip(np.rint(moved), 0, 255), dtype=np.uint8)


def _narrowed(image: NDArray[PixelT], width_px: int) -> NDArray[PixelT]:
    """`image` at most `width_px` wide, averaged."""
    height, width = image.shape[:2]
    if width <= width_px:
        return image
    return _resized(image, (max(1, round(height * width_px / width)), width_px))


def _resized(image: NDArray[PixelT], size: tuple[int, int], interpolation: int = cv2.INTER_AREA) -> NDArray[PixelT]:
    resized = cv2.resize(image, (size[1], size[0]), interpolation=interpolation)
    return np.asarray(resized, dtype=image.dtype)
