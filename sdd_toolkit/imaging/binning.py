"""Bins images and masks in blocks of 2x2 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bin_2x2(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2x2 blocks.

    Args:
        image: (H, W[, C]); an odd last row or column is left out.

    Returns:
        (H // 2, W // 2[, C]) float32, whose pixel x covers source pixels 2 x and 2 x + 1.

    Example:
        >>> bin_2x2(np.array([[1, 3, 5], [1, 3, 7]], dtype=np.float32))
        array([[2.]], dtype=float32)
    """
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    even = image[:height, :width]
    rows = even[0::2] + even[1::2]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25), dtype=np.float32)


def any_in_2x2(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any of each 2x2 block is set; (H, W) with even sides to (H // 2, W // 2)."""
    return mask[0::2, 0::2] | mask[0::2, 1::2] | mask[1::2, 0::2] | mask[1::2, 1::2]
