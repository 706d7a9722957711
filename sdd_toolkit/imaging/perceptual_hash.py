"""What a frame looks like in 64 bits, and which of many look alike: pure, no files.

The hash holds the signs of the 63 lowest AC coefficients of the cosine transform of a 32 x 32 grey thumbnail: unmoved
by brightness and contrast, hardly moved by size, noise, blur and a shift of a few per cent. A mirrored picture has the
same coefficients with every other column negated, so that its hash follows from that of the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Looks = NDArray[np.uint64]
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
    """The perceptual hash of an encoded (H, W, 3) frame, 16 hex digits; all 0 for a frame without any content."""
    thumbnail = cv2.resize(frame, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).astype(np.float64) / np.iinfo(frame.dtype).max
    # Rounded: what is nothing but rounding errors has no sign.
    lowest = np.round(cv2.dct(grey)[:LOWEST, :LOWEST], 6)
    lowest[0, 0] = 0
    return np.packbits(lowest.ravel() > 0).tobytes().hex()


def to_integers(looks: Sequence[str]) -> Looks:
    """Hashes as numbers."""
    return np.array([int(look, 16) for look in looks], dtype=np.uint64)


def mirror_hashes(looks: Looks) -> Looks:
    """The hashes of the same frames, left and right exchanged."""
    return np.asarray(np.where(looks == 0, looks, looks ^ _ODD_COLUMNS), dtype=np.uint64)


def near_duplicates(first: Looks, second: Looks, most: int = MAX_HAMMING_DISTANCE) -> NDArray[np.int64]:
    """Which of `first` look like which of `second`, as they are or mirrored.

    Two hashes of 64 bits that differ in `most` bits differ in `most // 4` at most in one of their four words of 16:
    only those pairs are compared that do (M. Norouzi, A. Punjani and D. Fleet, CVPR 2012). Frames without content look
    like nothing.

    Args:
        first: (N,) hashes.
        second: (M,) hashes.
        most: Bits that may differ.

    Returns:
        (K, 3): index in `first`, index in `second`, distance in bits; in the order of the indices.
    """
    mine, theirs = np.flatnonzero(first), np.flatnonzero(second)
    found = [np.empty((0, 3), np.int64)]
    for looks in (first[mine], mirror_hashes(first[mine])):
        for rows, columns in _candidates(looks, second[theirs], most):
            distance = np.bitwise_count(looks[rows] ^ second[theirs[columns]])
            near = distance <= most
            found.append(np.stack([mine[rows[near]], theirs[columns[near]], distance[near]], axis=1).astype(np.int64))
    every = np.unique(np.concatenate(found), axis=0)
    # Sorted by indices, then distance: the first row of each pair is its smallest.
    return every[np.unique(every[:, :2], axis=0, return_index=True)[1]]


def _candidates(first: Looks, second: Looks, most: int) -> Iterator[tuple[Indices, Indices]]:
    """Indices of pairs that may be alike: all of them where these are few, else those with a word in common."""
    if len(first) * len(second) <= _FEW:
        rows, columns = np.indices((len(first), len(second))).reshape(2, -1)
        yield rows, columns
        return
    words = np.arange(1 << _WORD_BITS, dtype=np.uint64)
    masks = words[np.bitwise_count(words) <= most * _WORD_BITS // 64]
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
