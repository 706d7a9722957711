"""LibRaw: opens RAW files and develops them; the only importer of rawpy.

Pixels are oriented upright and cover the visible area, cut to even sides; only mosaics stay as the sensor has them.
Bayer mosaics that LibRaw describes completely are developed by `demosaic`, which is faster, everything else by LibRaw.
For LibRaw, samples of a mosaic whose colours have unequal black levels are scaled to 0 … 65535, each colour by its own
level. Nothing depends on the content of a frame, except that burnt-out samples become white (`saturation`).

The functions take an open file and serve `raw.reading`, which is the interface to other packages.
"""

from __future__ import annotations

import io
import re
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import rawpy

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats import jpeg, tiff
from sdd_toolkit.formats.containers import LARGEST_PX, check_is_file, examine
from sdd_toolkit.formats.decoding import decode_preview
from sdd_toolkit.formats.library_output import LibraryOutput, library_output
from sdd_toolkit.imaging.binning import any_in_2x2, bin_2x2
from sdd_toolkit.imaging.encoding import uint16_to_linear
from sdd_toolkit.imaging.frame import IDENTITY_MATRIX, NEUTRAL_BALANCE, FrameFacts
from sdd_toolkit.raw import bayer, completeness, demosaic
from sdd_toolkit.raw.development import Demosaic
from sdd_toolkit.raw.hot_pixels import repair
from sdd_toolkit.raw.plain_dng import as_plain_dng
from sdd_toolkit.raw.saturation import SATURATED, mark_burnt_out
from sdd_toolkit.records import Exposure, FrameMeta

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.formats.tiff import Tiff
    from sdd_toolkit.records import Row

    PixelPositions = NDArray[np.int32]

_ORIENTATION_OF_FLIP = (1, 2, 4, 3, 5, 8, 6, 7)
_ALGORITHMS = {Demosaic.AHD: rawpy.DemosaicAlgorithm.AHD, Demosaic.DHT: rawpy.DemosaicAlgorithm.DHT}
_X_TRANS_SIDE, _BAYER_SIDE = 6, 2
_CFA_DIM, _BLACK_DIM = 33421, 50713
_ASPECT_TOLERANCE = 0.03
_COPY_AGAIN = "is it a whole RAW file? copy it from the card again, or leave it out"
_MISSING = re.compile("Unexpected end of file|data corrupted at")


@contextmanager
def open_raw(path: Path, *, unpack: bool = True) -> Iterator[Any]:
    """Opens a RAW file; whatever LibRaw raises, now or in the block, becomes a RawError.

    Args:
        path: The RAW file.
        unpack: Whether to read and check the pixels.
    """
    check_is_file(path)
    said = LibraryOutput()
    try:
        structure = examine(path) if unpack else None
        if unpack:
            _check_black_levels(path)
        plain = as_plain_dng(path, floats=unpack)
        source = str(path) if plain is None else io.BytesIO(plain)
        with ExitStack() as stack:
            with library_output() as said:
                raw = stack.enter_context(rawpy.imread(source))
                _check_size(raw, path)
                if unpack:
                    raw.unpack()
            if structure is not None:
                _check_colours(raw, path)
                _check_completeness(raw, path, said, is_bounded=structure.is_bounded)
                mark_burnt_out(raw)
            yield raw
    except (rawpy.LibRawError, rawpy.NotSupportedError, OSError, MemoryError) as error:
        reason = "; ".join(filter(None, (_message(error), said.summary)))
        raise RawError(f"cannot decode {path}: {reason}", hint=_COPY_AGAIN) from error


def libraw_version() -> str:
    """The version of LibRaw."""
    return ".".join(str(number) for number in rawpy.libraw_version)


