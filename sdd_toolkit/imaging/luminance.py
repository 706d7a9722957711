"""Luminance of linear camera RGB: the mean of the Bayer samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.encoding import require_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WEIGHTS = np.array([[0.25, 0.5, 0.25]], dtype=np.float32)


def luminance(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the Bayer samples of a linear frame, green counted twice.

    Args:
        frame: (H, W, 3) float32 linear RGB.

    Returns:
        (H, W) float32, clipped at 0.

    Raises:
        TypeError: The array is not of floats.

    Example:
        >>> luminance(np.array([[[0.2, 0.4, 0.6]]], dtype=np.float32))
        array([[0.4]], dtype=float32)
    """
    require_floats(frame)
    light = np.asarray(cv2.transform(frame, _WEIGHTS), dtype=np.float32)
    return np.clip(light, np.float32(0), np.float32(np.inf), out=light)
