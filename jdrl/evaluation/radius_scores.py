"""Scores by the blur of the input, at three sizes, and the harm that is done where the input is sharp.

The blur of a pair is that of its two frames, block by block (`jdrl.metrics.blur_radius`): shards hold no truth, a blur
map would depend on a checkpoint, and the alignment record has one number a pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from jdrl.evaluation.comparison import bootstrap_interval
from jdrl.evaluation.protocols import ALIGNED, UNWARPED, linear_light
from jdrl.evaluation.scores import MEAN
from jdrl.metrics.blur_radius import BLOCK_PX, block_blur_radius
from jdrl.metrics.colour import match_colours

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from jdrl.data.batch import Batch
    from jdrl.evaluation.scores import Candidate
    from sdd_toolkit.imaging.encoding import Encoding

ALL, UNKNOWN, IN_FOCUS = "all", "unknown", "0"
RADIUS_EDGES_PX = (0.5, 2.0, 4.0, 8.0)
RADIUS_BINS = (IN_FOCUS, "0-2", "2-4", "4-8", "> 8", UNKNOWN)
SIZES = {"native": 1, "half": 2, "quarter": 4}
CHANGED_CODES = 2
"""A pixel is changed where a channel differs by more than so many 255ths."""


@dataclass(frozen=True, slots=True)
class RadiusScore:
    """The PSNR of one image where its input is blurred so much.

    Attributes:
        pair: The pair's id; `mean` for the mean over the pairs that have such blocks.
        image: `input` or `deblurred`.
        checkpoint: Label of the method; empty for the input.
        protocol: `unwarped` or `aligned`.
        size: `native`, `half` or `quarter`: image and target reduced by means over 2x2 or 4x4 pixels.
        radius: Blur of the input, px at native size: one of `RADIUS_BINS`, or `all`.
        pairs: Number of pairs.
        share: Of the valid pixels.
        psnr_db: PSNR there.
        psnr_colour_db: The same after the colour fit.
        gain_db: Beyond the input's.
        gain_low_db: Lower end of the 95 % interval of the mean gain.
        gain_high_db: Its upper end.
        gain_colour_db: As `gain_db`, after the colour fit.
        gain_colour_low_db: Lower end of its interval.
        gain_colour_high_db: Its upper end.
        better: Number of pairs with a gain after the colour fit.
    """

    pair: str
    image: str
    checkpoint: str
    protocol: str
    size: str
    radius: str
    pairs: int
    share: float
    psnr_db: float | None
    psnr_colour_db: float | None
    gain_db: float | None = None
    gain_low_db: float | None = None
    gain_high_db: float | None = None
    gain_colour_db: float | None = None
    gain_colour_low_db: float | None = None
    gain_colour_high_db: float | None = None
    better: int | None = None


@dataclass(frozen=True, slots=True)
class HarmScore:
    """What a method does to the part of its input that is in focus.

    Attributes:
        pair: The pair's id; `mean` for all pixels of all pairs.
        checkpoint: Label of the method.
        size: As of `RadiusScore`.
        sharp_share: Share of the valid pixels that is in focus.
        pixels: Their number.
        psnr_to_input_db: PSNR of output to input there; None without such pixels, or where none changed.
        changed_share: Share of them that differ from the input by more than two 255ths in a channel.
        squared_error: Mean squared difference of output and input there.
    """

    pair: str
    checkpoint: str
    size: str
    sharp_share: float
    pixels: int
    psnr_to_input_db: float | None
    changed_share: float | None
    squared_error: float | None


@dataclass(frozen=True, slots=True)
class RadiusResult:
    """Scores by blur and harm: means, and pair by pair."""

    means: tuple[RadiusScore, ...]
    pairs: tuple[RadiusScore, ...]
    harm: tuple[HarmScore, ...]
    harm_of_pairs: tuple[HarmScore, ...]


def bin_blocks(truth: Batch, encoding: Encoding) -> NDArray[np.int64]:
    """The number of each block's bin in `RADIUS_BINS`, by the blur of the pair."""
    sharp, blurred = (linear_light(image, encoding) for image in (truth.sharp_on_blur, truth.blur))
    radius = block_blur_radius(sharp, blurred, truth.valid)
    return np.where(np.isnan(radius), RADIUS_BINS.index(UNKNOWN), np.digitize(radius, RADIUS_EDGES_PX))


