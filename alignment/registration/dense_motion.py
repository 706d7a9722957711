"""Dense optical flow from a blurred photograph to its sharp partner: global model and residual flow in one field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.config import AlignConfig
from alignment.registration.register import register_with_flow
from alignment.transforms import transform as transforms
from alignment.transforms.mapping import Mapping, source_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.registration.register import Frame

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]

_BAND_ROWS = 256


@dataclass(frozen=True, slots=True)
class Flow:
    """Dense optical flow of a pair, on the blurred frame's grid.

    Attributes:
        field: (H, W, 2) float32 u[blur→sharp] in pixels, global model included.
        confidence: (H, W) float32, 0 … 1: probability that the field is right to half a pixel; 0 where content is
            occluded or out of the frame.
        occlusion: (H, W) bool, content that is occluded or out of the frame in the sharp photograph.
    """

    field: Image
    confidence: Image
    occlusion: Mask


def flow(
    blur: Frame,
    sharp: Frame,
    config: AlignConfig | None = None,
    *,
    mask: Mask | None = None,
) -> Flow:
    """Estimates the dense flow from a defocused photograph to its sharp partner.

    Args:
        blur: (H, W, 3) RGB of linear light, or uint8 or uint16 with the sRGB curve, as for `alignment.register`.
        sharp: (H, W, 3) the sharp frame, likewise.
        config: Search ranges and limits; the defaults if None.
        mask: (H, W) bool, where the sharp frame may be used; everywhere if None.

    Returns:
        The flow; zero flow of zero confidence, all of it occluded, if the pair cannot be aligned.

    Raises:
        TypeError: As of `alignment.register`.
        ValueError: As of `alignment.register`.

    Example:
        A frame and the same frame moved by three pixels to the left and two pixels down:

        >>> import numpy as np
        >>> import alignment
        >>> rng = np.random.default_rng(0)
        >>> scene = rng.uniform(0.1, 0.9, (34, 44)).repeat(6, 0).repeat(6, 1)[..., None].repeat(3, 2)
        >>> sharp, blur = (np.float32(scene[y : y + 192, x : x + 256]) for y, x in ((4, 0), (2, 3)))
        >>> motion = alignment.flow(blur, sharp)
        >>> motion.field.shape, motion.field[96, 128].round(1).tolist()
        ((192, 256, 2), [3.0, -2.0])
    """
    alignment, residual = register_with_flow(blur, sharp, config or AlignConfig(), mask=mask)
    height, width = blur.shape[:2]
    field = np.zeros((height, width, 2), dtype=np.float32)
    confidence = np.zeros((height, width), dtype=np.float32)
    occlusion = np.ones((height, width), dtype=np.bool_)
    if residual is None or alignment.failure is not None:
        return Flow(field, confidence, occlusion)
    occluded = residual.occlusion.astype(np.float32)
    mapping = Mapping(transforms.from_alignment(alignment, "blur", "sharp"), inverse=True)
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, min(top + _BAND_ROWS, height))
        ys, xs = np.mgrid[rows, 0:width].astype(np.float64)
        x, y, _ = source_points(mapping, rows)
        images = (residual.flow, residual.confidence, occluded)
        moved, certainty, covered = (_sample_linear(image, x, y) for image in images)
        end_x, end_y = x + moved[..., 0], y + moved[..., 1]
        outside = (end_x < -0.5) | (end_y < -0.5) | (end_x > width - 0.5) | (end_y > height - 0.5)
        field[rows] = np.stack([end_x - xs, end_y - ys], axis=-1)
        occlusion[rows] = outside | (covered > 0.5)
        confidence[rows] = np.where(occlusion[rows], 0, certainty)
    return Flow(field, confidence, occlusion)


def _sample_linear(image: Image, x: NDArray[np.float64], y: NDArray[np.float64]) -> Image:
    at = x.astype(np.float32), y.astype(np.float32)
    return np.asarray(cv2.remap(image, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)
