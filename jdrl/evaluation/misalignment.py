"""What misalignment does to scores: a known shift or zoom is planted, and the same output is scored again.

The sharp frame S becomes S'(x) = S(x + p(x)). The output does not change, so neither should its score:

* `unwarped` compares with S' as it is;
* `per pair` warps S' to the blurred frame by a flow estimated between these two, as a data set is aligned;
* `per output` warps S' to the output by a flow estimated between those two, the form of the published test code;
* `known` warps S' back by what was planted, and by the stored flow: the most that an alignment can reach.

Both flows are the weight-free estimator's. Where all of it lies inside, one mask serves every amount.

The second question: is the loss of a block larger where the pair is displaced? The rank correlation of the two over
all blocks says so, for the sharp frame as packed and for the aligned one. Texture makes both, so the loss in units of
the block's texture is told too.
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

from jdrl.evaluation.scores import finite
from jdrl.flow.pyramid import pyramid_flow
from jdrl.flow.warping import in_bounds
from jdrl.metrics.fidelity import psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jdrl.config import EvaluateConfig
    from jdrl.data.batch import Batch
    from jdrl.evaluation.scores import Candidate

PROTOCOLS = ("unwarped", "per pair", "per output", "known")
BLOCK_PX = 32
_EPSILON = 1e-3
_LEAST_TEXTURE = 1 / 255


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """One output against one moved sharp frame.

    Attributes:
        pair: The pair's id; `mean` for the mean over all pairs.
        checkpoint: Which one deblurred.
        kind: `shift` (to the right, px) or `zoom` (about the centre, share).
        amount: How much of it.
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
class Block:
    """One block of a pair.

    Attributes:
        pair: The pair's id.
        checkpoint: Which one deblurred.
        top: First row.
        left: First column.
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
class Correlation:
    """Spearman's rank correlation of a block's loss and the length of its flow.

    Attributes:
        checkpoint: Which one deblurred.
        protocol: `unwarped` or `aligned`.
        blocks: How many blocks.
        of_loss: With the loss; None where either does not vary.
        of_relative_loss: With the loss over the texture.
    """

    checkpoint: str
    protocol: str
    blocks: int
    of_loss: float | None
    of_relative_loss: float | None


@dataclass(frozen=True, slots=True)
class Misalignment:
    """What `--misalignment` found.

    Attributes:
        means: Of `probes`, over the pairs.
        probes: Pair by pair.
        blocks: Block by block.
        correlations: Over all blocks.
    """

    means: tuple[ProbePoint, ...]
    probes: tuple[ProbePoint, ...]
    blocks: tuple[Block, ...]
    correlations: tuple[Correlation, ...]


@torch.no_grad()
def probes_of(pair: str, truth: Batch, outputs: Sequence[Candidate], config: EvaluateConfig) -> list[ProbePoint]:
    """Scores of every output of a pair against the sharp frame, moved by every planted amount.

    Args:
        pair: The pair's id.
        truth: The pair.
        outputs: The deblurred images.
        config: What is planted, and on how much of the frame.
    """
    window = _centre(truth.blur.shape[-2:], config.planted_crop)
    blur, sharp, valid, flow = (part[..., *window] for part in (truth.blur, truth.sharp, truth.valid, truth.flow))
    side = max(blur.shape[-2:])
    furthest = max((0.0, *config.planted_shifts_px, *(zoom * side / 2 for zoom in config.planted_zooms)))
    scored = valid * in_bounds(flow, margin_px=math.ceil(furthest) + 2) * _interior(valid, math.ceil(furthest) + 2)
    kinds = {"shift": config.planted_shifts_px, "zoom": config.planted_zooms}
    found = []
    for kind, amounts in kinds.items():
        for amount in amounts:
            moved = sampled_at(sharp, plant_misalignment(kind, amount, sharp))
            per_pair = sampled_at(moved, pyramid_flow(blur, moved))
            back = sampled_at(moved, undo_misalignment(kind, amount, flow))
            for one in outputs:
                output = one.image[..., *window]
                targets = (moved, per_pair, sampled_at(moved, pyramid_flow(output, moved)), back)
                for protocol, target in zip(PROTOCOLS, targets, strict=True):
                    numbers = finite(psnr(output, target, scored)), finite(ssim(output, target, scored))
                    found.append(ProbePoint(pair, one.checkpoint, kind, amount, protocol, *numbers))
    return found


@torch.no_grad()
def blocks_of(pair: str, truth: Batch, output: Candidate) -> list[Block]:
    """The blocks of a pair that are valid throughout; arguments as for `probes_of`."""

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
    kept = means(truth.valid) == 1
    return [
        Block(
            pair,
            output.checkpoint,
            row * BLOCK_PX,
            column * BLOCK_PX,
            *(float(plane[row, column]) for plane in (lengths, texture, *losses)),
        )
        for row, column in kept.nonzero().tolist()
    ]


def summarise(probes: Sequence[ProbePoint], blocks: Sequence[Block]) -> Misalignment:
    """Means of the probes over the pairs, and the correlations over all blocks."""
    groups: dict[tuple[str, str, float, str], list[ProbePoint]] = {}
    for probe in probes:
        groups.setdefault((probe.checkpoint, probe.kind, probe.amount, probe.protocol), []).append(probe)
    means = tuple(
        ProbePoint("mean", *key, _mean([one.psnr_db for one in group]), _mean([one.ssim for one in group]))
        for key, group in groups.items()
    )
    correlations = []
    for checkpoint in dict.fromkeys(block.checkpoint for block in blocks):
        own = [block for block in blocks if block.checkpoint == checkpoint]
        lengths = [block.flow_px for block in own]
        relative = [1 / (block.texture + _LEAST_TEXTURE) for block in own]
        for protocol in ("unwarped", "aligned"):
            losses = [getattr(block, f"loss_{protocol}") for block in own]
            scaled = [loss * factor for loss, factor in zip(losses, relative, strict=True)]
            ranks = rank_correlation(losses, lengths), rank_correlation(scaled, lengths)
            correlations.append(Correlation(checkpoint, protocol, len(own), *ranks))
    return Misalignment(means, tuple(probes), tuple(blocks), tuple(correlations))


def plant_misalignment(kind: str, amount: float, frame: Tensor) -> Tensor:
    """(1, 2, H, W) p of a shift by `amount` px to the right or a zoom by 1 + `amount` about the centre."""
    height, width = frame.shape[-2:]
    if kind == "shift":
        return torch.tensor([-amount, 0.0], device=frame.device).view(1, 2, 1, 1).expand(1, 2, height, width)
    return (1 / (1 + amount) - 1) * _from_centre(height, width, frame.device)


def undo_misalignment(kind: str, amount: float, flow: Tensor) -> Tensor:
    """The flow that leads to where a pixel of the unmoved frame, x + flow(x), lies in the moved one."""
    height, width = flow.shape[-2:]
    if kind == "shift":
        return flow + torch.tensor([amount, 0.0], device=flow.device).view(1, 2, 1, 1)
    return flow + amount * (_from_centre(height, width, flow.device) + flow)


def sampled_at(image: Tensor, flow: Tensor) -> Tensor:
    """`image` at x + flow(x), bicubic, which softens less than `warp`; the border pixel is repeated outside."""
    height, width = image.shape[-2:]
    place = flow + _from_centre(height, width, flow.device)
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=flow.device).view(1, 2, 1, 1)
    grid = (place / half).permute(0, 2, 3, 1)
    sampled = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=True)
    return sampled.clamp_(0, 1)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's, equal values sharing their mean rank; None where either does not vary."""
    ranks = pd.DataFrame({"first": first, "second": second}).rank().to_numpy(dtype=np.float64).T
    if len(first) < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])


def _from_centre(height: int, width: int, device: torch.device) -> Tensor:
    x = torch.arange(width, dtype=torch.float32, device=device) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float32, device=device) - (height - 1) / 2
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


def _centre(size: Sequence[int], side: int) -> tuple[slice, slice]:
    starts = [max(0, (length - side) // 2) for length in size]
    first, second = (slice(start, start + min(side, length)) for start, length in zip(starts, size, strict=True))
    return first, second


def _interior(mask: Tensor, margin_px: int) -> Tensor:
    inside = torch.zeros_like(mask)
    inside[..., margin_px:-margin_px, margin_px:-margin_px] = 1
    return inside


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
