"""Converts an image tensor to 8-bit pixels for display."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from sdd_toolkit.imaging.encoding import Encoding, srgb_encode

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_display_pixels(image: Tensor, encoding: Encoding) -> NDArray[np.uint8]:
    """Converts an image to sRGB-encoded 8-bit pixels.

    Args:
        image: (1, 3, H, W) in [0, 1].
        encoding: Of its values; linear ones get the sRGB curve.

    Returns:
        (H, W, 3).
    """
    plane = np.ascontiguousarray(image[0].permute(1, 2, 0).clamp(0, 1).cpu().numpy())
    display = srgb_encode(plane) if encoding is Encoding.LINEAR16 else plane
    return np.rint(display * np.float32(255)).astype(np.uint8)
