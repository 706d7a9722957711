from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.metrics.colour import fit_colours, match_colours

MATRIX = torch.tensor([[0.7, 0.05, 0.0, 0.02], [0.0, 0.6, 0.1, 0.03], [0.02, 0.0, 0.8, -0.01]], dtype=torch.float64)


def scene(seed: int = 0) -> Tensor:
    coarse = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(0.1 + 0.8 * coarse, scale_factor=16, mode="bilinear", align_corners=False)


def test_a_planted_map_of_colours_is_found_under_blur_and_a_shift_of_two_pixels() -> None:
    sharp = match_colours(scene(), MATRIX)
    blurred = F.avg_pool2d(F.pad(scene().roll(2, -1), (3, 3, 3, 3), mode="replicate"), 7, 1)
    found = fit_colours(blurred, sharp, torch.ones(1, 1, 192, 256))
    assert (match_colours(scene(), found) - sharp).abs().mean() < 0.01
    assert (scene() - sharp).abs().mean() > 0.05


def test_a_place_where_something_else_is_seen_has_no_influence() -> None:
    sharp = match_colours(scene(), MATRIX)
    everywhere = torch.ones(1, 1, 192, 256)
    undisturbed = fit_colours(scene(), sharp, everywhere)
    sharp[..., :32, :32] = 1.0
    assert (fit_colours(scene(), sharp, everywhere) - undisturbed).abs().max() < 0.03
    everywhere[..., :32, :32] = 0
    assert (fit_colours(scene(), sharp, everywhere) - undisturbed).abs().max() < 0.02


def test_equal_frames_and_frames_without_a_valid_cell_keep_their_colours() -> None:
    identity = torch.eye(3, 4, dtype=torch.float64)
    assert torch.allclose(fit_colours(scene(), scene(), torch.ones(1, 1, 192, 256)), identity)
    assert torch.equal(fit_colours(scene(), scene(1), torch.zeros(1, 1, 192, 256)), identity)


def test_a_grey_picture_keeps_its_channels_apart() -> None:
    grey = scene().mean(1, keepdim=True).expand(1, 3, -1, -1)
    found = fit_colours(grey, 0.8 * grey, torch.ones(1, 1, 192, 256))
    assert (match_colours(grey, found) - 0.8 * grey).abs().max() < 0.01
    assert torch.isfinite(found).all()
