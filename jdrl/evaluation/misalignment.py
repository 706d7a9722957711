"""The sensitivity of scores to misalignment: known shifts and zooms are planted, and the same output is scored again.

The sharp frame S becomes S'(x) = S(x + p(x)). The output stays the same, so its score should, too:

* `unwarped` compares with S' as it is;
* `per pair` warps S' to the blurred frame by a flow estimated between these two, as a data set is aligned;
* `per output` warps S' to the output by a flow estimated between those two, the form of the published test code;
* `known` warps S' back by the planted and the stored flow: the best possible alignment.

Both flows are the weight-free estimator's. One mask, of the pixels that stay inside the frame under the largest planted
amount, is used for all amounts.

A second experiment tests whether the loss of a block is larger where the pair is displaced, by the rank correlation of
the two over all blocks, for the sharp frame as packed and for the aligned one. Texture increases both, so the loss in
units of the block's texture is reported as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.evaluation.scores import finite_or_none
from jdrl.flow.pyramid import pyramid_flow
from jdrl.flow.warping import in_bounds_mask
from jdrl.metrics.fidelity import psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jdrl.config import EvaluateConfig
    from jdrl.data.batch import Batch
    from jdrl.evaluation.scores import Candidate

PROTOCOLS = ("unwarped", "per pair", "per output", "known")
BLOCK_PX = 32
_EPSILON = 1e-3
_MIN_TEXTURE = 1 / 255


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """The scores of one output against one displaced sharp frame.

    Attributes:
        pair: The pair's id; `mean` for the mean over all pairs.
        checkpoint: Label of the checkpoint.
        kind: `shift` (to the right, px) or `zoom` (about the centre, share).
        amount: Of the shift or zoom.
        protocol: See the module.
        psnr_db: PSNR.
        ssim: 7x7 uniform window.
    """

    pair: str
    checkpoint: str
    kind: str
    amount: float
    protocol: str
    psnr_db: float | None
    ssim: float | None


@dataclass(frozen=True, slots=True)
class BlockLoss:
    """The loss of one block of a pair.

    Attributes:
        pair: The pair's id.
        checkpoint: Label of the checkpoint.
        top: First row, pixels.
        left: First column, pixels.
        flow_px: Mean length of the pair's flow, stored or estimated.
        texture: Standard deviation of the aligned sharp frame.
        loss_unwarped: Mean Charbonnier distance of the output and the sharp frame as packed.
        loss_aligned: The same for the aligned sharp frame.
    """

    pair: str
    checkpoint: str
    top: int
    left: int
    flow_px: float
    texture: float
    loss_unwarped: float
    loss_aligned: float


@dataclass(frozen=True, slots=True)
class LossCorrelation:
    """Spearman's rank correlation of a block's loss and the length of its flow.

    Attributes:
        checkpoint: Label of the checkpoint.
        protocol: `unwarped` or `aligned`.
        blocks: Number of blocks.
        of_loss: Of the loss; None where either does not vary.
        of_relative_loss: Of the loss over the texture.
    """

    checkpoint: str
    protocol: str
    blocks: int
    of_loss: float | None
    of_relative_loss: float | None


@dataclass(frozen=True, slots=True)
class MisalignmentResult:
    """The result of `--misalignment`.

    Attributes:
        means: Of `probes`, over the pairs.
        probes: Pair by pair.
        blocks: Block by block.
        correlations: Over all blocks.
    """

    means: tuple[ProbePoint, ...]
    probes: tuple[ProbePoint, ...]
    blocks: tuple[BlockLoss, ...]
    correlations: tuple[LossCorrelation, ...]


@torch.no_grad()
def score_planted(pair: str, truth: Batch, outputs: Sequence[Candidate], config: EvaluateConfig) -> list[ProbePoint]:
    """Scores every output of a pair against the sharp frame displaced by every planted amount.

    Args:
        pair: The pair's id.
        truth: The pair.
        outputs: The deblurred images.
        config: Planted amounts, and the side of the scored part of the frame.
    """
    window = _centre_window(truth.blur.shape[-2:], config.planted_crop)
    blur, sharp, valid, flow = (part[..., *window] for part in (truth.blur, truth.sharp, truth.valid, truth.flow))
    side = max(blur.shape[-2:])
    largest_px = max((0.0, *config.planted_shifts_px, *(zoom * side / 2 for zoom in config.planted_zooms)))
    margin_px = math.ceil(largest_px) + 2
    scored = valid * in_bounds_mask(flow, margin_px=margin_px) * _interior_mask(valid, margin_px)
    amounts_by_kind = {"shift": config.planted_shifts_px, "zoom": config.planted_zooms}
    probes = []
    for kind, amounts in amounts_by_kind.items():
        for amount in amounts:
            moved = warp_bicubic(sharp, plant_misalignment(kind, amount, sharp))
            per_pair = warp_bicubic(moved, pyramid_flow(blur, moved))
            back = warp_bicubic(moved, undo_misalignment(kind, amount, flow))
            for candidate in outputs:
                output = candidate.image[..., *window]
                targets = (moved, per_pair, warp_bicubic(moved, pyramid_flow(output, moved)), back)
                for protocol, target in zip(PROTOCOLS, targets, strict=True):
                    scores = finite_or_none(psnr(output, target, scored)), finite_or_none(ssim(output, target, scored))
                    probes.append(ProbePoint(pair, candidate.checkpoint, kind, amount, protocol, *scores))
    return probes


@torch.no_grad()
def measure_blocks(pair: str, truth: Batch, output: Candidate) -> list[BlockLoss]:
    """Measures the blocks of a pair that are wholly valid; arguments as for `score_planted`."""

    def means(values: Tensor) -> Tensor:
        return F.avg_pool2d(values.mean(1, keepdim=True), BLOCK_PX)[0, 0].cpu()

    if min(truth.blur.shape[-2:]) < BLOCK_PX:
        return []
    losses = [
        means((output.image - target).square().add(_EPSILON**2).sqrt()) for target in (truth.sharp, truth.sharp_on_blur)
    ]
    lengths = means(truth.flow.square().sum(1, keepdim=True).sqrt())
    grey = truth.sharp_on_blur.mean(1, keepdim=True).double()
    texture = (means(grey.square()) - means(grey).square()).clamp(min=0).sqrt()
    wholly_valid = means(truth.valid) == 1
    return [
        BlockLoss(
            pair,
            output.checkpoint,
            row * BLOCK_PX,
            column * BLOCK_PX,
            *(float(plane[row, column]) for plane in (lengths, texture, *losses)),
        )
        for row, column in wholly_valid.nonzero().tolist()
    ]


def summarise(probes: Sequence[ProbePoint], blocks: Sequence[BlockLoss]) -> MisalignmentResult:
    """Computes means of the probes over the pairs, and correlations over all blocks."""
    groups: dict[tuple[str, str, float, str], list[ProbePoint]] = {}
    for probe in probes:
        groups.setdefault((probe.checkpoint, probe.kind, probe.amount, probe.protocol), []).append(probe)
    means = tuple(
        ProbePoint("mean", *key, _mean([probe.psnr_db for probe in group]), _mean([probe.ssim for probe in group]))
        for key, group in groups.items()
    )
    correlations = []
    for checkpoint in dict.fromkeys(block.checkpoint for block in blocks):
        blocks_of_checkpoint = [block for block in blocks if block.checkpoint == checkpoint]
        lengths = [block.flow_px for block in blocks_of_checkpoint]
        relative = [1 / (block.texture + _MIN_TEXTURE) for block in blocks_of_checkpoint]
        for protocol in ("unwarped", "aligned"):
            losses = [getattr(block, f"loss_{protocol}") for block in blocks_of_checkpoint]
            scaled = [loss * factor for loss, factor in zip(losses, relative, strict=True)]
            ranks = rank_correlation(losses, lengths), rank_correlation(scaled, lengths)
            correlations.append(LossCorrelation(checkpoint, protocol, len(blocks_of_checkpoint), *ranks))
    return MisalignmentResult(means, tuple(probes), tuple(blocks), tuple(correlations))


def plant_misalignment(kind: str, amount: float, frame: Tensor) -> Tensor:
    """The flow p, (1, 2, H, W), of a shift by `amount` px to the right or a zoom by 1 + `amount` about the centre."""
    height, width = frame.shape[-2:]
    if kind == "shift":
        return torch.tensor([-amount, 0.0], device=frame.device).view(1, 2, 1, 1).expand(1, 2, height, width)
    return (1 / (1 + amount) - 1) * _from_centre(height, width, frame.device)


def undo_misalignment(kind: str, amount: float, flow: Tensor) -> Tensor:
    """The flow to the position of x + flow(x) in the displaced frame."""
    height, width = flow.shape[-2:]
    if kind == "shift":
        return flow + torch.tensor([amount, 0.0], device=flow.device).view(1, 2, 1, 1)
    return flow + amount * (_from_centre(height, width, flow.device) + flow)


def warp_bicubic(image: Tensor, flow: Tensor) -> Tensor:
    """Warps by bicubic sampling, which softens less than `warp`; beyond the frame the border pixel is repeated."""
    height, width = image.shape[-2:]
    offset = flow + _from_centre(height, width, flow.device)
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=flow.device).view(1, 2, 1, 1)
    grid = (offset / half).permute(0, 2, 3, 1)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=True).clamp_(0, 1)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank; None where either does not vary."""
    ranks = pd.DataFrame({"first": first, "second": second}).rank().to_numpy(dtype=np.float64).T
    if len(first) < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])


def _from_centre(height: int, width: int, device: torch.device) -> Tensor:
    x = torch.arange(width, dtype=torch.float32, device=device) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float32, device=device) - (height - 1) / 2
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


def _centre_window(size: Sequence[int], side: int) -> tuple[slice, slice]:
    starts = [max(0, (length - side) // 2) for length in size]
    first, second = (slice(start, start + min(side, length)) for start, length in zip(starts, size, strict=True))
    return first, second


def _interior_mask(mask: Tensor, margin_px: int) -> Tensor:
    inside = torch.zeros_like(mask)
    inside[..., margin_px:-margin_px, margin_px:-margin_px] = 1
    return inside


def _mean(values: list[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else None
