"""Geometry drift: how exactly is a planted displacement found under defocus, and by whom?

`python benchmarks/drift.py [--size 640x480] [--scenes 1]` prints the mean error, block by block, of our estimate and
of two that expect equal sharpness: the block means of our optical flow, and OpenCV's phase correlation.

`python benchmarks/drift.py --depth 6 [--planted 0,1] [--folder shots]` plants shifts in the truth of scenes with depth
of the virtual camera, six focus and six aperture pairs, against their developed blurred frames.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path

# A script's own folder comes first otherwise, and `benchmarks/jdrl.py` would hide the package of that name.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from capture.virtual.config import SimulateConfig
from capture.virtual.stage import Series, simulate_pairs
from jdrl.flow.pyramid import pyramid_flow
from jdrl.metrics.drift import BLOCK_PX, estimate_drift
from sdd_toolkit.frames.reading import read_full

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


def as_8_bit(light: NDArray[np.float32]) -> Tensor:
    """Linear light, clipped and rounded to 8-bit codes as in a data set."""
    codes = np.rint(255 * np.clip(light, 0, 1) ** (1 / 2.2))
    return torch.from_numpy(np.ascontiguousarray(((codes / 255) ** 2.2).astype(np.float32).transpose(2, 0, 1)))[None]


def depth_cell(truth: NDArray[np.float32], blurred: Tensor, length_px: float) -> str:
    """Mean and 95th percentile of the error, and the share of blocks that answer, for one planted shift."""
    shift = length_px * np.array([0.8, 0.6])
    moved = truth
    if length_px:
        moved = scipy.ndimage.shift(truth, (shift[1], shift[0], 0), order=5, mode="nearest")
    errors = np.hypot(*(estimate_drift(as_8_bit(moved), blurred).field - shift).transpose(2, 0, 1))
    return f"{np.nanmean(errors):.3f} {np.nanpercentile(errors, 95):.3f} {np.isfinite(errors).mean():4.0%}"


def measure_depth(folder: Path, scenes: int, seed: int, lengths_px: list[float]) -> None:
    """Prints a line for each scene: the errors of what is planted."""
    print(f"{'':14s}{'radius px':>12s}" + "".join(f"{f'{length:g} px':>18s}" for length in lengths_px))
    for kind in ("focus", "aperture"):
        shots = folder / f"{kind}-{seed}"
        simulate_pairs(shots, SimulateConfig(), Series(scenes, kind, seed))
        for scene_folder in sorted(shots.glob("scene-*"))[:scenes]:
            with np.load(scene_folder / "truth.npz") as held:
                truth, radius = held["aligned"], held["coc_px"]
            blurred = as_8_bit(read_full(scene_folder / "blur.dng"))
            cells = [depth_cell(truth, blurred, length) for length in lengths_px]
            name, spread = f"{kind} {scene_folder.name[-2:]}", f"{radius.min():.1f}-{radius.max():.1f}"
            print(f"{name:14s}{spread:>12s}" + "".join(f"{cell:>18s}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT")
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--radii", default="0,1,2,4,6,8", help="of the disc, px")
    parser.add_argument("--depth", type=int, default=0, help="scenes with depth of either kind, instead of flat ones")
    parser.add_argument("--planted", default="0,0.1,0.25,0.5,1,2,4", help="lengths, px, of --depth")
    parser.add_argument("--seed", type=int, default=31, help="of --depth")
    parser.add_argument("--folder", type=Path, default=None, help="where the shots of --depth are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.depth:
        lengths_px = [float(length) for length in options.planted.split(",")]
        with tempfile.TemporaryDirectory() as scratch:
            measure_depth(options.folder or Path(scratch), options.depth, options.seed, lengths_px)
        return
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
