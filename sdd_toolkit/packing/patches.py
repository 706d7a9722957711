"""Chooses the training patches of a pair: a grid with overlap, optionally without the least sharp ones as in DPDD."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise, product
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.shards.schema import Patch
from sdd_toolkit.storage.fingerprint import fingerprint

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.shards.schema import PackedPair

    Grey = NDArray[Any]  # of uint8 or uint16

APERTURES_PX = (3, 7, 11, 15)
_BAND_ROWS = 96
DPDD_DROPPED = 0.3
DPDD_VAL_OVERLAP = 0.01


class Sampler(StrEnum):
    """The rule for patches: all squares of a grid, or those that DPDD keeps."""

    GRID = "grid"
    DPDD = "dpdd"


@dataclass(frozen=True, slots=True)
class Patching:
    """A rule that chooses the patches of a pair.

    Attributes:
        size_px: Edge of the square patches.
        overlap: Share of its edge that a patch shares with the next one, 0 ≤ overlap < 1.
        min_valid_fraction: Patches with a smaller share of valid pixels are left out, before any other is.
        alone: Measure sharpness on each patch cut out, not on the frame.
        dropped_fraction: Share of each frame's patches that is left out, the least sharp ones.
    """

    size_px: int
    overlap: float
    min_valid_fraction: float = 1.0
    alone: bool = False
    dropped_fraction: float = 0.0

    def patches(self, pair: PackedPair) -> tuple[Patch, ...]:
        """The patches of a pair, row by row."""
        patches = patches_of(pair, self.size_px, self.overlap, self.min_valid_fraction, alone=self.alone)
        dropped = int(self.dropped_fraction * len(patches))
        order = sorted(range(len(patches)), key=lambda number: patches[number].sharpness)
        return tuple(patches[number] for number in sorted(order[dropped:]))

    def fingerprint(self) -> str:
        """16 hex digits; equal fingerprints and equal pixels give equal patches."""
        return fingerprint(asdict(self))


def patching_of(
    split: str, sampler: Sampler, size_px: int, train_overlap: float, min_valid_fraction: float = 1.0
) -> Patching:
    """The rule that chooses the patches of a split.

    `grid`: training patches overlap by `train_overlap`, others touch. `dpdd` is the rule of DPDD's released
    `image_to_patch_filter.py`: the same grid for training, without the 30 % least sharp of each frame, each patch
    measured by itself; validation patches overlap by 1 %. DPDD cuts no test patches; here they touch. Where the last
    patch ends exactly with the frame, DPDD lists it twice; here it is listed once.

    Args:
        split: `train`, `val` or `test`.
        sampler: The rule.
        size_px: Edge of the square patches.
        train_overlap: Share of its edge that a training patch shares with the next one.
        min_valid_fraction: See `Patching`.
    """
    train = split == "train"
    if sampler is Sampler.GRID:
        return Patching(size_px, train_overlap if train else 0.0, min_valid_fraction)
    overlap = {"train": train_overlap, "val": DPDD_VAL_OVERLAP}.get(split, 0.0)
    return Patching(size_px, overlap, min_valid_fraction, alone=True, dropped_fraction=DPDD_DROPPED if train else 0.0)


def patches_of(
    pair: PackedPair, size_px: int, overlap: float, min_valid_fraction: float = 1.0, *, alone: bool = False
) -> tuple[Patch, ...]:
    """The patches of a pair, row by row; none if the pair is smaller than one patch.

    Args:
        pair: As packed.
        size_px: Edge of the square patches.
        overlap: Share of its edge that a patch shares with the next one, 0 ≤ overlap < 1.
        min_valid_fraction: Patches with a smaller share of valid pixels are left out.
        alone: Measure sharpness on each patch cut out, not on the frame.
    """
    height, width = pair.valid.shape
    stride = max(1, int(round((1.0 - overlap) * size_px, 6)))
    corners = list(product(patch_starts(height, size_px, stride), patch_starts(width, size_px, stride)))
    # The mean of booleans takes six times as long.
    counts = [np.count_nonzero(pair.valid[top : top + size_px, left : left + size_px]) for top, left in corners]
    shares = [float(count / size_px**2) for count in counts]
    kept = [(corner, share) for corner, share in zip(corners, shares, strict=True) if share >= min_valid_fraction]
    scores = relative_sharpness(pair.sharp, [corner for corner, _ in kept], size_px, alone=alone)
    return tuple(
        Patch(pair=pair.id, top=top, left=left, sharpness=score, valid_fraction=share)
        for ((top, left), share), score in zip(kept, scores, strict=True)
    )


def patch_starts(length: int, size_px: int, stride: int) -> list[int]:
    """First pixels of the patches along one side; the last patch is moved back to end with the frame."""
    if length < size_px:
        return []
    regular = list(range(0, length - size_px + 1, stride))
    return regular if regular[-1] + size_px == length else [*regular, length - size_px]


def relative_sharpness(
    sharp: NDArray[np.uint8] | NDArray[np.uint16], corners: list[tuple[int, int]], size_px: int, *, alone: bool = False
) -> list[float]:
    """The amount of detail in each patch relative to the others of its frame, 0 … 1.

    The measure by which DPDD drops the 30 % least sharp patches of a photograph (Abuolaim and Brown, ECCV 2020,
    and their released code): the product over Sobel apertures 3, 7, 11, 15 of the summed gradient magnitude,
    each stretched to 0 … 1 over the patches of the frame. Equal patches score 1.

    Args:
        sharp: (H, W, 3) encoded frame.
        corners: (top, left) of each patch.
        size_px: Their edge.
        alone: Measure each patch cut out, as DPDD does: pixels beyond its rim do not count.
    """
    if not corners:
        return []
    grey = cv2.cvtColor(sharp, cv2.COLOR_RGB2GRAY)
    cuts = [np.s_[top : top + size_px, left : left + size_px] for top, left in corners]
    scores = np.ones(len(corners), dtype=np.float64)
    for sums in _gradient_sums_of_crops(grey, cuts, size_px) if alone else _gradient_sums(grey, corners, size_px):
        spread = float(np.ptp(sums))
        scores *= (sums - sums.min()) / spread if spread > 0 else 1.0
    return [float(score) for score in scores]


def _gradient_sums(grey: Grey, corners: list[tuple[int, int]], size_px: int) -> list[NDArray[np.float64]]:
    """The summed gradient magnitude of each patch, for every aperture.

    Patches overlap: their edges divide the frame into cells, and each cell is summed once.
    """
    tops, lefts = (
        sorted({edge + far for edge in edges for far in (0, size_px)}) for edges in zip(*corners, strict=True)
    )
    cells = np.zeros((len(APERTURES_PX), len(tops) - 1, len(lefts) - 1), dtype=np.float64)
    for row, (top, bottom) in enumerate(pairwise(tops)):
        for first in range(top, bottom, _BAND_ROWS):
            rows = slice(first, min(first + _BAND_ROWS, bottom))
            for number, aperture in enumerate(APERTURES_PX):
                columns = cv2.reduce(_gradient_magnitude(grey, rows, aperture), 0, cv2.REDUCE_SUM, dtype=cv2.CV_64F)[0]
                cells[number, row] += np.add.reduceat(columns[: lefts[-1]], lefts[:-1])
    row_of, column_of = ({edge: number for number, edge in enumerate(edges)} for edges in (tops, lefts))
    windows = [
        np.s_[row_of[top] : row_of[top + size_px], column_of[left] : column_of[left + size_px]] for top, left in corners
    ]
    return [np.array([plane[window].sum() for window in windows]) for plane in cells]


def _gradient_sums_of_crops(grey: Grey, cuts: list[tuple[slice, slice]], size_px: int) -> list[NDArray[np.float64]]:
    """The same for patches cut out of the frame, without the pixels beyond their rims."""
    whole = slice(0, size_px)
    # Copied, because Sobel of a view reads pixels beyond its rim.
    alone = [np.ascontiguousarray(grey[cut]) for cut in cuts]
    return [
        np.array([_gradient_magnitude(patch, whole, aperture).sum(dtype=np.float64) for patch in alone])
        for aperture in APERTURES_PX
    ]


def _gradient_magnitude(grey: Grey, rows: slice, aperture_px: int) -> NDArray[np.float32]:
    """The magnitude of the Sobel gradient in some rows."""
    margin = aperture_px // 2
    above, below = min(rows.start, margin), min(len(grey) - rows.stop, margin)
    # On integers Sobel takes a quarter less time than on floats.
    band = grey[rows.start - above : rows.stop + below]
    across, down = (
        np.asarray(cv2.Sobel(band, cv2.CV_32F, *order, ksize=aperture_px), dtype=np.float32)[above : len(band) - below]
        for order in ((1, 0), (0, 1))
    )
    # The last bit of cv2.magnitude depends on the memory alignment of its arrays.
    across *= across
    down *= down
    across += down
    return np.asarray(np.sqrt(across, out=across), dtype=np.float32)
