from __future__ import annotations

import math
import time

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.reblur import coc_radius_px, hat_basis, reblur


def random_weights(batch: int, radius: int, size: tuple[int, int]) -> Tensor:
    return torch.softmax(2 * torch.randn(batch, radius + 1, *size, dtype=torch.float64), dim=1)


def naive_reblur(image: Tensor, weights: Tensor) -> Tensor:
    """Pixel by pixel, offset by offset, straight from the definition."""
    batch, channels, height, width = image.shape
    radius = weights.shape[1] - 1
    offsets = [
        (y, x) for y in range(-radius, radius + 1) for x in range(-radius, radius + 1) if math.hypot(x, y) <= radius
    ]
    areas = [sum(max(0.0, 1 - abs(math.hypot(*o) - r)) for o in offsets) for r in range(radius + 1)]
    rows = []
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                total = image.new_zeros(channels)
                for y, x in offsets:
                    source = image[b, :, min(max(i + y, 0), height - 1), min(max(j + x, 0), width - 1)]
                    for r in range(radius + 1):
                        hat = max(0.0, 1 - abs(math.hypot(y, x) - r)) / areas[r]
                        if hat > 0:
                            total = total + weights[b, r, i, j] * hat * source
                rows.append(total)
    return torch.stack(rows).view(batch, height, width, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("radius", "size"), [(1, (4, 5)), (3, (5, 4)), (3, (1, 1)), (2, (1, 6))])
def test_values_and_gradients_equal_the_naive_dense_operator(radius: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weights = random_weights(2, radius, size).requires_grad_()
    ours, dense = reblur(image, weights), naive_reblur(image, weights)
    probe = torch.randn_like(dense)
    gradients = torch.autograd.grad(ours, (image, weights), probe)
    expected = torch.autograd.grad(dense, (image, weights), probe)
    torch.testing.assert_close(ours, dense, rtol=0, atol=1e-13)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-12)


def plain_reblur(image: Tensor, weights: Tensor) -> Tensor:
    """The same sum by one convolution per hat, in plain autograd."""
    batch, channels, height, width = image.shape
    radius = weights.shape[1] - 1
    padded = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    layers = F.conv2d(padded, hat_basis(radius, dtype=image.dtype).unsqueeze(1))
    return torch.einsum("bcrhw,brhw->bchw", layers.view(batch, channels, radius + 1, height, width), weights)


def test_radius_seven_equals_plain_convolution() -> None:
    torch.manual_seed(1)
    image = torch.rand(1, 3, 40, 33, dtype=torch.float64, requires_grad=True)
    weights = random_weights(1, 7, (40, 33)).requires_grad_()
    ours, plain = reblur(image, weights), plain_reblur(image, weights)
    gradients = torch.autograd.grad(ours.square().sum(), (image, weights))
    expected = torch.autograd.grad(plain.square().sum(), (image, weights))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-13)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-11)


def test_the_custom_backward_passes_gradcheck() -> None:
    image = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    weights = random_weights(1, 3, (5, 6)).requires_grad_()
    assert torch.autograd.gradcheck(reblur, (image, weights))


def test_only_image_and_weights_are_kept_for_backward() -> None:
    image = torch.rand(1, 3, 256, 256, requires_grad=True)
    weights = random_weights(1, 7, (256, 256)).float().requires_grad_()
    kept: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        reblur(image, weights)
    assert sum(kept) == image.nbytes + weights.nbytes == 2_883_584


def test_it_is_no_slower_than_plain_autograd() -> None:
    image = torch.rand(1, 3, 192, 192, requires_grad=True)
    weights = random_weights(1, 7, (192, 192)).float().requires_grad_()

    def fastest(operator: object) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            operator(image, weights).sum().backward()  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(reblur) < fastest(plain_reblur)


