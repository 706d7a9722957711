"""The pictures of a pair for the report: slider, flow map and alignment check, as data URIs.

A packed pair is read from its shards, without its source files; any other pair from its source files, aligned if it
could be. A picture that cannot be drawn is left out with the reason.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sdd_toolkit.errors import SddError
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.imaging import encoding, geometry, resampling, residual_flow
from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.imaging.disc import blur_with_disc
from sdd_toolkit.imaging.flow_colours import fade_by_confidence, flow_colours, nice_scale_px, reduce_flow
from sdd_toolkit.imaging.frame import preview
from sdd_toolkit.imaging.interpolation import REACH_PX
from sdd_toolkit.report.alignment_check import (
    LARGEST_DISC_PX,
    box_slices,
    choose_window,
    common_box,
    draw_overlays,
    grow,
    union,
    window_slices,
)
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage import files

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.imaging.frame import HalfFrame
    from sdd_toolkit.records import Alignment, PairRecord
    from sdd_toolkit.storage.locations import Location

    Check = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

_FLOW_WIDTH_PX = 320
_SEARCH_WIDTH_PX = 480
_BAND_ROWS = 256


@dataclass(frozen=True, slots=True)
class PictureTask:
    """The pictures to draw of one pair, as sent to a worker.

    Attributes:
        record: The pair.
        root: Folder that the pair's file paths are relative to.
        folder: Folder of the manifest, which `Alignment.flow_file` is relative to.
        shards: Folder of the shards that hold this pair; None if it is not packed.
        width_px: Largest width of the slider.
        jpeg_quality: JPEG quality, 1 … 100.
    """

    record: PairRecord
    root: Path
    folder: Path
    shards: Location | None
    width_px: int
    jpeg_quality: int


@dataclass(frozen=True, slots=True)
class PairPictures:
    """The pictures of one pair as data URIs; None where there is none.

    Attributes:
        size: (height, width) of the slider in pixels.
        blurred: The blurred frame on the slider.
        sharp: The sharp frame on the slider.
        caption: Source of the pictures on the slider.
        flow: Map of the residual flow.
        flow_scale_px: Length of flow that is drawn in full colour, in full-size pixels.
        before: Red-cyan overlay of a textured window before alignment.
        after: The same overlay after alignment.
        moved_back: Whether `before` shows the packed frame, warped back to its position before alignment.
        notes: Reasons for missing pictures.
    """

    size: tuple[int, int] = (2, 3)
    blurred: str | None = None
    sharp: str | None = None
    caption: str = ""
    flow: str | None = None
    flow_scale_px: float = 0.0
    before: str | None = None
    after: str | None = None
    moved_back: bool = False
    notes: tuple[str, ...] = ()


def picture_pair(task: PictureTask) -> PairPictures:
    """Draws the pictures of one pair; files that cannot be read become notes instead of exceptions."""
    drawn, notes = PairPictures(), list[str]()
    for add in (_add_packed_pictures, _add_source_pictures, _add_stored_flow):
        try:
            drawn = add(task, drawn)
        except SddError as error:
            notes.append(error.what.replace(f"{task.root}/", "").replace(f"{task.folder}/", ""))
    return replace(drawn, notes=tuple(notes))


def jpeg(image: NDArray[np.uint8], quality: int) -> str:
    """Encodes an (H, W, 3) RGB picture as a JPEG data URI without chroma subsampling."""
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    _, content = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    )
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode("ascii")


def _add_source_pictures(task: PictureTask, drawn: PairPictures) -> PairPictures:
    """Adds the slider and the alignment check from the source files, unless they came from the shards."""
    if drawn.blurred is not None and drawn.before is not None:
        return drawn
    record = task.record
    blur = frames.read_half(files.resolve_inside(task.root, record.blur.path), turn=record.blur_turn)
    sharp = frames.read_half(files.resolve_inside(task.root, record.sharp.path))
    alignment = task.record.alignment
    if alignment is None or alignment.failure is not None or not blur.size == sharp.size == alignment.size:
        if drawn.blurred is not None:
            return drawn
        pair = [_preview(frame, _limit_width(frame.rgb, task.width_px)) for frame in (blur, sharp)]
        return _add_slider(task, drawn, pair[0], pair[1], "Source files as shot, not aligned")
    blur = _match_brightness(blur, sharp, alignment.gain)
    if drawn.blurred is None:
        small_blur, small_sharp = (_limit_width(frame.rgb, task.width_px) for frame in (blur, sharp))
        factor = small_sharp.shape[1] / alignment.size[1]
        to_small = geometry.rescale_homography(alignment.homography, factor)
        warped = resampling.warp(small_blur, to_small, small_sharp.shape[:2], radial=alignment.radial)
        box, sharp_view = box_slices(alignment.box, factor, small_sharp.shape), _preview(sharp, small_sharp)
        drawn = _add_slider(
            task, drawn, _preview(blur, warped)[box], sharp_view[box], "Source files, the blurred frame aligned"
        )
    return _add_check(task, drawn, *_source_check(blur, sharp, alignment))


def _add_packed_pictures(task: PictureTask, drawn: PairPictures) -> PairPictures:
    """Adds the slider, the flow map and the alignment check from the shards."""
    if task.shards is None:
        return drawn
    with ShardReader(task.shards) as reader:
        blur, sharp = (
            _decode_light(picture, reader) for picture in _packed_pair(reader, task.record.id, task.width_px)
        )
        drawn = _add_slider(task, drawn, _to_picture(blur), _to_picture(sharp), "The packed pair, as training sees it")
        outline, flow = reader.outline(task.record.id), reader.read_flow(task.record.id)
        confidence = _packed_confidence(task, flow.shape[:2], outline.box, reader.index.reduction)
        drawn = _add_flow_map(task, drawn, flow * np.float32(reader.index.reduction), confidence)
        alignment = outline.record.alignment
        if alignment is None or alignment.failure is not None or outline.box is None:
            return drawn
        check = _packed_check(reader, task.record.id, _limit_width(sharp, _SEARCH_WIDTH_PX), alignment, outline.box)
    return replace(_add_check(task, drawn, *check), moved_back=True)


def _add_stored_flow(task: PictureTask, drawn: PairPictures) -> PairPictures:
    """Adds the flow map from the flow file of the alignment, unless it came from the shards."""
    alignment = task.record.alignment
    if drawn.flow or alignment is None or alignment.flow_file is None or alignment.failure is not None:
        return drawn
    residual = residual_flow.read_residual_flow(files.resolve_inside(task.folder, alignment.flow_file), alignment.size)
    box = box_slices(alignment.box, 1.0 / residual_flow.FLOW_FACTOR, residual.flow.shape)
    return _add_flow_map(task, drawn, residual.flow[box], residual.trust[box])


def _add_slider(
    task: PictureTask, drawn: PairPictures, blur: NDArray[Any], sharp: NDArray[Any], caption: str
) -> PairPictures:
    pair = [_limit_width(picture.astype(np.uint8), task.width_px) for picture in (blur, sharp)]
    blurred, target = (jpeg(picture, task.jpeg_quality) for picture in pair)
    height, width = pair[1].shape[:2]
    return replace(drawn, size=(height, width), blurred=blurred, sharp=target, caption=caption)


def _add_check(
    task: PictureTask,
    drawn: PairPictures,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    sharp: NDArray[np.uint8],
) -> PairPictures:
    first, second = (jpeg(picture, task.jpeg_quality) for picture in draw_overlays(before, after, sharp))
    return replace(drawn, before=first, after=second)


def _packed_pair(reader: ShardReader, pair_id: str, width_px: int) -> list[NDArray[Any]]:
    """Both packed frames at most `width_px` wide, read in bands and halved while these are in the cache."""
    height, width = reader.shape(pair_id)
    halvings = _halvings((height, width), width_px)
    bands = [
        [_halve(part, halvings) for part in reader.read_images(pair_id, top, 0, min(_BAND_ROWS, height - top), width)]
        for top in range(0, height, _BAND_ROWS)
    ]
    return [_limit_width(np.concatenate(parts), width_px) for parts in zip(*bands, strict=True)]


def _packed_confidence(
    task: PictureTask, size: tuple[int, ...], box: tuple[int, int, int, int] | None, reduction: int
) -> NDArray[np.float32]:
    """Confidence of the packed flow from the flow file of the alignment, as shards hold none; 1 without that file."""
    alignment, full = task.record.alignment, np.ones(size, dtype=np.float32)
    if alignment is None or alignment.flow_file is None or box is None:
        return full
    try:
        trust = residual_flow.read_trust(files.resolve_inside(task.folder, alignment.flow_file), alignment.size)
    except SddError:
        return full
    if reduction == 2:
        trust = bin_2x2(np.pad(trust, [(0, side % 2) for side in trust.shape], mode="edge"))
    left, top, right, bottom = (edge // residual_flow.FLOW_FACTOR for edge in box)
    cropped = trust[top:bottom, left:right]
    return cropped if cropped.shape == full.shape else full


def _add_flow_map(
    task: PictureTask, drawn: PairPictures, flow: NDArray[np.float32], confidence: NDArray[np.float32]
) -> PairPictures:
    """Adds the flow map on the scale of the textured pixels, faded where its confidence is low.

    In flat areas the flow may be anything, and is often long.
    """
    alignment = task.record.alignment
    scale_px = nice_scale_px(alignment.residual_p95_px if alignment is not None else 0.0)
    factor = min(flow.shape[1] // _FLOW_WIDTH_PX, flow.shape[0])
    if factor > 1:
        flow, confidence = reduce_flow(flow, confidence, factor)
    picture = _limit_width(fade_by_confidence(flow_colours(flow, scale_px), confidence), _FLOW_WIDTH_PX)
    return replace(drawn, flow=jpeg(picture, task.jpeg_quality), flow_scale_px=scale_px)


def _source_check(blur: HalfFrame, sharp: HalfFrame, alignment: Alignment) -> Check:
    """The most textured window of two half-size frames: the blurred one as shot, aligned, and the sharp one.

    The sharp frame is blurred by the measured radius, so that a coloured fringe means misalignment, not defocus.
    """
    homography = geometry.rescale_homography(alignment.homography, 0.5)
    left, top, right, bottom = (edge / 2 for edge in alignment.box)
    height, width = sharp.rgb.shape[:2]
    small = _limit_width(sharp.rgb, _SEARCH_WIDTH_PX)
    picture = _preview(sharp, blur_with_disc(small, _disc_px(alignment, small.shape[1] / alignment.size[1])))
    window = choose_window(picture, homography, (left, top, right, bottom), (height, width))
    radius_px = _disc_px(alignment, 0.5)
    surroundings = grow(window, radius_px, (height, width))
    blurred = blur_with_disc(np.ascontiguousarray(sharp.rgb[window_slices(surroundings)]), radius_px)
    target = blurred[window_slices(window, surroundings)]
    to_window = _translation(-window[1], -window[0]) @ homography
    warped = resampling.warp(blur.rgb, to_window, target.shape[:2], radial=alignment.radial)
    return _preview(blur, blur.rgb[window_slices(window)]), _preview(blur, warped), _preview(sharp, target)


def _packed_check(
    reader: ShardReader, pair_id: str, small: NDArray[np.float32], alignment: Alignment, box: tuple[int, int, int, int]
) -> Check:
    """`_source_check` of a packed pair, its blurred frame warped back to its position before alignment.

    Args:
        reader: Reader of its shards.
        pair_id: Its id.
        small: (h, w, 3) linear light of the packed sharp frame, reduced.
        alignment: The alignment that was applied. A residual flow or a lens model that was applied too is not undone.
        box: The part of the frame that was packed.
    """
    bins = 2 // reader.index.reduction
    height, width = (side // bins for side in reader.shape(pair_id))
    left, top = box[0] / bins, box[1] / bins
    homography = geometry.rescale_homography(alignment.homography, 0.5)
    in_box = _translation(-left, -top) @ homography @ _translation(left, top)
    picture = _to_picture(blur_with_disc(small, _disc_px(alignment, small.shape[1] / (2 * width))))
    window = choose_window(picture, in_box, common_box(in_box, (height, width)), (height, width))
    ys, xs = (axis.astype(np.float64) for axis in np.mgrid[window_slices(window)])
    frame = (alignment.size[0] // 2, alignment.size[1] // 2)
    x, y, _ = geometry.project_grid(homography, *geometry.apply_radial(xs + left, ys + top, -alignment.radial, frame))
    x, y = np.clip(np.nan_to_num(x - left), 0, width - 1), np.clip(np.nan_to_num(y - top), 0, height - 1)
    first_row, first_column = int(y.min()), int(x.min())
    moved = (first_row, first_column, int(y.max()) - first_row + 1, int(x.max()) - first_column + 1)
    radius_px = _disc_px(alignment, 0.5)
    margin_px = max(radius_px, REACH_PX + 1)
    surroundings = grow(union(window, moved), margin_px, (height, width))
    codes = reader.read_images(pair_id, *(bins * edge for edge in surroundings))
    blur, sharp = (
        light if bins == 1 else bin_2x2(light) for light in (_decode_light(image, reader) for image in codes)
    )
    within = window_slices(window, surroundings)
    before = resampling.sample(blur, x - surroundings[1], y - surroundings[0])
    return _to_picture(before), _to_picture(blur[within]), _to_picture(blur_with_disc(sharp, radius_px)[within])


def _disc_px(alignment: Alignment, factor: float) -> float:
    """Radius of the blur on a grid `factor` times as large as the frame, at most `LARGEST_DISC_PX`."""
    return min(LARGEST_DISC_PX, alignment.coc_px * factor)


def _translation(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)


def _decode_light(codes: NDArray[Any], reader: ShardReader) -> NDArray[np.float32]:
    """Decodes packed pixels to linear light."""
    return encoding.decode(codes, reader.encoding)


def _to_picture(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encodes linear light as 8-bit sRGB."""
    return np.asarray(encoding.encode(light, encoding.Encoding.SRGB8), dtype=np.uint8)


