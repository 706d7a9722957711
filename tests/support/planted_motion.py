"""Pairs with planted truth: a dead-leaves scene, a known homography, a disc, a gain, noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.records import FileRef
from sdd_toolkit.storage.files import sha256_of

SIZE = (320, 432)
MARGIN_PX = 48
UNCROPPED = (SIZE[0] + 2 * MARGIN_PX, SIZE[1] + 2 * MARGIN_PX)
_OBJECT_PX = 112


@dataclass(frozen=True)
class PlantedPair:
    """A blurred and a sharp frame, (H, W, 3) linear, and the homography from the one to the other."""

    blur: NDArray[np.float32]
    sharp: NDArray[np.float32]
    homography: NDArray[np.float64]


def dead_leaves(seed: int, size: tuple[int, int] = UNCROPPED) -> NDArray[np.float32]:
    """(H, W, 3) overlapping textured discs of all sizes: edges and detail at every scale, as in a photograph."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), 0.3, np.float32)
    for radius in sorted(np.exp(rng.uniform(np.log(3), np.log(60), 900)), reverse=True):
        centre = (int(rng.uniform(0, size[1])), int(rng.uniform(0, size[0])))
        cv2.circle(image, centre, int(radius), rng.uniform(0.05, 0.8, 3).tolist(), -1, cv2.LINE_AA)
    grain = cv2.GaussianBlur(rng.normal(0, 1, size).astype(np.float32), (0, 0), 1.2)
    return np.clip(image * (1 + 0.3 * grain[..., None]), 0.01, 0.95).astype(np.float32)


def blur_exactly(image: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """`image` under a disc drawn by area at 16 times the resolution: not the code under test."""
    if radius_px == 0:
        return image
    reach = int(np.ceil(radius_px)) + 1
    fine = (np.arange((2 * reach + 1) * 16) + 0.5) / 16 - 0.5 - reach
    inside = (fine[:, None] ** 2 + fine[None] ** 2 <= radius_px**2).astype(np.float32)
    kernel = inside.reshape(2 * reach + 1, 16, 2 * reach + 1, 16).mean((1, 3))
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)


def camera_motion(
    zoom: float, rotation_deg: float, shift_px: tuple[float, float], perspective: float
) -> NDArray[np.float64]:
    """(3, 3) homography about the centre of the uncropped scene."""
    height, width = UNCROPPED
    to_centre = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
    angle = np.radians(rotation_deg)
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    inner = np.array([[c, -s, shift_px[0]], [s, c, shift_px[1]], [perspective, -perspective / 2, 1]])
    return np.asarray(np.linalg.inv(to_centre) @ inner @ to_centre, np.float64)


def plant_pair(
    seed: int = 0,
    *,
    radius_px: float = 3.0,
    zoom: float = 1.012,
    rotation_deg: float = 0.2,
    shift_px: tuple[float, float] = (3.3, -2.1),
    perspective: float = 0.0,
    gain: float = 0.95,
    noise: float = 0.002,
    moved_px: int = 0,
    image: NDArray[np.float32] | None = None,
) -> PlantedPair:
    """A pair of `SIZE` whose frames differ by exactly this motion, blur, gain and noise.

    Args:
        seed: Of the scene and of the noise.
        radius_px: Of the disc that blurs the blurred frame.
        zoom: Magnification, blurred to sharp.
        rotation_deg: Rotation, blurred to sharp.
        shift_px: Shift of the centre, blurred to sharp.
        perspective: Entry h20 of the homography about the centre; h21 is -1/2 of it.
        gain: Brightness of the blurred frame relative to the sharp one.
        noise: Standard deviation of the noise of either frame.
        moved_px: How far an object of 9 % of the frame moves to the left between the blurred and the sharp frame.
        image: (H, W, 3) the scene; `dead_leaves(seed)` if None.
    """
    rng = np.random.default_rng(seed + 1000)
    scene = dead_leaves(seed) if image is None else image
    blurred_scene = scene.copy()
    if moved_px:
        patch = dead_leaves(seed + 77, (_OBJECT_PX, _OBJECT_PX))
        scene, top, left = scene.copy(), 120, 130
        scene[top : top + _OBJECT_PX, left : left + _OBJECT_PX] = patch
        blurred_scene[top : top + _OBJECT_PX, left + moved_px : left + moved_px + _OBJECT_PX] = patch
    matrix = camera_motion(zoom, rotation_deg, shift_px, perspective)
    warped = resampling.warp(blurred_scene, np.linalg.inv(matrix), scene.shape[:2])
    m = MARGIN_PX
    crop = np.array([[1, 0, -m], [0, 1, -m], [0, 0, 1.0]])
    blur, sharp = (
        np.clip(frame + rng.normal(0, noise, frame.shape), 0, 1).astype(np.float32)[m:-m, m:-m]
        for frame in (blur_exactly(warped, radius_px) * gain, scene)
    )
    return PlantedPair(blur, sharp, geometry.normalise_homography(crop @ matrix @ np.linalg.inv(crop)))


def write_at_double_size(path: Path, linear: NDArray[np.float32]) -> FileRef:
    """Writes a 16-bit sRGB PNG of twice the size whose 2x2 means are `linear`, (H, W, 3)."""
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    large = srgb.repeat(2, axis=0).repeat(2, axis=1)
    cv2.imwrite(str(path), np.rint(65535 * large).astype(np.uint16)[..., ::-1])
    return FileRef(path=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))
