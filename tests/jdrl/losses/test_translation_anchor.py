"""Reblurring ties the output to the input's geometry: an isotropic kernel cannot shift an image, a free one can."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from jdrl.config import BasisName
from jdrl.reblurring.kernel_basis import Basis, planes
from jdrl.reblurring.reblur import reblur

ISOTROPIC: tuple[BasisName, ...] = ("hats", "discs", "rings")
SHIFT_PX = 2


def fitted_loss(blur: Callable[[Tensor], Tensor], maps: int, blurred: Tensor) -> float:
    """The least squared error of `blur` over `maps` logits, the frame's border left out."""
    logits = torch.zeros(1, maps, 1, 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=80, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        return 1e4 * (blur(torch.softmax(logits, 1)) - blurred)[..., 8:-8, 8:-8].square().mean()

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    return float(loss().detach())


@pytest.fixture(scope="module")
def shifted_pair() -> tuple[Tensor, Tensor, Tensor]:
    """A sharp image, the same shifted by two pixels, and the first blurred by a disc of 2.5 px."""
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, 3, 48, 48, generator=generator)
    weights = torch.zeros(1, 6, 48, 48)
    weights[:, 4:] = 0.5
    return sharp, sharp.roll(SHIFT_PX, dims=3), reblur(sharp, weights, "discs")


@pytest.mark.parametrize("basis", ISOTROPIC)
def test_no_isotropic_kernel_hides_a_shift_of_two_pixels(
    shifted_pair: tuple[Tensor, Tensor, Tensor], basis: BasisName
) -> None:
    sharp, shifted, blurred = shifted_pair
    maps = len(planes(Basis(basis, 4)))

    def by(image: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda weights: reblur(image, weights.expand(-1, -1, 48, 48), basis)

    assert fitted_loss(by(sharp), maps, blurred) < 1
    assert fitted_loss(by(shifted), maps, blurred) > 10


def test_a_free_kernel_hides_a_shift_of_two_pixels(shifted_pair: tuple[Tensor, Tensor, Tensor]) -> None:
    sharp, shifted, blurred = shifted_pair

    def by(image: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda weights: reblur(image, weights.expand(-1, -1, 48, 48), "free")

    assert fitted_loss(by(sharp), 225, blurred) < 1
    assert fitted_loss(by(shifted), 225, blurred) < 1
