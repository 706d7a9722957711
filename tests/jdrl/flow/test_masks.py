"""Validity masks: accepted and rejected pixels, and the flaws of the published mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.flow.masks import agreement_mask, consistency_mask, official_mask, photometric_mask
from jdrl.flow.warping import in_bounds_mask
from tests.support.flows import constant_flow, textured_scene, zoom_flow


def test_agreeing_flows_are_trusted_and_the_frame_edge_is_not() -> None:
    there = constant_flow(3, 2, (64, 64))
    mask = consistency_mask(there, -there) * in_bounds_mask(there)
    assert mask[..., :62, :61].min() > 0.999
    assert mask[..., 62:, :].max() == 0


def test_a_zoom_keeps_its_centre_and_its_flanks() -> None:
    mask = consistency_mask(zoom_flow(1.02, 256), zoom_flow(1 / 1.02, 256))
    assert mask[..., 16:-16, 16:-16].min() > 0.99


@pytest.mark.parametrize("block", [(-3.0, -2.0), (-2.0, 3.0)], ids=["reversed", "rotated"])
def test_a_block_that_moves_another_way_is_rejected(block: tuple[float, float]) -> None:
    there = constant_flow(3, 2, (128, 128))
    back = -there
    there[:, :, 32:96, 32:96] = torch.tensor(block).view(1, 2, 1, 1)
    mask = consistency_mask(there, back)
    assert mask[..., 32:96, 32:96].max() < 0.01
    assert mask[..., :30, :120].min() > 0.99


@pytest.mark.parametrize("block", [(-3.0, -2.0), (2.0, -3.0)], ids=["reversed", "rotated"])
def test_the_official_mask_keeps_a_block_that_moves_another_way(block: tuple[float, float]) -> None:
    there = constant_flow(3, 2, (256, 256))
    there[:, :, 96:160, 96:160] = torch.tensor(block).view(1, 2, 1, 1)
    assert official_mask(there).min() == 1


def test_the_official_mask_drops_only_a_block_that_moves_farther() -> None:
    there = constant_flow(3, 2, (256, 256))
    there[:, :, 96:160, 96:160] *= 4
    kept = official_mask(there)
    assert kept[..., 96:160, 96:160].max() == 0
    assert kept.sum() == 256**2 - 64**2


def test_the_official_mask_drops_the_best_aligned_pixels_of_a_zoom() -> None:
    kept = official_mask(zoom_flow(1.01, 256))
    assert float(kept.mean()) == pytest.approx(0.906, abs=0.005)
    assert float(kept[..., 100:156, 100:156].mean()) == pytest.approx(0.70, abs=0.02)
    assert kept[..., 126:130, 126:130].max() == 0


def test_the_official_mask_keeps_shifts_noisy_shifts_and_zooms_off_the_axis() -> None:
    torch.manual_seed(0)
    shift = constant_flow(3, 2, (256, 256))
    noise = torch.randn(1, 2, 256, 256)
    assert official_mask(shift).min() == 1
    assert official_mask(shift + 0.3 * noise).mean() > 0.999
    assert official_mask(zoom_flow(1.01, 256) + constant_flow(4, -3, (256, 256))).mean() > 0.99
    assert float(official_mask(0.05 * noise).mean()) == pytest.approx(0.99, abs=0.005)


def test_a_batch_is_judged_image_by_image() -> None:
    flows = torch.cat([zoom_flow(1.01, 64), constant_flow(30, 2, (64, 64))])
    assert torch.equal(official_mask(flows), torch.cat([official_mask(flows[:1]), official_mask(flows[1:])]))


def defocused(image: Tensor, radius_px: int) -> Tensor:
    offsets = torch.arange(-radius_px, radius_px + 1.0)
    disc = (torch.hypot(offsets[:, None], offsets) <= radius_px).float()
    padded = F.pad(image, (radius_px,) * 4, mode="replicate")
    return F.conv2d(padded, (disc / disc.sum()).expand(3, 1, *disc.shape), groups=3)


def test_defocus_gain_and_offset_are_forgiven() -> None:
    image = textured_scene()
    mask = photometric_mask(defocused(0.7 * image + 0.1, 5), image, torch.ones(1, 1, 160, 160))
    assert mask.shape == (1, 1, 160, 160)
    assert mask.mean() > 0.9
    assert photometric_mask(image, image, torch.ones(1, 1, 160, 160)).min() > 0.999


def test_a_place_that_shows_something_else_is_rejected() -> None:
    image = textured_scene()
    other = image.clone()
    other[..., 40:104, 40:104] = image.flip(-1)[..., 40:104, 40:104]
    mask = photometric_mask(image, other, torch.ones(1, 1, 160, 160))
    assert mask[..., 48:96, 48:96].mean() < 0.2
    assert mask[..., 125:, :].min() > 0.9


def test_flat_places_abstain_whatever_their_brightness() -> None:
    image = textured_scene()
    image[..., 80:] = 0.5
    other = image.clone()
    other[..., 80:] = 0.6
    mask = photometric_mask(image, other, torch.ones(1, 1, 160, 160))
    assert mask[..., 110:].min() > 0.99


def test_the_fit_is_made_where_the_images_are_trusted() -> None:
    image, trust = textured_scene(), torch.ones(1, 1, 160, 160)
    other = image.clone()
    other[..., 100:] = 1 - image[..., 100:]
    trust[..., 90:] = 0
    assert photometric_mask(image, other, trust)[..., :70].min() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (61, 30)])
def test_any_size_and_an_untrusted_batch_give_finite_weights(size: tuple[int, int]) -> None:
    first, second = torch.rand(2, 3, *size), torch.rand(2, 3, *size)
    mask = photometric_mask(first, second, torch.zeros(2, 1, *size))
    assert mask.shape == (2, 1, *size)
    assert 0 <= mask.min() <= mask.max() <= 1


def test_no_mask_carries_a_gradient() -> None:
    flow = torch.zeros(1, 2, 8, 8, requires_grad=True)
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    masks = consistency_mask(flow, flow), official_mask(flow), photometric_mask(image, image, image[:, :1])
    assert not any(mask.requires_grad for mask in masks)


def test_flow_that_is_wrong_both_ways_alike_is_rejected_by_the_global_motion() -> None:
    """Beyond an estimator's range the flow is about zero in both directions, which is consistent."""
    there = constant_flow(15, -8, (128, 128)) + zoom_flow(1.01, 128)
    wrong = (slice(None), slice(None), slice(8, 56), slice(32, 112))
    there[wrong] = 0.2
    trust = torch.ones(1, 1, 128, 128)
    assert consistency_mask(there, -there)[..., 16:48, 64:96].min() > 0.9
    mask = agreement_mask(there, trust)
    assert mask[..., 8:56, 32:112].max() < 0.01
    assert mask[..., 60:, :].min() > 0.99


def test_local_motion_and_zoom_agree_with_the_global_motion() -> None:
    flow = constant_flow(9, -6, (96, 96)) + zoom_flow(1.02, 96)
    flow[..., 32:64, 32:64] += 3.0
    assert agreement_mask(flow, torch.ones(1, 1, 96, 96))[..., 32:64, 32:64].min() > 0.8
    assert torch.isfinite(agreement_mask(flow, torch.zeros(1, 1, 96, 96))).all()


def test_agreement_is_computed_in_full_precision_under_autocast() -> None:
    flow = constant_flow(9, -6, (96, 96)) + zoom_flow(1.02, 96)
    trust = torch.ones(1, 1, 96, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mask = agreement_mask(flow, trust)
    assert torch.equal(mask, agreement_mask(flow, trust))