@torch.no_grad()
def score_by_radius(
    pair: str, truth: Batch, outputs: Sequence[Candidate], colours: Tensor, bins: NDArray[np.int64]
) -> Iterator[RadiusScore]:
    """Scores the input and every output of a pair where the input is blurred so much, under both protocols.

    Args:
        pair: The pair's id.
        truth: The pair.
        outputs: The deblurred images.
        colours: (3, 4) colour map of `jdrl.metrics.colour.fit_colours`.
        bins: Of `bin_blocks`.
    """
    images = [("input", "", truth.blur), *((output.name, output.checkpoint, output.image) for output in outputs)]
    for size, factor in SIZES.items():
        valid = -F.max_pool2d(-(truth.valid > 0.5).float(), factor)
        counts = _sum_of_bins(valid, bins, BLOCK_PX // factor)
        for protocol, target in ((UNWARPED, truth.sharp), (ALIGNED, truth.sharp_on_blur)):
            reference: list[NDArray[np.float64]] = []
            for name, label, image in images:
                plain, fitted = (
                    _psnr_of_bins(each, target, valid, counts, bins, factor)
                    for each in (image, match_colours(image, colours))
                )
                reference = reference or [plain, fitted]
                with np.errstate(invalid="ignore"):
                    gain, gain_colour = (
                        values - first for values, first in zip((plain, fitted), reference, strict=True)
                    )
                for number, radius in enumerate((*RADIUS_BINS, ALL)):
                    if counts[number]:
                        yield RadiusScore(
                            pair=pair,
                            image=name,
                            checkpoint=label,
                            protocol=protocol,
                            size=size,
                            radius=radius,
                            pairs=1,
                            share=float(counts[number] / counts[-1]),
                            psnr_db=_finite(plain[number]),
                            psnr_colour_db=_finite(fitted[number]),
                            gain_db=_finite(gain[number]) if label else None,
                            gain_colour_db=_finite(gain_colour[number]) if label else None,
                        )


@torch.no_grad()
def score_harm(pair: str, truth: Batch, outputs: Sequence[Candidate], bins: NDArray[np.int64]) -> Iterator[HarmScore]:
    """Compares every output with its input where that is in focus; arguments as for `score_by_radius`."""
    for size, factor in SIZES.items():
        valid = -F.max_pool2d(-(truth.valid > 0.5).float(), factor)
        counts = _sum_of_bins(valid, bins, BLOCK_PX // factor)
        source = F.avg_pool2d(truth.blur, factor)
        for output in outputs:
            difference = F.avg_pool2d(output.image, factor) - source
            changed = (difference.abs().amax(1, keepdim=True) > (CHANGED_CODES + 1e-3) / 255).float()
            sums = [
                _sum_of_bins(values * valid, bins, BLOCK_PX // factor)[0]
                for values in (difference.double().square().mean(1, keepdim=True), changed)
            ]
            pixels = int(counts[0])
            error, share = (float(value / pixels) if pixels else None for value in sums)
            yield HarmScore(
                *(pair, output.checkpoint, size, float(counts[0] / max(counts[-1], 1)), pixels),
                *(_decibels(error), share, error),
            )


def summarise_radii(scores: Sequence[RadiusScore], harm: Sequence[HarmScore], *, draws: int, seed: int) -> RadiusResult:
    """Means over the pairs, with bootstrap intervals of the gains; harm over all pixels of all pairs."""
    groups: dict[tuple[str, str, str, str, str], list[RadiusScore]] = {}
    for score in scores:
        key = (score.image, score.checkpoint, score.protocol, score.size, score.radius)
        groups.setdefault(key, []).append(score)
    order = {radius: number for number, radius in enumerate((ALL, *RADIUS_BINS))}
    keys = sorted(groups, key=lambda key: order[key[-1]])
    total = len({score.pair for score in scores})
    means = tuple(_mean_radius(key, groups[key], total, draws, seed) for key in keys)
    parts: dict[tuple[str, str], list[HarmScore]] = {}
    for part in harm:
        parts.setdefault((part.checkpoint, part.size), []).append(part)
    return RadiusResult(means, tuple(scores), tuple(_mean_harm(*key, rows) for key, rows in parts.items()), tuple(harm))


def _mean_radius(
    key: tuple[str, str, str, str, str], rows: Sequence[RadiusScore], total: int, draws: int, seed: int
) -> RadiusScore:
    image, checkpoint, protocol, size, radius = key
    plain, fitted = ([row.gain_db for row in rows], [row.gain_colour_db for row in rows])
    known = [[gain for gain in values if gain is not None] for values in (plain, fitted)]
    (low, high), (colour_low, colour_high) = (
        bootstrap_interval(np.array(values, dtype=np.float64), draws=draws, seed=seed) for values in known
    )
    return RadiusScore(
        pair=MEAN,
        image=image,
        checkpoint=checkpoint,
        protocol=protocol,
        size=size,
        radius=radius,
        pairs=len(rows),
        share=sum(row.share for row in rows) / total,
        psnr_db=_mean([row.psnr_db for row in rows]),
        psnr_colour_db=_mean([row.psnr_colour_db for row in rows]),
        gain_db=_mean(plain),
        gain_low_db=low,
        gain_high_db=high,
        gain_colour_db=_mean(fitted),
        gain_colour_low_db=colour_low,
        gain_colour_high_db=colour_high,
        better=sum(gain > 0 for gain in known[1]) if checkpoint else None,
    )


def _mean_harm(checkpoint: str, size: str, rows: Sequence[HarmScore]) -> HarmScore:
    pixels = sum(row.pixels for row in rows)
    share = sum(row.sharp_share for row in rows) / len(rows)
    if not pixels:
        return HarmScore(MEAN, checkpoint, size, share, 0, None, None, None)
    error = sum(row.pixels * (row.squared_error or 0.0) for row in rows) / pixels
    changed = sum(row.pixels * (row.changed_share or 0.0) for row in rows) / pixels
    return HarmScore(MEAN, checkpoint, size, share, pixels, _decibels(error), changed, error)


def _psnr_of_bins(
    image: Tensor, target: Tensor, valid: Tensor, counts: NDArray[np.float64], bins: NDArray[np.int64], factor: int
) -> NDArray[np.float64]:
    """The PSNR of every bin, and of all of them last; NaN for a bin without pixels."""
    difference = F.avg_pool2d(image, factor) - F.avg_pool2d(target, factor)
    error = difference.double().square().mean(1, keepdim=True) * valid
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-10 * np.log10(_sum_of_bins(error, bins, BLOCK_PX // factor) / counts))


def _sum_of_bins(values: Tensor, bins: NDArray[np.int64], block: int) -> NDArray[np.float64]:
    """Sums of (1, 1, h, w) values over the blocks of every bin, and over all of them last."""
    rows, columns = bins.shape
    values = values[..., : rows * block, : columns * block]
    padded = F.pad(values, (0, columns * block - values.shape[-1], 0, rows * block - values.shape[-2]))
    sums = (F.avg_pool2d(padded.double(), block)[0, 0] * block**2).cpu().numpy()
    of_bins = np.bincount(bins.ravel(), weights=sums.ravel(), minlength=len(RADIUS_BINS))
    return np.append(of_bins, of_bins.sum())


def _decibels(error: float | None) -> float | None:
    return -10 * math.log10(error) if error else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else None
