"""Alignment of defocused pairs with known truth: ours against what else there is, in one run.

`python benchmarks/alignment.py [--images 4] [--pairs 3] [--photographs DIR] [--size WxH] [--seed 0]` prints, for every
kind of pair and every aligner, the RMS error of the frame corners, how often it failed and CPU seconds per pair.

Photographs get a planted homography (zoom up to 2 %, shift up to 8 px, rotation up to 0.5 degrees, slight
perspective), one disc for the whole frame, a gain up to 0.2 EV and noise. Virtual pairs come from the virtual camera,
where the circle of confusion changes with depth; they are registered at half size, as `sdd align` does, and measured
in full-size pixels. No answer, or one that is more than 2 px wrong, counts as failed; median and worst are over all
answers. Everything but the times is the same in every run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A script's own folder comes first otherwise, and there this very file would hide the room `alignment`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from benchmarks.aligners import Aligner, Image, Matrix, aligners
from capture.virtual.config import SimulateConfig
from capture.virtual.shoot import render_pair
from sdd_toolkit import geometry
from sdd_toolkit.develop import Encoding, decode
from sdd_toolkit.images import read_image

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "natural"
RADII_PX = (0, 4, 8)
MARGIN_PX = 24
NOISE = 0.003
FAILED_PX = 2.0


@dataclass(frozen=True, slots=True)
class Case:
    """A pair with its truth; `scale` is full-size pixels per pixel of the frames."""

    blur: Image
    sharp: Image
    homography: Matrix
    scale: int = 1

    def error_px(self, found: Matrix) -> float:
        height, width = self.blur.shape[:2]
        full = geometry.scaled(found, float(self.scale))
        return geometry.corner_error_px(full, self.homography, (self.scale * height, self.scale * width))


def photographs(folder: Path, count: int, size: tuple[int, int] | None) -> list[Image]:
    """The first `count` photographs by name, linear, landscape; their middle if `size` is given."""
    frames = []
    for path in sorted(folder.glob("*.[pj][np]g"))[:count]:
        frame = decode(read_image(path), Encoding.SRGB8)
        frame = np.rot90(frame) if frame.shape[0] > frame.shape[1] else frame
        height, width = (
            min(a, b + 2 * MARGIN_PX) for a, b in zip(frame.shape[:2], size or frame.shape[:2], strict=True)
        )
        top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
        frames.append(np.ascontiguousarray(frame[top : top + height, left : left + width]))
    return frames


def planted(photograph: Image, radius_px: int, chance: np.random.Generator) -> Case:
    size = photograph.shape[:2]
    zoom, angle = 1 + chance.uniform(-0.02, 0.02), np.radians(chance.uniform(-0.5, 0.5))
    shift, tilt = chance.uniform(-8, 8, 2), chance.uniform(-1, 1, 2) * 4e-3 / max(size)
    to_centre = np.array([[1, 0, -(size[1] - 1) / 2], [0, 1, -(size[0] - 1) / 2], [0, 0, 1]])
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    about_centre = np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]], [*tilt, 1]])
    matrix = np.linalg.inv(to_centre) @ about_centre @ to_centre
    seen = geometry.warp(photograph, np.linalg.inv(matrix), size)
    seen = softened(seen, radius_px) * np.float32(2 ** chance.uniform(-0.2, 0.2))
    frames = [
        np.clip(frame + chance.normal(0, NOISE, frame.shape), 0, 1).astype(np.float32) for frame in (seen, photograph)
    ]
    cut = np.array([[1, 0, -MARGIN_PX], [0, 1, -MARGIN_PX], [0, 0, 1.0]])
    inner = slice(MARGIN_PX, -MARGIN_PX)
    return Case(frames[0][inner, inner], frames[1][inner, inner], cut @ matrix @ np.linalg.inv(cut))


def softened(frame: Image, radius_px: int) -> Image:
    """A disc drawn at 16 times the resolution, not the toolkit's own."""
    fine = (np.arange((2 * radius_px + 3) * 16) + 0.5) / 16 - 1.5 - radius_px
    inside = fine[:, None] ** 2 + fine[None] ** 2 <= max(radius_px, 0.5) ** 2
    kernel = inside.reshape(2 * radius_px + 3, 16, 2 * radius_px + 3, 16).mean((1, 3))
    return frame if radius_px == 0 else cv2.filter2D(frame, -1, (kernel / kernel.sum()).astype(np.float32))


def shot(camera: SimulateConfig, kind: str, seed: int, index: int) -> Case:
    pair = render_pair(camera, kind, seed=seed, index=index)
    return Case(half(pair.blur_mosaic, camera), half(pair.sharp_mosaic, camera), pair.plan.homography, scale=2)


def half(mosaic: np.ndarray, camera: SimulateConfig) -> Image:
    """One pixel for every RGGB block."""
    light = (mosaic.astype(np.float32) - camera.black_level) / (camera.white_level - camera.black_level)
    green = 0.5 * (light[0::2, 1::2] + light[1::2, 0::2])
    return np.clip(np.stack([light[0::2, 0::2], green, light[1::2, 1::2]], axis=-1), 0, 1)


def kinds_of_pairs(options: argparse.Namespace) -> Iterator[tuple[str, list[Case]]]:
    frames = photographs(options.photographs, options.images, options.size) if options.photographs.is_dir() else []
    if not frames:
        print(f"no photographs in {options.photographs.name}/: virtual pairs only\n")
    for radius in RADII_PX if frames else ():
        chance = [np.random.default_rng([options.seed, number]) for number in range(len(frames))]
        cases = [planted(frame, radius, mine) for frame, mine in zip(frames, chance, strict=True)]
        yield f"{len(cases)} photographs, disc of {radius} px", cases
    height, width = options.size or (864, 1296)
    camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
    for kind in ("focus", "aperture") if options.pairs else ():
        cases = [shot(camera, kind, options.seed, index) for index in range(options.pairs)]
        yield f"{len(cases)} virtual {kind} pairs", cases


def cpu_s() -> float:
    """CPU seconds of this process and of the programs it has run."""
    return sum(os.times()[:4])


def measured(aligner: Aligner, cases: list[Case]) -> str:
    errors, failed, start = [], 0, cpu_s()
    for case in cases:
        found = aligner(case.blur, case.sharp)
        error = np.inf if found is None else case.error_px(found)
        failed += not error <= FAILED_PX
        errors += [error] if np.isfinite(error) else []
    spent = (cpu_s() - start) / len(cases)
    median, worst = (f"{of(errors):.3f}" if errors else "-" for of in (np.median, np.max))
    return f"{median:>11s}{worst:>11s}{f'{failed}/{len(cases)}':>9s}{spent:>12.2f}"


def size_of(text: str) -> tuple[int, int]:
    width, height = (int(part) for part in text.split("x"))
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4, help="photographs")
    parser.add_argument("--pairs", type=int, default=3, help="virtual pairs of each kind")
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="folder of sharp PNG or JPEG files")
    parser.add_argument("--size", type=size_of, help="WxH of every frame; default: whole photographs and 1296x864")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rivals = aligners()
    for title, cases in kinds_of_pairs(options):
        height, width = cases[0].blur.shape[:2]
        print(f"{title}, registered at {width}x{height}")
        print(f"{'':26s}{'median px':>11s}{'worst px':>11s}{'failed':>9s}{'CPU s/pair':>12s}")
        for name, aligner in rivals.items():
            cv2.setRNGSeed(options.seed)
            print(f"{name:26s}" + ("  not installed" if aligner is None else measured(aligner, cases)), flush=True)
        print()


if __name__ == "__main__":
    main()
