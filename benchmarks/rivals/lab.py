"""The pipeline a laboratory would write for aligned pairs: full frames, SIFT, RANSAC, one warp, PNG of 16 bits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

RATIO = 0.75
"""Lowe's ratio test."""
RANSAC_PX = 3.0
LEAST_MATCHES = 4


def run(pairs: list[tuple[Path, Path]], out: Path) -> None:
    """Aligns every (blurred, sharp) pair of RAW files; leaves two PNG files and the homography of each in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for number, (blur_file, sharp_file) in enumerate(pairs):
        blur, sharp = develop(blur_file), develop(sharp_file)
        found = homography(blur, sharp)
        np.save(out / f"{number}.npy", np.full((3, 3), np.nan) if found is None else found)
        if found is None:
            continue
        height, width = sharp.shape[:2]
        warped = cv2.warpPerspective(blur, found, (width, height))
        seen = cv2.warpPerspective(np.ones((height, width), np.uint8), found, (width, height)) > 0
        rows, columns = valid_window(seen)
        for name, image in (("blur", warped), ("sharp", sharp)):
            cv2.imwrite(str(out / f"{number}_{name}.png"), np.ascontiguousarray(image[rows, columns, ::-1]))


def develop(path: Path) -> NDArray[np.uint16]:
    """LibRaw's demosaicing (AHD) of 16 bits, linear."""
    import rawpy

    with rawpy.imread(str(path)) as raw:
        return np.asarray(
            raw.postprocess(
                demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD, output_bps=16, gamma=(1, 1), no_auto_bright=True
            )
        )


def homography(blur: NDArray[np.uint16], sharp: NDArray[np.uint16]) -> NDArray[np.float64] | None:
    """Blurred to sharp by SIFT on the grey frames of 8 bits; None if there are too few matches."""
    sift = cv2.SIFT_create()
    points, marks = zip(*(sift.detectAndCompute(grey(frame), None) for frame in (blur, sharp)), strict=True)
    if any(found is None or len(found) < LEAST_MATCHES for found in marks):
        return None
    matches = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 5}, {"checks": 50}).knnMatch(*marks, k=2)
    good = [pair[0] for pair in matches if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
    if len(good) < LEAST_MATCHES:
        return None
    there = np.array([points[0][match.queryIdx].pt for match in good])
    here = np.array([points[1][match.trainIdx].pt for match in good])
    found, _ = cv2.findHomography(there, here, cv2.RANSAC, RANSAC_PX)
    return None if found is None else np.asarray(found, dtype=np.float64)


def grey(frame: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Brightness of 8 bits on a display curve: SIFT finds next to nothing in the shadows of linear light."""
    curve = np.rint(255 * np.linspace(0, 1, 65536) ** (1 / 2.2)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(curve[frame], cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def valid_window(seen: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the middle in which every pixel is seen, edges taken off as long as they are not."""
    top, bottom, left, right = 0, seen.shape[0], 0, seen.shape[1]
    while top < bottom and left < right:
        part = seen[top:bottom, left:right]
        edges = part[0].mean(), part[-1].mean(), part[:, 0].mean(), part[:, -1].mean()
        worst = int(np.argmin(edges))
        if edges[worst] == 1:
            break
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return slice(top, bottom), slice(left, right)
