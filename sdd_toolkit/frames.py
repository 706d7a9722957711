"""Files to linear frames: the only importer of rawpy.

A frame is read in one of two sizes. `read_half` bins each 2x2 block of the Bayer mosaic into one pixel, without
demosaicing: cheap, unbiased, and all that registration and measuring need. `read_full` develops every pixel with
fixed settings. Both cover the same even-sized area and apply the same orientation, so `x_full = 2 x_half + 0.5`.

Sensors that are no 2x2 Bayer mosaic (X-Trans, linear DNG, monochrome, Foveon) are halved by averaging the full
linear decode. JPEG, PNG and TIFF images are taken as sRGB.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rawpy

from sdd_toolkit.containers import IMAGE_SUFFIXES, RAW_SUFFIXES, examine, is_candidate
from sdd_toolkit.decoding import check_is_file, preview_of_jpeg, read_image
from sdd_toolkit.develop import Encoding, binned, decode
from sdd_toolkit.errors import RawError
from sdd_toolkit.types import Exposure, FrameMeta

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.types import Row

__all__ = [
    "IMAGE_SUFFIXES",
    "RAW_SUFFIXES",
    "HalfFrame",
    "as_shot_white_balance",
    "is_candidate",
    "probe",
    "read_full",
    "read_half",
    "read_preview",
]

_CLIPPED = 0.99  # of the range: saturated samples scatter a little below the white level
_SAME_SHAPE = 0.03
_NO_BALANCE: Row = (1.0, 1.0, 1.0)
_IDENTITY: tuple[Row, Row, Row] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_ORIENTATION_OF_FLIP = (1, 2, 4, 3, 5, 8, 6, 7)


@dataclass(frozen=True, slots=True)
class HalfFrame:
    """A frame at half size in linear light.

    Attributes:
        rgb: (h, w, 3) float32 linear camera RGB in [0, 1]: black 0, sensor white 1, no white balance; oriented.
        clipped: (h, w) bool, whether any sample of the 2x2 block is saturated.
        size: (height, width) = (2 h, 2 w) of the full developed frame.
        white_balance: As-shot multipliers of R, G, B; green = 1.
        to_srgb: Matrix from white-balanced camera RGB to linear sRGB, row by row.
    """

    rgb: NDArray[np.float32]
    clipped: NDArray[np.bool_]
    size: tuple[int, int]
    white_balance: Row
    to_srgb: tuple[Row, Row, Row]


def probe(path: Path) -> FrameMeta:
    """What the decoding library itself knows of a file, for where EXIF is missing.

    LibRaw does not tell rawpy the maker. Zeros, and the placeholders LibRaw puts in their place, become None.

    Raises:
        RawError: The file is missing, or not what its suffix says.
    """
    if _is_image(path):
        height, width = read_image(path).shape[:2]
        return FrameMeta(size=_even(height, width))
    with _opened(path, unpack=False) as raw:
        sizes, other, lens = raw.sizes, raw.other, raw.lens
        # LibRaw turns absent or zero EXIF into exactly 1 s at f/1 (APEX 0).
        placeholder = other.shutter_speed == 1.0 and other.aperture == 1.0 and not other.focal_length
        exposure = Exposure(
            iso=_known(other.iso_speed),
            shutter_s=None if placeholder else _known(other.shutter_speed),
            f_number=None if placeholder else _known(other.aperture),
            focal_mm=_known(other.focal_length),
        )
        taken = other.timestamp
        return FrameMeta(
            lens=lens.model.strip() or None,
            taken_at=taken.isoformat() if taken is not None and taken.year > 1970 else None,
            orientation=_ORIENTATION_OF_FLIP[sizes.flip & 7],
            size=_even(sizes.iheight, sizes.iwidth),
            exposure=exposure,
        )


def read_half(path: Path) -> HalfFrame:
    """The frame at half size, linear, without white balance.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    if _is_image(path):
        return _half_of_image(path)
    with _opened(path) as raw:
        flip = raw.sizes.flip  # developing resets it
        if _is_bayer(raw):
            rgb, clipped = _binned_mosaic(raw)
        else:
            pixels = _postprocess(raw, _NO_BALANCE, rawpy.ColorSpace.raw)
            rgb, clipped = binned(pixels), _any_of_block(pixels.max(axis=-1) >= _CLIPPED)
        rgb, clipped = _oriented(rgb, flip), _oriented(clipped, flip)
        height, width = rgb.shape[:2]
        return HalfFrame(rgb, clipped, (2 * height, 2 * width), _white_balance(raw), _to_srgb(raw))


