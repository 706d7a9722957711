"""The reblurring network: predicts per-pixel kernel weights from the deblurred and the blurred image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jdrl.reblurring.kernel_basis import Basis, planes
from jdrl.reblurring.official_network import MIXING_MAPS, PROFILE_MAPS, official_weights

if TYPE_CHECKING:
    from jdrl.config import BasisName, Light, TrainConfig

IDENTITY_WEIGHT = 0.75
# Largest root mean square of a cell's features, and largest logit. Networks that learn stay below both, with features
# of about 2 and logits up to 12; at high rates, without a bound, they grow until the softmax is a constant.
FEATURE_BOUND = 4.0
LOGIT_BOUND = 14.0
# Scales the difference of the images, some hundredths, to the range of the images.
DIFFERENCE_GAIN = 8.0


class ReblurNetwork(nn.Module):
    """Predicts kernel weights for `reblur` by one trunk at 1/2 or 1/4 resolution; the published code has two at full.

    The blur radius varies smoothly, so the images enter through space-to-depth and the logits are upsampled. A new
    network predicts near-identity weights. The receptive field is about 2 `scale` (`blocks` + 2.5) px, which must
    exceed the largest kernel. Features and logits are bounded, so that the softmax keeps a gradient.

    Args:
        radius_px: R, the largest blur radius.
        width: Channels of the trunk.
        blocks: Gated blocks of the trunk.
        basis: Basis of the weights, see `jdrl.reblurring.kernel_basis.Basis`.
        scale: Downsampling factor of the trunk, 2 or 4.
        light: Whether `reblur_by` blurs linear light (the images hold sRGB values) or the values as they are.

    Raises:
        ValueError: There is no such basis.
    """

    def __init__(
        self,
        radius_px: int = 7,
        width: int = 48,
        blocks: int = 6,
        *,
        basis: BasisName = "hats",
        scale: int = 2,
        light: Light = "encoded",
    ) -> None:
        super().__init__()
        self.basis: BasisName = basis
        self.light: Light = light
        self.radius_px = radius_px
        self.scale = scale
        official = basis == "official"
        count = len(planes(Basis(basis, radius_px)))
        delta = count // 2 if basis == "free" else 0
        identity, rivals = (PROFILE_MAPS, MIXING_MAPS - 1) if official else (delta, count - 1)
        self.intro = nn.Conv2d(9 * scale**2, width, 3, padding=1)
        self.trunk = nn.Sequential(*(_GatedBlock(width) for _ in range(blocks)))
        self.head = nn.Conv2d(width, PROFILE_MAPS + MIXING_MAPS if official else count, 3, padding=1)
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            self.head.bias = nn.Parameter(torch.zeros(self.head.out_channels))
            self.head.bias[identity] = math.log(IDENTITY_WEIGHT / (1 - IDENTITY_WEIGHT) * max(1, rivals))

    def forward(self, deblurred: Tensor, blurred: Tensor) -> Tensor:
        """Predicts the weights of the kernels that turn `deblurred` into `blurred`.

        Args:
            deblurred: (B, 3, H, W) in [0, 1].
            blurred: (B, 3, H, W) in [0, 1].

        Returns:
            (B, K, H, W) for the K planes of the basis, non-negative, summing to one over dim 1.
        """
        height, width = blurred.shape[-2:]
        images = torch.cat([deblurred - 0.5, blurred - 0.5, DIFFERENCE_GAIN * (deblurred - blurred)], dim=1)
        padded = F.pad(images, (0, -width % self.scale, 0, -height % self.scale), mode="replicate")
        features: Tensor = self.trunk(self.intro(F.pixel_unshuffle(padded, self.scale)))
        logits: Tensor = self.head(_bound_features(features))
        full = F.interpolate(
            self._bound_logits(logits.float()), scale_factor=self.scale, mode="bilinear", align_corners=False
        )
        full = full[..., :height, :width]
        if self.basis == "official":
            return official_weights(full[:, :PROFILE_MAPS], full[:, PROFILE_MAPS:])
        return torch.softmax(full, dim=1)

    def _bound_logits(self, logits: Tensor) -> Tensor:
        if self.basis == "official":
            return torch.cat([_shorten(part) for part in (logits[:, :PROFILE_MAPS], logits[:, PROFILE_MAPS:])], dim=1)
        # A softmax ignores the mean.
        return _shorten(logits - logits.mean(1, keepdim=True))


def build_reblur_network(config: TrainConfig) -> ReblurNetwork:
    """Builds the configured reblurring network."""
    return ReblurNetwork(
        config.reblur_radius_px,
        config.reblur_width,
        basis=config.reblur_basis,
        scale=config.reblur_scale,
        light="encoded" if config.reblur_light == "encoded" else "linear",
    )


def _bound_features(features: Tensor) -> Tensor:
    size = features.float().square().mean(1, keepdim=True).add(1e-12).sqrt()
    return features * (FEATURE_BOUND / size).clamp(max=1).to(features.dtype)


def _shorten(logits: Tensor) -> Tensor:
    """Scales the logits of the pixels in which one exceeds the bound; unlike a clamp it leaves them a gradient."""
    return logits * (LOGIT_BOUND / logits.abs().amax(1, keepdim=True).clamp(min=LOGIT_BOUND))


class _GatedBlock(nn.Module):
    """A residual block in which half of the features gate the others, as in NAFNet (Chen et al., ECCV 2022).

    Blur shows in the loss of local contrast, a quadratic quantity, so products help. The gates are bounded, because a
    chain of plain products has degree 2^blocks and diverges on unfamiliar input; the features are, because each block
    would otherwise multiply them once weights are large.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.first(_bound_features(x)).chunk(2, dim=1)
        change: Tensor = self.second(values * gates.tanh())
        return x + change
