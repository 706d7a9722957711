"""The sRGB curve on tensors, and reblurring in linear light."""

from __future__ import annotations

import numpy as np
import torch

from jdrl.reblurring.light import from_linear_light, to_linear_light
from jdrl.reblurring.network import ReblurNetwork
from jdrl.reblurring.reblur import reblur, reblur_by
from sdd_toolkit.imaging.encoding import srgb_decode, srgb_encode


def test_the_curve_is_that_of_the_shards_and_its_inverse_takes_it_back() -> None:
    values = np.linspace(0, 1, 4097, dtype=np.float32)
    tensor = torch.from_numpy(values)
    np.testing.assert_allclose(to_linear_light(tensor).numpy(), srgb_decode(values), atol=1e-6)
    np.testing.assert_allclose(from_linear_light(tensor).numpy(), srgb_encode(values), atol=1e-6)
    beyond = torch.linspace(-0.5, 1.5, 2001)
    torch.testing.assert_close(from_linear_light(to_linear_light(beyond)), beyond, atol=1e-4, rtol=0)


def test_its_gradient_is_finite_everywhere() -> None:
    for curve in (to_linear_light, from_linear_light):
        values = torch.tensor([-1.0, 0.0, 1e-9, 0.0031308, 0.04045, 0.5, 1.0, 3.0], requires_grad=True)
        curve(values).sum().backward()
        assert values.grad is not None
        assert torch.isfinite(values.grad).all()
        assert (values.grad > 0).all()


def test_a_defocused_image_is_reblurred_exactly_in_linear_light_alone() -> None:
    """Mixed black and white pixels: half their light is the code 0.735, half their codes 0.5."""
    sharp = (torch.arange(32) % 2).float().expand(1, 3, 32, 32)
    networks = [ReblurNetwork(3, 4, 1, light=light) for light in ("linear", "encoded")]
    for network in networks:
        torch.nn.init.zeros_(network.head.weight)
        network.head.bias.data = torch.tensor([0.0, 0.0, 0.0, 60.0])
    with torch.no_grad():
        (by_light, weights), (by_codes, _) = (reblur_by(network, sharp, sharp) for network in networks)
    torch.testing.assert_close(by_light, from_linear_light(reblur(sharp, weights)), atol=1e-5, rtol=0)
    assert abs(float(by_light[..., 8:-8, 8:-8].mean()) - 0.735) < 0.03
    assert abs(float(by_codes[..., 8:-8, 8:-8].mean()) - 0.5) < 0.03


def test_linear_light_ties_an_output_to_its_place_more_firmly() -> None:
    """The loss of an output that is moved by two pixels rises more, above that of one in its place."""
    torch.manual_seed(0)
    light = torch.nn.functional.interpolate(torch.rand(1, 3, 24, 24) ** 3, size=96, mode="bicubic").clamp(0, 1)
    kernels = torch.zeros(1, 5, 96, 96)
    kernels[:, 4] = 1
    blurred, sharp = from_linear_light(reblur(light, kernels)), from_linear_light(light)

    def rise(by: str) -> float:
        losses = []
        for image in (sharp, sharp.roll(2, dims=3)):
            again = (
                from_linear_light(reblur(to_linear_light(image), kernels)) if by == "light" else reblur(image, kernels)
            )
            losses.append(float((again - blurred)[..., 8:-8, 8:-8].abs().mean()))
        return losses[1] - losses[0]

    assert rise("light") > 1.2 * rise("codes")
