"""Geometry drift: how exactly is a planted displacement found under defocus, and by whom?

`python benchmarks/drift.py [--size 640x480] [--scenes 1]` prints the mean error, block by block, of our estimate and
of two that expect equal sharpness: the block means of our optical flow, and OpenCV's phase correlation.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

# A script's own folder comes first otherwise, and `benchmarks/jdrl.py` would hide the package of that name.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from jdrl.flow.pyramid import pyramid_flow
from jdrl.metrics.drift import BLOCK_PX, estimate_drift

MARGIN_PX = 48
SHIFTS_PX = ((0.0, 0.0), (0.25, 0.0), (1.0, -0.5), (-3.0, 2.0), (4.8, 3.6))
ZOOM = 1.01


def scene(size: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Overlapping discs of power-law size in linear light, at twice the resolution and slightly soft."""
    draw = np.random.default_rng([11, seed])
    height, width = (2 * (side + 2 * MARGIN_PX) for side in size)
    canvas = np.full((height, width, 3), 0.2, dtype=np.float32)
    for _ in range(height * width // 120):
        radius = int(2 / math.sqrt(draw.uniform(0.004, 1)))
        centre = (int(draw.integers(0, width)), int(draw.integers(0, height)))
        cv2.circle(canvas, centre, radius, draw.uniform(0, 1, 3).tolist(), -1)
    return cv2.GaussianBlur(canvas, (0, 0), 1.2)


def photograph(canvas: NDArray[np.float32], radius_px: float, shift_px: tuple[float, float], zoom: float) -> Tensor:
    """The scene moved and magnified exactly, blurred by a disc, kept in 8 bits, as linear light."""
    height, width = (side // 2 for side in canvas.shape[:2])
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    middle = ((width - 1) / 2, (height - 1) / 2)
    places = [(axis - c - d) / zoom + c for axis, c, d in zip((x, y), middle, shift_px, strict=True)]
    moved = cv2.remap(canvas, 2 * places[0], 2 * places[1], cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
    if radius_px:
        side = 2 * int(radius_px) + 3
        grid = (np.arange(8 * side) + 0.5) / 8 - side / 2
        kernel = (np.hypot(grid[:, None], grid) <= radius_px).astype(np.float32)
        kernel = kernel.reshape(side, 8, side, 8).mean((1, 3))
        moved = cv2.filter2D(moved, -1, kernel / kernel.sum())
    codes = np.rint(255 * np.clip(moved[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX], 0, 1) ** (1 / 2.2))
    light = ((codes / 255) ** 2.2).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(light.transpose(2, 0, 1)))[None]


def ours(output: Tensor, blurred: Tensor) -> NDArray[np.float32]:
    return estimate_drift(output, blurred).field


def optical_flow(output: Tensor, blurred: Tensor) -> NDArray[np.float32]:
    flow = pyramid_flow(blurred ** (1 / 2.2), output ** (1 / 2.2))
    return F.avg_pool2d(flow, BLOCK_PX)[0].permute(1, 2, 0).numpy()


def phase_correlation(output: Tensor, blurred: Tensor) -> NDArray[np.float32]:
    """OpenCV's, under a Hann window."""
    a, b = (image[0].mean(0).numpy().astype(np.float64) for image in (output, blurred))
    window = cv2.createHanningWindow((BLOCK_PX, BLOCK_PX), cv2.CV_64F)
    rows, columns = (side // BLOCK_PX for side in b.shape)
    field = np.zeros((rows, columns, 2), np.float32)
    for row, column in np.ndindex(rows, columns):
        part = np.s_[row * BLOCK_PX : (row + 1) * BLOCK_PX, column * BLOCK_PX : (column + 1) * BLOCK_PX]
        field[row, column] = cv2.phaseCorrelate(np.ascontiguousarray(b[part]), np.ascontiguousarray(a[part]), window)[0]
    return field


METHODS = {"ours": ours, "flow": optical_flow, "phase": phase_correlation}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT")
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--radii", default="0,1,2,4,6,8", help="of the disc, px")
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = (int(side) for side in options.size.split("x"))
    radii = [float(radius) for radius in options.radii.split(",")]
    plans = [
        *((f"shift {math.hypot(*shift):.2f} px", shift, 1.0) for shift in SHIFTS_PX),
        ("zoom 1 %", (0.0, 0.0), ZOOM),
    ]
    rows, columns = height // BLOCK_PX, width // BLOCK_PX
    y, x = np.mgrid[0:rows, 0:columns] * BLOCK_PX + (BLOCK_PX - 1) / 2
    from_centre = np.stack([x - (width - 1) / 2, y - (height - 1) / 2], -1)
    canvases = [scene((height, width), seed) for seed in range(options.scenes)]
    print(f"{width}x{height}, {options.scenes} scenes, blocks of {BLOCK_PX} px: mean error in px (share that abstains)")
    print(f"{'':24s}" + "".join(f"{f'r = {radius:g}':>14s}" for radius in radii))
    for name, shift, zoom in plans:
        planted = np.float32(shift) + np.float32(zoom - 1) * from_centre
        for method, estimate in METHODS.items():
            cells = []
            for radius in radii:
                fields = [
                    estimate(photograph(canvas, 0.0, shift, zoom), photograph(canvas, radius, (0.0, 0.0), 1.0))
                    for canvas in canvases
                ]
                errors = np.concatenate([np.hypot(*(field - planted).transpose(2, 0, 1)).ravel() for field in fields])
                cells.append(f"{np.nanmean(errors):.3f} ({np.isnan(errors).mean():.2f})")
            print(f"{f'{name}, {method}':24s}" + "".join(f"{cell:>14s}" for cell in cells))


if __name__ == "__main__":
    main()
