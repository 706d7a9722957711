"""What really happened between the two shots, pixel by pixel. The pipeline never reads it."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sdd_toolkit import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth of one pair, in pixels of the developed full-size frames (centres at integers).

    Attributes:
        homography: (3, 3) float64, blurred (x, y, 1) to sharp; exact for everything that stands still.
        displacement: (H, W, 2) float32, from each blurred pixel to where its content lies in the sharp frame.
        occlusion: (H, W) bool, the blurred pixel's content is hidden or out of the frame in the sharp shot.
        coc_px: (H, W) float32, circle-of-confusion radius in the blurred frame of the surface in front.
        aligned: (H, W, 3) float32 linear sRGB, noise-free, all in focus, on the blurred frame's grid, at the sharp
            frame's exposure and vignetting; 1 = saturation, values above it are not clipped.
    """

    homography: NDArray[np.float64]
    displacement: NDArray[np.float32]
    occlusion: NDArray[np.bool_]
    coc_px: NDArray[np.float32]
    aligned: NDArray[np.float32]

    def npz(self, defect: str | None = None) -> bytes:
        """The arrays as a NumPy archive, the same bytes for the same truth; `defect` becomes a sixth entry."""
        stream = io.BytesIO()
        extra: dict[str, Any] = {} if defect is None else {"defect": np.array(defect)}
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez(stream, **arrays, **extra)
        return stream.getvalue()


def motion(
    homography: NDArray[np.float64],
    jumping_before: NDArray[np.bool_],
    jumping_after: NDArray[np.bool_],
    jump: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Displacement and occlusion of a scene that stands still but for one object in front.

    Args:
        homography: (3, 3), blurred to sharp.
        jumping_before: (H, W), blurred pixels that show the object.
        jumping_after: (H, W), sharp pixels that show the object after its jump.
        jump: (dx, dy) of the object in sharp pixels.
    """
    size = (jumping_before.shape[0], jumping_before.shape[1])
    displacement = geometry.displacement(homography, size)
    displacement[jumping_before] += np.array(jump, np.float32)
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    x, y = xs + displacement[..., 0], ys + displacement[..., 1]
    outside = (x < -0.5) | (y < -0.5) | (x > size[1] - 0.5) | (y > size[0] - 0.5)
    covered = cv2.remap(jumping_after.astype(np.uint8), x, y, cv2.INTER_NEAREST) > 0
    return displacement, outside | (covered & ~jumping_before)