def read_preview(path: Path, least_px: int) -> NDArray[np.float32] | None:
    """The JPEG a camera embeds in its RAW file, as light, at a half or a quarter of its size.

    Args:
        path: A RAW file.
        least_px: Shortest acceptable longer side of the result.

    Returns:
        (h, w, 3) float32 in [0, 1], oriented; None if there is none, or it is too small or of another shape.

    Raises:
        RawError: The file is missing or LibRaw cannot open it.
    """
    with _opened(path, unpack=False) as raw:
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
        return decode(_oriented(codes, raw.sizes.flip), Encoding.SRGB8)


def read_full(path: Path, white_balance: Row | None = None) -> NDArray[np.float32]:
    """The whole frame, demosaiced (AHD), in linear light with sRGB primaries.

    The level is fixed by the file's black and white level and the white balance, whose smallest multiplier counts
    as 1; nothing adapts to the content. Images are developed already: `white_balance` does not touch them.

    Args:
        path: A RAW file or an image.
        white_balance: Multipliers of R, G, B, the same for both frames of a pair; None means as shot.

    Returns:
        (H, W, 3) float32 in [0, 1], oriented.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    if _is_image(path):
        return _linear_image(path)
    with _opened(path) as raw:
        flip = raw.sizes.flip  # developing resets it
        pixels = _postprocess(raw, white_balance or _white_balance(raw), rawpy.ColorSpace.sRGB)
        return _oriented(pixels, flip)


def as_shot_white_balance(path: Path) -> Row:
    """The camera's own multipliers of R, G, B, green = 1; (1, 1, 1) for images and where the file does not say.

    Raises:
        RawError: The file is missing or cannot be decoded.
    """
    if _is_image(path):
        check_is_file(path)
        return _NO_BALANCE
    with _opened(path) as raw:
        return _white_balance(raw)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


@contextmanager
def _opened(path: Path, *, unpack: bool = True) -> Iterator[Any]:
    """The RAW file; whatever LibRaw raises, now or in the block, becomes a RawError.

    Without `unpack` the pixels are neither read nor checked.
    """
    check_is_file(path)
    try:
        if unpack:
            examine(path)
        with rawpy.imread(str(path)) as raw:
            if unpack:
                raw.unpack()
            if min(raw.sizes.height, raw.sizes.width) < 2:
                raise RawError(f"{path} holds no pixels", hint="leave it out, or copy it from the card again")
            if unpack and raw.num_colors not in (1, 3):
                raise RawError(
                    f"{path} comes from a sensor with {raw.num_colors} colours",
                    hint="convert it to TIFF with the maker's software",
                )
            yield raw
    except (rawpy.LibRawError, rawpy.NotSupportedError, OSError, MemoryError) as error:
        raise RawError(
            f"cannot decode {path}: {_message(error)}",
            hint="is it a whole RAW file? copy it from the card again, or leave it out",
        ) from error


def _message(error: BaseException) -> str:
    first = error.args[0] if error.args else type(error).__name__
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _is_bayer(raw: Any) -> bool:
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


def _binned_mosaic(raw: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(h, w, 3) means of each colour's samples in a 2x2 block, and whether any sample is saturated."""
    sizes = raw.sizes
    height, width = _even(sizes.height, sizes.width)
    mosaic = raw.raw_image_visible[:height, :width]
    blacks = raw.black_level_per_channel
    colours = raw.color_desc.decode()
    total = np.zeros((height // 2, width // 2, 3), dtype=np.float32)
    clipped = np.zeros((height // 2, width // 2), dtype=np.bool_)
    counts = [0, 0, 0]
    for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
        index = raw.raw_color(sizes.top_margin + top, sizes.left_margin + left)
        channel, black = "RGB".index(colours[index]), blacks[index]
        scale = np.float32(1.0 / max(raw.white_level - black, 1))
        samples = (mosaic[top::2, left::2].astype(np.float32) - np.float32(black)) * scale
        clipped |= samples >= _CLIPPED
        total[..., channel] += np.minimum(samples, 1.0)
        counts[channel] += 1
    mean = total / np.array(counts, dtype=np.float32)
    return np.maximum(mean, np.float32(0.0)), clipped


def _postprocess(raw: Any, balance: Row, space: Any) -> NDArray[np.float32]:
    """LibRaw's development with nothing automatic, not oriented, even-sized: (H, W, 3) float32 in [0, 1]."""
    red, green, blue = balance
    pixels = raw.postprocess(
        demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
        user_wb=[red, green, blue, green],
        output_color=space,
        output_bps=16,
        user_flip=0,
        gamma=(1, 1),
        no_auto_bright=True,
        adjust_maximum_thr=0.0,
        highlight_mode=rawpy.HighlightMode.Clip,
    )
    height, width = _even(*pixels.shape[:2])
    even = pixels[:height, :width].reshape(height, width, -1)
    linear = np.multiply(even, np.float32(1 / 65535), dtype=np.float32)
    return np.repeat(linear, 3, axis=-1) if linear.shape[-1] == 1 else linear


def _white_balance(raw: Any) -> Row:
    for row in (raw.camera_whitebalance, raw.daylight_whitebalance):
        red, green, blue = (float(value) for value in row[:3])
        if raw.num_colors == 3 and all(np.isfinite(value) and value > 0 for value in (red, green, blue)):
            return (red / green, 1.0, blue / green)
    return _NO_BALANCE


def _to_srgb(raw: Any) -> tuple[Row, Row, Row]:
    matrix = np.asarray(raw.color_matrix, dtype=np.float64)[:, :3]
    if raw.num_colors != 3 or not np.all(np.isfinite(matrix)) or not np.any(matrix):
        return _IDENTITY
    rows = [(float(row[0]), float(row[1]), float(row[2])) for row in matrix]
    return (rows[0], rows[1], rows[2])


def _oriented(image: NDArray[Any], flip: int) -> NDArray[Any]:
    """Applies LibRaw's flip code: bit 1 mirrors columns, bit 2 rows, bit 4 then transposes."""
    image = image[::-1] if flip & 2 else image
    image = image[:, ::-1] if flip & 1 else image
    return np.ascontiguousarray(image.swapaxes(0, 1) if flip & 4 else image)


def _linear_image(path: Path) -> NDArray[np.float32]:
    codes = read_image(path)
    height, width = _even(*codes.shape[:2])
    return decode(codes[:height, :width], _encoding_of(codes))


def _half_of_image(path: Path) -> HalfFrame:
    codes = read_image(path)
    height, width = _even(*codes.shape[:2])
    codes = codes[:height, :width]
    encoding = _encoding_of(codes)
    clipped = _any_of_block(codes.max(axis=-1) == encoding.white)
    return HalfFrame(binned(decode(codes, encoding)), clipped, (height, width), _NO_BALANCE, _IDENTITY)


def _encoding_of(codes: NDArray[Any]) -> Encoding:
    return Encoding.SRGB8 if codes.dtype == np.uint8 else Encoding.SRGB16


def _any_of_block(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask[0::2, 0::2] | mask[0::2, 1::2] | mask[1::2, 0::2] | mask[1::2, 1::2]


def _even(height: int, width: int) -> tuple[int, int]:
    return height // 2 * 2, width // 2 * 2


def _known(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) and value > 0 else None
