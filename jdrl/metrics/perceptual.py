"""LPIPS and DISTS: perceptual distances of two images, by features of a classification network.

The weights are not part of the toolkit; `docs/evaluation.md` says where their authors publish them: torchvision's
AlexNet or VGG-16, and a small file with the weights of the features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jdrl.checkpoints.published_weights import read_weights
from jdrl.image_checks import check_same_shape, unit_image
from sdd_toolkit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MIN_SIDE_PX = 32
_ALEX_CHANNELS = (64, 192, 384, 256, 256)
_VGG_CHANNELS = (3, 64, 128, 256, 512, 512)
# Index of every convolution in torchvision's `features`, stage by stage.
_ALEX_LAYERS = (0, 3, 6, 8, 10)
_VGG_LAYERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_STABLE = 1e-6
# The receptive field of VGG-16's deepest feature is 105 px to either side; a multiple of its 16 px step.
_HALO_PX = 112
_TILE_PX = 512


PerceptualMetric = Callable[[Tensor, Tensor], Tensor]
"""Distance of two batches of images (B, 3, H, W) in [0, 1], at least 32 px a side: (B,), 0 for equal ones."""


class Lpips(nn.Module):
    """LPIPS 0.1 with an AlexNet: Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018.

    Args:
        convolutions: The five of AlexNet.
        heads: (1, C, 1, 1) weights of the features behind each.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, convolutions: Sequence[nn.Conv2d], heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        for layer, head in enumerate(heads):
            self.register_buffer(f"head{layer}", head)
        # The scaling of [-1, 1] of the metric's authors.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))

    @torch.no_grad()
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """See `PerceptualMetric`."""
        first, second = _check_pair(first, second)
        a, b = (((2 * image - 1) - self.shift) / self.scale for image in (first.float(), second.float()))
        total = a.new_zeros(len(a))
        for layer, convolution in enumerate(self.convolutions):
            if layer in (1, 2):
                a, b = (F.max_pool2d(image, 3, 2) for image in (a, b))
            a, b = (F.relu_(convolution(image)) for image in (a, b))
            difference = (_normalise_features(a) - _normalise_features(b)).square_()
            total += F.conv2d(difference, self.get_buffer(f"head{layer}")).mean((1, 2, 3))
        return total


class Dists(nn.Module):
    """DISTS: Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity", TPAMI 2022.

    At the images' own size; the authors' tool can also reduce them to 256 px first, which gives other values.
    Only means of features are needed, so large frames are computed in tiles with the same result.

    Args:
        convolutions: The thirteen of VGG-16, stage by stage.
        alpha: (1475,) weights of the texture terms, of the image and then of each stage.
        beta: (1475,) weights of the structure terms.
        tile: Side of the tiles, pixels, a multiple of 16.
    """

    mean: Tensor
    deviation: Tensor
    window: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(
        self, convolutions: Sequence[Sequence[nn.Conv2d]], alpha: Tensor, beta: Tensor, tile: int = _TILE_PX
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in convolutions)
        self.tile = tile
        self.register_buffer("alpha", alpha)
        self.register_buffer("beta", beta)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        self.register_buffer("window", torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16)

    @torch.no_grad()
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """See `PerceptualMetric`."""
        first, second = _check_pair(first, second)
        height, width = first.shape[-2:]
        moments = [first.new_zeros(5, len(first), count, dtype=torch.float64) for count in _VGG_CHANNELS]
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                window = _tile_with_halo(top, self.tile, height), _tile_with_halo(left, self.tile, width)
                a, b = (self.features(image[..., window[0], window[1]].float()) for image in (first, second))
                for level, (total, x, y) in enumerate(zip(moments, a, b, strict=True)):
                    step = 2 ** max(0, level - 1)
                    rows = _tile_without_halo(top, self.tile, height, window[0].start, step)
                    columns = _tile_without_halo(left, self.tile, width, window[1].start, step)
                    x, y = (feature[..., rows, columns].double() for feature in (x, y))
                    for moment, product in enumerate((x, y, x * x, y * y, x * y)):
                        total[moment] += product.sum((-2, -1))
        textures, structures = [], []
        for level, total in enumerate(moments):
            step = 2 ** max(0, level - 1)
            mean_x, mean_y, xx, yy, xy = total / (-(-height // step) * -(-width // step))
            textures.append((2 * mean_x * mean_y + _STABLE) / (mean_x**2 + mean_y**2 + _STABLE))
            variances = (xx - mean_x**2) + (yy - mean_y**2)
            structures.append((2 * (xy - mean_x * mean_y) + _STABLE) / (variances + _STABLE))
        alpha, beta = self.alpha.double(), self.beta.double()
        similarity = torch.cat(textures, 1) @ alpha + torch.cat(structures, 1) @ beta
        return 1 - similarity / (alpha.sum() + beta.sum())

    def features(self, image: Tensor) -> list[Tensor]:
        """The image and the last feature of each stage, with L2 pooling between stages."""
        features = [image]
        image = (image - self.mean) / self.deviation
        for number, stage in enumerate(self.stages):
            if number:
                channels = image.shape[1]
                window = self.window.expand(channels, 1, 3, 3)
                image = (F.conv2d(image.square(), window, stride=2, padding=1, groups=channels) + 1e-12).sqrt_()
            for convolution in stage:  # type: ignore[attr-defined]
                image = F.relu_(convolution(image))
            features.append(image)
        return features


def load_lpips(backbone: Path, weights: Path) -> Lpips:
    """Loads LPIPS from files.

    Args:
        backbone: torchvision's `alexnet-….pth`.
        weights: The authors' `weights/v0.1/alex.pth`.

    Raises:
        CheckpointError: A file cannot be read, holds more than tensors, or holds other weights.
    """
    layers, linear = read_weights(backbone), read_weights(weights)
    sizes = ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))
    steps = {11: (4, 2), 5: (1, 2), 3: (1, 1)}
    convolutions = [
        _load_convolution(layers, layer, size, steps[size[2]], backbone)
        for layer, size in zip(_ALEX_LAYERS, sizes, strict=True)
    ]
    heads = [
        _read_tensor(linear, f"lin{layer}.model.1.weight", (1, channels, 1, 1), weights)
        for layer, channels in enumerate(_ALEX_CHANNELS)
    ]
    return Lpips(convolutions, heads).eval()


