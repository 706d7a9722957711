"""The table of training patches: which squares of a pair are worth training on. Arrays in, rows out."""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.shards.schema import Patch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdd_toolkit.shards.schema import PackedPair

APERTURES_PX = (3, 7, 11, 15)
DPDD_DROPPED = 0.3
DPDD_VAL_OVERLAP = 0.01


class Sampler(StrEnum):
    """Which squares of a pair become patches: all of a grid, or those that DPDD keeps."""

    GRID = "grid"
    DPDD = "dpdd"


def sampled(
    pair: PackedPair,
    split: str,
    sampler: Sampler,
    size_px: int,
    train_overlap: float,
    min_valid_fraction: float = 1.0,
) -> tuple[Patch, ...]:
    """The patches of a pair of `split`, row by row.

    `grid`: training patches overlap by `train_overlap`, others touch. `dpdd` is the rule of DPDD's released
    `image_to_patch_filter.py`: the same grid for training, without the 30 % least sharp of each frame, each patch
    measured by itself; validation patches overlap by 1 %. DPDD cuts no test patches: these touch. Where the last
    patch ends exactly with the frame DPDD lists it twice; here it is once.

    Args:
        pair: As packed.
        split: `train`, `val` or `test`.
        sampler: Which rule.
        size_px: Edge of the square patches.
        train_overlap: Share of its edge that a training patch has in common with the next one.
        min_valid_fraction: Patches with a smaller share of valid pixels are left out, before any other is.
    """
    if sampler is Sampler.GRID:
        return patches_of(pair, size_px, train_overlap if split == "train" else 0.0, min_valid_fraction)
    overlap = {"train": train_overlap, "val": DPDD_VAL_OVERLAP}.get(split, 0.0)
    found = patches_of(pair, size_px, overlap, min_valid_fraction, alone=True)
    if split != "train":
        return found
    dropped = int(DPDD_DROPPED * len(found))
    order = sorted(range(len(found)), key=lambda number: found[number].sharpness)
    return tuple(found[number] for number in sorted(order[dropped:]))


def patches_of(
    pair: PackedPair, size_px: int, overlap: float, min_valid_fraction: float = 1.0, *, alone: bool = False
) -> tuple[Patch, ...]:
    """The patches of a pair, row by row; none if the pair is smaller than one patch.

    Args:
        pair: As packed.
        size_px: Edge of the square patches.
        overlap: Share of its edge that a patch has in common with the next one, 0 ≤ overlap < 1.
        min_valid_fraction: Patches with a smaller share of valid pixels are left out.
        alone: Their sharpness is measured on each patch cut out, not on the frame.
    """
    height, width = pair.valid.shape
    stride = max(1, int(round((1.0 - overlap) * size_px, 6)))
    corners = list(product(starts(height, size_px, stride), starts(width, size_px, stride)))
    shares = [float(pair.valid[top : top + size_px, left : left + size_px].mean()) for top, left in corners]
    kept = [(corner, share) for corner, share in zip(corners, shares, strict=True) if share >= min_valid_fraction]
    scores = sharpness(pair.sharp, [corner for corner, _ in kept], size_px, alone=alone)
    return tuple(
        Patch(pair=pair.id, top=top, left=left, sharpness=score, valid_fraction=share)
        for ((top, left), share), score in zip(kept, scores, strict=True)
    )


def starts(length: int, size_px: int, stride: int) -> list[int]:
    """First pixels of the patches along one side; the last patch is moved back to end with the frame."""
    if length < size_px:
        return []
    regular = list(range(0, length - size_px + 1, stride))
    return regular if regular[-1] + size_px == length else [*regular, length - size_px]


def sharpness(
    sharp: NDArray[np.uint8] | NDArray[np.uint16], corners: list[tuple[int, int]], size_px: int, *, alone: bool = False
) -> list[float]:
    """How much detail each patch holds compared with the others of its frame, 0 … 1.

    The measure by which DPDD drops the 30 % least sharp patches of a photograph (Abuolaim and Brown, ECCV 2020,
    and their released code): the product over Sobel apertures 3, 7, 11, 15 of the summed gradient magnitude,
    each stretched to 0 … 1 over the patches of the frame. Equal patches score 1.

    Args:
        sharp: (H, W, 3) encoded frame.
        corners: (top, left) of each patch.
        size_px: Their edge.
        alone: Measure each patch cut out, as DPDD does: what lies beyond its rim does not count.
    """
    if not corners:
        return []
    grey = cv2.cvtColor(sharp, cv2.COLOR_RGB2GRAY).astype(np.float32)
    cuts = [np.s_[top : top + size_px, left : left + size_px] for top, left in corners]
    scores = np.ones(len(corners), dtype=np.float64)
    for aperture in APERTURES_PX:
        if alone:
            energies = (_energy(grey[cut], aperture) for cut in cuts)
        else:
            whole = _energy(grey, aperture)
            energies = (whole[cut] for cut in cuts)
        sums = np.array([energy.sum(dtype=np.float64) for energy in energies])
        spread = float(np.ptp(sums))
        scores *= (sums - sums.min()) / spread if spread > 0 else 1.0
    return [float(score) for score in scores]


def _energy(grey: NDArray[np.float32], aperture: int) -> NDArray[np.float32]:
    # Copied: Sobel of a window looks beyond its rim where there is something.
    alone = np.ascontiguousarray(grey)
    across = cv2.Sobel(alone, cv2.CV_32F, 1, 0, ksize=aperture)
    down = cv2.Sobel(alone, cv2.CV_32F, 0, 1, ksize=aperture)
    # Not cv2.magnitude: its last bit depends on where in memory the arrays happen to lie.
    return np.asarray(np.sqrt(across * across + down * down), dtype=np.float32)
