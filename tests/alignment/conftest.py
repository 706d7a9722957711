"""Scenes with planted truth: dead leaves, a known homography, a disc, a gain, noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sdd_toolkit.imaging import geometry, resampling

SIZE = (320, 432)
MARGIN_PX = 48


@dataclass(frozen=True)
class Planted:
    blur: NDArray[np.float32]
    sharp: NDArray[np.float32]
    homography: NDArray[np.float64]


def leaves(
    seed: int, size: tuple[int, int] = (SIZE[0] + 2 * MARGIN_PX, SIZE[1] + 2 * MARGIN_PX)
) -> NDArray[np.float32]:
    """Overlapping textured discs of all sizes: edges and detail at every scale, as in a photograph."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), 0.3, np.float32)
    for radius in sorted(np.exp(rng.uniform(np.log(3), np.log(60), 900)), reverse=True):
        centre = (int(rng.uniform(0, size[1])), int(rng.uniform(0, size[0])))
        cv2.circle(image, centre, int(radius), rng.uniform(0.05, 0.8, 3).tolist(), -1, cv2.LINE_AA)
    grain = cv2.GaussianBlur(rng.normal(0, 1, size).astype(np.float32), (0, 0), 1.2)
    return np.clip(image * (1 + 0.3 * grain[..., None]), 0.01, 0.95).astype(np.float32)


def softened(image: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """A disc drawn by area at 16 times the resolution: not the code under test."""
    if radius_px == 0:
        return image
    reach = int(np.ceil(radius_px)) + 1
    fine = (np.arange((2 * reach + 1) * 16) + 0.5) / 16 - 0.5 - reach
    inside = (fine[:, None] ** 2 + fine[None] ** 2 <= radius_px**2).astype(np.float32)
    kernel = inside.reshape(2 * reach + 1, 16, 2 * reach + 1, 16).mean((1, 3))
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)


def matrix_of(
    zoom: float, rotation_deg: float, shift_px: tuple[float, float], perspective: float
) -> NDArray[np.float64]:
    """About the centre of the uncropped scene."""
    height, width = SIZE[0] + 2 * MARGIN_PX, SIZE[1] + 2 * MARGIN_PX
    to_centre = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
    angle = np.radians(rotation_deg)
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    inner = np.array([[c, -s, shift_px[0]], [s, c, shift_px[1]], [perspective, -perspective / 2, 1]])
    return np.asarray(np.linalg.inv(to_centre) @ inner @ to_centre, np.float64)


@pytest.fixture(scope="session")
def plant() -> Callable[..., Planted]:
    def make(
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
    ) -> Planted:
        rng = np.random.default_rng(seed + 1000)
        scene = leaves(seed) if image is None else image
        other = scene.copy()
        if moved_px:
            # A square of 9 % of the frame, elsewhere in the blurred frame than in the sharp one.
            patch = leaves(seed + 77, (112, 112))
            scene, top, left = scene.copy(), 120, 130
            scene[top : top + 112, left : left + 112] = patch
            other[top : top + 112, left + moved_px : left + moved_px + 112] = patch
        matrix = matrix_of(zoom, rotation_deg, shift_px, perspective)
        seen = resampling.warp(other, np.linalg.inv(matrix), scene.shape[:2])
        seen = softened(seen, radius_px) * gain
        m = MARGIN_PX
        cut = np.array([[1, 0, -m], [0, 1, -m], [0, 0, 1.0]])
        blur, sharp = (
            np.clip(frame + rng.normal(0, noise, frame.shape), 0, 1).astype(np.float32)[m:-m, m:-m]
            for frame in (seen, scene)
        )
        return Planted(blur, sharp, geometry.normalised(cut @ matrix @ np.linalg.inv(cut)))

    return make
