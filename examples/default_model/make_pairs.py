"""Renders the training pairs of the default model with the virtual camera: photographs, graphics and dead leaves.

Each pair gets a lens, a depth map, a sensor and a file format of its own, drawn from the seed and its number. The
blurred picture is what a photographer would have: blurred in linear light, with noise, demosaicing, JPEG compression
or a palette. The sharp one is the truth on the same grid. Fine grain stays in the sharp picture, so that the network
does not learn to smooth what is sharp; strong noise and compression do not.

Usage: python make_pairs.py PICTURES OUT --pairs 800 --seed 0 --workers 2
Writes OUT/train/{blur,gt}/NUMBER.png and OUT/val/{blur,gt}/NUMBER.png; a stopped run resumes.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from capture.virtual.config import SimulateConfig
from capture.virtual.optics import optics_at
from capture.virtual.picture import picture_from_nearness, synthesise_nearness
from capture.virtual.render_pair import RenderedPair, margin_px, render_pair
from capture.virtual.sensor import CAMERA_FROM_SRGB, NEUTRAL
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_values
from sdd_toolkit.imaging.encoding import Encoding, encode, srgb_decode, uint16_to_linear
from sdd_toolkit.raw.demosaic import Mosaic, demosaic_ahd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from capture.virtual.picture import Picture

    Image = NDArray[np.float32]

SIZE_PX = (448, 320)
"""Width and height of a pair."""
VALIDATION_SHARE = 40
"""One pair of this many is for validation."""
RADII_PX = ((0.5, 1.5), (1.5, 6.0), (6.0, 12.0))
"""Ranges of the largest radius in a pair; the focal plane lies within the scene, so every pair has smaller ones."""
RADIUS_SHARES = (0.1, 0.7, 0.2)
_BLACK, _WHITE = 512, 16383
_LOW_PASS_PX = 0.45


@dataclass(frozen=True, slots=True)
class PairTask:
    """One pair to render.

    Attributes:
        number: Of the pair; with the seed it determines everything.
        seed: Of the series.
        photographs: The sharp pictures of each photograph; one with more of them is drawn more often.
        out: Folder of the data set.
    """

    number: int
    seed: int
    photographs: tuple[tuple[Path, ...], ...]
    out: Path


def render_task(task: PairTask) -> int:
    """Renders and writes one pair, unless both files exist. Returns its number."""
    split = "val" if task.number % VALIDATION_SHARE == VALIDATION_SHARE - 1 else "train"
    blur, sharp = (task.out / split / role / f"{task.number:05d}.png" for role in ("blur", "gt"))
    if not (blur.is_file() and sharp.is_file()):
        cv2.setNumThreads(1)
        pair = make_pair(task, np.random.default_rng([task.seed, task.number]))
        for path, codes in zip((blur, sharp), pair, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_values(path, codes)
    return task.number


def make_pair(task: PairTask, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The blurred and the sharp picture of one pair, 8-bit sRGB."""
    config = draw_camera(rng)
    kind = "focus" if rng.random() < 0.12 else "aperture"
    source = rng.choice(["photograph", "graphics", "leaves"], p=[0.75, 0.10, 0.15])
    picture = None
    if source == "photograph":
        weights = np.sqrt([len(pictures) for pictures in task.photographs])
        photograph = task.photographs[rng.choice(len(weights), p=weights / weights.sum())]
        picture = load_photograph(photograph[rng.integers(len(photograph))], config, rng)
    elif source == "graphics":
        picture = draw_graphics(config, rng)
    pair = render_pair(config, kind, task.seed, task.number, picture=picture)
    light = [
        optics_at(shot.f_number, config, (0.0, 0.0)).light(config.size) for shot in (pair.plan.blur, pair.plan.sharp)
    ]
    truth = pair.truth.aligned * (light[0] / light[1])[..., None]
    if rng.random() < 0.05:
        # A photograph that is sharp everywhere must stay as it is.
        blurred = truth
    else:
        blurred = pair.blur_linear if rng.random() < 0.75 else develop(pair, config, rng)
    return degrade(np.clip(blurred, 0, 1), np.clip(truth, 0, 1), rng)


