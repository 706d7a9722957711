"""`sdd deblur`: deblurs photographs from file to file; `deblur` of one image is that of `jdrl.inference.tiled`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from jdrl.device import resolve_device
from jdrl.inference.restoration import Restoration, restore_photograph
from jdrl.inference.tiled import deblur as deblur
from jdrl.inference.tiles import choose_tiling
from sdd_toolkit.errors import RawError, SddError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.formats.colour import ImageColour
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES, RAW_SUFFIXES
from sdd_toolkit.formats.decoding import read_coloured_image
from sdd_toolkit.frames.reading import read_full
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.colour_profile import decode_light, encode_light
from sdd_toolkit.imaging.encoding import Encoding, srgb_decode, srgb_encode
from sdd_toolkit.records import Reason, Report
from sdd_toolkit.storage.targets import check_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from jdrl.checkpoints.deblurrer import Deblurrer
    from jdrl.config import DeblurConfig
    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.imaging.encoding import Codes

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph as read from a file.

    Attributes:
        display: (H, W, 3) float32 in [0, 1], sRGB curve; the primaries are those of the file.
        dtype: Of the pixels to write, uint8 or uint16.
        colour: The colour space of the file.
    """

    display: NDArray[np.float32]
    dtype: type[np.uint8] | type[np.uint16]
    colour: ImageColour = ImageColour()  # noqa: RUF009 frozen


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be processed, and the reason."""

    path: str
    reason: str


def deblur_files(
    deblurrer: Deblurrer,
    files: Sequence[Path],
    out: Path,
    config: DeblurConfig,
    *,
    overwrite: bool = False,
    track: Track = silent,
) -> tuple[Report, tuple[FailedFile, ...]]:
    """Deblurs photographs, RAW or PNG/TIFF/JPEG, into `out`; a bad file does not stop the others.

    8-bit stays 8-bit, 16-bit stays 16-bit, RAW becomes 16-bit TIFF; metadata and colour profile are the source's.

    Args:
        deblurrer: See `jdrl.checkpoints.deblurrer`.
        files: The photographs.
        out: Folder for the results, FILE + suffix.
        config: Tiles, scale, strength, suffix and device.
        overwrite: Whether existing files that are none of `files` are replaced.
        track: Shows progress.

    Returns:
        The report, and the files that failed.

    Raises:
        InputError: `device = "cuda"` without a CUDA device, or a file at the path of a result; nothing was written.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from jdrl.checkpoints.deblurrer import Deblurrer
        >>> from jdrl.config import DeblurConfig
        >>> from jdrl.networks import NAFNet
        >>> folder = Path(mkdtemp())
        >>> write_image(folder / "blurred.png", np.zeros((32, 32, 3), np.uint8))
        >>> network = NAFNet(width=4, encoder_blocks=(1,), decoder_blocks=(1,)).eval()
        >>> deblurrer = Deblurrer(network, Encoding.SRGB8, crop_px=None)
        >>> report, failures = deblur_files(deblurrer, [folder / "blurred.png"], folder / "out", DeblurConfig())
        >>> report.done, failures, [path.name for path in (folder / "out").iterdir()]
        (1, (), ['blurred_deblurred.png'])
    """
    check_targets([output_path(path, out, config.suffix) for path in files], files, overwrite=overwrite)
    network = deblurrer.network.to(resolve_device(config.device))
    tile, overlap = choose_tiling(network, config)
    restoration = Restoration(
        tile, overlap, config.scale, config.strength, config.everywhere, config.precision == "bfloat16"
    )
    return process_files(
        "deblur",
        files,
        lambda path: output_path(path, out, config.suffix),
        lambda path, target: deblur_file(
            network, deblurrer.encoding, path, target, restoration=restoration, strip=config.strip
        ),
        track,
    )


def process_files(
    stage: str,
    files: Sequence[Path],
    target_of: Callable[[Path], Path],
    process: Callable[[Path, Path], None],
    track: Track,
) -> tuple[Report, tuple[FailedFile, ...]]:
    """Processes files one by one; a bad file does not stop the others.

    Args:
        stage: Name for the report.
        files: The source files.
        target_of: Maps a source path to the path of its result.
        process: Reads a source and writes its result.
        track: Shows progress.

    Returns:
        The report, and the files that failed.
    """
    started = time.monotonic()
    written: list[Path] = []
    failures: list[FailedFile] = []
    with track(stage, len(files)) as advance:
        for path in files:
            try:
                target = target_of(path)
                process(path, target)
                written.append(target)
            except (SddError, OSError, MemoryError) as error:
                failures.append(FailedFile(str(path), str(error)))
            advance(note=path.name)
    for failure in failures:
        _LOG.error("%s: %s", failure.path, failure.reason)
    report = Report(
        stage=stage,
        total=len(files),
        done=len(written),
        skipped=0,
        rejected={Reason.UNREADABLE: len(failures)} if failures else {},
        seconds=time.monotonic() - started,
        outputs=tuple(str(target) for target in written),
    )
    return report, tuple(failures)


def output_path(path: Path, out: Path, suffix: str) -> Path:
    """The path of the deblurred image of `path`."""
    extension = path.suffix if path.suffix.lower() in IMAGE_SUFFIXES else ".tif"
    return out / f"{path.stem}{suffix}{extension}"


def deblur_file(
    network: nn.Module,
    encoding: Encoding,
    path: Path,
    target: Path,
    *,
    restoration: Restoration,
    strip: bool = False,
) -> None:
    """Deblurs one photograph from file to file; `strip` leaves metadata out.

    Raises:
        RawError: The file is missing, damaged or of an unknown format.
        InputError: The result cannot be written.
    """
    photograph = read_photograph(path)
    linear = encoding is Encoding.LINEAR16
    values = srgb_decode(photograph.display) if linear else photograph.display
    image = torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)
    deblurred = restore_photograph(network, image, restoration).numpy().transpose(1, 2, 0)
    display = srgb_encode(deblurred) if linear else deblurred
    write_image(target, _to_codes(display, photograph), like=path, colour=photograph.colour, strip=strip)


def read_photograph(path: Path) -> Photograph:
    """Reads a RAW file, developed with its own white balance, or an image.

    Raises:
        RawError: The file is missing, damaged or of an unknown format.
    """
    suffix = path.suffix.lower()
    if suffix in RAW_SUFFIXES:
        return Photograph(srgb_encode(read_full(path)), np.uint16)
    if suffix not in IMAGE_SUFFIXES:
        raise RawError(f"{path} is no RAW file or image this toolkit reads", hint="convert it to PNG or TIFF")
    codes, colour = read_coloured_image(path)
    if colour.remark:
        _LOG.warning("%s is %s", path, colour.remark)
    dtype = np.uint8 if codes.dtype == np.uint8 else np.uint16
    if colour.profile is not None:
        return Photograph(srgb_encode(decode_light(codes, colour.profile)), dtype, colour)
    return Photograph(codes.astype(np.float32) / np.float32(np.iinfo(dtype).max), dtype, colour)


def _to_codes(display: NDArray[np.float32], photograph: Photograph) -> Codes:
    """Code values of sRGB-encoded pixels in the depth and by the curves of the photograph they were made from."""
    if photograph.colour.profile is not None:
        return encode_light(srgb_decode(display), photograph.colour.profile, photograph.dtype)
    is_8_bit = photograph.dtype is np.uint8
    codes: NDArray[np.float32] = np.rint(display * np.float32(255 if is_8_bit else 65535))
    return codes.astype(np.uint8) if is_8_bit else codes.astype(np.uint16)
