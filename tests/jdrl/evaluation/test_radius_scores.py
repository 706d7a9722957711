"""Scores by blur and harm: planted radii, planted changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jdrl.data.batch import Batch
from jdrl.evaluation.radius_scores import RADIUS_BINS, bin_blocks, score_by_radius, score_harm, summarise_radii
from jdrl.evaluation.scores import Candidate
from jdrl.metrics.blur_radius import block_blur_radius
from sdd_toolkit.imaging.encoding import Encoding
from tests.support.planted_shards import dead_leaves, defocus

IDENTITY = torch.eye(3, 4, dtype=torch.float64)


def tensor(image: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def pair(radius_px: float = 5.0) -> Batch:
    """The left half in focus, the right half blurred, linear light."""
    sharp = dead_leaves(128, 256, 3)
    blurred = defocus(sharp, radius_px)
    blurred[:, :128] = sharp[:, :128]
    everywhere = torch.ones(1, 1, 128, 256)
    return Batch(tensor(blurred), tensor(sharp), tensor(sharp), everywhere, torch.zeros(1, 2, 128, 256), everywhere)


@pytest.mark.parametrize("radius_px", [1.5, 3.0, 6.5, 12.0])
def test_the_planted_radius_is_found_and_flat_blocks_abstain(radius_px: float) -> None:
    sharp = dead_leaves(160, 192, 5)
    blurred = defocus(sharp, radius_px) * 0.9 + 0.02
    sharp[:, 128:] = blurred[:, 128:] = 0.4
    found = block_blur_radius(tensor(sharp), tensor(blurred), torch.ones(1, 1, 160, 192))
    assert found.shape == (5, 6)
    assert np.abs(np.median(found[:, :3]) - radius_px) <= 0.5
    assert np.isnan(found[:, 5]).all()


def test_bins_follow_the_blur_of_the_pair() -> None:
    bins = bin_blocks(pair(), Encoding.LINEAR16)
    assert (bins[:, :3] == RADIUS_BINS.index("0")).all()
    assert (bins[:, 5:] == RADIUS_BINS.index("4-8")).all()


def test_a_gain_appears_in_the_bin_where_it_was_made_and_nowhere_else() -> None:
    truth = pair()
    bins = bin_blocks(truth, Encoding.LINEAR16)
    restored = truth.blur.clone()
    restored[..., 192:] = 0.5 * (truth.blur + truth.sharp)[..., 192:]
    scores = list(score_by_radius("p", truth, [Candidate("deblurred", "run", restored)], IDENTITY, bins))
    assert {score.size for score in scores} == {"native", "half", "quarter"}
    means = summarise_radii(scores, [], draws=100, seed=0).means
    gains = {(row.protocol, row.size, row.radius): row.gain_db for row in means if row.checkpoint}
    assert gains["aligned", "native", "4-8"] > 1
    assert gains["unwarped", "native", "4-8"] == gains["aligned", "native", "4-8"]
    shares = {
        row.radius: row.share for row in means if (row.checkpoint, row.size, row.protocol) == ("", "half", "aligned")
    }
    assert sum(share for radius, share in shares.items() if radius != "all") == pytest.approx(1)
    whole = next(row for row in means if (row.radius, row.size, row.checkpoint) == ("all", "native", ""))
    expected = -10 * math.log10(float((truth.blur - truth.sharp).double().square().mean()))
    assert whole.psnr_db == pytest.approx(expected, abs=1e-6)


def test_harm_counts_pixels_that_changed_by_more_than_two_codes_where_the_input_is_in_focus() -> None:
    truth = pair()
    bins = np.zeros((4, 8), np.int64)
    bins[:, 4:] = RADIUS_BINS.index("4-8")
    changed = truth.blur.clone()
    changed[..., :64, :64] += 3 / 255
    changed[..., 64:, :64] += 2 / 255
    changed[..., 200:] += 0.5
    outputs = [Candidate("deblurred", "run", changed), Candidate("deblurred", "same", truth.blur)]
    native = [row for row in score_harm("p", truth, outputs, bins) if row.size == "native"]
    assert [row.changed_share for row in native] == [0.25, 0]
    expected = -10 * math.log10((9 + 4) / 255**2 / 4)
    assert native[0].psnr_to_input_db == pytest.approx(expected, abs=1e-3)
    assert (native[1].psnr_to_input_db, native[1].squared_error) == (None, 0)
    assert native[0].sharp_share == 0.5
    mean = summarise_radii([], native, draws=100, seed=0).harm[0]
    assert (mean.pixels, mean.changed_share) == (128 * 128, 0.25)
