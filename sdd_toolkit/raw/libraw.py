"""RAW files through LibRaw: the only importer of rawpy.

Everything here is in the sensor's own orientation and covers the visible area, cut to even sides. Bayer mosaics that
LibRaw tells enough of are developed by `demosaic`, which is faster, everything else by LibRaw. For LibRaw, samples of a
mosaic whose colours have unequal black levels are brought to 0 … 65535, each colour by its own. Nothing depends on
what a frame shows.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import rawpy

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats import tiff as tiff_directory
from sdd_toolkit.formats.containers import LARGEST_PX, check_is_file, examine
from sdd_toolkit.formats.decoding import preview_of_jpeg
from sdd_toolkit.imaging.binning import any_in_2x2, bin_2x2
from sdd_toolkit.raw import bayer, demosaic
from sdd_toolkit.raw.development import Demosaic, FrameFacts
from sdd_toolkit.raw.hot_pixels import repair
from sdd_toolkit.records import Exposure, FrameMeta

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.formats.tiff import Tiff
    from sdd_toolkit.records import Row

    Places = NDArray[np.int32]

NO_BALANCE: Row = (1.0, 1.0, 1.0)
NO_MATRIX: tuple[Row, Row, Row] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
CLIPPED = 0.99
"""Share of the range above which a sample counts as saturated: they scatter a little below the white level."""

_ORIENTATION_OF_FLIP = (1, 2, 4, 3, 5, 8, 6, 7)
_ALGORITHMS = {Demosaic.AHD: rawpy.DemosaicAlgorithm.AHD, Demosaic.DHT: rawpy.DemosaicAlgorithm.DHT}
_X_TRANS_SIDE, _BAYER_SIDE = 6, 2
_CFA_DIM, _BLACK_DIM = 33421, 50713
_BINNED_ROWS = 128
_SAME_SHAPE = 0.03


@contextmanager
def open_raw(path: Path, *, unpack: bool = True) -> Iterator[Any]:
    """The RAW file; whatever LibRaw raises, now or in the block, becomes a RawError.

    Without `unpack` the pixels are neither read nor checked.
    """
    check_is_file(path)
    try:
        if unpack:
            examine(path)
            _check_black_levels(path)
        with rawpy.imread(str(path)) as raw:
            sizes = raw.sizes
            if min(sizes.height, sizes.width) < 2:
                raise RawError(f"{path} holds no pixels", hint="leave it out, or copy it from the card again")
            if sizes.raw_height * sizes.raw_width > LARGEST_PX:
                raise RawError(
                    f"{path} claims {sizes.raw_width} x {sizes.raw_height} pixels, more than {LARGEST_PX}",
                    hint="its header is damaged: copy it from the card again, or leave it out",
                )
            if unpack:
                raw.unpack()
                if raw.num_colors not in (1, 3):
                    raise RawError(
                        f"{path} comes from a sensor with {raw.num_colors} colours",
                        hint="convert it to TIFF with the maker's software",
                    )
                if not _is_whole_pattern(raw.raw_pattern):
                    raise RawError(
                        f"{path} holds a mosaic that is neither Bayer nor X-Trans (Quad Bayer?)",
                        hint="convert it to TIFF with the maker's software",
                    )
            yield raw
    except (rawpy.LibRawError, rawpy.NotSupportedError, OSError, MemoryError) as error:
        raise RawError(
            f"cannot decode {path}: {_message(error)}",
            hint="is it a whole RAW file? copy it from the card again, or leave it out",
        ) from error


def libraw_version() -> str:
    """The version of LibRaw."""
    return ".".join(str(number) for number in rawpy.libraw_version)


def meta_of(raw: Any, *, shot: bool = True) -> FrameMeta:
    """What LibRaw knows of an open file; zeros, and the placeholders LibRaw puts in their place, become None.

    Without `shot` lens, exposure and time are left out: rawpy unpacks all pixels to tell them.
    """
    sizes = raw.sizes
    frame = FrameMeta(
        orientation=_ORIENTATION_OF_FLIP[sizes.flip & 7], size=(sizes.iheight // 2 * 2, sizes.iwidth // 2 * 2)
    )
    if not shot:
        return frame
    other = raw.other
    # LibRaw turns absent or zero EXIF into exactly 1 s at f/1 (APEX 0).
    placeholder = other.shutter_speed == 1.0 and other.aperture == 1.0 and not other.focal_length
    taken = other.timestamp
    return replace(
        frame,
        lens=raw.lens.model.strip() or None,
        taken_at=taken.isoformat() if taken is not None and taken.year > 1970 else None,
        exposure=Exposure(
            iso=_known(other.iso_speed),
            shutter_s=None if placeholder else _known(other.shutter_speed),
            f_number=None if placeholder else _known(other.aperture),
            focal_mm=_known(other.focal_length),
        ),
    )


def is_bayer(raw: Any) -> bool:
    """Whether the file holds a 2x2 mosaic of three colours on square pixels."""
    pattern = raw.raw_pattern
    sizes = raw.sizes
    return bool(
        raw.raw_type == rawpy.RawType.Flat
        and raw.num_colors == 3
        and pattern is not None
        and pattern.shape == (2, 2)
        # Fujifilm's rotated sensors and non-square pixels are resampled by LibRaw after demosaicing.
        and (sizes.iheight, sizes.iwidth) == (sizes.height, sizes.width)
        and sizes.pixel_aspect == 1.0
    )


def mosaic_of(raw: Any) -> NDArray[np.uint16]:
    """The visible samples as they are stored, a view: writing to it changes what is developed."""
    visible: NDArray[np.uint16] = raw.raw_image_visible
    return visible


def range_dn(raw: Any) -> float:
    """How far white is from black."""
    return float(max(raw.white_level - min(raw.black_level_per_channel), 1))


def repair_hot_pixels(raw: Any, places: Places | None) -> int:
    """Repairs the samples at (row, column) of an open file's visible area; returns how many there were."""
    if places is None or not len(places) or raw.raw_type != rawpy.RawType.Flat:
        return 0
    repair(raw.raw_image_visible, raw.raw_colors_visible, places)
    return len(places)


