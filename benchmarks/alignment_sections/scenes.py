"""Pairs of the virtual camera: blur that changes with depth, in either frame or both, and truth for every pixel.

They are developed and registered as `sdd align` does, one pixel for every 2x2 block of the sensor, and measured in
full-size pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

import alignment
from benchmarks.alignment_sections.aligners import NOTHING, OURS, Image, grey
from benchmarks.alignment_sections.comparison import Case, compare_aligners, cpu_s
from benchmarks.alignment_sections.measurement import Job, Measurement
from benchmarks.alignment_sections.options import Options
from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import RenderedPair, render_pair
from sdd_toolkit.imaging import geometry

Mask = NDArray[np.bool_]
DenseMotion = Callable[[Image, Image], tuple[Image, Mask | None]]

LARGEST_COC_PX = 12.0
TEXTURE_SIGMA_PX = 4.0
TEXTURE_CONTRAST = 0.02
CONSISTENT_PX = 1.0
LEAST_OCCLUSION = 1e-3


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to shoot a pair; `swapped` makes the softer frame the second."""

    name: str
    pair: str
    sharp_coc_px: float = 0.5
    swapped: bool = False
    defect: str | None = None


KINDS = (
    Kind("aperture", "aperture"),
    Kind("aperture, swapped", "aperture", swapped=True),
    Kind("focus", "focus"),
    Kind("focus, both soft", "focus", sharp_coc_px=6.0),
    Kind("moving object", "focus", defect="moving_object"),
)


@dataclass(frozen=True, slots=True)
class Truth:
    """On the first frame's grid: motion in full-size pixels; where it can and should be known."""

    motion: Image
    occlusion: Mask
    textured: Mask


def render_case(kind: Kind, size: tuple[int, int], seed: int, index: int) -> tuple[Case, Truth]:
    """A pair of half-size frames, and what is true of its first frame's pixels."""
    height, width = size
    camera = SimulateConfig(
        width=width,
        height=height,
        pixel_pitch_um=min(100.0, 36000 / width),
        min_coc_px=LARGEST_COC_PX / 2,
        max_coc_px=LARGEST_COC_PX,
        sharp_coc_px=kind.sharp_coc_px,
    )
    pair = render_pair(camera, kind.pair, seed=seed, index=index, defect=kind.defect)
    first, second = read_half(pair.blur_mosaic, camera), read_half(pair.sharp_mosaic, camera)
    if not kind.swapped:
        return Case(first, second, pair.plan.homography, scale=2), truth_of_blurred(pair)
    back = np.linalg.inv(pair.plan.homography)
    return Case(second, first, back, scale=2), truth_of_sharp(pair, back)


def truth_of_blurred(pair: RenderedPair) -> Truth:
    occlusion = bin_2x2(pair.truth.occlusion.astype(np.float32)) > 0
    return Truth(bin_2x2(pair.truth.displacement), occlusion, texture_mask(bin_2x2(pair.truth.aligned)))


def truth_of_sharp(pair: RenderedPair, back: NDArray[np.float64]) -> Truth:
    """The same of the sharp frame, where nothing but the camera moved."""
    height, width = pair.sharp_linear.shape[:2]
    motion = geometry.displacement(back, (height, width))
    ys, xs = np.mgrid[0:height, 0:width]
    x, y = xs + motion[..., 0], ys + motion[..., 1]
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return Truth(bin_2x2(motion), bin_2x2((~inside).astype(np.float32)) > 0, texture_mask(bin_2x2(pair.sharp_linear)))


def read_half(mosaic: NDArray[np.uint16], camera: SimulateConfig) -> Image:
    """One pixel for every RGGB block."""
    light = (mosaic.astype(np.float32) - camera.black_level) / (camera.white_level - camera.black_level)
    green = 0.5 * (light[0::2, 1::2] + light[1::2, 0::2])
    return np.clip(np.stack([light[0::2, 0::2], green, light[1::2, 1::2]], axis=-1), 0, 1)


