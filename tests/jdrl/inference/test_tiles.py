"""Default size and overlap of tiles."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jdrl.config import DeblurConfig
from jdrl.inference.deblur import deblur
from jdrl.inference.tiles import MEMORY_BYTES, choose_tiling
from jdrl.networks import build_network, localise
from jdrl.networks.memory import peak_bytes


class Doubling(nn.Module):
    """A network that holds its input and, temporarily, 16 channels of it."""

    reach_px = 30

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1000, 1000))

    def forward(self, blurred: Tensor) -> Tensor:
        return blurred + blurred.repeat(1, 16, 1, 1)[:, :3]


def test_memory_is_counted_without_weights_while_it_is_used() -> None:
    # 48 repeated channels and 3 of the sum, float32; the first result is freed before the next.
    assert peak_bytes(Doubling(), 100, 200) == 100 * 200 * 51 * 4
    assert peak_bytes(nn.Sequential(Doubling(), Doubling()), 100, 200) == 100 * 200 * 54 * 4


def test_memory_grows_with_the_pixels() -> None:
    network = build_network("nafnet", width=8, encoder_blocks=[1], middle_blocks=1, decoder_blocks=[1])
    small, large = peak_bytes(network, 64, 64), peak_bytes(network, 128, 192)
    assert small is not None
    assert large == 6 * small


def test_the_tile_is_the_largest_that_fits_and_smaller_for_hungry_networks() -> None:
    tiles = []
    for options in ({"width": 64}, {"width": 128}):
        network = build_network("unet", **options)
        tile, _ = choose_tiling(network, DeblurConfig())
        fits, one_larger = peak_bytes(network, tile, tile), peak_bytes(network, tile + 64, tile + 64)
        assert fits is not None
        assert one_larger is not None
        assert fits <= MEMORY_BYTES < one_larger
        tiles.append(tile)
    assert tiles[1] < tiles[0]


def test_a_localised_networks_tile_fits_with_its_windows() -> None:
    network = build_network("restormer", blocks=[0, 1, 0, 0], refinement_blocks=1)
    local = localise(network, 512)
    tile, _ = choose_tiling(local, DeblurConfig())
    peak, plain = peak_bytes(local, tile, tile), peak_bytes(network, tile, tile)
    assert peak is not None
    assert plain is not None
    assert plain <= peak <= MEMORY_BYTES


def test_what_is_configured_wins() -> None:
    assert choose_tiling(Doubling(), DeblurConfig(tile=0)) == (0, 0)
    assert choose_tiling(Doubling(), DeblurConfig(tile=512)) == (512, 80)
    assert choose_tiling(Doubling(), DeblurConfig(tile=64)) == (64, 32)
    assert choose_tiling(Doubling(), DeblurConfig(tile=64, overlap=0)) == (64, 0)
    assert choose_tiling(Doubling(), DeblurConfig(overlap=9000)) == (18000, 9000)


def test_the_overlap_covers_the_reach_on_both_sides() -> None:
    assert choose_tiling(build_network("unet", width=1), DeblurConfig(tile=1024))[1] == 312


class Unforeseen(nn.Module):
    """A network that does not run on the meta device: it inspects values."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, blurred: Tensor) -> Tensor:
        return blurred * self.weight if float(blurred.mean()) > 0 else blurred


def test_a_network_of_unknown_memory_gets_tiles_of_1024() -> None:
    assert peak_bytes(Unforeseen(), 8, 8) is None
    assert choose_tiling(Unforeseen(), DeblurConfig()) == (1024, 128)


def test_a_networks_own_reach_is_all_that_a_tile_needs() -> None:
    torch.manual_seed(0)
    network, image = Narrow().eval(), torch.rand(3, 100, 150)
    tile, overlap = choose_tiling(network, DeblurConfig(tile=64))
    whole = deblur(network, image, tile=0, overlap=0)
    assert overlap == 16
    assert (whole - deblur(network, image, tile=tile, overlap=overlap)).abs().max() < 1e-5


class Narrow(nn.Sequential):
    """Six convolutions, with a reach of 6 px."""

    reach_px = 6

    def __init__(self) -> None:
        super().__init__(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(6)))
