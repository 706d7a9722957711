"""The image pyramid of a pair: luminance and usable pixels of both frames at each level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float32]

_SMALLEST_PX = 72


@dataclass(frozen=True, slots=True)
class FramePair:
    """A pair at one pyramid level.

    Attributes:
        blur: (H, W) linear luminance.
        sharp: (H, W) linear luminance.
        trusted_blur: (H, W) 0 … 1, usable share of a pixel of the blurred frame: 0 where it is saturated.
        trusted_sharp: (H, W) the same of the sharp frame, times the user's mask.
    """

    blur: Image
    sharp: Image
    trusted_blur: Image
    trusted_sharp: Image

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.sharp.shape[0], self.sharp.shape[1]

    def halve(self) -> FramePair:
        """2x2 means."""
        return FramePair(halve(self.blur), halve(self.sharp), halve(self.trusted_blur), halve(self.trusted_sharp))


def halve(image: Image) -> Image:
    """2x2 means of an (H, W) image; an odd last row or column is cropped."""
    height, width = (edge // 2 * 2 for edge in image.shape)
    means = cv2.resize(image[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float32)


def build_pyramid(frames: FramePair) -> list[FramePair]:
    """The pair and its halvings down to about a hundred pixels, the finest level first."""
    levels = [frames]
    while min(levels[-1].size) // 2 >= _SMALLEST_PX:
        levels.append(levels[-1].halve())
    return levels


def first_level_within(levels: list[FramePair], megapixels: float) -> int:
    """Number of the first level of at most this many megapixels; the last level if there is none."""
    sizes = [level.size[0] * level.size[1] / 1e6 for level in levels]
    return next((number for number, size in enumerate(sizes) if size <= megapixels), len(levels) - 1)


def first_level_fitting(levels: list[FramePair], side_px: int) -> int:
    """Number of the first level whose longer side is at most `side_px`; the last level if there is none."""
    return next((number for number, level in enumerate(levels) if max(level.size) <= side_px), len(levels) - 1)