def bin_2x2(image: Image) -> Image:
    return 0.25 * (image[0::2, 0::2] + image[0::2, 1::2] + image[1::2, 0::2] + image[1::2, 1::2])


def texture_mask(light: Image) -> Mask:
    """Pixels whose sharp scene has local contrast: 2 % of white in square root of luminance."""
    tone = np.sqrt(np.maximum(light.mean(axis=2), 0))
    mean, square = (cv2.GaussianBlur(part, (0, 0), TEXTURE_SIGMA_PX) for part in (tone, tone**2))
    return square - mean**2 > TEXTURE_CONTRAST**2


def ours(first: Image, second: Image) -> tuple[Image, Mask | None]:
    found = alignment.flow(first, second)
    return found.field, getattr(found, "occlusion", None)


def homography_alone(first: Image, second: Image) -> tuple[Image, Mask | None]:
    return geometry.displacement(alignment.register(first, second).homography, first.shape[:2]), None


def inverse_search(first: Image, second: Image) -> tuple[Image, Mask | None]:
    """DIS (Kroeger et al. 2016) both ways; what does not come back within a pixel is occluded."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return both_ways(lambda a, b: dis.calc(a, b, None), first, second)


def polynomial_expansion(first: Image, second: Image) -> tuple[Image, Mask | None]:
    """Farnebäck 2003, both ways."""
    return both_ways(lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 5, 21, 5, 7, 1.5, 0), first, second)


def both_ways(flow: Callable[..., Image], first: Image, second: Image) -> tuple[Image, Mask]:
    a, b = grey(first), grey(second)
    there, back = flow(a, b), flow(b, a)
    ys, xs = np.mgrid[0 : a.shape[0], 0 : a.shape[1]].astype(np.float32)
    x, y = xs + there[..., 0], ys + there[..., 1]
    returned = there + cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    outside = (x < -0.5) | (x > a.shape[1] - 0.5) | (y < -0.5) | (y > a.shape[0] - 0.5)
    return there, outside | (np.hypot(returned[..., 0], returned[..., 1]) > CONSISTENT_PX)


OUR_FLOWS: dict[str, DenseMotion] = {OURS: ours, "our homography alone": homography_alone}
FLOWS = OUR_FLOWS | {"DIS, medium": inverse_search, "Farnebäck": polynomial_expansion}


def jobs(options: Options) -> list[Job]:
    """One a pair."""
    return [partial(scene, options, kind, index) for kind in KINDS for index in range(options.scenes)]


def scene(options: Options, kind: Kind, index: int) -> list[Measurement]:
    case, truth = render_case(kind, options.scene_size, options.seed, index + 1)
    name = f"scene {index + 1}"
    rows = compare_aligners("virtual", kind.name, name, case, rivals=options.rivals)
    known = truth.textured & ~truth.occlusion
    nothing = NOTHING, lambda first, second: (np.zeros((*first.shape[:2], 2), np.float32), None)
    for method, motion in (nothing, *(FLOWS if options.rivals else OUR_FLOWS).items()):
        start = cpu_s()
        field, occlusion = motion(case.blur, case.sharp)
        spent = cpu_s() - start
        endpoint_px = np.linalg.norm(case.scale * field - truth.motion, axis=-1)[known]
        found = {
            "epe_median_px": float(np.median(endpoint_px)),
            "epe_p95_px": float(np.percentile(endpoint_px, 95)),
            "occlusion_f1": math.nan if occlusion is None else f1(occlusion, truth.occlusion),
            "flow_cpu_s": spent,
        }
        rows += [Measurement("virtual", kind.name, name, method, quantity, value) for quantity, value in found.items()]
    return rows


def f1(found: Mask, true: Mask) -> float:
    """Harmonic mean of precision and recall; NaN where next to nothing is occluded."""
    if true.mean() < LEAST_OCCLUSION:
        return math.nan
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))
