"""Ground truth of a rendered pair: displacement, occlusion and blur of every pixel; the pipeline never reads it."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth of one pair, in pixels of the developed full-size frames (centres at integers).

    Attributes:
        homography: (3, 3) float64, blurred (x, y, 1) to sharp; exact for the static scene, and for the middle row
            only where focus rolls.
        displacement: (H, W, 2) float32 px, from each blurred pixel to the position of its content in the sharp frame.
        occlusion: (H, W) bool, the blurred pixel's content is hidden or out of the frame in the sharp shot.
        coc_px: (H, W) float32, circle-of-confusion radius of the thin lens (green) in the blurred frame, of the surface
            in front: the absolute value of `radius_px` of `kernels`.
        aligned: (H, W, 3) float32 linear sRGB, noise-free, all in focus, on the blurred frame's grid, at the sharp
            frame's exposure and vignetting; 1 = saturation, values above it are not clipped.
    """

    homography: NDArray[np.float64]
    displacement: NDArray[np.float32]
    occlusion: NDArray[np.bool_]
    coc_px: NDArray[np.float32]
    aligned: NDArray[np.float32]

    def npz(self, defect: str | None = None) -> bytes:
        """The arrays as a NumPy archive, deterministic to the byte; `defect` becomes a sixth entry."""
        stream = io.BytesIO()
        extra: dict[str, Any] = {} if defect is None else {"defect": np.array(defect)}
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez(stream, **arrays, **extra)
        return stream.getvalue()


def motion_truth(
    static: NDArray[np.float32],
    object_before: NDArray[np.bool_],
    object_after: NDArray[np.bool_],
    jump: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Displacement and occlusion of a static scene with one moving object in front.

    Args:
        static: (H, W, 2), displacement of the static scene, blurred to sharp.
        object_before: (H, W), blurred pixels that show the object.
        object_after: (H, W), sharp pixels that show the object after its jump.
        jump: (dx, dy) of the object in sharp pixels.
    """
    height, width = object_before.shape
    displacement = static.copy()
    displacement[object_before] += np.array(jump, np.float32)
    x = displacement[..., 0] + np.arange(width, dtype=np.float32)
    y = displacement[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    occlusion = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
    if object_after.any():
        covered = cv2.remap(object_after.astype(np.uint8), x, y, cv2.INTER_NEAREST) > 0
        occlusion |= covered & ~object_before
    return displacement, occlusion
