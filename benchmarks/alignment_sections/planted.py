"""Pairs of photographs with a motion and a blur that are known, made without the toolkit's own warps and discs.

The scene is the quintic spline through the photograph's pixels, a function of continuous position. The sharp frame
is that function at whole pixels, which is the photograph itself; the blurred frame is the same function at the mapped
positions, evaluated in float64 (`scipy.ndimage`, no table of sampling positions as in OpenCV's warps) and then folded
with a disc. So the truth is exact by construction, however fine the motion is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.alignment_sections import photographs
from benchmarks.alignment_sections.comparison import Case, compare_aligners
from benchmarks.alignment_sections.measurement import Job, Measurement
from benchmarks.alignment_sections.options import Options
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.encoding import Encoding, decode, srgb_encode

Image = NDArray[np.float32]
Matrix = NDArray[np.float64]

SUPERSAMPLING = 16


@dataclass(frozen=True, slots=True)
class Motion:
    """Smallest and largest size of what is planted; every sign is drawn.

    Attributes:
        margin_px: Content around the sharp frame that the blurred one would see at most.
        least_margin_px: How little of it will do: what the disc carries into the frame.
    """

    zoom: tuple[float, float]
    shift_px: tuple[float, float]
    rotation_deg: tuple[float, float]
    perspective_px: float
    margin_px: int
    least_margin_px: int


SMALL = Motion(
    zoom=(0, 0.02), shift_px=(0, 8), rotation_deg=(0, 0.3), perspective_px=2, margin_px=56, least_margin_px=20
)
LARGE = Motion(
    zoom=(0.05, 0.10), shift_px=(35, 70), rotation_deg=(1, 2), perspective_px=2, margin_px=240, least_margin_px=240
)
GAIN = 0.1
NOISE = 1.5 / 255
LARGE_RADII_PX = (0, 4, 8)


def draw_homography(motion: Motion, size: tuple[int, int], chance: np.random.Generator) -> Matrix:
    """A homography, blurred to sharp; zoom, rotation and shift are those of the frame centre."""

    def either_way(low: float, high: float) -> float:
        return float(chance.choice([-1, 1]) * chance.uniform(low, high))

    zoom, angle = 1 + either_way(*motion.zoom), np.radians(either_way(*motion.rotation_deg))
    shift = either_way(*motion.shift_px), either_way(*motion.shift_px)
    direction, strength = chance.uniform(0, 2 * np.pi), chance.uniform(0, 1)
    # What a corner moves by is the tilt times the squared distance from the centre, at most.
    tilt = (
        strength * motion.perspective_px / (np.hypot(*size) / 2) ** 2 * np.array([np.cos(direction), np.sin(direction)])
    )
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    about_centre = np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]], [*tilt, 1]])
    to_centre = np.array([[1, 0, -(size[1] - 1) / 2], [0, 1, -(size[0] - 1) / 2], [0, 0, 1]])
    return geometry.normalise_homography(np.linalg.inv(to_centre) @ about_centre @ to_centre)


def warp_exactly(
    scene: Image, margin_px: int, homography: Matrix, size: tuple[int, int], ring_px: int
) -> NDArray[np.float64]:
    """The blurred frame before its blur, with `ring_px` more pixels on every side.

    Args:
        scene: (H, W, C) of the sharp frame and `margin_px` around it; mirrored beyond.
        margin_px: Pixels of the scene outside the sharp frame.
        homography: Blurred to sharp.
        size: (height, width) of both frames.
        ring_px: How far the blur will reach.
    """
    ys, xs = np.mgrid[-ring_px : size[0] + ring_px, -ring_px : size[1] + ring_px].astype(np.float64)
    there = np.tensordot(homography, np.stack([xs, ys, np.ones_like(xs)]), axes=1)
    where = there[1::-1] / there[2] + margin_px
    channels = np.moveaxis(np.asarray(scene, np.float64), -1, 0)
    return np.stack([ndimage.map_coordinates(plane, where, order=5, mode="mirror") for plane in channels], axis=-1)


def blur_by_disc(frame: NDArray[np.float64], radius_px: float, ring_px: int) -> NDArray[np.float64]:
    """A disc, drawn at 16 times the resolution, over a frame with a ring around it, which is cut off."""
    reach = int(np.ceil(radius_px)) + 1
    if radius_px > 0:
        side = 2 * reach + 1
        fine = (np.arange(side * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - side / 2
        inside = fine[:, None] ** 2 + fine[None] ** 2 <= radius_px**2
        kernel = inside.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).mean((1, 3))
        frame = cv2.filter2D(frame, -1, kernel / kernel.sum())
    return frame[ring_px:-ring_px, ring_px:-ring_px] if ring_px else frame


def add_noise(light: NDArray[np.float64], noise: float, chance: np.random.Generator) -> Image:
    """Linear light through a camera that writes 8-bit sRGB with noise in its codes; read back as linear light."""
    codes = 255 * (srgb_encode(light.astype(np.float32)) + chance.normal(0, noise, light.shape))
    return decode(np.clip(np.rint(codes), 0, 255).astype(np.uint8), Encoding.SRGB8)


def cases(
    scene: Image, margin_px: int, motion: Motion, radii_px: tuple[float, ...], chance: np.random.Generator
) -> list[Case]:
    """Pairs of one scene and one motion: one for every radius."""
    size = (scene.shape[0] - 2 * margin_px, scene.shape[1] - 2 * margin_px)
    homography, gain = draw_homography(motion, size, chance), 1 + chance.uniform(-GAIN, GAIN)
    ring = int(np.ceil(max(radii_px))) + 1
    moved = warp_exactly(scene, margin_px, homography, size, ring)
    inner = slice(margin_px, -margin_px)
    sharp = add_noise(scene[inner, inner].astype(np.float64), NOISE, chance)
    return [
        Case(add_noise(gain * blur_by_disc(moved, radius, ring), NOISE, chance), sharp, homography)
        for radius in radii_px
    ]


def scene_cases(
    paths: list[Path], number: int, size: tuple[int, int], motion: Motion, radii_px: tuple[float, ...], seed: int
) -> list[Case]:
    """The pairs of scene `number`, of one motion, one for every radius."""
    chance = np.random.default_rng([seed, number, int(1000 * motion.zoom[1])])
    scene, margin_px = photographs.scene(paths, number, size, motion.margin_px, motion.least_margin_px)
    return cases(scene, margin_px, motion, radii_px, chance)


def jobs(options: Options) -> list[Job]:
    """One a photograph: small motion, every radius."""
    return [partial(small, options, number) for number in range(options.images)]


def large_jobs(options: Options) -> list[Job]:
    """One a pair of large motion: two a photograph, the radii in turn."""
    return [partial(large, options, number) for number in range(2 * options.images)]


def small(options: Options, number: int) -> list[Measurement]:
    found = []
    pairs = scene_cases(options.photographs, number, options.size, SMALL, options.radii_px, options.seed)
    for radius, case in zip(options.radii_px, pairs, strict=True):
        found += compare_aligners("planted", f"{radius:g}", f"photograph {number + 1}", case, rivals=options.rivals)
    return found


def large(options: Options, number: int) -> list[Measurement]:
    radius = LARGE_RADII_PX[number % len(LARGE_RADII_PX)]
    photograph = number // 2
    (case,) = scene_cases(options.photographs, photograph, options.size, LARGE, (radius,), options.seed + number % 2)
    name = f"photograph {photograph + 1}, motion {number % 2 + 1}"
    return compare_aligners("large", f"{radius:g}", name, case, rivals=options.rivals)
