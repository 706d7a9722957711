"""Checks a frame after the shot: clipping, darkness, and exposure and sharpness against the pair's other frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging.luminance import luminance
from sdd_toolkit.quality import sharpness
from sdd_toolkit.records import Exposure

if TYPE_CHECKING:
    from capture.tether.plan_config import CheckTable
    from sdd_toolkit.imaging.frame import HalfFrame

HISTOGRAM_BINS = 16
_DARKEST_EV = -8.0
_BLACK_LEVEL = 2.0**_DARKEST_EV
_BARS = " ▁▂▃▄▅▆▇█"
_EXIF_TOLERANCE_EV = 1 / 6


@dataclass(frozen=True, slots=True)
class FrameCheck:
    """Exposure of one frame.

    Attributes:
        clipped_fraction: Fraction of saturated pixels.
        black_fraction: Fraction of pixels 8 stops or more below saturation.
        level: Linear level of the bright parts (99.5th percentile), 0 … 1.
        histogram: Fractions of pixels in 16 steps of half a stop, from -8 EV to saturation; sums to 1.
    """

    clipped_fraction: float
    black_fraction: float
    level: float
    histogram: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PairCheck:
    """Comparison of a blurred frame with the sharp one of its scene.

    Attributes:
        other: File of the other frame.
        exposure_ev: By how many stops the sharp frame is brighter, measured in the pixels.
        sharpness_gain: Ratio of fine detail, sharp over blurred; median over textured tiles.
    """

    other: str
    exposure_ev: float
    sharpness_gain: float


def check_frame(frame: HalfFrame) -> FrameCheck:
    """Measures one frame."""
    light = luminance(frame.rgb)
    stops = np.log2(np.maximum(light, _BLACK_LEVEL))
    counts, _ = np.histogram(np.clip(stops, _DARKEST_EV, -1e-6), bins=HISTOGRAM_BINS, range=(_DARKEST_EV, 0.0))
    return FrameCheck(
        clipped_fraction=_round_figures(frame.clipped.mean()),
        black_fraction=_round_figures(np.mean(light <= _BLACK_LEVEL)),
        level=_round_figures(np.percentile(light, sharpness.BRIGHT_PERCENTILE)),
        histogram=tuple(_round_figures(share) for share in counts / light.size),
    )


def check_pair(blur: HalfFrame, sharp: HalfFrame, other: str) -> PairCheck:
    """Compares a pair without alignment, as on a tripod; `other` is the file of the frame taken before."""
    measured = sharpness.measure_quality(blur.rgb, sharp.rgb, 0.0, None)
    return PairCheck(
        other=other,
        exposure_ev=_round_figures(measured.exposure_ev),
        sharpness_gain=_round_figures(measured.sharpness_gain),
    )


def find_problems(frame: FrameCheck, pair: PairCheck | None, limits: CheckTable) -> tuple[str, ...]:
    """The limits that a frame or its pair exceeds, in words; empty if it passes."""
    problems = []
    if frame.clipped_fraction > limits.max_clipped_fraction:
        problems.append(f"over-exposed: {frame.clipped_fraction:.1%} of the pixels are saturated")
    if frame.level < limits.min_level:
        problems.append(f"under-exposed: its bright parts reach {frame.level:.1%} of saturation")
    if pair is not None and abs(pair.exposure_ev) > limits.max_exposure_ev:
        problems.append(f"the pair's exposures do not match: sharp is {pair.exposure_ev:+.1f} EV off blurred")
    if pair is not None and pair.sharpness_gain < limits.min_sharpness_gain:
        problems.append(f"the sharp frame is hardly sharper: {pair.sharpness_gain:.2f} times the detail")
    return tuple(problems)


def exif_mismatches(asked: Exposure, in_file: Exposure) -> tuple[str, ...]:
    """Contradictions of a file's EXIF to the camera's settings; unknown values contradict nothing."""
    mismatches = []
    for name, value_set, value_in_file, stops in (
        ("f-number", asked.f_number, in_file.f_number, 2.0),
        ("shutter time in s", asked.shutter_s, in_file.shutter_s, 1.0),
        ("ISO", asked.iso, in_file.iso, 1.0),
    ):
        if value_set is None or value_in_file is None:
            continue
        if abs(stops * np.log2(value_set / value_in_file)) > _EXIF_TOLERANCE_EV:
            mismatches.append(f"EXIF tells {name} {value_in_file:.4g}, set was {value_set:.4g}")
    return tuple(mismatches)


def histogram_bar(frame: FrameCheck) -> str:
    """The histogram as a short line of bars, dark to bright."""
    top = max(frame.histogram) or 1.0
    return "".join(_BARS[round(share / top * (len(_BARS) - 1))] for share in frame.histogram)


def _round_figures(value: float | np.floating) -> float:
    return float(f"{float(value):.6g}")
