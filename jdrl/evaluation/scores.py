"""Scores of one image against one target under a protocol, and their means over pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jdrl.metrics.colour import match_colours
from jdrl.metrics.fidelity import mae, psnr, ssim
from jdrl.metrics.perceptual import MIN_SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jdrl.metrics.drift import Drift
    from jdrl.metrics.perceptual import PerceptualMetric

_SSIM_WINDOW_PX = 11
MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Score:
    """The scores of one image under one protocol; None where a measure is missing or undefined.

    Attributes:
        pair: The pair's id; `mean` for the mean over all pairs.
        image: `input` (the blurred frame) or `deblurred`.
        protocol: `unwarped`, `aligned` or `official`.
        psnr_db: Peak signal-to-noise ratio.
        ssim: Structural similarity, 7x7 uniform window (scikit-image's default, the official code's).
        ssim_gaussian: The same with the Gaussian 11x11 window of the SSIM paper.
        mae: Mean absolute error, 0 … 1.
        psnr_colour_db: `psnr_db` after the colours of the image are mapped by the affine fit from the blurred frame
            to the aligned sharp frame.
        ssim_colour: `ssim` after the same mapping.
        lpips: LPIPS 0.1, AlexNet; smaller is better.
        dists: DISTS at the frame's own size; smaller is better.
        drift_px: Mean displacement of a deblurred image against the blurred frame; the same under every protocol.
        drift_p95_px: Its 95th percentile over the blocks of a frame.
        checkpoint: Label of the checkpoint; empty for the input.
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
class PerceptualMetrics:
    """The measures that need published weights; None without them."""

    lpips: PerceptualMetric | None = None
    dists: PerceptualMetric | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An image to be scored.

    Attributes:
        name: `input` or `deblurred`.
        checkpoint: Label of its checkpoint; empty for the input.
        image: (1, 3, H, W).
        drift: Of a deblurred image.
    """

    name: str
    checkpoint: str
    image: Tensor
    drift: Drift | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An image to compare with.

    Attributes:
        image: (1, 3, H, W).
        valid: (1, 1, H, W) pixels to score; None: all.
        colours: (3, 4) affine colour map of `jdrl.metrics.colour.fit_colours`.
    """

    image: Tensor
    valid: Tensor | None
    colours: Tensor


def score_image(pair: str, protocol: str, candidate: Candidate, target: Target, metrics: PerceptualMetrics) -> Score:
    """Scores one image against its target on valid pixels.

    LPIPS and DISTS work on neighbourhoods: for them invalid pixels are replaced by the target's.

    Args:
        pair: The pair's id.
        protocol: Its name.
        candidate: The image.
        target: The target.
        metrics: LPIPS and DISTS.
    """
    image, truth, valid = candidate.image, target.image, target.valid
    recoloured = match_colours(image, target.colours)
    filled = image if valid is None else image.where(valid > 0.5, truth)
    side, drift = min(image.shape[-2:]), candidate.drift
    has_window, has_features = side >= _SSIM_WINDOW_PX, side >= MIN_SIDE_PX
    return Score(
        pair=pair,
        image=candidate.name,
        protocol=protocol,
        psnr_db=finite_or_none(psnr(image, truth, valid)),
        ssim=finite_or_none(ssim(image, truth, valid, window="uniform7")) if has_window else None,
        ssim_gaussian=finite_or_none(ssim(image, truth, valid, window="gaussian11")) if has_window else None,
        mae=finite_or_none(mae(image, truth, valid)),
        psnr_colour_db=finite_or_none(psnr(recoloured, truth, valid)),
        ssim_colour=finite_or_none(ssim(recoloured, truth, valid, window="uniform7")) if has_window else None,
        lpips=finite_or_none(metrics.lpips(filled, truth)) if metrics.lpips and has_features else None,
        dists=finite_or_none(metrics.dists(filled, truth)) if metrics.dists and has_features else None,
        drift_px=drift.mean_px if drift else None,
        drift_p95_px=drift.p95_px if drift else None,
        checkpoint=candidate.checkpoint,
    )


def finite_or_none(value: Tensor) -> float | None:
    """The single number of a tensor; None for NaN and infinity, which JSON cannot hold."""
    return float(value) if bool(torch.isfinite(value).all()) else None


def mean_score(scores: Sequence[Score], image: str, protocol: str, checkpoint: str = "") -> Score:
    """The mean of every measure over the pairs that have it."""
    chosen = [
        score for score in scores if (score.image, score.protocol, score.checkpoint) == (image, protocol, checkpoint)
    ]

    def mean(measure: str) -> float | None:
        values = [value for value in (getattr(score, measure) for score in chosen) if value is not None]
        return sum(values) / len(values) if values else None

    return Score(MEAN, image, protocol, **{name: mean(name) for name in MEASURES}, checkpoint=checkpoint)
