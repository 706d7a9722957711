"""`sdd deblur`: deblurs images of any size tile by tile, and photographs from file to file."""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jdrl.device import resolve_device
from jdrl.image_checks import unit_image
from jdrl.inference.tiles import blend_weights, choose_tiling, tile_spans
from jdrl.networks import LocalisedNetwork, restore
from jdrl.reblurring.blur_estimator import CELL_PX
from sdd_toolkit.errors import CheckpointError, InputError, RawError, SddError
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
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from jdrl.checkpoints.deblurrer import Deblurrer
    from jdrl.config import DeblurConfig
    from jdrl.networks.localised import Statistics
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
        config: Tiles, suffix and device.
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
    return process_files(
        "deblur",
        files,
        lambda path: output_path(path, out, config.suffix),
        lambda path, target: deblur_file(
            network, deblurrer.encoding, path, target, tile=tile, overlap=overlap, strip=config.strip
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
    tile: int,
    overlap: int,
    strip: bool = False,
) -> None:
    """Deblurs one photograph from file to file; `tile` and `overlap` as for `deblur`; `strip` leaves metadata out.

    Raises:
        RawError: The file is missing, damaged or of an unknown format.
        InputError: The result cannot be written.
    """
    photograph = read_photograph(path)
    linear = encoding is Encoding.LINEAR16
    values = srgb_decode(photograph.display) if linear else photograph.display
    image = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
    deblurred = deblur(network, image, tile=tile, overlap=overlap).numpy().transpose(1, 2, 0)
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


@torch.inference_mode()
def deblur(network: nn.Module, image: Tensor, *, tile: int, overlap: int) -> Tensor:
    """Deblurs an image in tiles on the network's device.

    Args:
        network: In evaluation mode; localised (`jdrl.networks.localise`) if it takes statistics of its whole input.
        image: (3, H, W) in [0, 1], with the curve that the network was trained on; uint8 and uint16 are scaled.
        tile: Side of the tiles, pixels; 0, or at least the image's size, for no tiles.
        overlap: Of neighbouring tiles, pixels; see `jdrl.inference.tiles.choose_tiling`.

    Returns:
        (3, H, W) in [0, 1], float32, on the CPU.

    Raises:
        TypeError: The image is no tensor of floats, uint8 or uint16.
        ValueError: It is not (3, H, W), or holds values that are not finite or not about [0, 1].
        InputError: A tile does not fit into memory.
        CheckpointError: The network returns values that are not finite.

    Example:
        A new NAFNet is the identity:

        >>> from jdrl.networks import NAFNet
        >>> network = NAFNet(width=4, encoder_blocks=(1,), decoder_blocks=(1,)).eval()
        >>> image = torch.rand(3, 48, 64)
        >>> torch.allclose(deblur(network, image, tile=32, overlap=8), image)
        True
    """
    image = unit_image(image, "image", dims=(3,))
    device = next(network.parameters()).device
    height, width = image.shape[-2:]
    # A blur estimator works on cells of the frame: tiles start at multiples of them.
    step = math.lcm(int(getattr(network, "size_multiple", 1)), CELL_PX)
    rows, columns = tile_spans(height, tile, overlap, step), tile_spans(width, tile, overlap, step)
    total, weights = torch.zeros(3, height, width), torch.zeros(1, height, width)
    with _explain_out_of_memory(min(tile or height, height), min(tile or width, width)):
        statistics = network.measure_statistics(image[None]) if isinstance(network, LocalisedNetwork) else None
        for top, bottom in rows:
            down = blend_weights(top, bottom, height, overlap)
            for left, right in columns:
                piece = image[None, :, top:bottom, left:right].to(device)
                restored = _deblur_tile(network, piece, statistics, top, left).float().cpu()
                weight = down[:, None] * blend_weights(left, right, width, overlap)[None]
                total[:, top:bottom, left:right] += weight * restored
                weights[:, top:bottom, left:right] += weight
    # The sum is finite if all values are, and NaN would become any code.
    if not torch.isfinite(total.sum()):
        raise CheckpointError("the network returns values that are not finite", hint="take another checkpoint")
    return (total / weights).clamp_(0, 1)


def _deblur_tile(network: nn.Module, piece: Tensor, statistics: Statistics | None, top: int, left: int) -> Tensor:
    """Deblurs a tile (1, 3, H, W) that starts at (top, left) of its frame, to (3, H, W)."""
    if isinstance(network, LocalisedNetwork):
        return network.run_on_tile(piece, statistics, top, left)[0][0]
    return restore(network, piece)[0][0]


@contextmanager
def _explain_out_of_memory(height: int, width: int) -> Iterator[None]:
    """Turns a lack of memory for a tile of this size into an error that suggests smaller tiles."""
    try:
        yield
    except RuntimeError as error:
        # torch has a class for a full GPU, but only a message for full main memory.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise InputError(f"no memory for {height}x{width} px at once", hint="choose a smaller --tile") from error