def draw_camera(rng: np.random.Generator) -> SimulateConfig:
    """Draws a lens and a sensor; both shots have the same geometry and exposure."""
    low, high = RADII_PX[rng.choice(len(RADII_PX), p=RADIUS_SHARES)]
    largest = float(rng.uniform(low, high))
    fancy = rng.random()
    return SimulateConfig(
        width=SIZE_PX[0],
        height=SIZE_PX[1],
        pixel_pitch_um=27.8,
        min_coc_px=0.6 * largest,
        max_coc_px=largest,
        sharp_coc_px=min(0.5, largest),
        blades=int(rng.choice([0, 5, 6, 7, 8, 9], p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])),
        blade_roundness=float(rng.random()),
        blade_turn_deg=float(rng.uniform(-180, 180)),
        cat_eye=float(rng.uniform(0.2, 0.7)) if fancy < 0.25 else 0.0,
        spherical_aberration_px=float(rng.uniform(-0.35, 0.35) * largest) if 0.25 < fancy < 0.55 else 0.0,
        longitudinal_ca=(float(rng.uniform(-4e-4, 4e-4)), float(rng.uniform(-4e-4, 4e-4)))
        if fancy > 0.8
        else (0.0, 0.0),
        depth="ramp" if rng.random() < 0.5 else "layers",
        max_zoom=0.02,
        max_shift_px=0.0,
        max_rotation_deg=0.0,
        exposure_error_ev=0.0,
        vignetting=0.0,
        highlight_level=float(rng.uniform(0.7, 1.4)),
        iso=int(rng.choice([100, 200, 400, 800, 1600, 3200])),
        black_level=_BLACK,
        white_level=_WHITE,
    )


