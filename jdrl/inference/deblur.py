"""Deblurring images of any size, tile by tile, and photographs as files."""

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

from jdrl.device import device_name
from jdrl.inference.tiles import ramp, spans, tiling
from jdrl.networks import Localised, restore
from jdrl.reblurring.blur_estimator import CELL_PX
from sdd_toolkit.errors import InputError, RawError, SddError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES, RAW_SUFFIXES
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.reading import read_full
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.encoding import Encoding, srgb_decode, srgb_encode
from sdd_toolkit.records import Reason, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from jdrl.checkpoints.deblurrer import Deblurrer
    from jdrl.config import DeblurConfig
    from jdrl.networks.localised import Statistics
    from sdd_toolkit.execution.progress import Track

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Photograph:
    """An image on its way through the network.

    Attributes:
        display: (H, W, 3) float32 in [0, 1], sRGB curve.
        dtype: uint8 or uint16: what to write.
    """

    display: NDArray[np.float32]
    dtype: type[np.uint8] | type[np.uint16]


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be deblurred, and why."""

    path: str
    reason: str


def deblur_files(
    deblurrer: Deblurrer,
    files: Sequence[Path],
    out: Path,
    config: DeblurConfig,
    *,
    track: Track = silent,
) -> tuple[Report, tuple[Failure, ...]]:
    """Deblurs photographs, RAW or PNG/TIFF/JPEG, into `out`; a bad file stops none of the others.

    8-bit stays 8-bit, 16-bit stays 16-bit, RAW becomes 16-bit TIFF; metadata is copied from the source.

    Args:
        deblurrer: See `jdrl.checkpoints.deblurrer`.
        files: What to deblur.
        out: Folder for the results, FILE + suffix.
        config: Tiles, suffix and device.
        track: Shows progress.

    Returns:
        What was done, and the files that failed.

    Raises:
        InputError: CUDA was asked for and there is none.
    """
    network = deblurrer.network.to(device_name(config.device))
    tile, overlap = tiling(network, config)
    return each_file(
        "deblur",
        files,
        lambda path: target_of(path, out, config.suffix),
        lambda path, target: deblur_file(network, deblurrer.encoding, path, target, tile=tile, overlap=overlap),
        track,
    )


def each_file(
    stage: str,
    files: Sequence[Path],
    named: Callable[[Path], Path],
    make: Callable[[Path, Path], None],
    track: Track,
) -> tuple[Report, tuple[Failure, ...]]:
    """Makes one file of each; a bad one stops none of the others.

    Args:
        stage: Of the report.
        files: Of which.
        named: Where the result of a file goes.
        make: From file to file.
        track: Shows progress.

    Returns:
        What was done, and the files that failed.
    """
    started = time.monotonic()
    written: dict[Path, Path] = {}
    failures: list[Failure] = []
    with track(stage, len(files)) as advance:
        for path in files:
            try:
                target = named(path)
                if target in written:
                    raise InputError(
                        f"{target} is already the result of {written[target]}", hint="give another --out for it"
                    )
                make(path, target)
                written[target] = path
            except (SddError, OSError, MemoryError) as error:
                failures.append(Failure(str(path), str(error)))
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


def target_of(path: Path, out: Path, suffix: str) -> Path:
    """Where the result of `path` goes.

    Raises:
        InputError: That is the source itself.
    """
    kind = path.suffix if path.suffix.lower() in IMAGE_SUFFIXES else ".tif"
    target = out / f"{path.stem}{suffix}{kind}"
    if target.resolve() == path.resolve():
        raise InputError(f"{target} would replace its own source", hint="give another --out or a --suffix")
    return target


def deblur_file(network: nn.Module, encoding: Encoding, path: Path, target: Path, *, tile: int, overlap: int) -> None:
    """One photograph from file to file; `tile` and `overlap` as for `deblur`.

    Raises:
        RawError: The file is missing, damaged or of no known kind.
        InputError: The result cannot be written.
    """
    photograph = read_photograph(path)
    linear = encoding is Encoding.LINEAR16
    values = srgb_decode(photograph.display) if linear else photograph.display
    image = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
    deblurred = deblur(network, image, tile=tile, overlap=overlap).numpy().transpose(1, 2, 0)
    display = srgb_encode(deblurred) if linear else deblurred
    eight = photograph.dtype is np.uint8
    codes = np.rint(display * np.float32(255 if eight else 65535))
    write_image(target, codes.astype(np.uint8) if eight else codes.astype(np.uint16), like=path)


def read_photograph(path: Path) -> Photograph:
    """A RAW file developed with its own white balance, or an image as it is.

    Raises:
        RawError: Missing, damaged or of no known kind.
    """
    kind = path.suffix.lower()
    if kind in RAW_SUFFIXES:
        return Photograph(srgb_encode(read_full(path)), np.uint16)
    if kind not in IMAGE_SUFFIXES:
        raise RawError(f"{path} is no RAW file or image this toolkit reads", hint="convert it to PNG or TIFF")
    codes = read_image(path)
    dtype = np.uint8 if codes.dtype == np.uint8 else np.uint16
    return Photograph(codes.astype(np.float32) / np.float32(np.iinfo(dtype).max), dtype)


@torch.inference_mode()
def deblur(network: nn.Module, image: Tensor, *, tile: int, overlap: int) -> Tensor:
    """The deblurred image, tiles running on the network's device.

    Args:
        network: In evaluation mode; one that takes statistics of its whole input as `jdrl.networks.localised` made it.
        image: (3, H, W) in [0, 1].
        tile: Side of the tiles, pixels; 0 or at least the image's size takes it whole.
        overlap: Of neighbouring tiles, pixels; see `jdrl.inference.tiles.tiling`.

    Returns:
        (3, H, W) in [0, 1], float32, on the CPU.

    Raises:
        InputError: A tile does not fit into memory.
    """
    device = next(network.parameters()).device
    height, width = image.shape[-2:]
    # A blur estimator looks at cells of the frame: tiles begin where they do.
    step = math.lcm(int(getattr(network, "size_multiple", 1)), CELL_PX)
    rows, columns = spans(height, tile, overlap, step), spans(width, tile, overlap, step)
    total, weights = torch.zeros(3, height, width), torch.zeros(1, height, width)
    with _out_of_memory(min(tile or height, height), min(tile or width, width)):
        statistics = network.measured(image[None]) if isinstance(network, Localised) else None
        for top, bottom in rows:
            down = ramp(top, bottom, height, overlap)
            for left, right in columns:
                piece = image[None, :, top:bottom, left:right].to(device)
                restored = _answer(network, piece, statistics, top, left).float().cpu()
                weight = down[:, None] * ramp(left, right, width, overlap)[None]
                total[:, top:bottom, left:right] += weight * restored
                weights[:, top:bottom, left:right] += weight
    return (total / weights).clamp_(0, 1)


def _answer(network: nn.Module, piece: Tensor, statistics: Statistics | None, top: int, left: int) -> Tensor:
    """(3, H, W) for a tile (1, 3, H, W) that begins at (top, left) of its frame."""
    if isinstance(network, Localised):
        return network.on_tile(piece, statistics, top, left)[0][0]
    return restore(network, piece)[0][0]


@contextmanager
def _out_of_memory(height: int, width: int) -> Iterator[None]:
    """Says what to do where a tile of this size asks for more than there is."""
    try:
        yield
    except RuntimeError as error:
        # torch has a class for a full GPU and only words for full main memory.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise InputError(f"no memory for {height}x{width} px at once", hint="choose a smaller --tile") from error