def _preview(frame: HalfFrame, rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`preview` of some pixels of a frame."""
    return preview(replace(frame, rgb=rgb))


def _match_brightness(blur: HalfFrame, sharp: HalfFrame, gain: float) -> HalfFrame:
    """The blurred frame at the sharp one's brightness and white balance."""
    return replace(blur, rgb=blur.rgb * np.float32(gain), white_balance=sharp.white_balance)


def _limit_width(image: NDArray[Any], width_px: int) -> NDArray[Any]:
    """`image` at most `width_px` wide, averaged."""
    height, width = image.shape[:2]
    if width <= width_px:
        return image
    image = _halve(image, _halvings((height, width), width_px))
    return _resize(image, (max(1, round(height * width_px / width)), width_px))


def _halvings(size: tuple[int, int], width_px: int) -> int:
    """How often a picture can be halved and is still as wide; OpenCV halves ten times as fast as it averages."""
    times = 0
    while size[1] >> times >= 2 * width_px and all(side % (2 << times) == 0 for side in size):
        times += 1
    return times


def _halve(image: NDArray[Any], times: int) -> NDArray[Any]:
    for _ in range(times):
        image = _resize(image, (image.shape[0] // 2, image.shape[1] // 2))
    return image


def _resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    resized = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=image.dtype)
