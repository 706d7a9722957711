"""Averages and attention over windows of the frame; tiles of any network have no seams."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from jdrl.config import DeblurConfig
from jdrl.inference.deblur import deblur
from jdrl.inference.tiles import choose_tiling
from jdrl.networks import Guide, LocalisedNetwork, NAFNet, add_guide, build_network, localise, restore, unwrap_guide
from jdrl.networks.localised import MAX_WINDOWS

SMALL: dict[str, dict[str, object]] = {
    "unet": {"width": 8},
    "nafnet": {"width": 8, "encoder_blocks": [1, 1, 2], "middle_blocks": 1, "decoder_blocks": [1, 1, 1]},
    "restormer": {"width": 8, "blocks": [1, 1, 1, 2], "refinement_blocks": 1},
    "mprnet": {"width": 8, "unet_growth": 4, "orsnet_growth": 4, "orsnet_blocks": 2},
    "ifan": {"width": 8, "residual_blocks": 1, "iterations": 5},
}
AVERAGING = ("nafnet", "restormer", "mprnet")


def picture(height: int, width: int) -> Tensor:
    """Smooth noise with a dark right half, so that averages differ over the frame."""
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(1))
    image = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    image[:, :, width // 2 :] *= 0.2
    return image


def answering(name: str) -> nn.Module:
    """A small network of random weights that adds noise with a standard deviation of about 0.1 to a picture."""
    torch.manual_seed(3)
    network = build_network(name, **SMALL[name]).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    for key, parameter in network.named_parameters():
        if key.endswith(("beta", "gamma")):
            nn.init.normal_(parameter, std=0.5)
    image = picture(64, 64)[None]
    with torch.no_grad():
        residual = float((restore(network, image)[0] - image).std())
        for key, parameter in network.named_parameters():
            if key.startswith(("ending", "output", "tail", "out_res")):
                parameter *= 0.1 / residual
    return network


def attentive_nafnet() -> NAFNet:
    """A NAFNet whose channel attention matters: every weight is random, none zero."""
    torch.manual_seed(3)
    network = build_network("nafnet", width=8, encoder_blocks=[1, 1], middle_blocks=1, decoder_blocks=[1, 1])
    assert isinstance(network, NAFNet)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return network.eval()


@pytest.mark.parametrize("name", SMALL)
def test_tiles_show_no_seam_whatever_the_network(name: str) -> None:
    network, image = localise(answering(name), 64), picture(48, 576)
    tile, overlap = choose_tiling(network, DeblurConfig(tile=512))
    whole = deblur(network, image, tile=0, overlap=0)
    tiled = deblur(network, image, tile=tile, overlap=overlap)
    assert (whole - image).std() > 10 / 255
    assert (whole - tiled).abs().max() < 1 / 255


@pytest.mark.parametrize("name", AVERAGING)
def test_without_windows_a_network_that_averages_shows_seams(name: str) -> None:
    network, image = answering(name), picture(48, 576)
    whole = deblur(network, image, tile=0, overlap=0)
    tiled = deblur(network, image, tile=512, overlap=256)
    assert (whole - tiled).abs().max() > 1 / 255


def test_tiles_of_a_localised_nafnet_show_no_seam() -> None:
    network, image = attentive_nafnet(), torch.rand(3, 96, 288)
    image[:, :, 144:] *= 0.2
    seams = []
    for candidate in (network, localise(network, 32)):
        whole = deblur(candidate, image, tile=0, overlap=0)
        tiled = deblur(candidate, image, tile=128, overlap=64)
        seams.append(float((whole - tiled).abs().max()))
    assert seams[1] < 1 / 255 < seams[0]


def test_a_trained_network_shows_no_seam() -> None:
    torch.manual_seed(0)
    network = build_network("nafnet", width=8, encoder_blocks=[1, 1], middle_blocks=1, decoder_blocks=[1, 1])
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    sharp = picture(64, 64)[None]
    for _ in range(60):
        top, left = (int(torch.randint(0, 16, ())) for _ in range(2))
        crop = sharp[..., top : top + 48, left : left + 48]
        blurred = nn.functional.avg_pool2d(nn.functional.pad(crop, (2, 2, 2, 2), mode="reflect"), 5, 1)
        optimiser.zero_grad()
        (network(blurred) - crop).abs().mean().backward()
        optimiser.step()
    local, image = localise(network.eval(), 48), picture(48, 576)
    tile, overlap = choose_tiling(local, DeblurConfig(tile=512))
    whole = deblur(local, image, tile=0, overlap=0)
    assert (whole - image).abs().max() > 5 / 255
    assert (whole - deblur(local, image, tile=tile, overlap=overlap)).abs().max() < 1 / 255


@pytest.mark.parametrize("size", [(1, 1), (30, 64), (64, 64)])
@pytest.mark.parametrize("name", AVERAGING)
def test_windows_as_large_as_the_input_change_nothing(name: str, size: tuple[int, int]) -> None:
    network, image = answering(name), torch.rand(1, 3, *size)
    with torch.no_grad():
        local, plain = restore(localise(network, 64), image), restore(network, image)
    assert len(local) == len(plain)
    assert all(torch.equal(*outputs) for outputs in zip(local, plain, strict=True))


def test_localising_leaves_the_network_and_the_names_of_its_weights_alone() -> None:
    network, image = attentive_nafnet(), torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        before = network(image)
        local = localise(network, 16)
        assert isinstance(local, LocalisedNetwork)
        assert local.network.state_dict().keys() == network.state_dict().keys()
        assert (local(image)[0] - before).abs().max() > 1e-3
        assert torch.equal(network(image), before)
        assert torch.equal(local.network(image), before)


@pytest.mark.parametrize("name", ["unet", "ifan"])
def test_a_network_that_takes_no_statistics_is_returned_itself(name: str) -> None:
    network = build_network(name, **SMALL[name])
    assert localise(network, 64) is network


class MeanOfAll(nn.Module):
    """Returns the mean of its input at every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.weight = nn.AdaptiveAvgPool2d(1), nn.Parameter(torch.ones(1))

    def forward(self, blurred: Tensor) -> Tensor:
        return self.weight * self.pool(blurred) + 0 * blurred


