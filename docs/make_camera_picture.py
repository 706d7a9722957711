"""Writes docs/images/camera-points.png: kernels, and a field of points: `python docs/make_camera_picture.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from capture.virtual.config import SimulateConfig  # noqa: E402
from capture.virtual.kernels import ROUND, Pupil, pupil_kernel  # noqa: E402
from capture.virtual.picture import picture_from_distance  # noqa: E402
from capture.virtual.render_pair import margin_px, render_pair  # noqa: E402
from sdd_toolkit.frames.writing import write_image  # noqa: E402

RADIUS_PX = 12.0
KERNELS = (
    (RADIUS_PX, ROUND, 0.0),
    (RADIUS_PX, Pupil(blades=6, turn_deg=10), 0.0),
    (RADIUS_PX, Pupil(blades=7, roundness=0.5, turn_deg=10), 0.0),
    (RADIUS_PX, Pupil(rim_x=-0.45, rim_y=-0.3, rim_radius=1.0), 0.0),
    (RADIUS_PX, ROUND, 4.0),
    (-RADIUS_PX, ROUND, 4.0),
)
FIELD = SimulateConfig(
    width=696, height=360, noise=False, max_shift_px=0, max_rotation_deg=0, exposure_error_ev=0, min_coc_px=28,
    max_coc_px=28, sharp_coc_px=2, cat_eye=0.6, spherical_aberration_px=4, longitudinal_ca=(0.0008, 0.0008),
    pixel_pitch_um=12, depth="ramp",
)  # fmt: skip


def kernels() -> np.ndarray:
    """The kernels side by side, four times as large, brightness relative to a disc of the same radius."""
    tiles = []
    for radius, pupil, aberration in KERNELS:
        kernel = pupil_kernel(radius, pupil, aberration) * (np.pi * RADIUS_PX**2)
        edge = (29 - kernel.shape[0]) // 2
        tile = cv2.copyMakeBorder(kernel, edge, edge, edge, edge, cv2.BORDER_CONSTANT)
        tiles.append(cv2.resize(tile, (116, 116), interpolation=cv2.INTER_NEAREST) / 1.8)
    return np.repeat(np.hstack(tiles)[..., None], 3, axis=2)


def field() -> np.ndarray:
    """White points on a plane that recedes upwards, in focus in the middle, at the widest opening."""
    margin = margin_px(FIELD)
    size = FIELD.height + 2 * margin, FIELD.width + 2 * margin
    image = np.zeros((*size, 3), np.float32)
    image[margin + 36 : -margin : 48, margin + 36 : -margin : 48] = 1.0
    dioptres = np.linspace(1 / 2.3, 1 / 1.15, size[0])[:, None]
    pair = render_pair(
        FIELD, "aperture", 2, 1, picture=picture_from_distance(image, np.broadcast_to(1 / dioptres, size))
    )
    # Saturates where a disc of 10 px does.
    return pair.blur_linear / pair.truth.aligned.max() * (np.pi * 10**2)


def main() -> None:
    """Kernels above, field below."""
    linear = np.clip(np.vstack([kernels(), field()]), 0, 1)
    write_image(ROOT / "docs/images/camera-points.png", (255 * linear ** (1 / 2.2)).round().astype(np.uint8))


if __name__ == "__main__":
    main()
