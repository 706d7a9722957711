"""Applies a stored transform to files: the same photograph in another format, a depth map, a mask."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment.transforms.mapping import Mapping, map_in_bands
from alignment.transforms.transform import scale_between
from sdd_toolkit.errors import InputError, RawError, SddError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.formats.colour import ImageColour
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES, RAW_SUFFIXES
from sdd_toolkit.formats.decoding import read_coloured_image, read_values
from sdd_toolkit.frames.reading import read_full
from sdd_toolkit.frames.writing import write_image, write_values
from sdd_toolkit.imaging import residual_flow
from sdd_toolkit.imaging.colour_profile import decode_light, encode_light
from sdd_toolkit.imaging.encoding import Encoding, decode, encode
from sdd_toolkit.imaging.orientation import invert_orientation, turn_image
from sdd_toolkit.records import Reason, Report
from sdd_toolkit.storage.targets import check_targets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from alignment.transforms.transform import Transform
    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.imaging.encoding import Codes
    from sdd_toolkit.records import Row

SUFFIX = "_aligned"
VALID_SUFFIX = "_valid.png"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file to which the transform was not applied, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """Direction, sampling and metadata.

    Attributes:
        inverse: Whether to map from the sharp frame's grid to the blurred one's.
        nearest: Whether to copy the nearest value instead of interpolating light: masks, label maps, depth maps.
        strip: Whether no metadata but the colour profile are copied.
    """

    inverse: bool = False
    nearest: bool = False
    strip: bool = False


def apply_to_files(
    transform: Transform,
    files: Sequence[Path],
    out: Path,
    *,
    flow_file: Path | None = None,
    options: ApplyOptions = ApplyOptions(),
    overwrite: bool = False,
    track: Track = silent,
) -> tuple[Report, tuple[FailedFile, ...]]:
    """Applies a transform to files, each resampled once; files that fail are reported at the end.

    Args:
        transform: The transform.
        files: RAW files or images of the transform's size, or n or 1/n times as large.
        out: Folder for `NAME_aligned.tif` (16 bits) or `.png` (8 bits), and for `NAME_aligned_valid.png`.
        flow_file: The transform's residual flow, applied too; None: not applied.
        options: Direction, sampling and metadata.
        overwrite: Whether files of an earlier run are replaced.
        track: Shows progress.

    Returns:
        The report, and the files that failed.

    Raises:
        InputError: The flow cannot be read, or a file exists at the path of a result; nothing was written.
    """
    started = time.monotonic()
    mapping = Mapping(transform, inverse=options.inverse)
    if flow_file is not None:
        mapping = add_flow(mapping, flow_file)
    check_targets([target for path in files for target in result_files(path, out)], files, overwrite=overwrite)
    written: list[Path] = []
    failures: list[FailedFile] = []
    with track("apply", len(files)) as advance:
        for path in files:
            try:
                written.append(apply_file(path, out, mapping, options))
            except (SddError, OSError, MemoryError) as error:
                failures.append(FailedFile(str(path), str(error)))
            advance(note=path.name)
    for failure in failures:
        _LOG.error("%s: %s", failure.path, failure.reason)
    report = Report(
        stage="apply",
        total=len(files),
        done=len(written),
        skipped=0,
        rejected={Reason.UNREADABLE: len(failures)} if failures else {},
        seconds=time.monotonic() - started,
        outputs=tuple(str(target) for target in written),
    )
    return report, tuple(failures)


def result_files(path: Path, out: Path) -> tuple[Path, ...]:
    """All files that `apply_file` may write for the file `path`; its pixels decide which."""
    return tuple(out / f"{path.stem}{SUFFIX}{end}" for end in (".tif", ".png", VALID_SUFFIX))


def apply_file(
    path: Path,
    out: Path,
    mapping: Mapping,
    options: ApplyOptions = ApplyOptions(),
    *,
    balance: Row | None = None,
) -> Path:
    """Applies a transform to one file and writes the result and a mask of its valid pixels.

    Args:
        path: A RAW file or image.
        out: Folder for both.
        mapping: The transform; its scale is set to that of the file.
        options: Sampling and metadata.
        balance: White balance for a RAW file; None: as shot.

    Returns:
        The file written.

    Raises:
        RawError: The file cannot be read.
        InputError: It does not fit the transform.
    """
    photograph = None if options.nearest else _read_light(path, balance)
    pixels: NDArray[Any] = read_values(path) if photograph is None else photograph.light
    turn = mapping.transform.turn
    if not mapping.inverse:
        pixels = turn_image(pixels, turn)
    mapping = _scale_to_file(path, (pixels.shape[0], pixels.shape[1]), mapping)
    height, width = mapping.size
    stored = pixels.dtype if photograph is None else np.dtype(photograph.dtype)
    target = out / f"{path.stem}{SUFFIX}{'.png' if stored == np.uint8 else '.tif'}"
    valid_target = target.with_name(target.stem + VALID_SUFFIX)
    result = np.empty((height, width, *pixels.shape[2:]), dtype=stored)
    valid = np.empty((height, width), dtype=np.uint8)
    for band in map_in_bands(np.ascontiguousarray(pixels[:height, :width]), mapping, nearest=options.nearest):
        result[band.rows] = band.pixels if photograph is None else _to_codes(band.pixels, photograph)
        valid[band.rows] = 255 * band.valid
    if mapping.inverse:
        result, valid = (turn_image(image, invert_orientation(turn)) for image in (result, valid))
    if photograph is None:
        write_values(target, result)
    else:
        write_image(target, result, like=path, colour=photograph.colour, strip=options.strip)
    write_values(valid_target, valid)
    return target


def add_flow(mapping: Mapping, path: Path) -> Mapping:
    """Adds a stored residual flow to a mapping, where its confidence allows.

    Args:
        mapping: A transform.
        path: npz file of `sdd align`.

    Raises:
        InputError: Missing, damaged or of another size.
    """
    residual = residual_flow.read_residual_flow(path, mapping.transform.size)
    return replace(mapping, flow=residual_flow.applicable_flow(residual), occlusion=residual.occlusion)


@dataclass(frozen=True, slots=True)
class _Photograph:
    """A photograph in linear light.

    Attributes:
        light: (H, W, 3) float32 in [0, 1]; the primaries are those of the file.
        dtype: Of the pixels to write.
        colour: The colour space of the file.
    """

    light: NDArray[np.float32]
    dtype: type[np.uint8] | type[np.uint16]
    colour: ImageColour = ImageColour()  # noqa: RUF009 frozen


def _read_light(path: Path, balance: Row | None) -> _Photograph:
    kind = path.suffix.lower()
    if kind in RAW_SUFFIXES:
        return _Photograph(read_full(path, balance), np.uint16)
    if kind not in IMAGE_SUFFIXES:
        raise RawError(f"{path} is no RAW file or image this toolkit reads", hint="convert it to PNG or TIFF")
    codes, colour = read_coloured_image(path)
    if colour.remark:
        _LOG.warning("%s is %s", path, colour.remark)
    is_8_bit = codes.dtype == np.uint8
    if colour.profile is not None:
        light = decode_light(codes, colour.profile)
    else:
        light = decode(codes, Encoding.SRGB8 if is_8_bit else Encoding.SRGB16)
    return _Photograph(light, np.uint8 if is_8_bit else np.uint16, colour)


def _to_codes(light: NDArray[np.float32], photograph: _Photograph) -> Codes:
    """Code values of linear light in the depth and by the curves of a photograph."""
    if photograph.colour.profile is not None:
        return encode_light(light, photograph.colour.profile, photograph.dtype)
    return encode(light, Encoding.SRGB8 if photograph.dtype is np.uint8 else Encoding.SRGB16)


def _scale_to_file(path: Path, size: tuple[int, int], mapping: Mapping) -> Mapping:
    scale = scale_between(size, mapping.transform)
    if scale is None:
        height, width = mapping.transform.size
        raise InputError(
            f"{path} has {size[1]}x{size[0]} px, the transform is for {width}x{height} px",
            hint="give a file of that size, or a whole number of times larger or smaller, upright",
        )
    return replace(mapping, scale=float(scale))
