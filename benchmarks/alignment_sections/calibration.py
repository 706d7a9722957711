"""Is our estimate of the corner error as large as the error? Loops of focal stacks, and planted pairs.

A stack is registered at half size, as `sdd align` does. A loop is a way from one frame to another by a third, against
the direct way; its estimate adds those of its three pairs in quadrature. What all pairs of a stack have in common, such
as a moved camera's view of near and far, cancels in a loop; where it does not, no error is known.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

import alignment
from benchmarks.alignment_sections import planted
from benchmarks.alignment_sections.aligners import OURS, Image
from benchmarks.alignment_sections.measurement import Job, Measurement, distinct, values
from benchmarks.alignment_sections.options import Options
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.imaging.array_checks import linear_frame
from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.records import Alignment
from tests.support.planted_pairs import corner_error_px

SECTION = "calibration"
SIGMA_SHARE = 0.68
PLANTED = "planted, disc of"
ALL_LOOPS, ALL_PLANTED = "all loops", "all planted pairs"


def jobs(options: Options) -> list[Job]:
    """One a stack, one a photograph."""
    stacks: list[Job] = [partial(stack, options, folder) for folder in options.every_stack]
    count = options.images if options.photographs else 0
    return stacks + [partial(photograph, options, number) for number in range(count)]


def photograph(options: Options, number: int) -> list[Measurement]:
    """Error and estimate of planted pairs, half as large and half as blurred as those of `planted`."""
    size = (options.size[0] // 2, options.size[1] // 2)
    radii_px = tuple(radius / 2 for radius in options.radii_px)
    pairs = planted.scene_cases(options.photographs, number, size, planted.SMALL, radii_px, options.seed + 2)
    rows = []
    for radius, case in zip(radii_px, pairs, strict=True):
        found = alignment.register(case.blur, case.sharp)
        estimate_px = math.nan if found.failure is not None or found.error_px is None else found.error_px
        error_px = math.nan if math.isnan(estimate_px) else case.error_px(found.homography)
        rows += measurements(f"{PLANTED} {radius:g} px", f"photograph {number + 1}", (error_px, estimate_px))
    return rows


def measurements(group: str, case: str, values_px: tuple[float, float]) -> list[Measurement]:
    named = zip(("corner_error_px", "estimate_px"), values_px, strict=True)
    return [Measurement(SECTION, group, case, OURS, quantity, value) for quantity, value in named]


def stack(options: Options, folder: Path) -> list[Measurement]:
    """Error and estimate of every loop; NaN where one of its pairs is refused."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    frames = [half_frame(path) for path in paths]
    loops = loops_of(len(frames))[: options.detours]
    pairs = distinct_pairs(loops)
    found = {pair: alignment.register(frames[pair[0]], frames[pair[1]]) for pair in pairs}
    rows = []
    for first, middle, last in loops:
        ways = found[first, middle], found[middle, last], found[first, last]
        rows += measurements(folder.name, f"{first + 1} > {middle + 1} > {last + 1}", loop_error_px(*ways))
    return rows


def half_frame(path: Path) -> Image:
    """(h, w, 3) float32 linear RGB at half size."""
    light = linear_frame(read_image(path), str(path))
    height, width = light.shape[0] // 2 * 2, light.shape[1] // 2 * 2
    return bin_2x2(np.ascontiguousarray(light[:height, :width]))


def loops_of(count: int) -> list[tuple[int, int, int]]:
    """From the first frame to the last by every other one; from every frame to the next but one by the next."""
    whole = [(0, middle, count - 1) for middle in range(1, count - 1)]
    return list(dict.fromkeys(whole + [(first, first + 1, first + 2) for first in range(count - 2)]))


def distinct_pairs(loops: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    return sorted(set(chain.from_iterable(((a, b), (b, c), (a, c)) for a, b, c in loops)))


def loop_error_px(there: Alignment, on: Alignment, straight: Alignment) -> tuple[float, float]:
    """(error, estimate) of a loop, NaN for a refused one."""
    errors = [way.error_px for way in (there, on, straight) if way.failure is None and way.error_px is not None]
    if len(errors) < 3:
        return math.nan, math.nan
    gap = corner_error_px(on.homography @ there.homography, straight.homography, straight.size)
    return gap, math.hypot(*errors)


def cases_of(rows: list[Measurement]) -> dict[str, list[tuple[float, float]]]:
    """(error, estimate) of every loop of each stack and of the planted pairs of each disc; NaN where refused."""
    mine = [row for row in rows if row.section == SECTION]
    found: dict[str, list[tuple[float, float]]] = {}
    for name in distinct(row.group for row in mine):
        error_px, estimate_px = (values(mine, quantity, group=name) for quantity in ("corner_error_px", "estimate_px"))
        found[name] = list(zip(error_px, estimate_px, strict=True))
    return found


def pooled(cases: dict[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    """All loops together, and all planted pairs."""
    sums: dict[str, list[tuple[float, float]]] = {ALL_LOOPS: [], ALL_PLANTED: []}
    for name, pairs in cases.items():
        sums[ALL_PLANTED if name.startswith(PLANTED) else ALL_LOOPS] += pairs
    return {name: pairs for name, pairs in sums.items() if pairs}


def ratios(pairs: list[tuple[float, float]]) -> np.ndarray:
    """Error over estimate of the pairs that have one."""
    return np.array([error / estimate for error, estimate in pairs if not math.isnan(estimate)])


def share_within(pairs: list[tuple[float, float]], factor: float) -> float:
    """Share of the cases whose error is at most `factor` times its estimate; NaN without cases."""
    known = ratios(pairs)
    return float(np.mean(known <= factor)) if known.size else math.nan


def share_by_the_others(cases: dict[str, list[tuple[float, float]]], name: str) -> float:
    """`share_within` of one group under the factor that puts 68 % of all other cases within."""
    others = ratios([pair for other, pairs in cases.items() if other != name for pair in pairs])
    return share_within(cases[name], float(np.quantile(others, SIGMA_SHARE))) if others.size else math.nan
