"""Image tensors of a user's program: what is taken, and what is refused with what to write."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jdrl.image_checks import check_mask, unit_image
from jdrl.inference.blur_map import kernel_radius
from jdrl.inference.deblur import deblur
from jdrl.metrics.colour import fit_colours, match_colours
from jdrl.metrics.drift import estimate_drift
from jdrl.metrics.fidelity import mae, psnr, ssim
from jdrl.networks import NAFNet
from jdrl.reblurring.blur_estimator import BlurEstimator
from jdrl.reblurring.network import ReblurNetwork
from sdd_toolkit.errors import CheckpointError

IMAGE = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
CODES = (IMAGE * 255).round().to(torch.uint8)
ALL = torch.ones(1, 1, 48, 64)


def spoiled(value: float) -> Tensor:
    image = IMAGE.clone()
    image[0, 1, 5, 7] = value
    return image


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "codes as floats": (CODES.float(), ValueError, "divide by the largest code"),
    "values from -1": (IMAGE * 2 - 1, ValueError, "(x + 1) / 2"),
    "NaN": (spoiled(math.nan), ValueError, "1 values that are not finite, the first at (0, 1, 5, 7)"),
    "infinity": (spoiled(math.inf), ValueError, "not finite"),
    "int64": (CODES.long(), TypeError, "int64"),
    "bool": (IMAGE > 0.5, TypeError, "bool"),
    "complex": (IMAGE.to(torch.complex64), TypeError, "complex"),
    "a NumPy array": (IMAGE.numpy(), TypeError, "torch.from_numpy(image)"),
    "channels last": (IMAGE.movedim(1, -1), ValueError, "image.movedim(-1, -3)"),
    "without batch": (IMAGE[0], ValueError, "image[None]"),
    "alpha": (torch.zeros(1, 4, 8, 8), ValueError, "one or three channels"),
    "grey": (IMAGE[0, 0], ValueError, "one or three channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_of_another_kind_is_refused_with_what_to_write(name: str) -> None:
    image, kind, says = REFUSED[name]
    with pytest.raises(kind) as caught:
        unit_image(image, "image")
    assert says in str(caught.value)


def test_integers_are_scaled_by_their_type() -> None:
    assert torch.equal(unit_image(CODES, "image"), CODES.float() / 255)
    wide = torch.from_numpy(CODES.numpy().astype(np.uint16) * 257)
    assert torch.allclose(unit_image(wide, "image"), CODES.float() / 255)
    assert psnr(CODES, torch.zeros_like(CODES)).item() == pytest.approx(
        psnr(CODES.float() / 255, torch.zeros_like(IMAGE)).item(), abs=1e-5
    )


def network() -> nn.Module:
    return NAFNet(width=4, encoder_blocks=(1,), decoder_blocks=(1,)).eval()


FUNCTIONS: dict[str, Callable[[Tensor], object]] = {
    "psnr": lambda image: psnr(image, IMAGE),
    "psnr, second": lambda image: psnr(IMAGE, image),
    "mae": lambda image: mae(image, IMAGE),
    "ssim": lambda image: ssim(image, IMAGE),
    "fit_colours": lambda image: fit_colours(image, IMAGE, ALL),
    "match_colours": lambda image: match_colours(image, torch.eye(3, 4)),
    "estimate_drift": lambda image: estimate_drift(image, IMAGE),
    "deblur": lambda image: deblur(network(), image[0], tile=0, overlap=0),
    "kernel_radius": lambda image: kernel_radius(ReblurNetwork(), IMAGE[0], image[0], tile=0, overlap=0),
    "estimate_radius_px": lambda image: BlurEstimator().estimate_radius_px(image),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_images_checks_them(name: str) -> None:
    for image in (CODES.float(), spoiled(math.nan), IMAGE.movedim(1, -1)):
        with pytest.raises(ValueError, match=r"holds|shape"):
            FUNCTIONS[name](image)
    with pytest.raises(TypeError, match="int64"):
        FUNCTIONS[name](CODES.long())
    FUNCTIONS[name](CODES)


def test_a_mask_of_another_size_is_refused() -> None:
    check_mask(torch.ones(48, 64), IMAGE, "mask")
    check_mask(torch.ones(1, 1, 1, 1), IMAGE, "mask")
    for size in ((1, 3, 48, 64), (1, 1, 64, 48), (2, 1, 48, 64)):
        with pytest.raises(ValueError, match="mask"):
            psnr(IMAGE, IMAGE, torch.ones(size))


def test_a_network_that_returns_nan_stops_the_deblurring() -> None:
    class Diverged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(math.nan))

        def forward(self, blurred: Tensor) -> Tensor:
            return self.weight * blurred

    with pytest.raises(CheckpointError, match="not finite"):
        deblur(Diverged().eval(), IMAGE[0], tile=0, overlap=0)
