"""Blur matching: which disc, applied to which frame, makes two aligned frames equally soft, place by place.

Either frame may be the softer one (a focal stack has both cases in one pair), so the radius is signed: positive
blurs the sharp frame to match the blurred one, negative the other way round. The radius is found blindly: a bank of
disc-blurred versions is compared cell by cell and the radius with the least difference wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CELL_PX = 12
_SUBSAMPLES = 8
_NEAR_CELLS = 1.0
_WIDE_CELLS = 4.0
_WIDE_SHARE = 0.15
# A disc below this radius lies within one pixel and changes nothing.
_STEPS = (0.0, 0.8, 1.2, 1.7, 2.3, 3.0, 4.0, 5.2, 6.6, 8.2, 10.0, 12.0, 14.5, 17.5, 21.0, 25.0, 30.0, 36.0, 43.0)


@lru_cache(maxsize=128)
def disc(radius_px: float) -> NDArray[np.float32]:
    """An odd-sized kernel of sum 1: a disc whose edge pixels count by the area the disc covers."""
    reach = int(np.ceil(radius_px + 0.5 - 1e-9)) if radius_px > 0.5 else 0
    fine = (np.arange((2 * reach + 1) * _SUBSAMPLES) + 0.5) / _SUBSAMPLES - 0.5 - reach
    inside = fine[:, None] ** 2 + fine[None, :] ** 2 <= max(radius_px, 0.5) ** 2
    side = 2 * reach + 1
    cover = inside.reshape(side, _SUBSAMPLES, side, _SUBSAMPLES).mean(axis=(1, 3))
    return np.asarray(cover / cover.sum(), dtype=np.float32)


def disc_blurred(image: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """`image` (H, W) under a disc of `radius_px`, border reflected."""
    if radius_px <= 0.5:
        return image
    return np.asarray(cv2.filter2D(image, cv2.CV_32F, disc(radius_px), borderType=cv2.BORDER_REFLECT_101))


def radii_up_to(largest_px: float) -> tuple[float, ...]:
    """The radii of a bank: fine steps where a pixel of radius matters, about a fifth apart above."""
    inner = tuple(step for step in _STEPS if step < largest_px)
    return (*inner, float(largest_px)) if largest_px > inner[-1] else inner


@dataclass(frozen=True, slots=True)
class RadiusMap:
    """The chosen signed radius per cell.

    Attributes:
        index: (rows, columns) float32 position in the signed bank: 0 is "equally soft", +k blurs the sharp frame
            with radii[k], -k the blurred one; between integers the neighbours are mixed.
        radii: The bank's radii in pixels.
    """

    index: NDArray[np.float32]
    radii: tuple[float, ...]

    @property
    def radius_px(self) -> NDArray[np.float32]:
        """(rows, columns) signed radius."""
        steps = np.arange(len(self.radii))
        size = np.interp(np.abs(self.index), steps, np.array(self.radii))
        return np.asarray(np.sign(self.index) * size, dtype=np.float32)


def choose(
    moving: Sequence[NDArray[np.float32]],
    fixed: Sequence[NDArray[np.float32]],
    usable: NDArray[np.float32],
    radii: tuple[float, ...],
) -> RadiusMap:
    """The signed radius per cell with the least squared difference.

    Args:
        moving: The blurred frame, aligned, under each radius: (H, W) comparable images.
        fixed: The sharp frame under each radius.
        usable: (H, W) weight of each pixel in the comparison, 0 … 1.
        radii: The bank's radii.
    """
    height, width = usable.shape
    size = (max(width // CELL_PX, 1), max(height // CELL_PX, 1))

    def cells(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    count = len(radii)
    hypotheses = [(moving[k], fixed[0]) for k in range(count - 1, 0, -1)]
    hypotheses += [(moving[0], fixed[k]) for k in range(count)]
    share = cells(usable) + np.float32(1e-3)
    cost = np.empty((len(hypotheses), size[1], size[0]), dtype=np.float32)
    for number, (a, b) in enumerate(hypotheses):
        difference = cells(usable * (a - b) ** 2)
        near = _mean(difference, _NEAR_CELLS) / _mean(share, _NEAR_CELLS)
        wide = _mean(difference, _WIDE_CELLS) / _mean(share, _WIDE_CELLS)
        cost[number] = near + np.float32(_WIDE_SHARE) * wide
    return RadiusMap(index=_least(cost) - np.float32(count - 1), radii=radii)


def blend(
    bank: Sequence[NDArray[np.float32]], index: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float32]:
    """One (H, W) image from a bank, mixed by a map of positions in it (negative counts as 0).

    Args:
        bank: (H, W) images by rising radius.
        index: (rows, columns) position in the bank per cell.
        size: (H, W).
    """
    position = cv2.resize(np.maximum(index, 0), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    mixed = np.zeros(size, dtype=np.float32)
    for k, image in enumerate(bank):
        share = np.maximum(1.0 - np.abs(position - k), 0).astype(np.float32)
        if share.any():
            mixed += share * image
    return mixed


def _mean(cells: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(cells, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def _least(cost: NDArray[np.float32]) -> NDArray[np.float32]:
    """Position of the least cost along axis 0, refined by a parabola through its neighbours."""
    best = np.argmin(cost, axis=0)
    inner = np.clip(best, 1, cost.shape[0] - 2)
    left, middle, right = (np.take_along_axis(cost, (inner + step)[None], 0)[0] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    offset = np.where(bend > 1e-12, 0.5 * (left - right) / np.maximum(bend, 1e-12), 0.0)
    refined = inner + np.clip(offset, -0.5, 0.5)
    return np.asarray(np.where(inner == best, refined, best), dtype=np.float32)
