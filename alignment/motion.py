"""Dense motion of a pair on the blurred frame's own grid: the global model and the residual flow in one field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.config import AlignConfig
from alignment.registration import analyse
from sdd_toolkit import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Flow:
    """Dense motion of a pair.

    Attributes:
        field: (H, W, 2) float32 u[blur→sharp] on the blurred frame's grid, pixels, homography included.
        confidence: (H, W) float32, 0 … 1.
    """

    field: Image
    confidence: Image


def flow(blur: Image, sharp: Image, config: AlignConfig | None = None) -> Flow:
    """Dense motion from a defocused photograph to its sharp partner; see `registration.register` for the arguments.

    Returns:
        Zero flow of zero confidence where the pair cannot be aligned.
    """
    alignment, residual = analyse(blur, sharp, config or AlignConfig())
    size = (blur.shape[0], blur.shape[1])
    if residual is None or alignment.failure is not None:
        return Flow(np.zeros((*size, 2), dtype=np.float32), np.zeros(size, dtype=np.float32))
    back = np.asarray(np.linalg.inv(alignment.homography), dtype=np.float64)
    pulled = geometry.warp(residual.flow, back, size, interpolation=cv2.INTER_LINEAR)
    inside = geometry.valid(back, size, size, margin_px=1.0)
    confidence = geometry.warp(residual.confidence, back, size, interpolation=cv2.INTER_LINEAR)
    field = geometry.displacement(alignment.homography, size) + pulled
    return Flow(field, np.asarray(np.where(inside, confidence, 0), dtype=np.float32))