def test_hat_areas_are_those_of_the_disc_of_radius_seven() -> None:
    areas = 1 / hat_basis(7, dtype=torch.float64).amax((1, 2))
    expected = torch.tensor([1, 6.343, 12.455, 19.060, 24.410, 32.584, 36.999, 16.149], dtype=torch.float64)
    torch.testing.assert_close(areas, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("radius", [0, 1, 7, 12])
def test_every_hat_is_a_centred_symmetric_kernel_inside_the_disc(radius: int) -> None:
    hats = hat_basis(radius, dtype=torch.float64)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    outside = offset.view(-1, 1).square() + offset.square() > radius**2
    torch.testing.assert_close(hats.sum((1, 2)), torch.ones(radius + 1, dtype=torch.float64))
    assert hats[:, outside].abs().sum() == 0
    assert (hats * offset).sum((1, 2)).abs().max() < 1e-15
    for turned in (hats.flip(1), hats.flip(2), hats.transpose(1, 2)):
        assert torch.equal(turned, hats)


def test_the_delta_is_reached_exactly() -> None:
    image = torch.rand(1, 3, 16, 16)
    weights = torch.zeros(1, 8, 16, 16)
    weights[:, 0] = 1
    assert torch.equal(reblur(image, weights), image)


def test_a_constant_image_stays_constant_up_to_the_corner() -> None:
    blurred = reblur(torch.full((1, 3, 20, 20), 0.7), random_weights(1, 7, (20, 20)).float())
    assert (blurred - 0.7).abs().max() < 1e-6


def test_a_point_spreads_no_further_than_the_radius() -> None:
    image = torch.zeros(1, 1, 31, 31)
    image[..., 15, 15] = 1
    blurred = reblur(image, random_weights(1, 7, (31, 31)).float())
    y, x = torch.meshgrid(torch.arange(31) - 15, torch.arange(31) - 15, indexing="ij")
    assert blurred[0, 0][x.square() + y.square() > 49].abs().max() == 0


def test_half_precision_is_blurred_in_single() -> None:
    image, weights = torch.rand(1, 3, 8, 8).bfloat16(), random_weights(1, 3, (8, 8)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert reblur(image, weights).dtype == torch.float32


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        reblur(torch.rand(1, 3, 8, 8), torch.rand(1, 8, 4, 4))


@pytest.mark.parametrize("disc_px", [3.0, 5.0])
def test_the_coc_radius_of_a_uniform_disc_is_its_radius(disc_px: float) -> None:
    # A disc in hats, its edge softened over one pixel: every ring's weight is its area times its coverage.
    areas = 1 / hat_basis(7, dtype=torch.float64).amax((1, 2))
    weights = areas * (disc_px + 0.5 - torch.arange(8)).clamp(0, 1)
    weights = (weights / weights.sum()).view(1, 8, 1, 1)
    assert abs(float(coc_radius_px(weights)) - disc_px) < 0.25


def test_the_coc_radius_of_the_delta_is_zero() -> None:
    delta = torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1)
    assert float(coc_radius_px(delta)) < 1e-6


def fitted_loss(image: Tensor, blurred: Tensor) -> float:
    """The least squared error any one isotropic kernel of radius 4 reaches."""
    logits = torch.zeros(1, 5, 1, 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        weights = torch.softmax(logits, 1).expand(-1, -1, *image.shape[-2:])
        return 1e4 * (reblur(image, weights) - blurred)[..., 8:-8, 8:-8].square().mean()

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    return float(loss().detach())


def test_no_isotropic_kernel_hides_a_shift_of_two_pixels() -> None:
    torch.manual_seed(0)
    sharp = torch.rand(1, 3, 48, 48)
    weights = torch.tensor([0.1, 0.2, 0.4, 0.3, 0.0]).view(1, 5, 1, 1).expand(1, 5, 48, 48)
    blurred = reblur(sharp, weights)
    assert fitted_loss(sharp, blurred) < 0.05
    assert fitted_loss(sharp.roll(2, dims=3), blurred) > 10
