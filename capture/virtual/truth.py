"""Ground truth of a rendered pair: displacement, occlusion and blur of every pixel; the pipeline never reads it."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceMotion:
    """The motion of a scene's surfaces between the shots.

    Attributes:
        front: (H, W), number of the front surface at each canvas pixel in the blurred shot.
        front_after: The same in the sharp shot.
        jumps: (N, 2) px (dx, dy) by which each surface moves.
        margin_px: Margin of the canvas around the frame.
    """

    front: NDArray[np.int32]
    front_after: NDArray[np.int32]
    jumps: NDArray[np.int32]
    margin_px: int

    def follow(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Moves canvas positions, counted from the frame's origin, with the surfaces that they show.

        Returns:
            x and y after the jump, and whether another surface hides the content there.
        """
        columns, rows = (np.rint(axis).astype(np.int32) + self.margin_px for axis in (x, y))
        shown = self._look_up(self.front, columns, rows)
        dx, dy = np.moveaxis(self.jumps[shown], -1, 0)
        hidden = self._look_up(self.front_after, columns + dx, rows + dy) != shown
        return x + dx, y + dy, hidden

    @staticmethod
    def _look_up(numbers: NDArray[np.int32], columns: NDArray[np.int32], rows: NDArray[np.int32]) -> NDArray[np.int32]:
        height, width = numbers.shape
        return np.asarray(numbers[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)])


def leaves_frame(displacement: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W) whether the content of each pixel lies outside of the frame after `displacement`, (H, W, 2) px."""
    height, width = displacement.shape[:2]
    x = displacement[..., 0] + np.arange(width, dtype=np.float32)
    y = displacement[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray((x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5))
