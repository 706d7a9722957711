from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from jdrl.config import EvaluateConfig
from jdrl.data.batch import Batch
from jdrl.evaluation.misalignment import (
    measure_blocks,
    plant_misalignment,
    rank_correlation,
    score_planted,
    summarise,
    undo_misalignment,
    warp_bicubic,
)
from jdrl.evaluation.scores import Candidate
from jdrl.flow.warping import warp

SIZE = (160, 192)
CONFIG = EvaluateConfig(planted_shifts_px=(0.0, 3.0), planted_zooms=(0.0, 0.02))


def scene() -> Tensor:
    """Smooth coloured noise, so that resampling costs next to nothing."""
    noise = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    line = torch.exp(-0.5 * (torch.arange(-6, 7) / 2.5).square())
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 13, 13)
    soft = F.conv2d(F.pad(noise, (6,) * 4, mode="reflect"), kernel, groups=3)
    return ((soft - soft.mean()) * 4 + 0.5).clamp(0, 1)


def truth(flow: Tensor) -> Batch:
    """A pair whose blurred frame is sharp and whose sharp frame lies off by `flow` (1, 2, H, W)."""
    sharp = warp_bicubic(scene(), -flow)
    return Batch(scene(), sharp, warp(sharp, flow), torch.ones(1, 1, *SIZE), flow, torch.ones(1, 1, *SIZE))


@pytest.mark.parametrize(("kind", "amount"), [("shift", 3.0), ("shift", 2.5), ("zoom", 0.02)])
def test_what_was_planted_is_undone(kind: str, amount: float) -> None:
    moved = warp_bicubic(scene(), plant_misalignment(kind, amount, scene()))
    back = warp_bicubic(moved, undo_misalignment(kind, amount, torch.zeros(1, 2, *SIZE)))
    inner = (..., slice(8, -8), slice(8, -8))
    assert (back - scene())[inner].abs().mean() < 0.003
    assert (moved - scene())[inner].abs().mean() > 0.03


def test_a_point_moves_to_the_right_by_the_shift_and_outwards_by_the_zoom() -> None:
    point = torch.zeros(1, 3, 41, 41)
    point[..., 20, 30] = 1
    shifted = warp_bicubic(point, plant_misalignment("shift", 4.0, point))
    zoomed = warp_bicubic(point, plant_misalignment("zoom", 0.1, point))
    assert divmod(int(shifted[0, 0].argmax()), 41) == (20, 34)
    assert divmod(int(zoomed[0, 0].argmax()), 41) == (20, 31)


def test_the_score_falls_with_what_is_planted_and_alignment_brings_it_back() -> None:
    flow = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, *SIZE)
    output = Candidate("deblurred", "run", scene())
    found = summarise(score_planted("p", truth(flow), [output], CONFIG), []).means
    scores = {(one.kind, one.amount, one.protocol): one.psnr_db for one in found}
    assert len(scores) == 4 * 4
    for kind, amount in (("shift", 3.0), ("zoom", 0.02)):
        unwarped, known = scores[kind, amount, "unwarped"], scores[kind, amount, "known"]
        assert scores[kind, 0.0, "known"] > 40
        assert known > unwarped + 10
        assert scores[kind, amount, "per pair"] > unwarped + 10
        assert scores[kind, amount, "per output"] > unwarped + 10
        assert known > 45


def test_the_loss_follows_the_flow_where_nothing_is_aligned_and_not_where_it_is() -> None:
    across = torch.linspace(0, 4, SIZE[1]).expand(1, 1, *SIZE)
    flow = torch.cat([across, torch.zeros_like(across)], 1)
    noise = 0.03 * torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(5))
    blocks = measure_blocks("p", truth(flow), Candidate("deblurred", "run", scene() + noise))
    assert len(blocks) == 5 * 6
    assert blocks[1].flow_px == pytest.approx(float(across[0, 0, 0, 32:64].mean()))
    unwarped, aligned = summarise([], blocks).correlations
    assert unwarped.of_loss is not None
    assert unwarped.of_loss > 0.8
    assert aligned.of_loss is not None
    assert aligned.of_loss < 0.5


def test_the_rank_correlation_is_scipys_and_none_where_nothing_varies() -> None:
    draw = np.random.default_rng(1)
    first = draw.integers(0, 9, 50).astype(float).tolist()
    second = [value + draw.normal() for value in first]
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert rank_correlation([1.0], [1.0]) is None
