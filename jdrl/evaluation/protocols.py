"""Evaluation protocols: the target is the sharp frame as packed, aligned once a pair, or warped to each output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jdrl.flow.warping import warp
from sdd_toolkit.imaging.encoding import Encoding, srgb_decode

if TYPE_CHECKING:
    from torch import Tensor

    from jdrl.flow.estimators import FlowEstimator

UNWARPED, ALIGNED, OFFICIAL = "unwarped", "aligned", "official"
_MULTIPLE_PX = 16


@torch.no_grad()
def official_pair(output: Tensor, sharp: Tensor, estimate: FlowEstimator) -> tuple[Tensor, Tensor]:
    """Crops an output and warps its target as the published test code does.

    Both are cropped, from the top left, to multiples of 16 pixels. The sharp frame is warped to the output by the flow
    between the two, with the sampling positions of that code (a zoom by W / (W - 1), even for zero flow). Every pixel
    counts.

    Args:
        output: (1, 3, H, W) in [0, 1].
        sharp: (1, 3, H, W), as packed.
        estimate: PWC-Net, for scores comparable with published ones.
    """
    height, width = (side // _MULTIPLE_PX * _MULTIPLE_PX for side in output.shape[-2:])
    output, sharp = (image[..., :height, :width] for image in (output, sharp))
    return output, warp(sharp, estimate(output, sharp), official=True)


def linear_light(image: Tensor, encoding: Encoding) -> Tensor:
    """Converts values of a data set to linear light in [0, 1], in which defocus is a convolution."""
    if encoding is Encoding.LINEAR16:
        return image
    return torch.from_numpy(srgb_decode(image.cpu().numpy())).to(image)
