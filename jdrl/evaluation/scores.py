"""One image against one target: every number that `sdd evaluate` tells of it, and the means over pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jdrl.metrics.colour import match_colours
from jdrl.metrics.fidelity import mae, psnr, ssim
from jdrl.metrics.perceptual import LEAST_SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jdrl.metrics.drift import Drift
    from jdrl.metrics.perceptual import PerceptualMetric

_SSIM_WINDOW_PX = 11
MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Score:
    """One image under one protocol; None where something was not or cannot be measured.

    Attributes:
        pair: The pair's id; `mean` for the mean over all pairs.
        image: `input` (the blurred frame) or `deblurred`.
        protocol: `unwarped`, `aligned` or `official`.
        psnr_db: Peak signal-to-noise ratio.
        ssim: Structural similarity, 7x7 uniform window (scikit-image's default, the official code's).
        ssim_gaussian: The same with the Gaussian 11x11 window of the SSIM paper.
        mae: Mean absolute error, 0 … 1.
        psnr_colour_db: As `psnr_db`, after the colours of the image were brought to the sharp frame's by the fit
            between the blurred frame and the aligned sharp one.
        ssim_colour: `ssim` after the same.
        lpips: LPIPS 0.1, AlexNet; smaller is better.
        dists: DISTS at the frame's own size; smaller is better.
        drift_px: Mean displacement of a deblurred image against the blurred frame; of no protocol, repeated in each.
        drift_p95_px: Its 95th percentile over the blocks of a frame.
        checkpoint: Which one deblurred; empty for the input.
    """

    pair: str
    image: str
    protocol: str
    psnr_db: float | None
    ssim: float | None
    ssim_gaussian: float | None
    mae: float | None
    psnr_colour_db: float | None = None
    ssim_colour: float | None = None
    lpips: float | None = None
    dists: float | None = None
    drift_px: float | None = None
    drift_p95_px: float | None = None
    checkpoint: str = ""


MEASURES = (
    "psnr_db",
    "ssim",
    "ssim_gaussian",
    "mae",
    "psnr_colour_db",
    "ssim_colour",
    "lpips",
    "dists",
    "drift_px",
    "drift_p95_px",
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The measures that need weights; None where there are none."""

    lpips: PerceptualMetric | None = None
    dists: PerceptualMetric | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An image to be scored.

    Attributes:
        name: `input` or `deblurred`.
        checkpoint: Whose; empty for the input.
        image: (1, 3, H, W).
        drift: Of a deblurred image.
    """

    name: str
    checkpoint: str
    image: Tensor
    drift: Drift | None = None


def score(
    pair: str,
    protocol: str,
    candidate: Candidate,
    target: Tensor,
    valid: Tensor | None,
    colours: Tensor,
    metrics: Metrics,
) -> Score:
    """One image (1, 3, H, W) against its target on valid pixels.

    Args:
        pair: The pair's id.
        protocol: Its name.
        candidate: The image.
        target: (1, 3, H, W).
        valid: (1, 1, H, W); None: all pixels. LPIPS and DISTS, which look at neighbourhoods, see the target there.
        colours: (3, 4) of `jdrl.metrics.colour.colour_fit`.
        metrics: What else to measure.
    """
    image = candidate.image
    side = min(image.shape[-2:])
    fitted = match_colours(image, colours)
    seen = image if valid is None else image.where(valid > 0.5, target)
    shift = candidate.drift
    return Score(
        pair=pair,
        image=candidate.name,
        protocol=protocol,
        psnr_db=finite(psnr(image, target, valid)),
        ssim=finite(ssim(image, target, valid, window="uniform7")) if side >= _SSIM_WINDOW_PX else None,
        ssim_gaussian=finite(ssim(image, target, valid, window="gaussian11")) if side >= _SSIM_WINDOW_PX else None,
        mae=finite(mae(image, target, valid)),
        psnr_colour_db=finite(psnr(fitted, target, valid)),
        ssim_colour=finite(ssim(fitted, target, valid, window="uniform7")) if side >= _SSIM_WINDOW_PX else None,
        lpips=finite(metrics.lpips(seen, target)) if metrics.lpips and side >= LEAST_SIDE_PX else None,
        dists=finite(metrics.dists(seen, target)) if metrics.dists and side >= LEAST_SIDE_PX else None,
        drift_px=shift.mean_px if shift else None,
        drift_p95_px=shift.p95_px if shift else None,
        checkpoint=candidate.checkpoint,
    )


def finite(value: Tensor) -> float | None:
    """The single number of a tensor; None for NaN and infinity, which JSON does not know."""
    return float(value) if bool(torch.isfinite(value).all()) else None


def mean_of(scores: Sequence[Score], image: str, protocol: str, checkpoint: str = "") -> Score:
    """The mean over pairs; what could not be measured is left out."""
    chosen = [
        score for score in scores if (score.image, score.protocol, score.checkpoint) == (image, protocol, checkpoint)
    ]

    def mean(measure: str) -> float | None:
        known = [value for value in (getattr(score, measure) for score in chosen) if value is not None]
        return sum(known) / len(known) if known else None

    return Score(MEAN, image, protocol, **{name: mean(name) for name in MEASURES}, checkpoint=checkpoint)
