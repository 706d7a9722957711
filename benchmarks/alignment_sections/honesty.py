"""Does our aligner know how good it is, and does it refuse what cannot be aligned?

The same planted pairs as elsewhere, easy, hard and impossible. Impossible: two different scenes, a black frame, a wall
without texture, a disc of 100 px. The corner error of a refused pair is that of not aligning it; its own estimate then
counts as larger than any other.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

import alignment
from benchmarks.alignment_sections import photographs, planted
from benchmarks.alignment_sections.aligners import OURS
from benchmarks.alignment_sections.comparison import Case
from benchmarks.alignment_sections.measurement import Job, Measurement, values
from benchmarks.alignment_sections.options import Options

EASY_RADII_PX = (0.0, 4.0, 8.0, 16.0)
HARD_RADII_PX = (24.0, 32.0, 48.0)
IMPOSSIBLE_RADIUS_PX = 100.0
WALL_LEVEL = 0.3
EASY = tuple(f"disc of {radius:g} px" for radius in EASY_RADII_PX)
HARD = tuple(f"disc of {radius:g} px" for radius in HARD_RADII_PX)
IMPOSSIBLE = ("different scenes", "black", "no texture", f"disc of {IMPOSSIBLE_RADIUS_PX:g} px")


def jobs(options: Options) -> list[Job]:
    """One a scene."""
    return [partial(scene, options, number) for number in range(options.images)]


def scene(options: Options, number: int) -> list[Measurement]:
    radii = (*EASY_RADII_PX, *HARD_RADII_PX, IMPOSSIBLE_RADIUS_PX)
    plant = partial(planted.scene_cases, options.photographs, size=options.size, motion=planted.SMALL)
    pairs = plant(number=number, radii_px=radii, seed=options.seed + 1)
    (other,) = plant(number=number + 1, radii_px=(0.0,), seed=options.seed + 1)
    easy = pairs[0]
    dark = Case(np.zeros_like(easy.blur), easy.sharp, easy.homography)
    named = dict(zip((*EASY, *HARD, IMPOSSIBLE[-1]), pairs, strict=True))
    named |= {
        IMPOSSIBLE[0]: mismatch(easy, other),
        IMPOSSIBLE[1]: dark if number % 2 else swap(dark),
        IMPOSSIBLE[2]: wall(easy, np.random.default_rng([options.seed, number])),
    }
    rows = []
    for kind, case in named.items():
        found = alignment.register(case.blur, case.sharp)
        estimate = math.nan if found.failure is not None or found.error_px is None else found.error_px
        values_px = {"corner_error_px": case.error_px(found.homography), "estimate_px": estimate}
        rows += [
            Measurement("honesty", kind, f"photograph {number + 1}", OURS, name, values_px[name]) for name in values_px
        ]
    return rows


def mismatch(case: Case, other: Case) -> Case:
    """The blurred frame of one with the sharp frame of the other."""
    size = tuple(min(sides) for sides in zip(case.blur.shape[:2], other.sharp.shape[:2], strict=True))
    frames = [photographs.middle(frame, size) for frame in (case.blur, other.sharp)]
    return Case(frames[0], frames[1], case.homography)


def swap(case: Case) -> Case:
    return Case(case.sharp, case.blur, np.linalg.inv(case.homography), case.scale)


def wall(like: Case, chance: np.random.Generator) -> Case:
    """A wall lit from one side, twice, with the noise of the camera."""
    height, width = like.blur.shape[:2]
    light = WALL_LEVEL * (
        1 + 0.3 * np.linspace(-1, 1, width)[None, :, None] + 0.1 * np.linspace(-1, 1, height)[:, None, None]
    )
    frames = [planted.add_noise(np.repeat(light, 3, axis=2), planted.NOISE, chance) for _ in range(2)]
    return Case(frames[0], frames[1], like.homography)


def pairs_of(rows: list[Measurement], kinds: tuple[str, ...]) -> list[tuple[float, float]]:
    """(true error, own estimate or NaN) of every pair of these kinds."""
    found: list[tuple[float, float]] = []
    for kind in kinds:
        of = partial(values, rows, section="honesty", group=kind)
        found += zip(of("corner_error_px"), of("estimate_px"), strict=True)
    return found


def rank_correlation(pairs: list[tuple[float, float]]) -> float:
    """Spearman's, ties at their mean rank; no estimate ranks above every estimate."""
    if len(pairs) < 3:
        return math.nan
    true, estimated = (
        ranks([math.inf if math.isnan(value) else value for value in side]) for side in zip(*pairs, strict=True)
    )
    return float(np.corrcoef(true, estimated)[0, 1])


def ranks(found: list[float]) -> np.ndarray:
    _, place, count = np.unique(np.array(found), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def refused_fraction(pairs: list[tuple[float, float]]) -> float:
    return sum(math.isnan(estimate) for _, estimate in pairs) / len(pairs) if pairs else math.nan
