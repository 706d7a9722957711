"""The reblurring operator against naive dense operators, and the properties of its kernels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import product

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.nn import functional as F

from jdrl.config import BasisName
from jdrl.reblurring.kernel_basis import Basis, planes
from jdrl.reblurring.official_network import official_weights
from jdrl.reblurring.operator import BY_CONVOLUTION, BY_RINGS, Formulation, blur_with_gradients
from jdrl.reblurring.reblur import coc_radius_px, reblur

BASES: tuple[BasisName, ...] = ("hats", "discs", "rings", "official")
Plane = Callable[[float], float]


def random_weights(batch: int, radius: int, size: tuple[int, int], basis: BasisName = "hats") -> Tensor:
    count = len(planes(Basis(basis, radius)))
    return torch.softmax(2 * torch.randn(batch, count, *size, dtype=torch.float64), dim=1)


def hat(center: int) -> Plane:
    return lambda distance: max(0.0, 1 - abs(distance - center))


def disc(radius: float, reach: int) -> Plane:
    """A disc with a soft edge, put where its second moment is that of the exact disc."""
    offsets = [math.hypot(y, x) for y, x in product(range(-reach, reach + 1), repeat=2)]

    def soft(edge: float) -> Plane:
        return lambda distance: min(1.0, max(0.0, edge + 0.5 - distance))

    def excess(edge: float) -> float:
        return sum(soft(edge)(d) * (d * d - radius**2 / 2) for d in offsets)

    return soft(brentq(excess, 0.5 + 1e-9, radius + 1, xtol=1e-15) if radius else 0.25)


def ring(length: float) -> Plane:
    return lambda distance: float(distance == length)


def planes_of(basis: BasisName, radius: int) -> list[Plane]:
    """The planes of the linear bases, straight from their definitions."""
    if basis == "hats":
        return [hat(r) for r in range(radius + 1)]
    if basis == "discs":
        return [disc(r, radius) for r in (0, 0.5, 1, 1.5, *range(2, radius + 1)) if r <= radius]
    return [ring(length) for length in sorted({math.hypot(y, x) for y, x in disc_offsets(radius)})]


def disc_offsets(radius: float) -> list[tuple[int, int]]:
    reach = range(-math.floor(radius), math.floor(radius) + 1)
    return [(y, x) for y, x in product(reach, repeat=2) if math.hypot(y, x) <= radius]


def naive_reblur(image: Tensor, weights: Tensor, basis: BasisName, radius: int) -> Tensor:
    """Pixel by pixel, offset by offset, straight from the definition."""
    batch, channels, height, width = image.shape
    offsets = disc_offsets(radius + 0.5 if basis == "discs" else radius)
    offsets = [(y, x) for y, x in offsets if max(abs(y), abs(x)) <= radius]
    shapes = [[plane(math.hypot(*offset)) for offset in offsets] for plane in planes_of(basis, radius)]
    shares = torch.tensor([[value / sum(shape) for value in shape] for shape in shapes], dtype=image.dtype)
    pixels = []
    for b, i, j in product(range(batch), range(height), range(width)):
        kernel = (weights[b, :, i, j, None] * shares).sum(0)
        sources = [image[b, :, min(max(i + y, 0), height - 1), min(max(j + x, 0), width - 1)] for y, x in offsets]
        pixels.append((kernel[:, None] * torch.stack(sources)).sum(0))
    return torch.stack(pixels).view(batch, height, width, channels).permute(0, 3, 1, 2)


def naive_official(image: Tensor, profiles: Tensor, mixing: Tensor) -> Tensor:
    """The published operator: per pixel a softmax over the whole square for each of seven sizes, zeros outside."""
    height, width = image.shape[-2:]
    mix, first = mixing.softmax(1), 0
    total = mix[:, :1] * image
    for radius in range(1, 8):
        values = profiles[:, first : first + radius + 1].abs()
        first += radius + 1
        padded = F.pad(image, (radius,) * 4)
        blurred, whole = torch.zeros_like(image), torch.zeros_like(mix[:, :1])
        for y, x in product(range(2 * radius + 1), repeat=2):
            distance = math.hypot(y - radius, x - radius)
            low, high = math.floor(distance), math.ceil(distance)
            if distance > radius:
                logit = torch.zeros_like(whole)
            elif low == high:
                logit = values[:, low : low + 1]
            else:
                logit = (high - distance) * values[:, low : low + 1] + (distance - low) * values[:, high : high + 1]
            blurred = blurred + logit.exp() * padded[..., y : y + height, x : x + width]
            whole = whole + logit.exp()
        total = total + mix[:, radius : radius + 1] * blurred / whole
    return total


@pytest.mark.parametrize("size", [(9, 8), (1, 1), (1, 17), (20, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_official_basis_equals_the_published_operator(size: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.rand(2, channels, *size), 2 * torch.randn(2, 35, *size), torch.randn(2, 8, *size)]
    inputs = [value.requires_grad_() for value in inputs]
    image, profiles, mixing = inputs
    ours = reblur(image, official_weights(profiles, mixing), "official")
    dense = naive_official(image, profiles, mixing)
    assert (ours - dense).abs().max() < 2e-6
    probe = torch.randn_like(dense)
    gradients = torch.autograd.grad(ours, inputs, probe)
    expected = torch.autograd.grad(dense, inputs, probe)
    for found, wanted in zip(gradients, expected, strict=True):
        assert (found - wanted).abs().max() < 2e-5 * wanted.abs().max()


def test_the_official_weights_are_a_distribution_with_the_identity_in_the_first_mixing_map() -> None:
    torch.manual_seed(0)
    weights = official_weights(torch.randn(1, 35, 4, 4), torch.randn(1, 8, 4, 4))
    assert weights.shape == (1, 31, 4, 4)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 4, 4))
    delta = official_weights(torch.zeros(1, 35, 1, 1), torch.tensor([90.0] + 7 * [0.0]).view(1, 8, 1, 1))
    torch.testing.assert_close(delta.flatten(), torch.eye(31)[0])


def test_at_zero_logits_the_official_corners_hold_their_known_share() -> None:
    shares = []
    for radius in range(1, 8):
        mixing = torch.full((1, 8, 1, 1), -90.0)
        mixing[:, radius] = 0
        shares.append(float(official_weights(torch.zeros(1, 35, 1, 1), mixing)[:, 24:].sum()))
    assert [round(100 * share, 1) for share in shares] == [44.4, 48.0, 40.8, 39.5, 33.1, 33.1, 33.8]


@pytest.mark.parametrize("basis", BASES[:3])
@pytest.mark.parametrize(("radius", "size"), [(1, (4, 5)), (3, (5, 4)), (3, (1, 1)), (2, (1, 6)), (7, (2, 3))])
def test_values_and_gradients_equal_the_naive_dense_operator(
    basis: BasisName, radius: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weights = random_weights(2, radius, size, basis).requires_grad_()
    ours, dense = reblur(image, weights, basis), naive_reblur(image, weights, basis, radius)
    probe = torch.randn_like(dense)
    gradients = torch.autograd.grad(ours, (image, weights), probe)
    expected = torch.autograd.grad(dense, (image, weights), probe)
    torch.testing.assert_close(ours, dense, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-11)


def plain_reblur(image: Tensor, weights: Tensor) -> Tensor:
    """The same sum by one convolution per hat, in plain autograd."""
    batch, channels, height, width = image.shape
    radius = weights.shape[1] - 1
    padded = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    layers = F.conv2d(padded, planes(Basis("hats", radius)).to(image.dtype).unsqueeze(1))
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


@pytest.mark.parametrize("formulation", [BY_RINGS, BY_CONVOLUTION])
@pytest.mark.parametrize("basis", [*BASES, "free"])
def test_the_custom_backward_passes_gradcheck(basis: BasisName, formulation: Formulation) -> None:
    radius = 7 if basis == "official" else 2
    size = (1, 2) if basis == "official" else (3, 4)
    image = torch.rand(1, 2, *size, dtype=torch.float64, requires_grad=True)
    weights = random_weights(1, radius, size, basis).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *inputs: blur_with_gradients(*inputs, Basis(basis, radius), formulation), (image, weights)
    )


@pytest.mark.parametrize(("basis", "radius"), [("hats", 16), ("discs", 5), ("rings", 4), ("official", 7), ("free", 2)])
def test_the_formulation_for_gpus_has_the_values_of_the_one_for_cpus(basis: BasisName, radius: int) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 12, 9, requires_grad=True)
    weights = random_weights(2, radius, (12, 9), basis).float().requires_grad_()
    found = [blur_with_gradients(image, weights, Basis(basis, radius), how) for how in (BY_RINGS, BY_CONVOLUTION)]
    torch.testing.assert_close(*found, rtol=0, atol=2e-6)
    gradients = [torch.autograd.grad(blurred.square().sum(), (image, weights)) for blurred in found]
    torch.testing.assert_close(*gradients, rtol=2e-5, atol=2e-5)


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
    areas = 1 / planes(Basis("hats", 7)).amax((1, 2))
    expected = torch.tensor([1, 6.343, 12.455, 19.060, 24.410, 32.584, 36.999, 16.149], dtype=torch.float64)
    torch.testing.assert_close(areas, expected, rtol=0, atol=1e-3)


def test_radius_seven_has_eight_hats_ten_discs_and_twenty_four_rings() -> None:
    assert [len(planes(Basis(name, 7))) for name in BASES] == [8, 10, 24, 31]


@pytest.mark.parametrize(
    "basis",
    [Basis(name, radius) for name in BASES[:3] for radius in (0, 1, 7, 16)] + [Basis("official", 7)],
    ids=lambda basis: f"{basis.name}-{basis.radius_px}",
)
def test_every_plane_is_a_centred_symmetric_kernel_that_sums_to_one(basis: Basis) -> None:
    table, radius = planes(basis), basis.radius_px
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    distance = torch.hypot(offset.view(-1, 1), offset)
    torch.testing.assert_close(table.sum((1, 2)), torch.ones(len(table), dtype=torch.float64))
    assert table.min() >= 0
    assert (table * offset).sum((1, 2)).abs().max() < 1e-15
    for turned in (table.flip(1), table.flip(2), table.transpose(1, 2)):
        assert torch.equal(turned, table)
    assert table[0, radius, radius] == 1
    if basis.name != "official":
        outside = distance >= radius + 0.5 if basis.name == "discs" else distance > radius
        assert table[:, outside].abs().sum() == 0


@pytest.mark.parametrize("radius", [1, 2, 7, 16])
def test_every_disc_has_the_second_moment_of_the_exact_one(radius: int) -> None:
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    squared = offset.view(-1, 1).square() + offset.square()
    wanted = [0.5 * r * r for r in (0, 0.5, 1, 1.5, *range(2, radius + 1)) if r <= radius]
    found = (planes(Basis("discs", radius)) * squared).sum((1, 2))
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_basis_that_does_not_exist_is_refused() -> None:
    for name, radius in (("hats", 17), ("official", 5), ("gaussians", 3)):
        with pytest.raises(ValueError, match="basis"):
            Basis(name, radius)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no basis 'rings' has 8 planes"):
        reblur(torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8, 8), "rings")


@pytest.mark.parametrize("basis", BASES)
def test_the_delta_is_reached_exactly(basis: BasisName) -> None:
    image = torch.rand(1, 3, 16, 16)
    weights = torch.zeros(1, len(planes(Basis(basis, 7))), 16, 16)
    weights[:, 0] = 1
    assert torch.equal(reblur(image, weights, basis), image)


@pytest.mark.parametrize("basis", BASES[:3])
def test_a_constant_image_stays_constant_up_to_the_corner(basis: BasisName) -> None:
    blurred = reblur(torch.full((1, 3, 20, 20), 0.7), random_weights(1, 7, (20, 20), basis).float(), basis)
    assert (blurred - 0.7).abs().max() < 1e-6


def test_the_official_basis_darkens_the_frame_as_the_published_code_does() -> None:
    blurred = reblur(torch.ones(1, 3, 40, 40), random_weights(1, 7, (40, 40), "official").float(), "official")
    assert (blurred[..., 7:-7, 7:-7] - 1).abs().max() < 1e-6
    assert blurred[..., 0, 0].max() < 0.9


@pytest.mark.parametrize("basis", BASES[:3])
def test_a_point_spreads_no_further_than_the_radius(basis: BasisName) -> None:
    image = torch.zeros(1, 1, 31, 31)
    image[..., 15, 15] = 1
    blurred = reblur(image, random_weights(1, 7, (31, 31), basis).float(), basis)
    y, x = torch.meshgrid(torch.arange(31) - 15, torch.arange(31) - 15, indexing="ij")
    reach = 7.5 if basis == "discs" else 7
    assert blurred[0, 0][x.square() + y.square() > reach**2].abs().max() == 0


@pytest.mark.parametrize("basis", BASES)
def test_turning_the_images_turns_the_result(basis: BasisName) -> None:
    image, weights = torch.rand(1, 3, 18, 18, dtype=torch.float64), random_weights(1, 7, (18, 18), basis)
    turned = reblur(image.rot90(1, (2, 3)).flip(2), weights.rot90(1, (2, 3)).flip(2), basis)
    torch.testing.assert_close(turned, reblur(image, weights, basis).rot90(1, (2, 3)).flip(2), rtol=0, atol=1e-14)


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
    areas = 1 / planes(Basis("hats", 7)).amax((1, 2))
    weights = areas * (disc_px + 0.5 - torch.arange(8)).clamp(0, 1)
    weights = (weights / weights.sum()).view(1, 8, 1, 1)
    assert abs(float(coc_radius_px(weights)) - disc_px) < 0.25


def test_the_coc_radius_of_the_delta_is_zero() -> None:
    delta = torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1)
    assert float(coc_radius_px(delta)) < 1e-6


@pytest.mark.parametrize(("disc", "radius_px"), [(1, 0.5), (3, 1.5), (6, 4.0), (9, 7.0)])
def test_the_radius_of_a_disc_of_the_disc_basis_is_its_own(disc: int, radius_px: float) -> None:
    weights = torch.eye(10)[disc].view(1, 10, 1, 1)
    assert float(coc_radius_px(weights, "discs")) == pytest.approx(radius_px, rel=1e-6)


def test_the_radius_of_a_ring_is_that_of_a_disc_of_its_second_moment() -> None:
    # The third ring lies at √2: E|o|² = 2 = ρ²/2.
    assert float(coc_radius_px(torch.eye(24)[2].view(1, 24, 1, 1), "rings")) == pytest.approx(2.0)
