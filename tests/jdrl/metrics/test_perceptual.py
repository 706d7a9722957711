"""LPIPS and DISTS against their formulas written down directly, on files in the published layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from jdrl.metrics.perceptual import load_dists, load_lpips
from sdd_toolkit.errors import CheckpointError

VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


def alexnet() -> nn.Sequential:
    """torchvision's `features` up to the last convolution."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU()]
    layers += [nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(), nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*layers)


def vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG:
        layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
        channels = width or channels
    return nn.Sequential(*layers)


def published(features: nn.Sequential, path: Path, generator: torch.Generator) -> nn.Sequential:
    """`features` with planted weights, which are also written to `path` under torchvision's names."""
    for parameter in features.parameters():
        fan = max(1, parameter[0].numel())
        parameter.data = torch.randn(parameter.shape, generator=generator) * (2 / fan) ** 0.5
        parameter.data *= 1.0 if parameter.dim() > 1 else 0.1
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return features


def images(generator: torch.Generator, height: int, width: int) -> tuple[Tensor, Tensor]:
    first = torch.rand(2, 3, height, width, generator=generator)
    noise = torch.randn(first.shape, generator=generator)
    return first, (first + 0.1 * noise).clamp(0, 1)


@torch.no_grad()
def test_lpips_is_its_formula(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    features = published(alexnet(), tmp_path / "alexnet.pth", generator)
    heads = [torch.rand(1, count, 1, 1, generator=generator) for count in (64, 192, 384, 256, 256)]
    torch.save({f"lin{place}.model.1.weight": head for place, head in enumerate(heads)}, tmp_path / "alex.pth")
    first, second = images(generator, 70, 61)
    expected = torch.zeros(2)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    for end, head in zip((2, 5, 8, 10, 12), heads, strict=True):
        scaled = [(2 * image - 1 - shift[:, None, None]) / scale[:, None, None] for image in (first, second)]
        a, b = (nn.functional.normalize(features[:end](image), dim=1) for image in scaled)
        expected += ((a - b) ** 2 * head).sum(1).mean((1, 2))
    metric = load_lpips(tmp_path / "alexnet.pth", tmp_path / "alex.pth")
    torch.testing.assert_close(metric(first, second), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(metric(first, first), torch.zeros(2))


@torch.no_grad()
def test_dists_is_its_formula_whole_and_in_tiles(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    features = published(vgg(), tmp_path / "vgg16.pth", generator)
    alpha, beta = (torch.rand(1, 1475, 1, 1, generator=generator) for _ in range(2))
    torch.save({"alpha": alpha, "beta": beta}, tmp_path / "weights.pt")
    first, second = images(generator, 150, 41)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    hanning = torch.tensor([0.5, 1.0, 0.5])
    window = hanning[:, None] * hanning / 4

    def stages(image: Tensor) -> list[Tensor]:
        found, x = [image], (image - mean[:, None, None]) / deviation[:, None, None]
        for layer in features:
            if isinstance(layer, nn.MaxPool2d):
                found.append(x)
                kernel = window.expand(x.shape[1], 1, 3, 3)
                x = (nn.functional.conv2d(x**2, kernel, None, 2, 1, 1, x.shape[1]) + 1e-12).sqrt()
            else:
                x = layer(x)
        return [*found, x]

    expected, start = torch.ones(2), 0
    for x, y in zip(stages(first), stages(second), strict=True):
        mx, my = x.mean((2, 3)), y.mean((2, 3))
        vx, vy = x.var((2, 3), correction=0), y.var((2, 3), correction=0)
        covariance = ((x - mx[..., None, None]) * (y - my[..., None, None])).mean((2, 3))
        part = slice(start, start + x.shape[1])
        weights = [weight[0, part, 0, 0] / (alpha.sum() + beta.sum()) for weight in (alpha, beta)]
        expected -= (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6) @ weights[0]
        expected -= (2 * covariance + 1e-6) / (vx + vy + 1e-6) @ weights[1]
        start += x.shape[1]
    metric = load_dists(tmp_path / "vgg16.pth", tmp_path / "weights.pt")
    whole = metric(first, second)
    torch.testing.assert_close(whole.float(), expected, rtol=1e-3, atol=1e-6)
    metric.tile = 48
    torch.testing.assert_close(metric(first, second), whole, rtol=1e-6, atol=1e-9)


def test_a_file_that_is_another_one_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg16.pth")
    torch.save({}, tmp_path / "alex.pth")
    with pytest.raises(CheckpointError, match=r"vgg16.pth holds \(64, 3, 3, 3\) under 'features.0.weight'"):
        load_lpips(tmp_path / "vgg16.pth", tmp_path / "alex.pth")
    with pytest.raises(CheckpointError, match=r"vgg16.pth holds nothing under 'features.0.bias'"):
        load_dists(tmp_path / "vgg16.pth", tmp_path / "alex.pth")
