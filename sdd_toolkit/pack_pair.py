"""One pair from its two files to the arrays of a shard: develop at full size, warp the blurred frame, crop, encode."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.develop import Codes, Encoding, encode
from sdd_toolkit.errors import RawError
from sdd_toolkit.files import inside
from sdd_toolkit.frames import as_shot_white_balance, read_full
from sdd_toolkit.geometry import valid, warp
from sdd_toolkit.shard_index import FailedPair
from sdd_toolkit.shards import FLOW_FACTOR, PackedPair
from sdd_toolkit.types import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.types import Alignment, PairRecord

_BAND_ROWS = 64
Box = tuple[int, int, int, int]


class _UnpackableError(Exception):
    """Why this pair cannot be packed; never leaves this module."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def pack_pair(
    record: PairRecord, blur: Path, sharp: Path, folder: Path, encoding: Encoding, min_size_px: int
) -> PackedPair | FailedPair:
    """The pair on the sharp frame's grid, cropped to `alignment.box`, or why it cannot be had.

    Both frames get the sharp frame's white balance. The blurred frame is scaled by `alignment.gain` in linear light
    and resampled once, straight onto the cropped grid. One frame is in memory at a time.

    Args:
        record: An aligned pair.
        blur: Its blurred frame's file; the caller has checked that it is the one that was ingested.
        sharp: Its sharp frame's file.
        folder: Folder that `alignment.flow_file` is relative to.
        encoding: How to store the pixels.
        min_size_px: Boxes with a shorter side are refused.

    Raises:
        ManifestError: `alignment.flow_file` leaves `folder`.
    """
    try:
        alignment = _checked(record.alignment)
        box = crop_box(alignment.box, alignment.size)
        left, top, right, bottom = box
        if min(right - left, bottom - top) < min_size_px:
            raise _UnpackableError(Reason.TOO_SMALL, f"overlap {right - left} x {bottom - top} px < {min_size_px} px")
        flow = _flow(folder, alignment, box)
        balance = as_shot_white_balance(sharp)
        linear = _developed(blur, balance, alignment.size)
        linear *= np.float32(alignment.gain)
        to_crop = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=np.float64) @ alignment.homography
        size = (bottom - top, right - left)
        blurred = _encoded(warp(linear, to_crop, size), encoding)
        del linear
        return PackedPair(
            id=record.id,
            blur=blurred,
            sharp=_encoded(_developed(sharp, balance, alignment.size)[top:bottom, left:right], encoding),
            valid=valid(to_crop, alignment.size, size),
            flow=flow,
            record=record,
        )
    except _UnpackableError as error:
        return FailedPair(record.id, error.reason, error.detail)
    except RawError as error:
        return FailedPair(record.id, Reason.UNREADABLE, error.what)


def crop_box(box: Box, size: tuple[int, int]) -> Box:
    """`box` shrunk to multiples of 4 px, so that the quarter-size grid of the flow crops exactly with it.

    Args:
        box: (left, top, right, bottom), half open.
        size: (height, width) of the frame; a box that leaves it is cut.
    """
    height, width = size
    left, top = (-(-max(0, edge) // FLOW_FACTOR) * FLOW_FACTOR for edge in box[:2])
    right = min(width, box[2]) // FLOW_FACTOR * FLOW_FACTOR
    bottom = min(height, box[3]) // FLOW_FACTOR * FLOW_FACTOR
    return left, top, max(left, right), max(top, bottom)


def _checked(alignment: Alignment | None) -> Alignment:
    if alignment is None:
        raise _UnpackableError(Reason.NOT_ALIGNED, "the pair was never aligned")
    if alignment.failure is not None:
        raise _UnpackableError(alignment.failure, alignment.detail)
    numbers = np.append(alignment.homography.ravel(), alignment.gain)
    if not (np.all(np.isfinite(numbers)) and alignment.gain > 0 and abs(np.linalg.det(alignment.homography)) > 1e-9):
        raise _UnpackableError(Reason.NOT_ALIGNED, "its homography or gain is not usable")
    return alignment


def _developed(path: Path, balance: tuple[float, float, float], size: tuple[int, int]) -> NDArray[np.float32]:
    linear = read_full(path, balance)
    if linear.shape[:2] != tuple(size):
        raise _UnpackableError(
            Reason.SIZE_MISMATCH, f"{path.name} develops to {linear.shape[:2]}, the alignment is for {tuple(size)}"
        )
    return linear


def _encoded(linear: NDArray[np.float32], encoding: Encoding) -> Codes:
    """`develop.encode` a few rows at a time: it needs several temporary arrays of the size of its input."""
    return np.concatenate(
        [encode(linear[top : top + _BAND_ROWS], encoding) for top in range(0, len(linear), _BAND_ROWS)]
    )


def _flow(folder: Path, alignment: Alignment, box: Box) -> NDArray[np.float32]:
    """(h, w, 2) float16-valued residual flow of the crop; zero where the alignment wrote none."""
    left, top, right, bottom = (edge // FLOW_FACTOR for edge in box)
    if alignment.flow_file is None:
        return np.zeros((bottom - top, right - left, 2), dtype=np.float32)
    try:
        with np.load(inside(folder, alignment.flow_file)) as stored:
            field = np.asarray(stored["flow"], dtype=np.float16)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _UnpackableError(Reason.UNREADABLE, f"residual flow {alignment.flow_file}: {error}") from error
    expected = (*(-(-edge // FLOW_FACTOR) for edge in alignment.size), 2)
    if field.shape != expected or not np.all(np.isfinite(field)):
        raise _UnpackableError(
            Reason.UNREADABLE,
            f"residual flow {alignment.flow_file}: {field.shape}, expected finite values of {expected}",
        )
    return field[top:bottom, left:right].astype(np.float32)