def meta_of(raw: Any, *, shot: bool = True) -> FrameMeta:
    """LibRaw's metadata of an open file; zeros, and LibRaw's placeholders for missing values, become None.

    Without `shot`, lens, exposure and time are left out: rawpy unpacks all pixels to read them.
    """
    sizes = raw.sizes
    frame = FrameMeta(
        orientation=_ORIENTATION_OF_FLIP[sizes.flip & 7], size=(sizes.iheight // 2 * 2, sizes.iwidth // 2 * 2)
    )
    if not shot:
        return frame
    with library_output():  # the pixels do not matter here
        other = raw.other
    # LibRaw turns absent or zero EXIF into exactly 1 s at f/1 (APEX 0).
    placeholder = other.shutter_speed == 1.0 and other.aperture == 1.0 and not other.focal_length
    taken = other.timestamp
    return replace(
        frame,
        lens=raw.lens.model.strip() or None,
        taken_at=taken.isoformat() if taken is not None and taken.year > 1970 else None,
        exposure=Exposure(
            iso=_positive(other.iso_speed),
            shutter_s=None if placeholder else _positive(other.shutter_speed),
            f_number=None if placeholder else _positive(other.aperture),
            focal_mm=_positive(other.focal_length),
        ),
    )


def is_bayer(raw: Any) -> bool:
    """Whether an open file holds a 2x2 mosaic of three colours on square pixels."""
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


def visible_samples(raw: Any) -> NDArray[np.uint16]:
    """(H, W) samples of the visible area as they are stored, a view: writing to it changes the developed frame."""
    visible: NDArray[np.uint16] = raw.raw_image_visible
    return visible


def range_dn(raw: Any) -> float:
    """White level minus the lowest black level."""
    return float(max(raw.white_level - min(raw.black_level_per_channel), 1))


def repair_hot_pixels(raw: Any, positions: PixelPositions | None) -> int:
    """Repairs the samples at (row, column) of an open file's visible area, in place; returns their number."""
    if positions is None or not len(positions) or raw.raw_type != rawpy.RawType.Flat:
        return 0
    repair(raw.raw_image_visible, raw.raw_colors_visible, positions)
    return len(positions)


def facts_of(raw: Any, algorithm: Demosaic, repaired_count: int) -> FrameFacts:
    """The settings an open file is developed with if `algorithm` is requested."""
    pattern = raw.raw_pattern
    if is_bayer(raw):
        used = algorithm.value
    elif pattern is not None and pattern.shape[0] == _X_TRANS_SIDE:
        used = "x-trans"
    else:
        used = "none" if pattern is None else Demosaic.AHD.value
    blacks = tuple(float(level) for level in raw.black_level_per_channel)
    return FrameFacts(used, black_dn=blacks, white_dn=float(raw.white_level), repaired=repaired_count)


def read_half(raw: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Decodes an open file at half size, which may change it.

    Returns:
        (h, w, 3) linear camera RGB without white balance, and (h, w) whether any sample of a block is saturated.
    """
    flip = raw.sizes.flip  # postprocessing resets it
    if is_bayer(raw):
        rgb, clipped = bayer.bin_mosaic(raw)
    else:
        pixels = uint16_to_linear(_postprocess(raw, NEUTRAL_BALANCE, rawpy.ColorSpace.raw, Demosaic.AHD))
        rgb, clipped = bin_2x2(pixels), any_in_2x2(pixels.max(axis=-1) >= SATURATED)
    return apply_flip(rgb, flip), apply_flip(clipped, flip)


def develop(raw: Any, balance: Row, algorithm: Demosaic) -> NDArray[np.uint16]:
    """Develops an open file, which changes it: (H, W, 3) linear with sRGB primaries, 65535 = white."""
    flip = raw.sizes.flip  # postprocessing resets it
    if algorithm is Demosaic.AHD and _is_fully_described(raw):
        mosaic = bayer.mosaic_of(raw, balance, min(balance))
        codes = _even_sided(demosaic.demosaic_ahd(mosaic, np.array(to_srgb(raw))))
    else:
        codes = _postprocess(raw, balance, rawpy.ColorSpace.sRGB, algorithm)
    return apply_flip(codes, flip)


def develop_camera_rgb(raw: Any, balance: Row) -> NDArray[np.float32]:
    """Develops an open file, which changes it: (H, W, 3) linear camera RGB in [0, 1] without white balance.

    Args:
        raw: The open file.
        balance: Its white balance: demosaicing depends on hues. It is divided out again, and clips nothing.
    """
    flip = raw.sizes.flip  # postprocessing resets it
    if _is_fully_described(raw):
        mosaic = bayer.mosaic_of(raw, balance, max(balance))
        codes = _even_sided(demosaic.demosaic_ahd(mosaic, np.array(to_srgb(raw)), convert=False))
    else:
        codes = _postprocess(raw, balance, rawpy.ColorSpace.raw, Demosaic.AHD, rawpy.HighlightMode.Ignore)
    pixels = uint16_to_linear(codes) * (np.float32(max(balance)) / np.array(balance, dtype=np.float32))
    return apply_flip(np.minimum(pixels, np.float32(1.0)), flip)


def embedded_preview(raw: Any, least_px: int) -> NDArray[np.uint8] | None:
    """(h, w, 3) codes of the embedded JPEG at a half or a quarter of its size; None if missing or unsuitable.

    Args:
        raw: The open file.
        least_px: Shortest acceptable longer side of the result.
    """
    try:
        with library_output():
            thumb = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if thumb.format != rawpy.ThumbFormat.JPEG:
        return None
    codes = decode_preview(thumb.data, least_px)
    height, width = raw.sizes.iheight, raw.sizes.iwidth
    if codes is None or abs(codes.shape[0] * width / (codes.shape[1] * height) - 1.0) > _ASPECT_TOLERANCE:
        return None
    return apply_flip(codes, raw.sizes.flip)


def white_balance(raw: Any) -> Row:
    """As-shot multipliers of R, G, B, green = 1; those of daylight where the file has none."""
    for row in (raw.camera_whitebalance, raw.daylight_whitebalance):
        red, green, blue = (float(value) for value in row[:3])
        if raw.num_colors == 3 and all(np.isfinite(value) and value > 0 for value in (red, green, blue)):
            return (red / green, 1.0, blue / green)
    return NEUTRAL_BALANCE


def to_srgb(raw: Any) -> tuple[Row, Row, Row]:
    """Matrix from white-balanced camera RGB to linear sRGB, row by row; the identity where LibRaw has none."""
    return bayer.colour_matrix(raw) or IDENTITY_MATRIX


def apply_flip(image: NDArray[Any], flip: int) -> NDArray[Any]:
    """Orients an image by LibRaw's flip code: bit 1 mirrors columns, bit 2 rows, bit 4 then transposes."""
    image = image[::-1] if flip & 2 else image
    image = image[:, ::-1] if flip & 1 else image
    return np.ascontiguousarray(image.swapaxes(0, 1) if flip & 4 else image)


def _check_completeness(raw: Any, path: Path, said: LibraryOutput, *, is_bounded: bool) -> None:
    """Raises RawError if pixels of an open file are missing, by what LibRaw said and by the rows themselves."""
    if _MISSING.search(said.summary) or jpeg.damage(said.summary):
        raise RawError(f"{path} is damaged: {said.summary}", hint=_COPY_AGAIN)
    missing = completeness.missing_rows(raw, is_bounded=is_bounded)
    if missing:
        raise RawError(f"{path} is cut short: {missing}", hint=_COPY_AGAIN)


def _check_size(raw: Any, path: Path) -> None:
    """Raises RawError unless an open file claims a plausible number of pixels."""
    sizes = raw.sizes
    if min(sizes.height, sizes.width) < 2:
        raise RawError(f"{path} holds no pixels", hint="leave it out, or copy it from the card again")
    if sizes.raw_height * sizes.raw_width > LARGEST_PX:
        raise RawError(
            f"{path} claims {sizes.raw_width} x {sizes.raw_height} pixels, more than {LARGEST_PX}",
            hint="its header is damaged: copy it from the card again, or leave it out",
        )


def _check_colours(raw: Any, path: Path) -> None:
    """Raises RawError unless an open file has one or three colours in a supported pattern."""
    hint = "convert it to TIFF with the maker's software"
    if raw.num_colors not in (1, 3):
        raise RawError(f"{path} comes from a sensor with {raw.num_colors} colours", hint=hint)
    pattern = raw.raw_pattern
    # Of a larger pattern LibRaw returns a part without an error.
    if pattern is not None and pattern.shape == (2, 2):
        colours = sorted(int(index) for index in pattern.ravel())
        if colours not in ([0, 1, 2, 3], [0, 1, 1, 2]):
            raise RawError(f"{path} holds a mosaic that is neither Bayer nor X-Trans (Quad Bayer?)", hint=hint)


def _message(error: BaseException) -> str:
    first = error.args[0] if error.args else type(error).__name__
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _check_black_levels(path: Path) -> None:
    """Raises RawError for a Bayer mosaic whose black levels repeat over more than 2x2 samples: rawpy hides them."""
    with path.open("rb") as stream:
        header = tiff.open_tiff(tiff.reader(stream))
        period = 0 if header is None else max(_black_periods(header), default=0)
    if period > _BAYER_SIDE:
        raise RawError(
            f"{path} has black levels that repeat every {period} samples of a 2x2 mosaic",
            hint="convert it to TIFF with the maker's software",
        )


def _black_periods(header: Tiff) -> Iterator[int]:
    """Number of samples after which the DNG black levels of each 2x2 mosaic repeat."""
    for entries in tiff.iterate_directories(header):
        if tiff.read_numbers(header, entries.get(_CFA_DIM), 2) == (_BAYER_SIDE, _BAYER_SIDE):
            yield from map(int, tiff.read_numbers(header, entries.get(_BLACK_DIM), 2))


def _is_fully_described(raw: Any) -> bool:
    """Whether an open file is a Bayer mosaic and LibRaw exposes everything that it develops it with."""
    if not is_bayer(raw) or not bayer.has_green_diagonal(raw) or bayer.colour_matrix(raw) is None:
        return False
    # For some makers, which are not exposed, LibRaw takes zeros for dead samples.
    return bool(raw.raw_image_visible.min() > 0)


def _postprocess(
    raw: Any, balance: Row, space: Any, algorithm: Demosaic, highlights: Any = rawpy.HighlightMode.Clip
) -> NDArray[np.uint16]:
    """LibRaw's development without automatic steps, not oriented, even-sized: (H, W, 3) uint16, grey repeated."""
    red, green, blue = balance
    levels: dict[str, Any] = {}
    if is_bayer(raw) and len({black for _, _, black, _ in bayer.phases(raw)}) > 1:
        # With one level for all colours, LibRaw does the same in its own pass.
        bayer.stretch(raw)
        levels = {"user_black": 0, "user_cblack": [0, 0, 0, 0], "user_sat": 65535}
    with library_output():
        pixels: NDArray[np.uint16] = raw.postprocess(
            # LibRaw ignores it for what is no Bayer mosaic.
            demosaic_algorithm=_ALGORITHMS[algorithm if is_bayer(raw) else Demosaic.AHD],
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
    pixels = _even_sided(pixels.reshape(*pixels.shape[:2], -1))
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _even_sided(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    return pixels[:height, :width]


def _positive(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) and value > 0 else None
