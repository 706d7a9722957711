"""A network that estimates the blur kernels of a frame from that frame alone, trained on pseudo labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jdrl.image_checks import unit_image
from jdrl.reblurring.kernel_basis import Basis, planes
from jdrl.reblurring.network import IDENTITY_WEIGHT
from jdrl.reblurring.reblur import coc_radius_px

if TYPE_CHECKING:
    from jdrl.config import BasisName

CELL_PX = 4
CONTRAST_REACH_PX = 8
CONTRAST_FLOOR = 0.02
REACH_PX = 48  # half the receptive field of the features: of trunk and contrast normalisation


class BlurEstimator(nn.Module):
    """Predicts kernel weights for `reblur` from the blurred image alone, by a residual trunk at 1/4 resolution.

    The image is normalised to equal local brightness and contrast, which hold no information on blur. The receptive
    field of the features is about 8 `blocks` + 16 px to each side. A new estimator predicts near-identity weights.

    Args:
        radius_px: R, the largest blur radius.
        width: Channels of the trunk.
        blocks: Residual blocks of the trunk.
        basis: Basis of the weights, see `jdrl.reblurring.kernel_basis.Basis`.

    Raises:
        ValueError: There is no such basis.
    """

    def __init__(self, radius_px: int = 7, width: int = 32, blocks: int = 3, *, basis: BasisName = "hats") -> None:
        super().__init__()
        self.basis: BasisName = basis
        self.max_radius_px = radius_px
        self.reach_px = REACH_PX
        count = len(planes(Basis(basis, radius_px)))
        self.intro = nn.Conv2d(3 * CELL_PX**2, width, 3, padding=1)
        self.trunk = nn.Sequential(*(_ResidualBlock(width) for _ in range(blocks)))
        self.head = nn.Conv2d(width, count, 3, padding=1)
        for module in (*self.trunk.modules(), self.intro):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            self.head.bias = nn.Parameter(torch.zeros(count))
            self.head.bias[0] = math.log(IDENTITY_WEIGHT / (1 - IDENTITY_WEIGHT) * (count - 1))

    def features(self, blurred: Tensor) -> Tensor:
        """Computes the features of every cell of `CELL_PX` x `CELL_PX` pixels.

        Args:
            blurred: (B, 3, H, W) in [0, 1].

        Returns:
            (B, width, ceil(H / 4), ceil(W / 4)).
        """
        height, width = blurred.shape[-2:]
        padded = F.pad(normalise_contrast(blurred), (0, -width % CELL_PX, 0, -height % CELL_PX), mode="replicate")
        features: Tensor = self.trunk(self.intro(F.pixel_unshuffle(padded, CELL_PX)))
        return features

    def weights(self, features: Tensor, size: tuple[int, ...]) -> Tensor:
        """Kernel weights, as of `forward`, from `features` of an image of `size`, (height, width)."""
        height, width = size
        logits: Tensor = self.head(features)
        full = F.interpolate(logits, scale_factor=CELL_PX, mode="bilinear", align_corners=False)
        return torch.softmax(full[..., :height, :width].float(), dim=1)

    def forward(self, blurred: Tensor) -> Tensor:
        """Predicts the weights of the kernels that blurred `blurred`.

        Args:
            blurred: (B, 3, H, W) in [0, 1].

        Returns:
            (B, K, H, W) for the K planes of the basis, non-negative, summing to one over dim 1.
        """
        return self.weights(self.features(blurred), blurred.shape[-2:])

    def estimate_radius_px(self, blurred: Tensor) -> Tensor:
        """The blur map: (B, 3, H, W) in [0, 1] to (B, 1, H, W) circle-of-confusion radii in pixels.

        Raises:
            TypeError: The image is no tensor of floats, uint8 or uint16.
            ValueError: It has another shape, or values that are not finite or not about [0, 1].
        """
        return coc_radius_px(self(unit_image(blurred, "blurred", dims=(3, 4))), self.basis)


def find_estimator(network: nn.Module) -> BlurEstimator | None:
    """Finds the blur estimator inside a network; None if there is none."""
    return next((module for module in network.modules() if isinstance(module, BlurEstimator)), None)


def normalise_contrast(image: Tensor) -> Tensor:
    """Subtracts the local mean and divides by the local standard deviation (of all channels, at least 0.02).

    Args:
        image: (B, C, H, W) in [0, 1].

    Returns:
        (B, C, H, W).
    """
    mean = box_mean(image, CONTRAST_REACH_PX)
    variance = (box_mean(image.square(), CONTRAST_REACH_PX) - mean.square()).mean(1, keepdim=True)
    return (image - mean) / (variance.clamp(min=0) + CONTRAST_FLOOR**2).sqrt()


def box_mean(values: Tensor, reach_px: int) -> Tensor:
    """The mean over a square window, 2 `reach_px` + 1 px on a side, clipped to the frame."""
    side = 2 * reach_px + 1
    rows = F.avg_pool2d(values, (1, side), stride=1, padding=(0, reach_px), count_include_pad=False)
    return F.avg_pool2d(rows, (side, 1), stride=1, padding=(reach_px, 0), count_include_pad=False)


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.first(x)))
        return x + change
