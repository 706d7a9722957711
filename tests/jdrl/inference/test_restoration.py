"""Restoration: the scale follows the blur, sharp parts stay, strength and tiles do what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from jdrl.inference.restoration import Restoration, choose_scales, restore_photograph
from jdrl.inference.tiled import deblur
from sdd_toolkit.imaging.disc import blur_with_disc as blurred
from tests.jdrl.inference.test_local_blur import codes, scene

WHOLE = Restoration(tile=0, overlap=0)


class Sharpening(nn.Module):
    """Adds what a mean over 5x5 pixels takes away, and keeps the sizes that it was given."""

    reach_px = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 1, 5, 5), 1 / 25))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, blurred: Tensor) -> Tensor:
        self.sizes.append(tuple(blurred.shape[-2:]))
        padded = nn.functional.pad(blurred, (2, 2, 2, 2), mode="replicate")
        return 2 * blurred - nn.functional.conv2d(padded, self.weight, groups=3)


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(codes(image).transpose(2, 0, 1)))


def psnr_db(first: Tensor, second: Tensor) -> float:
    return -10 * float(torch.log10((first - second).square().mean()))


def test_the_scale_follows_the_blur() -> None:
    for radius_px, expected in ((2.5, (384, 512)), (8.0, (192, 256)), (40.0, (96, 128))):
        network = Sharpening()
        image = tensor(blurred(scene(), radius_px))
        weights = choose_scales(image, WHOLE)
        heaviest = max(weights, key=lambda shrink: float(weights[shrink].sum()))
        assert (384 // heaviest, 512 // heaviest) == expected
        restore_photograph(network, image, WHOLE)
        assert expected in network.sizes


def test_a_reduced_change_keeps_the_detail_of_the_photograph() -> None:
    """At 1/4 a network that halves contrast changes coarse structure and no pixel-wide detail."""

    class Halving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.5))

        def forward(self, blurred: Tensor) -> Tensor:
            return 0.5 + self.weight * (blurred - 0.5)

    fine = 0.1 * (np.indices((64, 66)).sum(0) % 2).astype(np.float32)
    image = torch.from_numpy(np.stack([0.2 + fine] * 3))
    restored = restore_photograph(Halving(), image, replace(WHOLE, scale="1/4", everywhere=True))
    assert torch.allclose(restored[:, :64, :64], image[:, :64, :64] + 0.125, atol=1e-5)


def test_a_sharp_photograph_stays_and_everywhere_changes_it() -> None:
    image = tensor(scene())
    assert psnr_db(restore_photograph(Sharpening(), image, WHOLE), image) > 40
    plain = restore_photograph(Sharpening(), image, replace(WHOLE, scale="1", everywhere=True))
    assert psnr_db(plain, image) < 30
    assert torch.allclose(plain, deblur(Sharpening(), image, tile=0, overlap=0), atol=1e-6)


def test_the_sharp_half_stays_beside_a_blurred_one() -> None:
    both = np.where(np.arange(512)[None, :, None] < 256, scene(), blurred(scene(), 4))
    image = tensor(both)
    restored = restore_photograph(Sharpening(), image, WHOLE)
    assert psnr_db(restored[..., :200], image[..., :200]) > 40
    assert (restored[..., 360:] - image[..., 360:]).abs().max() > 10 / 255


def test_strength_multiplies_the_change_and_zero_returns_the_codes() -> None:
    image = 0.3 + 0.4 * tensor(blurred(scene(), 4))
    changes = [
        restore_photograph(Sharpening(), image, replace(WHOLE, strength=strength)) - image for strength in (0, 1, 1.5)
    ]
    assert float(changes[0].abs().max()) == 0
    assert torch.allclose(changes[2], 1.5 * changes[1], atol=1e-6)


def test_tiles_do_not_show_at_any_scale_and_idle_tiles_are_left_out() -> None:
    both = np.where(np.arange(512)[None, :, None] < 300, scene(), blurred(scene(), 14))
    image = tensor(both)[:, :201, :]
    network = Sharpening()
    whole = restore_photograph(network, image, WHOLE)
    tiled = restore_photograph(network, image, Restoration(tile=64, overlap=16))
    assert (whole - tiled).abs().max() < 1e-5
    assert torch.equal(tiled, restore_photograph(network, image, Restoration(tile=64, overlap=16)))
    counting = Sharpening()
    wanted = torch.zeros(201, 512, dtype=torch.bool)
    wanted[:, :20] = True
    partly = deblur(counting, image, tile=64, overlap=16, wanted=wanted)
    assert len(counting.sizes) == 4
    assert torch.allclose(partly[..., 100:], image[..., 100:], atol=1e-6)