def load_dists(backbone: Path, weights: Path) -> Dists:
    """Loads DISTS from files.

    Args:
        backbone: torchvision's `vgg16-….pth`.
        weights: The authors' `weights.pt`.

    Raises:
        CheckpointError: A file cannot be read, holds more than tensors, or holds other weights.
    """
    layers, feature_weights = read_weights(backbone), read_weights(weights)
    stages = []
    for stage, numbers in enumerate(_VGG_LAYERS):
        before, channels = _VGG_CHANNELS[stage : stage + 2]
        sizes = [(before, channels, 3), *[(channels, channels, 3)] * (len(numbers) - 1)]
        stages.append(
            [
                _load_convolution(layers, layer, size, (1, 1), backbone)
                for layer, size in zip(numbers, sizes, strict=True)
            ]
        )
    shape = (1, sum(_VGG_CHANNELS), 1, 1)
    alpha, beta = (_read_tensor(feature_weights, name, shape, weights).flatten() for name in ("alpha", "beta"))
    return Dists(stages, alpha, beta).eval()


def _check_pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two checked images (B, 3, H, W) that are large enough, in [0, 1].

    Raises:
        TypeError: An image is no tensor of floats, uint8 or uint16.
        ValueError: The shapes differ or are others, or too small; values are not finite or not about [0, 1].
    """
    first, second = unit_image(first, "first"), unit_image(second, "second")
    check_same_shape(first, second)
    if first.shape[1] != 3 or min(first.shape[-2:]) < MIN_SIDE_PX:
        raise ValueError(f"(B, 3, H, W) of {MIN_SIDE_PX} px or more a side expected, not {tuple(first.shape)}")
    return first, second


def _normalise_features(feature: Tensor) -> Tensor:
    """Normalises every pixel's feature vector to length one."""
    return feature / (feature.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _tile_with_halo(first: int, tile: int, length: int) -> slice:
    return slice(max(0, first - _HALO_PX), min(length, first + tile + _HALO_PX))


def _tile_without_halo(first: int, tile: int, length: int, start: int, step: int) -> slice:
    """The part of a feature that starts at pixel `start` which belongs to the tile that starts at `first`."""
    end = min(first + tile, length)
    return slice((first - start) // step, -(-(end - start) // step))


def _load_convolution(
    weights: Mapping[str, object], layer: int, size: tuple[int, int, int], step: tuple[int, int], path: Path
) -> nn.Conv2d:
    """torchvision's `features.LAYER`; `size` is (inputs, outputs, side), `step` is (stride, padding)."""
    inputs, outputs, side = size
    convolution = nn.Conv2d(inputs, outputs, side, step[0], step[1])
    kernel = _read_tensor(weights, f"features.{layer}.weight", (outputs, inputs, side, side), path)
    bias = _read_tensor(weights, f"features.{layer}.bias", (outputs,), path)
    convolution.load_state_dict({"weight": kernel, "bias": bias})
    return convolution.requires_grad_(False)


def _read_tensor(weights: Mapping[str, object], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    value = weights.get(name)
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        content = "nothing" if value is None else f"{tuple(getattr(value, 'shape', ()))}"
        raise CheckpointError(
            f"{path} holds {content} under {name!r}, not a tensor {shape}",
            hint="give the file its authors published; docs/evaluation.md says which",
        )
    return value.detach().float()