def test_every_pixel_is_given_the_means_of_the_windows_around_it() -> None:
    image = torch.rand(1, 3, 20, 60)
    local = localise(MeanOfAll(), 20)
    with torch.no_grad():
        answer = local(image)[0]
    means = image.unflatten(3, (3, 20)).mean((2, 4))
    # Centres of windows lie between pixels 9 and 10, 29 and 30, 49 and 50.
    torch.testing.assert_close(answer[..., 0, 0], means[..., 0])
    torch.testing.assert_close(answer[..., 5, 59], means[..., 2])
    torch.testing.assert_close(answer[..., 5, 24], means[..., 0] * 0.275 + means[..., 1] * 0.725)
    torch.testing.assert_close(answer[..., 19, 39], means[..., 1] * 0.525 + means[..., 2] * 0.475)


def test_windows_of_a_long_frame_are_a_sample_of_it() -> None:
    local = localise(MeanOfAll(), 8)
    assert isinstance(local, LocalisedNetwork)
    statistics = local.measure_statistics(torch.rand(1, 3, 8, 800))
    assert statistics is not None
    assert [tuple(values.shape) for values in statistics.values] == [(1, MAX_WINDOWS, 1, 3, 1, 1)]


class Flattening(nn.Module):
    """Squeeze and excitation with linear layers, which take no map."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.linear = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 3)

    def forward(self, blurred: Tensor) -> Tensor:
        gains: Tensor = self.linear(self.pool(blurred).flatten(1))
        return blurred * gains[:, :, None, None]


def test_where_no_map_of_means_is_taken_all_tiles_are_given_the_frames_mean() -> None:
    torch.manual_seed(0)
    network, image = Flattening().eval(), picture(64, 128)
    local = localise(network, 32)
    whole = deblur(local, image, tile=0, overlap=0)
    # The windows cover the frame once, so that their mean is the frame's.
    torch.testing.assert_close(whole, deblur(network, image, tile=0, overlap=0))
    torch.testing.assert_close(deblur(local, image, tile=48, overlap=16), whole)
    assert (deblur(network, image, tile=48, overlap=16) - whole).abs().max() > 1 / 255


def test_each_image_of_a_batch_is_given_its_own_statistics() -> None:
    local = localise(answering("restormer"), 32)
    images = torch.stack([picture(48, 64), picture(48, 64).flip(-1)])
    with torch.no_grad():
        together, alone = local(images)[0], [local(image[None])[0] for image in images]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fusion", ["modulation", "concat"])
def test_a_guided_network_shows_no_seam(fusion: Literal["modulation", "concat"]) -> None:
    torch.manual_seed(4)
    both = add_guide(answering("nafnet"), Guide(radius_px=3, width=8, fusion=fusion))
    for name, parameter in both.named_parameters():
        if name.startswith("fusion.change"):
            nn.init.normal_(parameter, std=0.1)
    network, image = localise(both.eval(), 64), picture(48, 1024)
    tile, overlap = choose_tiling(network, DeblurConfig(tile=640))
    assert overlap > choose_tiling(localise(answering("nafnet"), 64), DeblurConfig(tile=640))[1]
    whole = deblur(network, image, tile=0, overlap=0)
    unchanged = deblur(localise(unwrap_guide(both), 64), image, tile=0, overlap=0)
    assert (whole - unchanged).abs().max() > 1 / 255
    assert (whole - deblur(network, image, tile=tile, overlap=overlap)).abs().max() < 1 / 255
