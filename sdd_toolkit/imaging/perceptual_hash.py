"""A 64-bit perceptual hash of a frame, and the search for near duplicates by Hamming distance.

The hash holds the signs of the 63 lowest AC coefficients of the cosine transform of a 32 x 32 grey thumbnail. It does
not change with brightness and contrast, and hardly with size, noise, blur and a shift of a few per cent. A mirrored
picture has the same coefficients with every other column negated, so that its hash follows from that of the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Indices = NDArray[np.int64]

SIDE_PX = 32
LOWEST = 8
# See docs/rearranging.md: no two of 214 different photographs come closer than 14.
MAX_HAMMING_DISTANCE = 8
_WORD_BITS = 16
_BLOCK = 1 << 14
_FEW = 1 << 16
_ODD_COLUMNS = np.uint64(0x5555555555555555)


def hash_of(frame: NDArray[np.uint8] | NDArray[np.uint16]) -> str:
    """The perceptual hash of an encoded (H, W, 3) frame, 16 hex digits; all 0 for a frame without any content.

    Raises:
        TypeError: The frame is not of uint8 or uint16.
        ValueError: It is not (H, W, 3).
    """
    if frame.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"uint8 or uint16 expected, not {frame.dtype}: encode the frame first")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"(H, W, 3) expected, not {frame.shape}")
    thumbnail = cv2.resize(frame, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).astype(np.float64) / np.iinfo(frame.dtype).max
    # Rounded: a coefficient of nothing but rounding errors has no sign.
    lowest = np.round(cv2.dct(grey)[:LOWEST, :LOWEST], 6)
    lowest[0, 0] = 0
    return np.packbits(lowest.ravel() > 0).tobytes().hex()


def to_integers(hashes: Sequence[str]) -> Hashes:
    """Converts hashes from hex digits to numbers.

    Example:
        >>> to_integers(["00000000000000ff"])
        array([255], dtype=uint64)
    """
    return np.array([int(code, 16) for code in hashes], dtype=np.uint64)


def mirror_hashes(hashes: Hashes) -> Hashes:
    """The hashes of the same frames, mirrored left to right."""
    return np.asarray(np.where(hashes == 0, hashes, hashes ^ _ODD_COLUMNS), dtype=np.uint64)


def near_duplicates(first: Hashes, second: Hashes, max_distance: int = MAX_HAMMING_DISTANCE) -> NDArray[np.int64]:
    """Finds pairs of similar frames, as they are or mirrored.

    Two hashes of 64 bits that differ in d bits differ in at most d // 4 in one of their four words of 16: only such
    pairs are compared (M. Norouzi, A. Punjani and D. Fleet, CVPR 2012). Frames without content match nothing.

    Args:
        first: (N,) hashes.
        second: (M,) hashes.
        max_distance: Number of bits that may differ.

    Returns:
        (K, 3): index in `first`, index in `second`, distance in bits; in the order of the indices.

    Example:
        >>> near_duplicates(to_integers(["0f", "f0"]), to_integers(["0e"])).tolist()
        [[0, 0, 1], [1, 0, 7]]
    """
    mine, theirs = np.flatnonzero(first), np.flatnonzero(second)
    matches = [np.empty((0, 3), np.int64)]
    for hashes in (first[mine], mirror_hashes(first[mine])):
        for rows, columns in _candidates(hashes, second[theirs], max_distance):
            distance = np.bitwise_count(hashes[rows] ^ second[theirs[columns]])
            near = distance <= max_distance
            matches.append(np.stack([mine[rows[near]], theirs[columns[near]], distance[near]], axis=1).astype(np.int64))
    matched = np.unique(np.concatenate(matches), axis=0)
    # Sorted by indices, then distance: the first row of each pair is its smallest.
    return matched[np.unique(matched[:, :2], axis=0, return_index=True)[1]]


def _candidates(first: Hashes, second: Hashes, max_distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Indices of pairs that may be similar: all of them if these are few, else those with a similar word."""
    if len(first) * len(second) <= _FEW:
        rows, columns = np.indices((len(first), len(second))).reshape(2, -1)
        yield rows, columns
        return
    words = np.arange(1 << _WORD_BITS, dtype=np.uint64)
    masks = words[np.bitwise_count(words) <= max_distance * _WORD_BITS // 64]
    for shift in np.arange(0, 64, _WORD_BITS, dtype=np.uint64):
        keys = (second >> shift) & words[-1]
        order = np.argsort(keys, kind="stable")
        ends = np.searchsorted(keys[order], np.arange(len(words) + 1, dtype=np.uint64))
        for mask in masks:
            for start in range(0, len(first), _BLOCK):
                wanted = (((first[start : start + _BLOCK] >> shift) & words[-1]) ^ mask).astype(np.int64)
                counts = ends[wanted + 1] - ends[wanted]
                rows = np.repeat(np.arange(len(wanted)), counts)
                nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
                yield start + rows, order[np.repeat(ends[wanted], counts) + nth]
