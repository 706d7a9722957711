"""Pictures of dead leaves for tests that compare contents, and the same scene captured again."""

from __future__ import annotations

import cv2
import numpy as np


def leaves_picture(seed: int, height: int = 128, width: int = 192) -> np.ndarray:
    """(height, width) grey picture of overlapping discs; pictures of two seeds differ as two photographs do."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width), 0.5, np.float32)
    for _ in range(400):
        radius = int(3 / rng.uniform(0.08, 1.0))
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(picture, centre, radius, float(rng.uniform(0.1, 1.0)), -1)
    return picture


def recapture(picture: np.ndarray, zoom: float, turn_deg: float, shift: float, blur: float, gain: float) -> np.ndarray:
    """Zooms, rotates, shifts by a fraction of the width, blurs by a disc of such a diameter, and scales the light."""
    height, width = picture.shape
    motion = cv2.getRotationMatrix2D((width / 2, height / 2), turn_deg, zoom)
    motion[:, 2] += shift * width
    moved = cv2.warpAffine(picture, motion, (width, height), borderMode=cv2.BORDER_REFLECT)
    side = int(blur * width) // 2 * 2 + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.float32)
    return gain * cv2.filter2D(moved, -1, disc / disc.sum())