def facts_of(raw: Any, algorithm: Demosaic, repaired_count: int) -> FrameFacts:
    """How an open file is developed when `algorithm` is asked for."""
    pattern = raw.raw_pattern
    if is_bayer(raw):
        done = algorithm.value
    elif pattern is not None and pattern.shape[0] == _X_TRANS_SIDE:
        done = "x-trans"
    else:
        done = "none" if pattern is None else Demosaic.AHD.value
    blacks = tuple(float(level) for level in raw.black_level_per_channel)
    return FrameFacts(done, black_dn=blacks, white_dn=float(raw.white_level), repaired=repaired_count)


def read_half(raw: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(h, w, 3) linear camera RGB at half size without white balance, and (h, w) whether any sample is saturated."""
    if is_bayer(raw):
        return _binned_mosaic(raw)
    pixels = linear(_postprocessed(raw, NO_BALANCE, rawpy.ColorSpace.raw, Demosaic.AHD))
    return bin_2x2(pixels), any_in_2x2(pixels.max(axis=-1) >= CLIPPED)


def develop(raw: Any, balance: Row, algorithm: Demosaic) -> NDArray[np.uint16]:
    """The frame at full size with sRGB primaries: (H, W, 1 or 3), linear, 65535 = white. Changes the open file."""
    if algorithm is Demosaic.AHD and _is_known(raw):
        mosaic = bayer.mosaic_of(raw, balance, min(balance))
        return _even_sided(demosaic.homogeneity_directed(mosaic, np.array(to_srgb(raw))))
    return _postprocessed(raw, balance, rawpy.ColorSpace.sRGB, algorithm)


def develop_camera_rgb(raw: Any, balance: Row) -> NDArray[np.float32]:
    """The frame at full size in linear camera RGB without white balance: (H, W, 3) in [0, 1]. Changes the open file.

    Args:
        raw: The open file.
        balance: Its white balance: demosaicing looks at hues. It is taken out again, and nothing is clipped by it.
    """
    if _is_known(raw):
        mosaic = bayer.mosaic_of(raw, balance, max(balance))
        codes = _even_sided(demosaic.homogeneity_directed(mosaic, np.array(to_srgb(raw)), convert=False))
    else:
        codes = _postprocessed(raw, balance, rawpy.ColorSpace.raw, Demosaic.AHD, rawpy.HighlightMode.Ignore)
    pixels = linear(codes) * (np.float32(max(balance)) / np.array(balance, dtype=np.float32))
    return np.minimum(pixels, np.float32(1.0))


def linear(codes: NDArray[np.uint16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) float32 in [0, 1] of what `developed` returns; a grey frame gets three equal channels.

    What is float32 already is returned as it is.
    """
    if codes.dtype == np.float32:
        return np.asarray(codes, dtype=np.float32)
    light: NDArray[np.float32] = np.multiply(to_rgb(codes), np.float32(1 / 65535), dtype=np.float32)
    return light


def to_rgb(codes: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) of what `developed` returns; a grey frame gets three equal channels."""
    return np.repeat(codes, 3, axis=-1) if codes.shape[-1] == 1 else codes


def embedded_preview(raw: Any, least_px: int) -> NDArray[np.uint8] | None:
    """(h, w, 3) the embedded JPEG at a half or a quarter of its size, oriented; None if it is of no use.

    Args:
        raw: The open file.
        least_px: Shortest acceptable longer side of the result.
    """
    try:
        thumb = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if thumb.format != rawpy.ThumbFormat.JPEG:
        return None
    codes = preview_of_jpeg(thumb.data, least_px)
    height, width = raw.sizes.iheight, raw.sizes.iwidth
    if codes is None or abs(codes.shape[0] * width / (codes.shape[1] * height) - 1.0) > _SAME_SHAPE:
        return None
    return oriented(codes, raw.sizes.flip)


def white_balance(raw: Any) -> Row:
    """As-shot multipliers of R, G, B, green = 1; daylight's where the file has none."""
    for row in (raw.camera_whitebalance, raw.daylight_whitebalance):
        red, green, blue = (float(value) for value in row[:3])
        if raw.num_colors == 3 and all(np.isfinite(value) and value > 0 for value in (red, green, blue)):
            return (red / green, 1.0, blue / green)
    return NO_BALANCE


def to_srgb(raw: Any) -> tuple[Row, Row, Row]:
    """Matrix from white-balanced camera RGB to linear sRGB, row by row; unity where LibRaw tells none."""
    return bayer.known_matrix(raw) or NO_MATRIX


def oriented(image: NDArray[Any], flip: int) -> NDArray[Any]:
    """Applies LibRaw's flip code: bit 1 mirrors columns, bit 2 rows, bit 4 then transposes."""
    image = image[::-1] if flip & 2 else image
    image = image[:, ::-1] if flip & 1 else image
    return np.ascontiguousarray(image.swapaxes(0, 1) if flip & 4 else image)


def _is_whole_pattern(pattern: NDArray[np.uint8] | None) -> bool:
    """Whether a 2x2 pattern has red, blue and twice green; LibRaw takes a part of larger ones without a word."""
    if pattern is None or pattern.shape != (2, 2):
        return True
    return sorted(int(index) for index in pattern.ravel()) in ([0, 1, 2, 3], [0, 1, 1, 2])


def _message(error: BaseException) -> str:
    first = error.args[0] if error.args else type(error).__name__
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _check_black_levels(path: Path) -> None:
    """Refuses a Bayer mosaic whose black levels repeat over more than 2x2 samples: rawpy does not tell them."""
    with path.open("rb") as stream:
        tiff = tiff_directory.open_tiff(tiff_directory.reader(stream))
        period = 0 if tiff is None else max(_black_periods(tiff), default=0)
    if period > _BAYER_SIDE:
        raise RawError(
            f"{path} has black levels that repeat every {period} samples of a 2x2 mosaic",
            hint="convert it to TIFF with the maker's software",
        )


def _black_periods(tiff: Tiff) -> Iterator[int]:
    """After how many samples the DNG black levels of each 2x2 mosaic repeat."""
    for entries in tiff_directory.directories(tiff):
        if tiff_directory.numbers(tiff, entries.get(_CFA_DIM), 2) == (_BAYER_SIDE, _BAYER_SIDE):
            yield from map(int, tiff_directory.numbers(tiff, entries.get(_BLACK_DIM), 2))


def _binned_mosaic(raw: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(h, w, 3) means of each colour's samples in a 2x2 block, and whether any sample is saturated."""
    height, width = raw.sizes.height // 2 * 2, raw.sizes.width // 2 * 2
    mosaic = raw.raw_image_visible[:height, :width]
    rgb = np.empty((height // 2, width // 2, 3), dtype=np.float32)
    clipped = np.zeros((height // 2, width // 2), dtype=np.bool_)
    phases = [(channel, np.float32(black), scale) for _, channel, black, scale in bayer.phases(raw)]
    least = [_first_saturated(black, scale) for _, black, scale in phases]
    for top in range(0, height, _BINNED_ROWS):
        band = mosaic[top : top + _BINNED_ROWS]
        rows = slice(top // 2, top // 2 + len(band) // 2)
        planes: dict[int, NDArray[np.float32]] = {}
        # OpenCV takes even and odd columns apart as two channels, several times faster than numpy's strides.
        columns = cv2.split(band.reshape(len(band), width // 2, 2))
        codes = [column[row::2] for row in (0, 1) for column in columns]
        for plane, (channel, black, scale), level in zip(codes, phases, least, strict=True):
            samples = np.subtract(plane, black, dtype=np.float32)
            samples *= scale
            saturated = plane >= level
            if saturated.any():
                clipped[rows] |= saturated
                # `minimum` and `maximum` by a scalar take ten times as long as `clip`.
                np.clip(samples, -np.inf, np.float32(1.0), out=samples)
            if channel in planes:
                samples += planes[channel]
                samples *= np.float32(0.5)
            planes[channel] = samples
        for channel in range(3):
            np.clip(planes[channel], np.float32(0.0), np.float32(1.0), out=planes[channel])
        cv2.merge([planes[channel] for channel in range(3)], rgb[rows])
    return rgb, clipped


def _first_saturated(black: np.float32, scale: np.float32) -> int:
    """The least code of 16 bits that counts as saturated; 65536 if none does."""
    light = (np.arange(65536, dtype=np.float32) - black) * scale
    return int(np.searchsorted(light, np.float32(CLIPPED)))


def _is_known(raw: Any) -> bool:
    """Whether an open file is a Bayer mosaic of which LibRaw tells all that it develops it with."""
    if not is_bayer(raw) or not bayer.is_checkered(raw) or bayer.known_matrix(raw) is None:
        return False
    # Of some makers it takes zeros for dead samples, and does not say of which.
    return bool(raw.raw_image_visible.min() > 0)


def _postprocessed(
    raw: Any, balance: Row, space: Any, algorithm: Demosaic, highlights: Any = rawpy.HighlightMode.Clip
) -> NDArray[np.uint16]:
    """LibRaw's development with nothing automatic, not oriented, even-sized: (H, W, 1 or 3) uint16."""
    red, green, blue = balance
    levels: dict[str, Any] = {}
    if is_bayer(raw) and len({black for _, _, black, _ in bayer.phases(raw)}) > 1:
        # With one level for all, LibRaw does the same in its own pass.
        bayer.stretch(raw)
        levels = {"user_black": 0, "user_cblack": [0, 0, 0, 0], "user_sat": 65535}
    pixels: NDArray[np.uint16] = raw.postprocess(
        # LibRaw takes its own way for what is no Bayer mosaic.
        demosaic_algorithm=_ALGORITHMS.get(algorithm, rawpy.DemosaicAlgorithm.AHD)
        if is_bayer(raw)
        else rawpy.DemosaicAlgorithm.AHD,
        user_wb=[red, green, blue, green],
        output_color=space,
        output_bps=16,
        user_flip=0,
        gamma=(1, 1),
        no_auto_bright=True,
        adjust_maximum_thr=0.0,
        highlight_mode=highlights,
        **levels,
    )
    return _even_sided(pixels.reshape(*pixels.shape[:2], -1))


def _even_sided(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    return pixels[:height, :width]


def _known(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) and value > 0 else None
