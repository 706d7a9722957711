"""Real photographs, of which no truth is known: does a detour end where the straight way does, and what is left over?

Focal stacks: the first frame is registered to the last, and by way of each frame between them. Pairs of one scene
shot wide open and stopped down: dense inverse search, which knows nothing of our models, measures the motion that is
left in textured places after each aligner's homography.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import alignment
from benchmarks.alignment_sections.aligners import NOTHING, OURS, Image, Matrix, grey, installed_aligners
from benchmarks.alignment_sections.comparison import homography_or_none
from benchmarks.alignment_sections.measurement import Job, Measurement
from benchmarks.alignment_sections.options import Options
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.imaging import resampling
from sdd_toolkit.imaging.encoding import Encoding, decode
from tests.support.planted_pairs import corner_error_px

WIDE_OPEN = "wide open / stopped down"
LABEL_ROWS = 40
BORDER_PX = 16


def jobs(options: Options) -> list[Job]:
    """One a stack, one a pair."""
    stacks: list[Job] = [partial(stack, options, folder) for folder in options.stacks]
    return stacks + [partial(pair, options, number, *files) for number, files in enumerate(options.pairs)]


def stack(options: Options, folder: Path) -> list[Measurement]:
    """The corner distance between the direct and every indirect way, in pixels; nothing aligned is left out."""
    frames = [light(path) for path in sorted(folder.iterdir())]
    size, last, rows = frames[0].shape[:2], len(frames) - 1, []
    for method, aligner in installed_aligners(rivals=options.rivals).items():
        if method == NOTHING:
            continue
        straight = homography_or_none(aligner, frames[0], frames[last])
        if straight is not None:
            motion = corner_error_px(straight, np.eye(3), size)
            rows.append(Measurement("loops", folder.name, "first to last", method, "motion_px", motion))
        for middle in list(range(1, last))[: options.detours]:
            ways = (
                homography_or_none(aligner, frames[0], frames[middle]),
                homography_or_none(aligner, frames[middle], frames[last]),
            )
            gap = apart_px(straight, ways, size)
            rows.append(Measurement("loops", folder.name, f"by frame {middle + 1}", method, "loop_px", gap))
    return rows


def apart_px(straight: Matrix | None, ways: tuple[Matrix | None, Matrix | None], size: tuple[int, int]) -> float:
    there, on = ways
    if straight is None or there is None or on is None:
        return math.nan
    return corner_error_px(on @ there, straight, size)


def pair(options: Options, number: int, blurred: Path, sharper: Path) -> list[Measurement]:
    blur, sharp = light(blurred), light(sharper)
    height, width = (min(sides) for sides in zip(blur.shape[:2], sharp.shape[:2], strict=True))
    blur, sharp = (np.ascontiguousarray(frame[LABEL_ROWS:height, :width]) for frame in (blur, sharp))
    rows = []
    for method, aligner in installed_aligners(rivals=options.rivals).items():
        found = homography_or_none(aligner, blur, sharp)
        left = math.nan if found is None else residual_px(blur, sharp, found)
        rows.append(Measurement("loops", WIDE_OPEN, f"pair {number + 1}", method, "residual_px", left))
    found = alignment.register(blur, sharp)
    own = math.nan if found.failure is not None else found.residual_px
    rows.append(Measurement("loops", WIDE_OPEN, f"pair {number + 1}", OURS, "own_residual_px", own))
    return rows


def residual_px(blur: Image, sharp: Image, homography: Matrix) -> float:
    """Median length of the flow between the aligned frames on the more textured half of the pixels."""
    size = sharp.shape[:2]
    first, second = grey(resampling.warp(blur, homography, size)), grey(sharp)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(second, first, None)
    edges = cv2.GaussianBlur(np.hypot(*(cv2.Sobel(first, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))), (0, 0), 4)
    inner = slice(BORDER_PX, -BORDER_PX)
    length, edges = np.hypot(flow[..., 0], flow[..., 1])[inner, inner], edges[inner, inner]
    return float(np.median(length[edges >= np.median(edges)]))


def light(path: Path) -> Image:
    """(H, W, 3) float32 linear RGB."""
    return decode(read_image(path), Encoding.SRGB8)