def load_photograph(path: Path, config: SimulateConfig, rng: np.random.Generator) -> Picture:
    """A window of a photograph as large as the canvas, so that it is not resampled, with a depth map."""
    light = srgb_decode(read_image(path).astype(np.float32) / np.float32(255))
    margin = margin_px(config)
    wanted = config.height + 2 * margin, config.width + 2 * margin
    missing = [max(0, size - have) for size, have in zip(wanted, light.shape[:2], strict=True)]
    light = np.pad(light, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
    top, left = (int(rng.integers(0, have - size + 1)) for have, size in zip(light.shape[:2], wanted, strict=True))
    window = light[top : top + wanted[0], left : left + wanted[1]]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    if rng.random() < 0.35:
        # What was clipped in the photograph is brighter in the scene: it makes the bright discs of real bokeh.
        clipped = np.clip((window.min(axis=2, keepdims=True) - 0.85) / 0.15, 0, 1)
        window = window * (1 + rng.uniform(0, 6) * clipped)
    window = window * rng.uniform(0.85, 1.15, 3)
    return _with_depth(np.ascontiguousarray(window, dtype=np.float32), config, rng)


def draw_graphics(config: SimulateConfig, rng: np.random.Generator) -> Picture:
    """Lines of text, bars and polygons with hard edges, which dead leaves and photographs have too few of."""
    margin = margin_px(config)
    height, width = config.height + 2 * margin, config.width + 2 * margin
    scale = 3
    drawing = np.empty((height * scale, width * scale, 3), np.uint8)
    drawing[:] = rng.integers(13, 243, 3)
    for _ in range(int(rng.integers(3, 14))):
        middle = rng.uniform(0, 1, 2) * (width * scale, height * scale)
        reach = rng.uniform(10, 120) * scale
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        corners = middle + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(drawing, [corners.astype(np.int32)], rng.integers(5, 251, 3).tolist())
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:-"))
    for _ in range(int(rng.integers(4, 22))):
        text = "".join(rng.choice(letters, int(rng.integers(4, 28))))
        size = float(np.exp(rng.uniform(np.log(0.3), np.log(2.5)))) * scale
        start = (rng.uniform(-0.1, 0.9, 2) * (width * scale, height * scale)).astype(int).tolist()
        colour = rng.integers(0, 256, 3) if rng.random() < 0.5 else np.full(3, rng.choice([5, 230]))
        thickness = max(1, round(size * rng.uniform(0.8, 2.2)))
        cv2.putText(drawing, text, start, int(rng.integers(0, 8)), size, colour.tolist(), thickness, cv2.LINE_8)
    reduced = cv2.resize(drawing.astype(np.float32) / 255, (width, height), interpolation=cv2.INTER_AREA)
    grain = cv2.GaussianBlur(rng.standard_normal((height, width, 1)).astype(np.float32), (0, 0), rng.uniform(0.5, 1.5))
    light = srgb_decode(np.clip(reduced * (1 + rng.uniform(0, 0.15) * grain[..., None]), 0, 1).astype(np.float32))
    return _with_depth(light, config, rng)


def _with_depth(light: Image, config: SimulateConfig, rng: np.random.Generator) -> Picture:
    nearness = synthesise_nearness((light.shape[0], light.shape[1]), config.depth, rng)
    if rng.random() < 0.5:
        nearness = 1 - nearness
    return picture_from_nearness(light, nearness, config)


def develop(pair: RenderedPair, config: SimulateConfig, rng: np.random.Generator) -> Image:
    """The blurred shot through an optical low-pass, a Bayer sensor and AHD demosaicing, linear sRGB."""
    from capture.virtual import sensor

    light = cv2.GaussianBlur(pair.blur_linear, (0, 0), _LOW_PASS_PX)
    samples = sensor.expose(np.asarray(light, dtype=np.float32), config, rng)
    gain = [65535 / ((_WHITE - _BLACK) * NEUTRAL[colour]) for colour in (0, 1, 1, 2)]
    mosaic = Mosaic(samples, (0, 1, 1, 2), (_BLACK,) * 4, (gain[0], gain[1], gain[2], gain[3]))
    to_srgb = np.linalg.inv(np.diag(1 / np.array(NEUTRAL)) @ CAMERA_FROM_SRGB)
    return np.asarray(uint16_to_linear(demosaic_ahd(mosaic, to_srgb)), dtype=np.float32)


def degrade(blurred: Image, truth: Image, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Encodes both as 8-bit sRGB: fine grain in both, strong noise, JPEG or a palette in the blurred one only."""
    codes = [
        encode(np.asarray(image, dtype=np.float32), Encoding.SRGB8).astype(np.float32) for image in (blurred, truth)
    ]
    grain = rng.standard_normal(codes[0].shape).astype(np.float32) * np.float32(rng.uniform(0, 1.0))
    if rng.random() < 0.5:
        grain = np.repeat(grain[..., :1], 3, axis=2)
    noise: Image = np.zeros_like(grain)
    if rng.random() < 0.12:
        noise = rng.standard_normal(codes[0].shape).astype(np.float32)
        if rng.random() < 0.5:
            noise = cv2.GaussianBlur(noise, (0, 0), 0.6) * np.float32(1.8)
        noise *= np.float32(rng.uniform(1.0, 6.0))
    inputs = np.clip(np.rint(codes[0] + grain + noise), 0, 255).astype(np.uint8)
    target = np.clip(np.rint(codes[1] + grain), 0, 255).astype(np.uint8)
    kind = rng.random()
    if kind < 0.30:
        inputs = _compress(inputs, int(rng.integers(78, 99)))
    elif kind < 0.42:
        inputs = _to_palette(inputs)
    return inputs, target


def _compress(codes: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, packed = cv2.imencode(".jpg", codes[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1], dtype=np.uint8)


def _to_palette(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """256 colours with Floyd-Steinberg dithering, as a GIF."""
    import PIL.Image

    picture = PIL.Image.fromarray(codes)
    palette = picture.quantize(256, method=PIL.Image.Quantize.MEDIANCUT)
    return np.asarray(picture.quantize(palette=palette, dither=PIL.Image.Dither.FLOYDSTEINBERG).convert("RGB"))


def _photograph_of(picture: Path) -> str:
    return picture.stem.rsplit("_", 3)[0]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, help="Folder of sharp photographs as PNG.")
    parser.add_argument("out", type=Path, help="Folder of the pairs.")
    parser.add_argument("--pairs", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    pictures = sorted(options.pictures.glob("*.png"), key=_photograph_of)
    photographs = tuple(tuple(sorted(group)) for _, group in groupby(pictures, _photograph_of))
    tasks = [PairTask(number, options.seed, photographs, options.out) for number in range(options.pairs)]
    with ProcessPoolExecutor(options.workers) as pool:
        for done in pool.map(render_task, tasks, chunksize=4):
            if done % 50 == 49:
                print(f"{done + 1} of {options.pairs} pairs", flush=True)


if __name__ == "__main__":
    main()
